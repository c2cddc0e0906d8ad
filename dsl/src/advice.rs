//! What people write who come from PyTorch, JAX, NumPy or a paper, and what it is called here: tables, a row a habit.
//! Knows names only; where a row is asked for, and the words around it, are `check` and `parse`.

mod characters;
mod functions;

pub use characters::{Script, character, script};
pub use functions::{ROWS as FUNCTIONS, Row};

/// The row of a function's name elsewhere.
pub fn function(name: &str) -> Option<&'static Row> {
    FUNCTIONS.iter().find(|row| row.names.contains(&name))
}

impl Row {
    /// The mend in a sentence.
    pub fn help(&self) -> String {
        match (self.mend, self.note) {
            ("", note) => note.to_string(),
            (mend, "") => format!("write `{mend}`"),
            (mend, note) => format!("write `{mend}`; {note}"),
        }
    }
}

/// Names that stand for a value elsewhere, and how it is written here.
pub const VALUES: &[(&[&str], &str)] = &[
    (&["I", "Id", "identity", "Identity"], "the identity matrix is `eye(K)`"),
    (&["Inf", "INF", "infinity", "infty", "oo"], "write `inf`"),
    (&["PI", "Pi"], "write `pi`"),
    (
        &["nan", "NaN", "NAN"],
        "there is no literal of it; what is not visible is left out by `order`, `local` or `: cond`",
    ),
    (&["None", "none", "null", "nil"], "there is no such value: leave it out"),
];

/// What a name that is not declared means elsewhere.
pub fn value(name: &str) -> Option<&'static str> {
    VALUES.iter().find(|(names, _)| names.contains(&name)).map(|(_, help)| *help)
}

/// Keyword arguments of functions elsewhere.
pub const ARGUMENTS: &[(&[&str], &str)] = &[
    (
        &["dim", "axis", "axes", "dims", "normalized_shape"],
        "a function of a vector is over its last axis: leave this out; over another axis reduce by an index, `sum[j](...)`",
    ),
    (&["keepdim", "keepdims"], "a scalar broadcasts as it is: leave this out"),
    (&["dtype", "device", "out", "inplace", "requires_grad"], "there is nothing of the kind here: leave this out"),
    (&["epsilon", "eps_"], "write `eps = ...`"),
    (&["min", "a_min"], "write `lo = ...`"),
    (&["max", "a_max"], "write `hi = ...`"),
    (&["theta", "freq", "rope_theta"], "write `base = ...`"),
];

/// What a function's argument is called here.
pub fn argument(name: &str) -> Option<&'static str> {
    ARGUMENTS.iter().find(|(names, _)| names.contains(&name)).map(|(_, help)| *help)
}

/// Types of numbers elsewhere.
pub const TYPES: &[(&[&str], &str)] = &[
    (
        &["f16", "bf16", "half", "float16", "bfloat16", "fp16", "tf32", "fp8", "f8"],
        "tensors are `f32`; products are rounded at run time, by `--precision bf16`",
    ),
    (&["float", "float32", "fp32", "real", "f64", "float64", "double"], "write `f32`, or nothing"),
    (&["int", "int32", "int64", "i64", "long", "index", "u32", "uint32"], "write `i32`"),
    (&["i8", "u8", "int8", "uint8", "i16", "u16", "bool"], "such tensors are not supported yet: write `i32`"),
];

/// What a type of numbers is called here.
pub fn number_type(name: &str) -> Option<&'static str> {
    TYPES.iter().find(|(names, _)| names.contains(&name)).map(|(_, help)| *help)
}

/// Words that open a statement elsewhere.
pub const STATEMENTS: &[(&[&str], &str)] = &[
    (&["def", "function", "func", "lambda", "define"], "a function is `fn phi(x) = ...;`"),
    (&["return", "yield", "result", "out"], "a result is `output o[t] = ...;`"),
    (&["const", "var", "set", "val", "auto", "float"], "a value is named by `let x[t] = ...;`"),
    (
        &["dim", "dims", "dimension", "dimensions", "shape", "size", "sizes", "symbols"],
        "sizes are listed by `axes B, T, H, K, V;`",
    ),
    (&["tensor", "tensors", "arg", "args", "given"], "tensors are declared by `input q : [B,T,H,K];`"),
    (&["weight", "weights", "parameter", "parameters", "buffer"], "weights are declared by `param w : [H,F,K];`"),
    (&["hidden", "memory", "cell", "carry", "register"], "what is carried over tokens is `state S : [K,V] = 0;`"),
    (&["recurrence", "recur", "step", "scan", "rule", "transition"], "a recurrence is `update S[t] = ...;`"),
    (&["gate", "forget", "discount"], "a decay is `decay a[t] = exp(g[t]);`"),
    (&["mask", "visible", "where"], "what is visible is `order causal;` and `local where i - j < 64;`"),
    (&["window", "block", "disc", "atrous"], "a locality is `local window(64);`"),
    (&["causal", "full", "reverse", "bidirectional"], "an order is `order causal;`, or `order causal, reverse;`"),
    (
        &["for", "while", "loop"],
        "token by token is what a state does (`update S[t] = ...;`); an iteration is `let V[s] = f(V[s-1]) for s in 1..n from V0;`",
    ),
    (&["if", "when"], "a choice is an expression: `let x[t] = if c then a else b;`"),
    (
        &["import", "from", "include", "use", "using"],
        "a file stands alone, and its functions are built in: leave this out",
    ),
    (&["assert", "test", "expect"], "what `verify` tries is said by `check draw(g = logdecay);`"),
    (&["map", "kernel", "phi"], "a feature map is `feature phi(x) = elu(x) + 1 on q, k;`"),
];

/// What a statement's word means here.
pub fn statement(word: &str) -> Option<&'static str> {
    STATEMENTS.iter().find(|(words, _)| words.contains(&word)).map(|(_, help)| *help)
}

/// What the token axis is called elsewhere; here it is `T`.
pub const TOKEN_AXES: &[&str] = &[
    "L", "N", "S", "time", "Time", "TIME", "seq", "Seq", "seqlen", "seq_len", "SeqLen", "len", "length", "tokens", "n",
    "l",
];

/// What the axis of shared heads is called elsewhere and here.
pub const GROUP_AXES: &[&str] = &["G", "KVH", "HKV", "Hkv", "H_kv", "KV_H", "Hk", "H_k", "NKV", "kv_heads", "groups"];

/// Modules whose functions are called through them elsewhere.
pub const MODULES: &[&str] = &[
    "torch",
    "np",
    "numpy",
    "jnp",
    "jax",
    "F",
    "nn",
    "tf",
    "math",
    "lax",
    "scipy",
    "functional",
    "mx",
    "tl",
    "triton",
    "cp",
];

#[cfg(test)]
mod tests;
