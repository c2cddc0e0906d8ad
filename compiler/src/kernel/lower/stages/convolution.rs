//! Depth-wise convolutions on the grid: one row of the result at a time, tap by tap over the stretch of columns that the
//! tap reaches. Nothing outside of the image is read.

use crate::kernel::{Access, Int, Map, Stmt, Value};
use crate::plan::place::{Placed, Space};
use crate::program::Op;

use chunkwise_dsl::typed::Function;

use super::super::emit::call;
use super::{Result, Stages};

impl Stages<'_> {
    /// The statements for row y of the result.
    pub(super) fn image(&mut self, placed: &Placed, (y, space): (Int, &Space)) -> Result<Vec<Stmt>> {
        let node = self.meaning(placed.node).clone();
        let Op::Dwconv(of) = &node.op else { return Err(self.refused(placed.node, "this image")) };
        let [image, weights] = node.operands.as_slice() else { return Err(self.refused(placed.node, "this image")) };
        let memory = self.memory_of(placed, space);
        let (Some(from), Some(taps)) = (self.found(image), self.found(weights)) else {
            return Err(self.refused(placed.node, "an image that is not in memory"));
        };
        let [rows, columns] = of.grid.clone().map(|size| self.lowering.size(&size));
        let [high, wide] = of.taps.clone().map(|size| self.lowering.size(&size));
        let stride = of.stride.max(1);
        let out_columns = (columns.clone() + (stride - 1)).floor_div(stride);

        let token = image_axis(&node);
        let channels = node.axes.len() - 1 - token;
        if token > 0 || channels > 2 {
            return Err(self.refused(placed.node, "a convolution of several axes"));
        }
        let extents: Vec<Int> = node.axes[1..].iter().map(|axis| self.lowering.size(&axis.size)).collect();
        let strides = |all: &[Int], first: Int| [first].into_iter().chain(all.iter().cloned()).collect::<Vec<_>>();

        // Every element of the row starts from 0.
        let whole: Vec<Int> = [out_columns.clone()].into_iter().chain(extents.clone()).collect();
        let at = memory.offset.clone() + y.clone() * out_columns.clone() * memory.strides[0].clone();
        let dst = Access::new(memory.buffer, at, strides(&memory.strides[1..], memory.strides[0].clone()));
        let start = Stmt::Map(Map::new(whole, dst.clone(), Value::Const(0.0)));

        // Tap (a, b) reads row y s + a - high div 2 from column x s + b - wide div 2.
        let (a, b) = (self.lowering.var(), self.lowering.var());
        let (above, left) = (high.clone().floor_div(2i64), wide.clone().floor_div(2i64));
        let from_tap = (above.clone() - y.clone() * stride).max(0i64);
        let to_tap = (rows.clone() + above.clone() - y.clone() * stride).min(high);
        let first = (left.clone() - Int::Var(b) + (stride - 1)).floor_div(stride).max(0i64);
        let beyond = (columns.clone() - 1i64 + left.clone() - Int::Var(b)).floor_div(stride) + 1i64;
        let count = (beyond.min(out_columns.clone()) - first.clone()).max(0i64);
        let source = (y * stride + Int::Var(a) - above) * columns + first.clone() * stride + Int::Var(b) - left;

        let x = Access::new(
            from.buffer,
            from.offset.clone() + source * from.strides[0].clone(),
            strides(&from.strides[1..], from.strides[0].clone() * stride),
        );
        let w = Access::new(
            taps.buffer,
            taps.offset.clone() + Int::Var(a) * taps.strides[0].clone() + Int::Var(b) * taps.strides[1].clone(),
            strides(&channel_strides(&taps.strides[2..], channels), Int::from(0i64)),
        );
        let dst = Access { offset: dst.offset + first * memory.strides[0].clone(), ..dst };
        let product = call(Function::Mul, [Value::Load(w), Value::Load(x)]);
        let sum = call(Function::Add, [Value::Load(dst.clone()), product]);
        let axes: Vec<Int> = [count].into_iter().chain(extents).collect();
        let tap = vec![Stmt::Map(Map::new(axes, dst, sum))];
        let along = Stmt::For { var: b, from: 0i64.into(), to: wide, step: 1i64.into(), body: tap };
        let all = Stmt::For { var: a, from: from_tap, to: to_tap, step: 1i64.into(), body: vec![along] };
        Ok(vec![start, all])
    }
}

/// The token axis of an image: the channels come after it.
fn image_axis(node: &crate::program::Node) -> usize {
    let channels = node.operands.first().map_or(0, |image| image.at.len().saturating_sub(1));
    node.axes.len().saturating_sub(1 + channels)
}

/// Strides of the weights along the channels: none where all channels have the same.
fn channel_strides(own: &[Int], channels: usize) -> Vec<Int> {
    let missing = channels - own.len().min(channels);
    vec![Int::from(0i64); missing].into_iter().chain(own.iter().cloned()).collect()
}
