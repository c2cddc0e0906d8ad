//! Tiles: which statements go over two axes at a time, row by row, by functions that there are routines of tiles for. Not
//! here: the calls of those routines (`codegen::cranelift`).

use super::scalar::has_tiles;
use super::{Access, Elem, Function, Int, Map, Module, Scan, Value};

/// Two axes of a statement: the rows of a tile and the elements of a row, along which the result lies densely.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// None where there is one row.
    pub(crate) rows: Option<usize>,
    pub(crate) lane: usize,
}

/// Elements below which a tile is not worth a call.
const FEW: i64 = 64;

/// The frame of a map; none where it is better written out.
pub(crate) fn map_frame(module: &Module, map: &Map) -> Option<Frame> {
    let lane = dense(&map.dst, &map.axes)?;
    let rows = match map.below {
        Some(_) => Some(lane.checked_sub(1).filter(|_| lane + 1 == map.axes.len())?),
        None => (0..map.axes.len()).rev().find(|d| *d != lane && map.axes[*d] != Int::Const(1)),
    };
    let frame = Frame { rows, lane };
    is_tiled(module, &map.value, &map.axes, frame).then_some(frame)
}

/// The frame of a scan, whose rows are its steps.
pub(crate) fn scan_frame(module: &Module, scan: &Scan) -> Option<Frame> {
    let axes: Vec<Int> = scan.axes.iter().chain([&scan.inner]).cloned().collect();
    let frame = Frame { rows: Some(scan.axes.len()), lane: dense(&scan.dst, &scan.axes)? };
    is_tiled(module, &scan.value, &axes, frame).then_some(frame)
}

/// The last axis along which an access lies densely.
fn dense(access: &Access, axes: &[Int]) -> Option<usize> {
    (0..axes.len()).rev().find(|d| access.strides[*d] == Int::Const(1) && axes[*d] != Int::Const(1))
}

/// Whether routines compute a value over a frame, and it is worth their calls.
pub(crate) fn is_tiled(module: &Module, value: &Value, axes: &[Int], frame: Frame) -> bool {
    let rows = frame.rows.map_or(&Int::Const(1), |rows| &axes[rows]);
    let much = match (rows, &axes[frame.lane]) {
        (Int::Const(rows), Int::Const(lane)) => rows * lane >= FEW && *lane >= 8,
        (Int::Const(1), _) => false,
        (_, Int::Const(lane)) => *lane >= 8,
        _ => true,
    };
    much && has_steps(module, value, frame)
}

fn has_steps(module: &Module, value: &Value, frame: Frame) -> bool {
    let again = |x: &Value| has_steps(module, x, frame);
    if !moves(value, frame) {
        return true;
    }
    match value {
        Value::Load(access) => module.buffers[access.buffer.index()].elem == Elem::F32,
        Value::Call(Function::Pow, args) => {
            matches!(args[1], Value::Const(e) if e == 2.0 || e.abs() == 0.5) && again(&args[0])
        }
        Value::Call(function, args) => {
            let known = matches!(function, Function::Clamp | Function::Not) || has_tiles(*function);
            known && args.iter().all(again)
        }
        Value::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().all(|x| again(x)),
        Value::Bounded { .. } | Value::Const(_) | Value::Int(_) | Value::Axis(_) => false,
    }
}

/// Whether elements of a frame may differ.
pub(crate) fn moves(value: &Value, frame: Frame) -> bool {
    varies(value, frame.lane) || frame.rows.is_some_and(|rows| varies(value, rows))
}

/// Whether elements of a row along `axis` may differ.
pub(crate) fn varies(value: &Value, axis: usize) -> bool {
    let moves = |strides: &[Int]| strides[axis] != Int::Const(0);
    match value {
        Value::Load(access) => moves(&access.strides),
        Value::Bounded { access, position, .. } => moves(&access.strides) || moves(&position.strides),
        Value::Const(_) | Value::Int(_) => false,
        Value::Axis(d) => *d == axis,
        Value::Call(_, args) => args.iter().any(|x| varies(x, axis)),
        Value::Select(cond, then, otherwise) => [cond, then, otherwise].into_iter().any(|x| varies(x, axis)),
    }
}
