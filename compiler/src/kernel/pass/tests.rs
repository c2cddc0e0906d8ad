//! What a kernel becomes, and that it computes the same.

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::Variant;

use super::*;
use crate::bind::bind_dims;
use crate::kernel::{BufferRole, Int, Param, ParamRole, Stmt, interp};
use crate::{Derivation, Form, Schedule, Tiles, compile};

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

fn results(module: &Module, tokens: i64, chunk: i64) -> Vec<(String, Vec<f64>)> {
    let errors = check::errors(module, Level::ANY);
    assert!(errors.is_empty(), "{}", errors.join("\n"));
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

fn llvm(module: &Module) -> Module {
    run(module, Target::Llvm, &|_| None)
}

fn agree(before: &Module) {
    let after = llvm(before);
    for tokens in [0, 1, 2, 7] {
        for chunk in [1, 3] {
            let pairs = results(before, tokens, chunk).into_iter().zip(results(&after, tokens, chunk));
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
    // The last token of a block, which gives back what its decays lost, stands apart.
    for (rest, sweeps) in [(ADDITIVE, 2), (DIAGONAL, 2), (DELTA, 4)] {
        let module = recurrent(&source(rest), 5);
        agree(&module);
        let after = llvm(&module);
        assert_eq!(found(&after.kernels[0].body), (sweeps, 0), "{after}");
    }
}

#[test]
fn wide_tiles_go_strip_by_strip() {
    for (rest, sweeps, strips) in [(ADDITIVE, 2, 2), (DIAGONAL, 2, 2), (DELTA, 4, 2)] {
        for columns in [70, 128] {
            let module = recurrent(&source(rest), columns);
            agree(&module);
            let after = llvm(&module);
            assert_eq!(found(&after.kernels[0].body), (sweeps, strips), "{after}");
        }
    }
}

#[test]
fn one_token_copies_no_tile() {
    let after = llvm(&recurrent(&source(DELTA), 5));
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
    assert_eq!(found(&llvm(&module).kernels[0].body).1, 0);
}

#[test]
fn each_pass_takes_what_the_one_before_it_leaves() {
    for Pipeline { target, passes } in &PIPELINES {
        assert_eq!(passes[0].before, Level::LOWERED, "{target:?}");
        for pair in passes.windows(2) {
            assert_eq!(pair[0].after, pair[1].before, "{target:?}: {} and {}", pair[0].name, pair[1].name);
        }
    }
}

#[test]
fn a_part_of_a_list_is_named_by_its_last_pass() {
    let module = recurrent(&source(DELTA), 128);
    let whole = llvm(&module);
    let until = |name| run_first(&module, Target::Llvm, &|_| None, Target::Llvm.until(name).unwrap());
    assert_eq!(until("fold-transpose"), whole);
    assert_eq!(found(&until("lower-scans").kernels[0].body), (0, 0));
    assert_eq!(found(&until("fuse-update").kernels[0].body), (4, 0));
    let unknown = Target::Llvm.until("block-rows").unwrap_err().to_string();
    assert!(unknown.contains("`block-rows`") && unknown.contains("lower-scans, fuse-update"), "{unknown}");
}

/// What each target's emitter takes passes the checker, whatever the example and its form.
#[test]
fn every_example_passes_the_checker_after_every_list() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.extension().is_none_or(|extension| extension != "attn") {
            continue;
        }
        let variant = variant(&std::fs::read_to_string(&path).unwrap());
        let axes = variant.axes.iter().filter(|axis| axis.value.is_none()).map(|axis| (axis.name.clone(), 4));
        let sizes = bind_dims(&variant, &axes.collect::<Vec<_>>()).unwrap();
        let derivation = Derivation::of(&variant);
        for layout in Form::ALL.into_iter().flat_map(|form| Schedule::ALL.map(|schedule| (form, schedule))) {
            let Ok(module) = derivation.compile(&sizes, layout, Tiles::Split) else { continue };
            for Pipeline { target, .. } in &PIPELINES {
                let errors = check::errors(&run(&module, *target, &|_| None), target.level());
                assert!(errors.is_empty(), "{}: {target:?}: {}", path.display(), errors.join("; "));
            }
        }
    }
}
