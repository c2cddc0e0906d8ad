//! The algebra of transitions: sums and products of identities, diagonals and rank-one terms.

pub const TABLE: &str = "
    # I = diag(1)
    identity-is-diagonal        | oid => (odi 1) |
    # diag(d) diag(e) = diag(d .* e)
    product-of-diagonals        | (ocomp (odi ?d) (odi ?e)) => (odi (mul ?d ?e)) |
    # diag(d) + diag(e) = diag(d + e)
    sum-of-diagonals            | (oadd (odi ?d) (odi ?e)) => (odi (add ?d ?e)) |
    # a (c u w') = (a c) u w'
    scalar-of-rank-one          | (ocomp (odi ?d) (or1 ?c ?u ?w)) => (or1 (mul ?d ?c) ?u ?w) | scalar d
    # diag(d) (c u w') = c (d .* u) w'
    diagonal-of-rank-one        | (ocomp (odi ?d) (or1 ?c ?u ?w)) => (or1 ?c (mul ?d ?u) ?w) | along-k d
    # D (A + B) = D A + D B
    product-distributes         | (ocomp (odi ?d) (oadd ?A ?B)) => (oadd (ocomp (odi ?d) ?A) (ocomp (odi ?d) ?B)) |
    # R + D = D + R
    diagonal-comes-first        | (oadd (or1 ?c ?u ?w) (odi ?d)) => (oadd (odi ?d) (or1 ?c ?u ?w)) |
    # diag(d)' w = d .* w
    diagonal-transposed         | (oapT (odi ?d) ?w) => (mul ?d ?w) |
    # (c u z')' w = c (u' w) z
    rank-one-transposed         | (oapT (or1 ?c ?u ?z) ?w) => (mul (mul ?c (dot ?u ?w)) ?z) | scalar c
    # (A + B)' w = A' w + B' w
    sum-transposed              | (oapT (oadd ?A ?B) ?w) => (add (oapT ?A ?w) (oapT ?B ?w)) |
    # (D A)' w = A' (d .* w)
    product-transposed          | (oapT (ocomp (odi ?d) ?A) ?w) => (oapT ?A (mul ?d ?w)) |
    # (a u) w' = a (u w')
    scalar-leaves-left-vector   | (or1 ?c ?u ?w) => (or1 (mul ?c ?us) ?uv ?w) | splits u
    # u (a w)' = a (u w')
    scalar-leaves-right-vector  | (or1 ?c ?u ?w) => (or1 (mul ?c ?ws) ?u ?wv) | splits w
";
