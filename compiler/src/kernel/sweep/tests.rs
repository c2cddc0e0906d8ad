//! What a kernel becomes, and that it computes the same.

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::Variant;

use super::*;
use crate::bind::bind_dims;
use crate::kernel::{BufferRole, Int, Param, ParamRole, Stmt, check, interp};
use crate::{Form, Schedule, Tiles, compile};

fn variant(text: &str) -> Variant {
    let program = chunkwise_dsl::compile(&Source::new("t.attn", text), &[]).unwrap_or_else(|e| panic!("{e:?}"));
    program.variants.into_iter().next().unwrap()
}

/// The recurrent form, K and V known.
fn recurrent(text: &str, columns: usize) -> Module {
    let variant = variant(text);
    let size = |name: &str| match name {
        "V" => columns,
        "K" => 3,
        _ => 2,
    };
    let axes = variant.axes.iter().filter(|axis| axis.value.is_none());
    let sizes =
        bind_dims(&variant, &axes.map(|axis| (axis.name.clone(), size(&axis.name))).collect::<Vec<_>>()).unwrap();
    compile(&variant, &sizes, (Form::Recurrent, Schedule::Fused), Tiles::Whole).unwrap()
}

fn source(rest: &str) -> String {
    format!(
        "variant f {{ axes B, T, H, K, V; input q, k, p : [B,T,H,K], v : [B,T,H,V], a : [B,T,H,K], g, beta : [B,T,H]; \
         order causal; state S : [K,V]; {rest} }}"
    )
}

fn run(module: &Module, tokens: i64, chunk: i64) -> Vec<(String, Vec<f64>)> {
    check(module).unwrap_or_else(|e| panic!("{}", e.join("\n")));
    let value = |param: &Param| match &param.role {
        ParamRole::Size(name) if name == "T" => tokens,
        ParamRole::Size(name) if name == "K" => 3,
        ParamRole::Size(_) => 2,
        ParamRole::Chunk => chunk,
        ParamRole::Tile(_) | ParamRole::Grid => 0,
    };
    let params: Vec<i64> = module.params.iter().map(value).collect();
    let mut seed = 7u64;
    let mut random = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as f64 / (1u64 << 31) as f64 - 0.5
    };
    let mut buffers: Vec<Vec<f64>> = Vec::new();
    for buffer in &module.buffers {
        let n = buffer.size.eval(&|p| params[p.index()], &|_| 0).max(0) as usize;
        let given = matches!(buffer.role, BufferRole::Input | BufferRole::StateIn);
        buffers.push((0..n).map(|_| if given { random() } else { f64::NAN }).collect());
    }
    interp::run(module, &params, &mut buffers).unwrap_or_else(|e| panic!("{e}"));
    let kept = |role| matches!(role, BufferRole::Output | BufferRole::StateOut);
    let named = module.buffers.iter().zip(buffers).filter(|(buffer, _)| kept(buffer.role));
    named.map(|(buffer, data)| (buffer.name.clone(), data)).collect()
}

fn agree(before: &Module) {
    let after = single_threaded(before);
    for tokens in [0, 1, 2, 7] {
        for chunk in [1, 3] {
            let pairs = run(before, tokens, chunk).into_iter().zip(run(&after, tokens, chunk));
            for ((name, x), (_, y)) in pairs {
                let close = x.iter().zip(&y).all(|(x, y)| (x - y).abs() <= 1e-12 * (1.0 + x.abs()));
                assert!(close, "{name} at {tokens} tokens, chunk {chunk}:\n{before}\n{after}");
            }
        }
    }
}

/// Sweeps and loops over columns, those for one token left out.
fn found(body: &[Stmt]) -> (usize, usize) {
    body.iter().fold((0, 0), |(sweeps, strips), stmt| match stmt {
        Stmt::Sweep(_) => (sweeps + 1, strips),
        Stmt::For { step, body, .. } => {
            let inner = found(body);
            let strip = matches!(step, Int::Const(n) if *n > 1);
            (sweeps + inner.0, strips + inner.1 + usize::from(strip))
        }
        Stmt::If { otherwise, .. } => {
            let inner = found(otherwise);
            (sweeps + inner.0, strips + inner.1)
        }
        _ => (sweeps, strips),
    })
}

const ADDITIVE: &str = "decay d[t] = exp(g[t]); update S additive(k, v); output o[t] = S[t]' * q[t];";
const DIAGONAL: &str =
    "decay d[t] = exp(a[t]); update S additive(k, v); output o[t] = S[t]' * q[t]; output r[t] = S[t]' * p[t];";
const DELTA: &str = "decay d[t] = exp(g[t]); update S delta(k, v, beta); output o[t] = S[t]' * q[t];";

#[test]
fn one_pass_and_two_for_a_correction() {
    for (rest, sweeps) in [(ADDITIVE, 1), (DIAGONAL, 1), (DELTA, 2)] {
        let module = recurrent(&source(rest), 5);
        agree(&module);
        let after = single_threaded(&module);
        assert_eq!(found(&after.kernels[0].body), (sweeps, 0), "{after}");
    }
}

#[test]
fn wide_tiles_go_strip_by_strip() {
    for (rest, sweeps) in [(ADDITIVE, 1), (DIAGONAL, 1), (DELTA, 2)] {
        for columns in [70, 128] {
            let module = recurrent(&source(rest), columns);
            agree(&module);
            let after = single_threaded(&module);
            assert_eq!(found(&after.kernels[0].body), (sweeps, 1), "{after}");
        }
    }
}

#[test]
fn one_token_copies_no_tile() {
    let after = single_threaded(&recurrent(&source(DELTA), 5));
    let [Stmt::If { then, .. }] = &after.kernels[0].body[..] else { panic!("{after}") };
    let tiles = then
        .iter()
        .filter(|stmt| matches!(stmt, Stmt::Map(map) if map.axes.len() == 2 && map.axes[0] == Int::from(3i64)));
    assert_eq!(tiles.count(), 0, "{after}");
}

#[test]
fn what_reads_the_tile_otherwise_stays_as_it_was() {
    // Columns depend on each other through what is read of all of them.
    let module = recurrent(
        &source("update S[t] = S[t-1] + k[t] * (sum(S[t-1]' * p[t]) * v[t])'; output o[t] = S[t]' * q[t];"),
        70,
    );
    agree(&module);
    assert_eq!(found(&single_threaded(&module).kernels[0].body).1, 0);
}
