//! Structure of a transition: what is beside the diagonal feeds back into the writes of a diagonal scan.

pub const TABLE: &str = "
    # D + (c d) u w' = (I + c u w') D: decay, then rank one
    decay-then-rank-one         | (oadd (odi ?d) (or1 ?c ?u ?w)) => (opost ?cq ?u ?wq ?d) | divides d
    # u w' + y z' = [u y] [w z]'
    rank-ones-stack             | (oadd (oadd ?D (or1 ?c ?u ?w)) (or1 ?b ?y ?z)) => (oadd ?D (or1 (stk ?c ?b) (stk ?u ?y) (stk ?w ?z))) |
    # H = scan((I + c u w') D, B): with z = (D H[t-1])' w, H = scan(D, u (c z)' + B)
    feedback-after-decay        | (scan (opost ?c ?u ?w ?d) ?B ?s) => (scan (odi ?d) (add (outer ?u (mul ?c (read ?w (dprev ?d ?s (scan (opost ?c ?u ?w ?d) ?B ?s))))) ?B) ?s) |
    # H = scan(D + c u w', B): with z = H[t-1]' w, H = scan(D, u (c z)' + B)
    feedback-before-decay       | (scan (oadd (odi ?d) (or1 ?c ?u ?w)) ?B ?s) => (scan (odi ?d) (add (outer ?u (mul ?c (read ?w (prev ?s (scan (oadd (odi ?d) (or1 ?c ?u ?w)) ?B ?s))))) ?B) ?s) |
    # H = scan(X -> diag(d) X diag(b) + u (c .* (X' w))', B): with z = H[t-1]' w, H = scan(X -> diag(d) X diag(b), u (c z)' + B)
    feedback-beside-column-decay | (scan (oadd (odi2 ?d ?b) (or1 ?c ?u ?w)) ?B ?s) => (scan (odi2 ?d ?b) (add (outer ?u (mul ?c (read ?w (prev ?s (scan (oadd (odi2 ?d ?b) (or1 ?c ?u ?w)) ?B ?s))))) ?B) ?s) |
    # k x' + k y' = k (x + y)'
    feedback-merges-with-write  | (add (outer ?k ?x) (outer ?k ?y)) => (outer ?k (add ?x ?y)) |
    # 1 x = x
    unit-factor                 | (mul 1 ?x) => ?x |
    # c (M x + y) = (diag(c) M) x + c y
    row-scaling                 | (mul ?c (add (mm ?M ?x) ?y)) => (add (mm (rows ?c ?M) ?x) (mul ?c ?y)) | scalar c
    # c (M x) = (diag(c) M) x
    row-scaling-alone           | (mul ?c (mm ?M ?x)) => (mm (rows ?c ?M) ?x) | scalar c
    # c (s' q) = s' (c q)
    scaled-start-read           | (mul ?c (rd ?q ?s)) => (rd (mul ?c ?q) ?s) | scalar c
    # diag(1) M = M
    unit-rows                   | (rows 1 ?M) => ?M |
    # (M x + y) + z = M x + (y + z)
    sums-lean-right             | (add (add (mm ?M ?x) ?y) ?z) => (add (mm ?M ?x) (add ?y ?z)) |
    # x = P x + y  =>  x = (I - P)^-1 y
    strict-system-is-solved     | (add (mm ?P ?x) ?y) => (usolve ?P ?y) | is x, strict P
    # x = c .* (P x + y) + v  =>  one such system for every column
    gated-system-is-solved      | (add (mul ?c (add (mm ?P ?x) ?y)) ?v) => (usolvec ?c ?P (add (mul ?c ?y) ?v)) | is x, strict P, along-v c
    # x = c .* (P x + y)
    gated-feedback-is-solved    | (mul ?c (add (mm ?P ?x) ?y)) => (usolvec ?c ?P (mul ?c ?y)) | is x, strict P, along-v c
    # x = c .* ((P .* G-[b]) x + y) + v  =>  one such system for every column
    decayed-system-is-solved    | (add (mul ?c (add (trvx ?b ?P ?x) ?y)) ?v) => (usolvb ?c ?b ?P (add (mul ?c ?y) ?v)) | is x, strict P, along-v b
    # x = c .* ((P .* G-[b]) x + y)
    decayed-feedback-is-solved  | (mul ?c (add (trvx ?b ?P ?x) ?y)) => (usolvb ?c ?b ?P (mul ?c ?y)) | is x, strict P, along-v b
";
