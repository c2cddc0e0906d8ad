//! Kernels that keep states where the caller does, for runs that carry them from call to call.
//!
//! ```text
//! map [i, j] x[K i + j] = S_in[b + K i + j]                ..  on S_out[b + ..], where the state lies already
//! ..  on x                                             ->
//! map [i, j] S_out[b + K i + j] = x[K i + j]
//! ```
//!
//! One buffer then holds a state before and after a run, so a call of few tokens moves no more than it must.

use std::collections::{BTreeSet, HashMap};

use crate::kernel::visit::{Effects, Moved, Rebuild};
use crate::kernel::{Access, Buffer, BufferId, BufferRole, Int, Kernel, Map, Module, Stmt, Value, VarId};

/// The module with every state in its `StateOut` buffer from the start, and no `StateIn` buffers. None where a work item
/// may need the initial value of a state after some of it is written.
pub fn in_place(module: &Module) -> Option<Module> {
    let [kernel] = &module.kernels[..] else { return None };
    let given = module.buffers.iter().enumerate().filter(|(_, buffer)| buffer.role == BufferRole::StateIn);
    let mut states = Vec::new();
    for (place, buffer) in given {
        let same = |other: &Buffer| other.role == BufferRole::StateOut && other.name == buffer.name;
        let out = BufferId(module.buffers.iter().position(same)? as u32);
        states.push(State::of(kernel, BufferId(place as u32), out)?);
    }
    // Without states there is nothing to carry.
    (!states.is_empty()).then(|| rebuilt(module, kernel, &states))
}

/// A state that a work item takes over whole, and hands back whole: both by maps of its own part of it.
struct State {
    given: BufferId,
    out: BufferId,
    /// The statements that take it over and hand it back; the same one where the state is worked on in `out`.
    copies: [usize; 2],
    /// Where the work item's part begins.
    offset: Int,
    /// The scratch that holds it meanwhile, if it lies there as it does in `out`.
    scratch: Option<BufferId>,
}

impl State {
    fn of(kernel: &Kernel, given: BufferId, out: BufferId) -> Option<Self> {
        let effects: Vec<Effects> = kernel.body.iter().map(Effects::of).collect();
        let only = |found: Vec<usize>| if let [one] = found[..] { Some(one) } else { None };
        let places =
            |touches: &dyn Fn(&Effects) -> bool| (0..effects.len()).filter(|n| touches(&effects[*n])).collect();
        let taken = only(places(&|e| e.reads.contains(&given)))?;
        let (held, from) = copy(&kernel.body[taken])?;
        if held.dst.buffer == out {
            let whole = (&held.dst.offset, &held.dst.strides) == (&from.offset, &from.strides);
            let first = effects.iter().position(|e| e.touches().any(|buffer| buffer == out)) == Some(taken);
            let offset = from.offset.clone();
            return (whole && first).then_some(Self { given, out, copies: [taken, taken], offset, scratch: None });
        }
        let handed = only(places(&|e| e.touches().any(|buffer| buffer == out)))?;
        let (back, to) = (copy(&kernel.body[handed])?.0, &copy(&kernel.body[handed])?.1);
        let same = held.axes == back.axes && (&from.offset, &from.strides) == (&back.dst.offset, &back.dst.strides);
        if taken >= handed || !same {
            return None;
        }
        let as_it_lies = held.dst.buffer == to.buffer
            && [&held.dst, to].into_iter().all(|x| x.offset == Int::Const(0) && x.strides == from.strides)
            && is_first_and_last(&effects, to.buffer, [taken, handed]);
        let scratch = as_it_lies.then_some(to.buffer);
        Some(Self { given, out, copies: [taken, handed], offset: from.offset.clone(), scratch })
    }
}

/// A map that copies elements.
fn copy(stmt: &Stmt) -> Option<(&Map, &Access)> {
    match stmt {
        Stmt::Map(map) if map.below.is_none() => match &map.value {
            Value::Load(from) => Some((map, from)),
            _ => None,
        },
        _ => None,
    }
}

fn is_first_and_last(effects: &[Effects], buffer: BufferId, copies: [usize; 2]) -> bool {
    let touched = |n: &usize| effects[*n].touches().any(|of| of == buffer);
    let (first, last) = ((0..effects.len()).find(touched), (0..effects.len()).rfind(touched));
    [first, last] == copies.map(Some)
}

fn rebuilt(module: &Module, kernel: &Kernel, states: &[State]) -> Module {
    // A scratch that is larger than what is copied would reach into the neighbour's part.
    let fits = |state: &State| {
        let Some((map, _)) = copy(&kernel.body[state.copies[0]]) else { return false };
        let all = map.axes.iter().fold(Int::from(1i64), |all, n| all * n.clone());
        state.scratch.is_some_and(|scratch| module.buffers[scratch.index()].size == all)
    };
    let replaced: Vec<&State> = states.iter().filter(|state| fits(state)).collect();
    let gone: BTreeSet<BufferId> =
        states.iter().map(|state| state.given).chain(replaced.iter().filter_map(|state| state.scratch)).collect();
    let kept = (0..module.buffers.len()).map(|n| BufferId(n as u32)).filter(|id| !gone.contains(id));
    let mut buffers: HashMap<BufferId, Moved> = kept
        .clone()
        .enumerate()
        .map(|(n, id)| (id, Moved { buffer: BufferId(n as u32), offset: 0i64.into() }))
        .collect();
    for state in states {
        let out = buffers[&state.out].buffer;
        buffers.insert(state.given, Moved { buffer: out, offset: 0i64.into() });
        if let Some(scratch) = state.scratch.filter(|_| fits(state)) {
            buffers.insert(scratch, Moved { buffer: out, offset: state.offset.clone() });
        }
    }
    let same = states.iter().filter(|state| state.copies[0] == state.copies[1]);
    let dropped: BTreeSet<usize> = replaced.into_iter().chain(same).flat_map(|state| state.copies).collect();
    let mut next = 0;
    let mut rebuild = Rebuild { vars: HashMap::<VarId, Int>::new(), params: HashMap::new(), buffers, next: &mut next };
    let body = kernel.body.iter().enumerate().filter(|(n, _)| !dropped.contains(n));
    let body = body.map(|(_, stmt)| rebuild.stmt(stmt)).collect();
    Module {
        name: module.name.clone(),
        params: module.params.clone(),
        buffers: kept.map(|id| module.buffers[id.index()].clone()).collect(),
        kernels: vec![Kernel { name: kernel.name.clone(), grid: kernel.grid.clone(), body }],
    }
}

#[cfg(test)]
mod tests {
    use chunkwise_dsl::{compile, source::Source};

    use super::*;
    use crate::bind::bind_dims;
    use crate::kernel::{Param, ParamRole};
    use crate::{Form, Schedule, Tiles};

    fn module(tiles: Tiles, schedule: Schedule) -> Module {
        let text = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; \
                    state S : [K,V] = 0, z : [K] = 0; update S additive(k, v); update z additive(k); \
                    output o[t] = S[t]' * q[t] / (z[t]' * q[t]); }";
        let program = compile(&Source::new("f.attn", text), &[]).unwrap();
        let variant = &program.variants[0];
        let dims = [("B", 2), ("T", 5), ("H", 2), ("K", 8), ("V", 4)].map(|(name, n)| (name.to_string(), n));
        let form = if schedule == Schedule::Split { Form::Chunked } else { Form::Recurrent };
        crate::compile(variant, &bind_dims(variant, &dims).unwrap(), (form, schedule), tiles).unwrap()
    }

    #[test]
    fn states_are_worked_on_where_they_lie() {
        let before = module(Tiles::Whole, Schedule::Fused);
        let after = in_place(&before).unwrap();
        crate::kernel::check(after.clone()).unwrap();
        let named = |module: &Module, name: &str| module.buffers.iter().filter(|buffer| buffer.name == name).count();
        assert_eq!([named(&before, "S"), named(&after, "S"), named(&after, "z")], [2, 1, 1]);
        assert!(after.kernels[0].body.len() < before.kernels[0].body.len());

        let params: Vec<i64> = before.params.iter().map(value).collect();
        let run = |module: &Module| {
            let size = |buffer: &Buffer| buffer.size.eval(&|p| params[p.index()], &|_| 0) as usize;
            let at = |n: usize, buffer: &Buffer| match buffer.role {
                BufferRole::StateIn | BufferRole::Input => (n % 7) as f64 + buffer.name.len() as f64,
                // In place the initial value is that of the state in of the other module.
                BufferRole::StateOut => (n % 7) as f64 + 1.0,
                _ => 0.0,
            };
            let fill = |buffer: &Buffer| (0..size(buffer)).map(|n| at(n, buffer)).collect::<Vec<f64>>();
            let mut buffers: Vec<Vec<f64>> = module.buffers.iter().map(fill).collect();
            crate::kernel::interp::run(module, &params, &mut buffers).unwrap();
            let out = |role| matches!(role, BufferRole::Output | BufferRole::StateOut);
            let named = module.buffers.iter().zip(buffers).filter(|(buffer, _)| out(buffer.role));
            named.map(|(buffer, data)| (buffer.name.clone(), data)).collect::<HashMap<_, _>>()
        };
        assert_eq!(run(&before), run(&after));
    }

    fn value(param: &Param) -> i64 {
        match &param.role {
            ParamRole::Size(axis) if axis == "T" => 5,
            ParamRole::Size(_) | ParamRole::Chunk => 2,
            ParamRole::Tile(_) => 4,
            ParamRole::Grid => 0,
        }
    }

    #[test]
    fn states_that_other_work_items_may_still_read_stay_apart() {
        // Every tile steps `z`, the first writes it.
        assert!(in_place(&module(Tiles::Split, Schedule::Fused)).is_none());
        assert!(in_place(&module(Tiles::Whole, Schedule::Split)).is_none());
    }
}
