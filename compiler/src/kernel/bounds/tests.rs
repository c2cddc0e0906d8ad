//! What is proved of kernels as they are lowered, and what is not of kernels that reach too far.

use chunkwise_dsl::shape::AxisId;
use chunkwise_dsl::source::Source;
use chunkwise_dsl::typed::{Axis, Variant};

use super::{Integers, prove, within};
use crate::bind::{Sizes, bind_dims};
use crate::kernel::pass::{self, PIPELINES};
use crate::kernel::{
    Access, Buffer, BufferId, BufferRole, Elem, GridAxis, Int, Kernel, Map, Module, Param, ParamId, ParamRole,
    Position, Product, Stmt, Triangle, Value, VarId, check,
};
use crate::{Derivation, Form, Schedule, Tiles};

fn examples() -> Vec<Variant> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts = files.iter().filter(|path| path.extension().is_some_and(|e| e == "attn"));
    let read = texts.map(|path| std::fs::read_to_string(path).unwrap());
    read.flat_map(|text| chunkwise_dsl::compile(&Source::new("test.attn", &*text), &[]).unwrap().variants).collect()
}

fn params(module: &Module, size_of: &dyn Fn(&str) -> i64, chunk: i64) -> Vec<i64> {
    let value = |param: &Param| match &param.role {
        ParamRole::Size(axis) => size_of(axis),
        ParamRole::Chunk => chunk,
        ParamRole::Tile(_) => 2,
        ParamRole::Grid => 0,
    };
    module.params.iter().map(value).collect()
}

/// Every axis is 4 long but those of the batch, the token axis where it is free, and what follows from others.
fn sizes(variant: &Variant, tokens: usize) -> Option<Sizes> {
    let size = |(place, axis): (usize, &Axis)| {
        let token = variant.token.is_some_and(|token| token.0 as usize == place);
        axis.value.is_none().then(|| (axis.name.clone(), if token { tokens } else { 4 }))
    };
    bind_dims(variant, &variant.axes.iter().enumerate().filter_map(size).collect::<Vec<_>>()).ok()
}

/// Every form of every example, as it is lowered and as every target takes it.
#[test]
fn kernels_that_are_lowered_stay_inside() {
    let mut proved = 0;
    for variant in examples() {
        let derivation = Derivation::of(&variant);
        for (tokens, chunk) in [(4, 4), (0, 1), (1, 1), (1, 4), (3, 4), (9, 4), (4096, 64), (65_537, 64)] {
            let Some(sizes) = sizes(&variant, tokens) else { continue };
            let size_of = |name: &str| {
                let place = variant.axes.iter().position(|axis| axis.name == name);
                place.and_then(|place| sizes.get(AxisId(place as u32))).map_or(0, |n| n as i64)
            };
            for layout in Form::ALL.into_iter().flat_map(|form| Schedule::ALL.map(|schedule| (form, schedule))) {
                for tiles in [Tiles::Whole, Tiles::Split] {
                    let Ok(module) = derivation.compile(&sizes, layout, tiles) else { continue };
                    let finals = PIPELINES.iter().map(|row| pass::run(&module, row.target, &|_| None));
                    let chunk = if layout.0 == Form::Parallel { tokens.max(1) as i64 } else { chunk };
                    for module in finals.chain([module.clone()]).chain(crate::kernel::in_place(&module)) {
                        let params = params(&module, &size_of, chunk);
                        if let Err(fault) = prove(&module, &params, Integers::I64.limit()) {
                            panic!("{} {layout:?} {tiles:?} of {tokens} tokens: {fault}\n{module}", variant.name);
                        }
                        proved += 1;
                    }
                }
            }
        }
    }
    assert!(proved > 1000, "{proved}");
}

/// Chunks that end where blocks do start at tokens that divisions name.
#[test]
fn localities_stay_inside() {
    for local in ["window(5)", "block(10)"] {
        let text = format!(
            "variant f {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; local {local}; state S : [K,V] = 0; \
             update S additive(k, v); output o[t] = S[t]' * q[t]; }}"
        );
        let variant = chunkwise_dsl::compile(&Source::new("f", text), &[]).unwrap().variants.remove(0);
        let dims = [("B", 2), ("T", 4), ("H", 4), ("K", 4), ("V", 4)].map(|(name, n)| (name.to_string(), n));
        let sizes = bind_dims(&variant, &dims).unwrap();
        for form in Form::ALL {
            let module = crate::compile(&variant, &sizes, (form, Schedule::Fused), Tiles::Split).unwrap();
            for tokens in [0, 1, 7, 10, 11, 203] {
                let chunk = if form == Form::Parallel { tokens.max(1) } else { 7 };
                for module in PIPELINES.iter().map(|row| pass::run(&module, row.target, &|_| None)) {
                    let size_of = |name: &str| if name == "T" { tokens } else { 4 };
                    let proved = prove(&module, &params(&module, &size_of, chunk), Integers::I64.limit());
                    assert_eq!(proved, Ok(()), "{local} {form:?} of {tokens} tokens:\n{module}");
                }
            }
        }
    }
}

const SIZE: ParamId = ParamId(0);
const ITEM: ParamId = ParamId(1);

/// A kernel over 4 work items, with x and z of T numbers each.
fn kernel(body: Vec<Stmt>) -> Module {
    let buffer = |name: &str, role| Buffer { name: name.into(), role, elem: Elem::F32, size: SIZE.into() };
    Module {
        name: "m".into(),
        params: vec![
            Param { name: "T".into(), role: ParamRole::Size("T".into()) },
            Param { name: "n".into(), role: ParamRole::Grid },
        ],
        buffers: vec![buffer("x", BufferRole::Input), buffer("z", BufferRole::Output)],
        kernels: vec![Kernel { name: "only".into(), grid: vec![GridAxis { param: ITEM, extent: 4i64.into() }], body }],
    }
}

fn at(buffer: u32, offset: impl Into<Int>, strides: impl IntoIterator<Item = i64>) -> Access {
    Access::new(BufferId(buffer), offset, strides.into_iter().map(Int::from))
}

fn copy(axes: Vec<Int>, to: Access, from: Access) -> Stmt {
    Stmt::Map(Map::new(axes, to, Value::Load(from)))
}

/// Whether a kernel stays inside at so many numbers.
fn inside(body: &[Stmt], size: i64) -> bool {
    let module = check(kernel(body.to_vec())).unwrap_or_else(|e| panic!("{}", e.join("; ")));
    within(&module, &[size, 0], Integers::I64).is_ok()
}

fn steps(body: Stmt) -> Stmt {
    Stmt::For { var: VarId(0), from: 0i64.into(), to: SIZE.into(), step: 3i64.into(), body: vec![body] }
}

#[test]
fn one_number_too_many_is_found_at_either_end() {
    let size = || Int::Param(SIZE);
    assert!(inside(&[copy(vec![size()], at(1, 0i64, [1]), at(0, 0i64, [1]))], 8));
    for (from, n) in [(0i64, 1i64), (1, 0), (-1, 0)] {
        assert!(!inside(&[copy(vec![size() + n], at(1, from, [1]), at(0, 0i64, [0]))], 8), "from {from}, {n} more");
        assert!(!inside(&[copy(vec![size() + n], at(1, 0i64, [0]), at(0, from, [1]))], 8), "from {from}, {n} more");
    }
    // Backwards, and what is touched by nobody.
    assert!(inside(&[copy(vec![size()], at(1, 0i64, [0]), at(0, size() - 1i64, [-1]))], 8));
    assert!(!inside(&[copy(vec![size()], at(1, 0i64, [0]), at(0, size(), [-1]))], 8));
    assert!(inside(&[copy(vec![size()], at(1, 99i64, [1]), at(0, 99i64, [1]))], 0));
}

#[test]
fn blocks_end_where_the_whole_does() {
    let (v, size) = (Int::Var(VarId(0)), Int::Param(SIZE));
    let block = |count: Int| steps(copy(vec![count], at(1, v.clone(), [1]), at(0, v.clone(), [1])));
    let left = size.clone() - v.clone();
    for n in 0..9 {
        assert!(inside(&[block(left.clone().min(3i64))], n), "{n}");
        assert_eq!(inside(&[block(3i64.into())], n), n % 3 == 0, "{n}");
        assert_eq!(inside(&[block(left.clone().min(3i64) + 1i64)], n), n == 0, "{n}");
    }
}

#[test]
fn conditions_and_bounded_loads_are_believed() {
    let (v, size) = (Int::Var(VarId(0)), Int::Param(SIZE));
    let shifted = |by: i64| copy(vec![3i64.into()], at(1, 0i64, [0]), at(0, v.clone() + by, [1]));
    let guarded = |by: i64, then: Stmt| {
        let (left, right) = (v.clone() + by, size.clone());
        steps(Stmt::If { left, right, then: vec![then], otherwise: Vec::new() })
    };
    assert!(inside(&[guarded(2, shifted(0))], 8));
    assert!(!inside(&[guarded(1, shifted(0))], 8));
    let looked_back = |length: Int| {
        let position = Position { base: v.clone() - 5i64, strides: vec![2i64.into()] };
        let access = at(0, v.clone() - 5i64, [2]);
        steps(Stmt::Map(Map::new(vec![9i64.into()], at(1, 0i64, [0]), Value::Bounded { access, position, length })))
    };
    assert!(inside(&[looked_back(size.clone())], 8));
    assert!(!inside(&[looked_back(size.clone() + 1i64)], 8));
}

#[test]
fn triangles_and_quotients_are_followed() {
    let triangle = |diagonal: i64| {
        let value = Value::Load(at(0, 0i64, [1, 1]));
        let axes = vec![4i64.into(), 9i64.into()];
        Stmt::Map(Map { axes, below: Some(diagonal.into()), dst: at(1, 0i64, [0, 0]), value })
    };
    // The last row is 3 and its last column 3 + d.
    assert!(inside(&[triangle(1)], 8) && !inside(&[triangle(2)], 8));
    let item = || Int::Param(ITEM);
    let pick = |place: Int| copy(Vec::new(), at(1, 0i64, []), Access::new(BufferId(0), place, []));
    assert!(inside(&[pick(item().floor_div(2i64) * 4i64 + item().modulo(4i64))], 8));
    assert!(!inside(&[pick(item().floor_div(2i64) * 4i64 + item().modulo(4i64))], 7));
}

#[test]
fn sizes_that_wrap_are_refused() {
    let reached = |x: Int| copy(Vec::new(), at(1, 0i64, []), Access::new(BufferId(0), x, []));
    let (size, large) = (Int::Param(SIZE), 1i64 << 31);
    // 2^64 is 0 to a processor.
    assert!(!inside(&[reached(size.clone() * large * (4 * large))], 2));
    assert!(!inside(&[steps(copy(vec![size.clone()], at(1, 0i64, [1 << 62]), at(0, 0i64, [0])))], 9));
    let module = check(kernel(vec![copy(vec![size], at(1, 0i64, [1]), at(0, 0i64, [1]))])).unwrap();
    assert!(within(&module, &[1 << 31, 0], Integers::I64).is_ok());
    assert!(within(&module, &[1 << 31, 0], Integers::I32).is_err());
    assert!(within(&module, &[i64::MAX, 0], Integers::I64).is_err());
}

#[test]
fn operands_of_products_are_looked_at_each() {
    let product = |a: i64, b: i64| {
        let [m, n, k] = [2i64, 4, 2].map(Int::from);
        let (dst, a, b) = (at(1, 0i64, [4, 1]), at(0, a, [2, 1]), at(0, b, [4, 1]));
        Stmt::Product(Product { m, n, k, dst, a, b, accumulate: false, shape: Triangle::Full })
    };
    assert!(inside(&[product(4, 0)], 8));
    assert!(!inside(&[product(5, 0)], 8) && !inside(&[product(0, 1)], 8));
}
