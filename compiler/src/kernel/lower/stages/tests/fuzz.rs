//! Random programs without states: expressions of every shape over tokens, pairs and whole sequences, under every order.

use super::super::super::tests::{Random, agree_in_stages, variant};

/// How many programs are tried.
const PROGRAMS: u64 = 300;

/// What an expression gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    Scalar,
    K,
    V,
    KV,
    KK,
}

use Shape::*;

const SHAPES: [Shape; 5] = [Scalar, K, V, KV, KK];

/// A let that expressions may use from where it stands on: per token, per pair, or once.
struct Known {
    name: String,
    shape: Shape,
    indices: usize,
}

struct Writer {
    random: Random,
    known: Vec<Known>,
    text: String,
}

impl Writer {
    fn below(&mut self, n: usize) -> usize {
        ((self.random.next() / 2.4 + 0.5) * n as f64) as usize % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// An expression of a shape in terms of these index variables.
    fn expr(&mut self, shape: Shape, at: &[&str], depth: usize) -> String {
        if depth == 0 {
            return self.leaf(shape, at);
        }
        let mut of = |shape: Shape| self.expr(shape, at, depth - 1);
        match shape {
            Scalar => {
                let (a, b) = (of(Scalar), of(Scalar));
                let (x, y, v) = (of(K), of(K), of(V));
                match self.below(9) {
                    0 => format!("({a} + {b})"),
                    1 => format!("{a} * {b}"),
                    2 => format!("tanh({a} - {b})"),
                    3 => format!("exp(-abs({a}))"),
                    4 => format!("({x})' * ({y})"),
                    5 => format!("(if {a} < {b} then {b} else cos({a}))"),
                    6 => format!("{}({v})", self.pick(&["sum", "mean", "max", "min", "norm2"])),
                    7 => format!("max({a}, {b}) / (1 + ({b})^2)"),
                    _ => format!("sum[r in K](({x})[r] * sigmoid(({y})[r]))"),
                }
            }
            K => {
                let (a, b, s) = (of(K), of(K), of(Scalar));
                let (m, w, v) = (of(KK), of(KV), of(V));
                match self.below(9) {
                    0 => format!("(({a}) + {b})"),
                    1 => format!("({a}) .* ({b})"),
                    2 => format!("({s}) * ({a})"),
                    3 => format!("({m}) * ({a})"),
                    4 => format!("({w}) * ({v})"),
                    5 => format!("softmax({a})"),
                    6 => format!("{}({a})", self.pick(&["rms", "l2norm", "layer_norm", "relu", "silu"])),
                    7 => format!("(if {s} > 0 then {a} else {b})"),
                    _ => format!("cols(stack({a}, {v}), 1, K + 1)"),
                }
            }
            V => {
                let (a, b, s) = (of(V), of(V), of(Scalar));
                let (w, x) = (of(KV), of(K));
                match self.below(5) {
                    0 => format!("(({a}) - {b})"),
                    1 => format!("({w})' * ({x})"),
                    2 => format!("({s}) * tanh({a})"),
                    3 => format!("(({x})' * ({w}))'"),
                    _ => format!("({a}) ./ (1 + abs({b}))"),
                }
            }
            KV => {
                let (x, v, w, m) = (of(K), of(V), of(KV), of(KK));
                match self.below(5) {
                    0 => format!("({x}) * ({v})'"),
                    1 => format!("(({w}) + 0.5 * {w})"),
                    2 => format!("({m}) * ({w})"),
                    3 => format!("diag({x}) * ({w})"),
                    _ => format!("softmax({w})"),
                }
            }
            KK => {
                let (x, y, w, m) = (of(K), of(K), of(KV), of(KK));
                match self.below(5) {
                    0 => format!("({x}) * ({y})'"),
                    1 => format!("({w}) * ({w})'"),
                    2 => format!("({m})'"),
                    3 => format!("(eye(K) - 0.3 * {m})"),
                    _ => format!("({m}) * diag({x})"),
                }
            }
        }
    }

    fn leaf(&mut self, shape: Shape, at: &[&str]) -> String {
        let places: Vec<String> = self
            .known
            .iter()
            .filter(|known| known.shape == shape && known.indices <= at.len())
            .map(|known| match known.indices {
                0 => known.name.clone(),
                1 => format!("{}[{}]", known.name, at[at.len() - 1]),
                _ => format!("{}[{}, {}]", known.name, at[0], at[1]),
            })
            .collect();
        if !places.is_empty() && self.below(2) == 0 {
            return places[self.below(places.len())].clone();
        }
        let Some(token) = (!at.is_empty()).then(|| self.pick(at)) else {
            return match shape {
                Scalar => self.pick(&["gamma", "0.7", "T / 50", "h"]).into(),
                K => self.pick(&["w * p", "q[1]", "k[0]"]).into(),
                V => self.pick(&["p", "v[2]"]).into(),
                KV => "w".into(),
                KK => "m".into(),
            };
        };
        let shift = self.pick(&["", "", " - 1", " + 2", " div 2"]);
        match shape {
            Scalar => match self.below(6) {
                0 => "gamma".into(),
                1 => format!("0.01 * {token}"),
                2 => format!("(ids[{token}] mod 3)"),
                _ => format!("{}[{token}{shift}]", self.pick(&["g", "b"])),
            },
            K => format!("{}[{token}{shift}]", self.pick(&["q", "k"])),
            V => format!("v[{token}{shift}]"),
            KV => "w".into(),
            KK => "m".into(),
        }
    }

    fn statement(&mut self) {
        let name = format!("x{}", self.known.len());
        let shape = self.pick(&SHAPES);
        let op = self.pick(&["sum", "mean", "sum", "max"]);
        let (line, shape, indices) = match self.below(5) {
            0 => (format!("let {name}[t] = {};", self.expr(shape, &["t"], 2)), shape, 1),
            1 => {
                let filter = self.pick(&["", " : g[j] > 0.1", " : j > 3"]);
                (format!("let {name} = {op}[j{filter}](0.2 * {});", self.expr(shape, &["j"], 2)), shape, 0)
            }
            2 => (format!("let {name}[i,j] = {};", self.expr(Scalar, &["i", "j"], 2)), Scalar, 2),
            3 => (format!("let {name}[i,j] = softmax[j]({});", self.expr(Scalar, &["i", "j"], 1)), Scalar, 2),
            _ => {
                let (weight, value) = (self.expr(Scalar, &["i", "j"], 1), self.expr(shape, &["j"], 1));
                (format!("let {name}[i] = {op}[j](({weight}) * ({value}));"), shape, 1)
            }
        };
        self.text.push_str(&line);
        self.text.push('\n');
        self.known.push(Known { name, shape, indices });
    }
}

/// A program of a seed.
fn program(seed: u64) -> String {
    let mut writer = Writer { random: Random(seed), known: Vec::new(), text: String::new() };
    (0..4).for_each(|_| {
        writer.random.next();
    });
    let order = writer.pick(&["causal", "full", "reverse"]);
    let local = writer.pick(&["", "", "local window(3);", "local block(4);", "local where g[i] > g[j] or i == j;"]);
    writer.text = format!(
        "variant f {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g, b : [B,T,H], ids : i32 [B,T];\n\
         param w : [H,K,V], m : [H,K,K], p : [V], gamma : [H];\norder {order}; {local}\n"
    );
    for _ in 0..1 + writer.below(4) {
        writer.statement();
    }
    for place in 0..2 {
        let shape = writer.pick(&SHAPES);
        let (name, value) = (format!("y{place}"), writer.expr(shape, &["t"], 2));
        writer.text.push_str(&format!("output {name}[t] = {value};\n"));
    }
    let value = writer.expr(KV, &[], 1);
    writer.text.push_str(&format!("output z = {value}; }}"));
    writer.text
}

#[test]
fn random_programs_agree_with_the_reference() {
    for seed in 0..PROGRAMS {
        let text = program(seed);
        let tokens = [0, 1, 5, 66][seed as usize % 4];
        let variant = variant(&text);
        let told = std::panic::catch_unwind(|| {
            agree_in_stages(&variant, &[("B", 2), ("H", 2), ("K", 3), ("V", 4), ("T", tokens)]);
        });
        assert!(told.is_ok(), "seed {seed} at {tokens} tokens:\n{text}");
    }
}
