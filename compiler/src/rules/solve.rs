//! What a solve makes of the state at a chunk's start, apart from what it makes of the chunk's own values: the latter and
//! the factors of the former wait for no other chunk.

pub const TABLE: &str = "
    # (I - P)^-1 (x + y) = (I - P)^-1 x + (I - P)^-1 y
    solve-of-sum                | (usolve ?P (add ?x ?y)) => (add (usolve ?P ?x) (usolve ?P ?y)) | strict P
    # (I - P)^-1 (s' q) = s' ((I - P)^-1 q)
    solve-of-start-read         | (usolve ?P (rd ?q ?s)) => (rd (usolve ?P ?q) ?s) | strict P
";
