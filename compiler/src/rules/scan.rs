//! Reads of diagonal scans, by unrolling H[t] = G[t,start] s + sum over i <= t of G[t,i] k[i] v[i]'.

pub const TABLE: &str = "
    # H[t]' q = sum_{i<=t} (q' G k[i]) v[i] + (G q)' s
    read-of-scan                | (read ?q (scan (odi ?d) (outer ?k ?v) ?s)) => (add (mm (tri ?d ?q ?k) ?v) (rd (qin ?d ?q) ?s)) |
    # a read is linear in the writes
    read-of-scan-of-sum         | (read ?q (scan (odi ?d) (add (outer ?k ?v) ?B) ?s)) => (add (mm (tri ?d ?q ?k) ?v) (read ?q (scan (odi ?d) ?B ?s))) |
    # H[t-1]' w: the same over i < t, without d[t]
    read-before-scan            | (read ?w (prev ?s (scan (odi ?d) (outer ?k ?v) ?s))) => (add (mm (trx ?d ?w ?k) ?v) (rd (qex ?d ?w) ?s)) |
    # a read is linear in the writes
    read-before-scan-of-sum     | (read ?w (prev ?s (scan (odi ?d) (add (outer ?k ?v) ?B) ?s))) => (add (mm (trx ?d ?w ?k) ?v) (read ?w (prev ?s (scan (odi ?d) ?B ?s)))) |
    # (D H[t-1])' w: over i < t, d[t] counted
    read-of-decayed-scan        | (read ?w (dprev ?d ?s (scan (odi ?d) (outer ?k ?v) ?s))) => (add (mm (trs ?d ?w ?k) ?v) (rd (qin ?d ?w) ?s)) |
    # a read is linear in the writes
    read-of-decayed-scan-of-sum | (read ?w (dprev ?d ?s (scan (odi ?d) (add (outer ?k ?v) ?B) ?s))) => (add (mm (trs ?d ?w ?k) ?v) (read ?w (dprev ?d ?s (scan (odi ?d) ?B ?s)))) |
    # H[t] y = sum_{i<=t} (v[i]' y) G k[i] + G (s y)
    right-read-of-scan          | (readv ?y (scan (odi ?d) (outer ?k ?v) ?s)) => (add (triv ?d (mmT ?y ?v) ?k) (rdv ?d ?y ?s)) |
    # a read is linear in the writes
    right-read-of-scan-of-sum   | (readv ?y (scan (odi ?d) (add (outer ?k ?v) ?B) ?s)) => (add (triv ?d (mmT ?y ?v) ?k) (readv ?y (scan (odi ?d) ?B ?s))) |
    # H[t-1] y: the same over i < t, without d[t]
    right-read-before-scan      | (readv ?y (prev ?s (scan (odi ?d) (outer ?k ?v) ?s))) => (add (trvx ?d (mmT ?y ?v) ?k) (rdvx ?d ?y ?s)) |
    # a read is linear in the writes
    right-read-before-scan-of-sum | (readv ?y (prev ?s (scan (odi ?d) (add (outer ?k ?v) ?B) ?s))) => (add (trvx ?d (mmT ?y ?v) ?k) (readv ?y (prev ?s (scan (odi ?d) ?B ?s)))) |
    # the last state of a segment: G[end,start] s + K' V with keys decayed to the end
    final-state-of-scan         | (fin (scan (odi ?d) (outer ?k ?v) ?s)) => (step ?d (kout ?d ?k) ?v ?s) |
    # a final state is linear in the writes
    final-state-of-scan-of-sum  | (fin (scan (odi ?d) (add (outer ?k ?v) ?B) ?s)) => (add (kv (kout ?d ?k) ?v) (fin (scan (odi ?d) ?B ?s))) |
    # H[t]' q under decays of both sides: each column's scores decay by its own b
    read-of-column-decay-scan   | (read ?q (scan (odi2 ?d ?b) (outer ?k ?v) ?s)) => (add (triv ?b (tri ?d ?q ?k) ?v) (qin ?b (rd (qin ?d ?q) ?s))) |
    # a read is linear in the writes
    read-of-column-decay-scan-of-sum | (read ?q (scan (odi2 ?d ?b) (add (outer ?k ?v) ?B) ?s)) => (add (triv ?b (tri ?d ?q ?k) ?v) (read ?q (scan (odi2 ?d ?b) ?B ?s))) |
    # H[t-1]' w: the same over i < t, without b[t] and d[t]
    read-before-column-decay-scan | (read ?w (prev ?s (scan (odi2 ?d ?b) (outer ?k ?v) ?s))) => (add (trvx ?b (trx ?d ?w ?k) ?v) (qex ?b (rd (qex ?d ?w) ?s))) |
    # a read is linear in the writes
    read-before-column-decay-scan-of-sum | (read ?w (prev ?s (scan (odi2 ?d ?b) (add (outer ?k ?v) ?B) ?s))) => (add (trvx ?b (trx ?d ?w ?k) ?v) (read ?w (prev ?s (scan (odi2 ?d ?b) ?B ?s)))) |
    # H[t] y = sum_{i<=t} (v[i]' G[b] y) G k[i] + G (s (G[b] y))
    right-read-of-column-decay-scan | (readv ?y (scan (odi2 ?d ?b) (outer ?k ?v) ?s)) => (add (triv ?d (tri ?b ?y ?v) ?k) (rdv ?d (qin ?b ?y) ?s)) |
    # a read is linear in the writes
    right-read-of-column-decay-scan-of-sum | (readv ?y (scan (odi2 ?d ?b) (add (outer ?k ?v) ?B) ?s)) => (add (triv ?d (tri ?b ?y ?v) ?k) (readv ?y (scan (odi2 ?d ?b) ?B ?s))) |
    # H[t-1] y: the same over i < t, without b[t] and d[t]
    right-read-before-column-decay-scan | (readv ?y (prev ?s (scan (odi2 ?d ?b) (outer ?k ?v) ?s))) => (add (trvx ?d (trx ?b ?y ?v) ?k) (rdvx ?d (qex ?b ?y) ?s)) |
    # a read is linear in the writes
    right-read-before-column-decay-scan-of-sum | (readv ?y (prev ?s (scan (odi2 ?d ?b) (add (outer ?k ?v) ?B) ?s))) => (add (trvx ?d (trx ?b ?y ?v) ?k) (readv ?y (prev ?s (scan (odi2 ?d ?b) ?B ?s)))) |
    # the last state of a segment: G[end,start] s G[b] + K' V with keys and values decayed to the end
    final-state-of-column-decay-scan | (fin (scan (odi2 ?d ?b) (outer ?k ?v) ?s)) => (step2 ?d ?b (kout ?d ?k) (kout ?b ?v) ?s) |
    # a final state is linear in the writes
    final-state-of-column-decay-scan-of-sum | (fin (scan (odi2 ?d ?b) (add (outer ?k ?v) ?B) ?s)) => (add (kv (kout ?d ?k) (kout ?b ?v)) (fin (scan (odi2 ?d ?b) ?B ?s))) |
    # without decay a query stays what it is
    undecayed-query             | (qin 1 ?q) => ?q |
    # without decay a query stays what it is
    undecayed-query-before      | (qex 1 ?q) => ?q |
    # without decay a key stays what it is
    undecayed-key               | (kout 1 ?k) => ?k |
";
