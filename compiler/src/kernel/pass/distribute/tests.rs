//! What goes into which kernel. That the kernels compute what one kernel does is checked where forms are
//! (`lower::form::tests`).

use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::Variant;

use super::stages::{Item, Stage, stages};
use super::*;
use crate::bind::bind_dims;
use crate::kernel::visit::Effects;
use crate::{Form, Schedule, Tiles, Unsupported, compile};

fn variant(text: &str) -> Variant {
    let program = chunkwise_dsl::compile(&Source::new("t.attn", text), &[]).unwrap_or_else(|e| panic!("{e:?}"));
    program.variants.into_iter().next().unwrap()
}

fn example(name: &str) -> Variant {
    let path = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/{}.attn"), name);
    variant(&std::fs::read_to_string(path).unwrap())
}

fn kernels(variant: &Variant, form: Form, schedule: Schedule, tiles: Tiles) -> Result<Module, Unsupported> {
    let others = variant.axes.iter().filter(|axis| axis.value.is_none()).map(|axis| (axis.name.clone(), 4));
    let sizes = bind_dims(variant, &others.collect::<Vec<_>>()).unwrap();
    compile(variant, &sizes, (form, schedule), tiles)
}

fn solves(body: &[Stmt]) -> usize {
    let of = |stmt: &Stmt| match stmt {
        Stmt::For { body, .. } => solves(body),
        Stmt::If { then, otherwise, .. } => solves(then) + solves(otherwise),
        other => usize::from(matches!(other, Stmt::Solve(_))),
    };
    body.iter().map(of).sum()
}

fn names(module: &Module) -> Vec<&str> {
    module.kernels.iter().map(|kernel| kernel.name.as_str()).collect()
}

#[test]
fn no_solve_stands_between_chunks() {
    for name in ["deltanet", "gated_deltanet", "gated_deltanet_equation", "kda", "rwkv7", "comba"] {
        for tiles in [Tiles::Whole, Tiles::Split] {
            let module = kernels(&example(name), Form::Chunked, Schedule::Split, tiles).unwrap();
            assert_eq!(names(&module), ["local", "states", "outputs"], "{name}");
            assert!(solves(&module.kernels[0].body) >= 2, "{name}: {module}");
            assert_eq!(solves(&module.kernels[1].body) + solves(&module.kernels[2].body), 0, "{name}: {module}");
        }
    }
}

#[test]
fn what_grows_with_the_tokens_before_the_loop_has_a_kernel() {
    let text = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; param c : [H,K,4]; \
                let m = conv1d(k, c); state S : [K,V] = 0; update S additive(m, v); output o[t] = S[t]' * q[t]; }";
    let module = kernels(&variant(text), Form::Chunked, Schedule::Split, Tiles::Split).unwrap();
    assert_eq!(names(&module)[0], "before", "{module}");
    crate::kernel::check(module.clone()).unwrap();
}

#[test]
fn what_cannot_be_split_says_why() {
    let whole = example("gla");
    let refusal = kernels(&whole, Form::Recurrent, Schedule::Split, Tiles::Whole).unwrap_err();
    assert!(refusal.to_string().contains("--schedule fused"), "{refusal}");
    let text = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; local window(3); \
                state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t]; }";
    let refusal = kernels(&variant(text), Form::Chunked, Schedule::Split, Tiles::Whole).unwrap_err();
    assert!(refusal.reason.contains("no chunk waits"), "{refusal}");
}

fn item(reads: &[u32], writes: &[u32]) -> Item {
    let buffers = |all: &[u32]| all.iter().map(|&n| BufferId(n)).collect();
    Item { effects: Effects { reads: buffers(reads), writes: buffers(writes), ..Effects::default() }, ordered: false }
}

const STATE: u32 = 0;

fn staged(items: &[Item]) -> Vec<Stage> {
    stages(items, &BTreeSet::from([BufferId(STATE)]))
}

#[test]
fn statements_go_where_their_values_are_needed() {
    let keys = item(&[], &[1]);
    let scores = item(&[1], &[2]);
    let read = item(&[STATE, 2], &[3]);
    let next = item(&[STATE, 1], &[STATE]);
    assert_eq!(staged(&[keys, scores, read, next]), [Stage::Local, Stage::Outputs, Stage::Outputs, Stage::States]);
}

#[test]
fn a_buffer_used_twice_keeps_its_order() {
    let first = item(&[], &[1]);
    let read = item(&[STATE, 1], &[2]);
    let again = item(&[], &[1]);
    let next = item(&[STATE, 1], &[STATE]);
    assert_eq!(staged(&[first, read, again, next]), [Stage::Local, Stage::States, Stage::States, Stage::States]);
}

#[test]
fn a_changed_state_is_read_where_it_changes() {
    let next = item(&[STATE], &[STATE]);
    let late = item(&[STATE], &[1]);
    assert_eq!(staged(&[next, late]), [Stage::States, Stage::States]);
}
