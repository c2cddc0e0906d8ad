//! Chunks: a scan restarted from the true state at every chunk's start is the scan.

pub const TABLE: &str = "
    # a read of a scan is a read of its restart in the token's own chunk
    read-restarts-at-chunk      | (read ?q (scan ?A ?B ?s)) => (unch (read (ch ?q) (scan (ch ?A) (ch ?B) (bnd ?s)))) | start s, noread B, whole B
    # the same for a read of the state before the token
    early-read-restarts-at-chunk | (read ?q (prev ?s (scan ?A ?B ?s))) => (unch (read (ch ?q) (prev (bnd ?s) (scan (ch ?A) (ch ?B) (bnd ?s))))) | start s, noread B, whole B
    # the same for a read from the right
    right-read-restarts-at-chunk | (readv ?y (scan ?A ?B ?s)) => (unch (readv (ch ?y) (scan (ch ?A) (ch ?B) (bnd ?s)))) | start s, noread B, whole B
    # the same for an early read from the right
    early-right-read-restarts   | (readv ?y (prev ?s (scan ?A ?B ?s))) => (unch (readv (ch ?y) (prev (bnd ?s) (scan (ch ?A) (ch ?B) (bnd ?s))))) | start s, noread B, whole B
    # a state read as a whole is one of the states of the token's own chunk, held one by one
    states-restart-at-chunk     | (scan ?A ?B ?s) => (unch (all (ch ?A) (ch ?B) (bnd ?s))) | start s, noread B, whole B
    # the same for the state before the token
    early-states-restart-at-chunk | (prev ?s (scan ?A ?B ?s)) => (unch (alx (ch ?A) (ch ?B) (bnd ?s))) | start s, noread B, whole B
    # the states of a scan, held one by one
    states-of-scan              | (scan ?A ?B ?s) => (all ?A ?B ?s) | start s, noread B, whole B
    # the same before each token
    early-states-of-scan        | (prev ?s (scan ?A ?B ?s)) => (alx ?A ?B ?s) | start s, noread B, whole B
    # the final state is the state at the end of the last chunk
    final-state-is-last-chunk's | (fin (scan ?A ?B ?s)) => (fin (last (scan (ch ?A) (ch ?B) (bnd ?s)))) | start s, noread B, whole B
    # a sum read chunk by chunk
    sum-of-chunked-values       | (add (unch ?x) (unch ?y)) => (unch (add ?x ?y)) |
    # reshaping commutes with sums
    chunked-value-plus-free     | (add (unch ?x) ?y) => (unch (add ?x (ch ?y))) | free y
    # reshaping commutes with sums
    free-plus-chunked-value     | (add ?y (unch ?x)) => (unch (add (ch ?y) ?x)) | free y
    # reshaping commutes with products
    scaled-chunked-value        | (mul ?c (unch ?x)) => (unch (mul (ch ?c) ?x)) | free c
    # the state at a chunk's end: G[end,start] S0 + K' V with keys decayed to the end
    last-state-of-chunk         | (last (scan (odi ?d) (outer ?k ?v) ?s)) => (step ?d (kout ?d ?k) ?v ?s) |
    # it is linear in the writes
    last-state-of-chunk-of-sum  | (last (scan (odi ?d) (add (outer ?k ?v) ?B) ?s)) => (add (kv (kout ?d ?k) ?v) (last (scan (odi ?d) ?B ?s))) |
    # the same under decays of both sides: values decay to the end too
    last-state-under-column-decay | (last (scan (odi2 ?d ?b) (outer ?k ?v) ?s)) => (step2 ?d ?b (kout ?d ?k) (kout ?b ?v) ?s) |
    # it is linear in the writes
    last-state-under-column-decay-of-sum | (last (scan (odi2 ?d ?b) (add (outer ?k ?v) ?B) ?s)) => (add (kv (kout ?d ?k) (kout ?b ?v)) (last (scan (odi2 ?d ?b) ?B ?s))) |
    # reshaping commutes with sums of transitions
    chunked-sum-of-transitions  | (ch (oadd ?A ?B)) => (oadd (ch ?A) (ch ?B)) |
    # reshaping commutes with decay-then-rank-one
    chunked-decay-then-rank-one | (ch (opost ?c ?u ?w ?d)) => (opost (ch ?c) (ch ?u) (ch ?w) (ch ?d)) |
    # reshaping commutes with rank-one terms
    chunked-rank-one            | (ch (or1 ?c ?u ?w)) => (or1 (ch ?c) (ch ?u) (ch ?w)) |
    # reshaping commutes with diagonals
    chunked-diagonal            | (ch (odi ?d)) => (odi (ch ?d)) |
    # reshaping commutes with diagonals of both sides
    chunked-column-decay        | (ch (odi2 ?d ?b)) => (odi2 (ch ?d) (ch ?b)) |
    # reshaping commutes with writes
    chunked-write               | (ch (outer ?k ?v)) => (outer (ch ?k) (ch ?v)) |
    # reshaping commutes with sums of writes
    chunked-sum-of-writes       | (ch (add ?A ?B)) => (add (ch ?A) (ch ?B)) | matrix A
    # reshaping commutes with stacking
    chunked-stack               | (ch (stk ?x ?y)) => (stk (ch ?x) (ch ?y)) |
    # a constant is the same in every chunk
    chunked-one                 | (ch 1) => 1 |
";
