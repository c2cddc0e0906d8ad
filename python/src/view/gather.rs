//! Copies of tensors that do not lie in the order of their indices: slices of wider rows, transposed, expanded and reversed
//! ones. Rows are copied as such; of a transposed tensor, tiles, so that both sides go through the caches line by line.

use super::{Element, RANK, View};

/// Indices of a tile along each of its two axes: lines of a cache are longer, its ways are not many more.
const TILE: usize = 8;

/// One axis of the copy.
#[derive(Clone, Copy)]
struct Axis {
    extent: usize,
    /// In bytes, in the tensor.
    from: isize,
    /// In elements, in the copy.
    to: usize,
}

impl View<'_> {
    /// The elements in the order of their indices, each made another; None if they are of another type.
    pub fn gathered<T: Element, U: Copy + Default>(&self, made: impl Fn(T) -> U) -> Option<Vec<U>> {
        if T::ELEM != self.elem {
            return None;
        }
        let mut all = vec![U::default(); self.len()];
        if all.is_empty() {
            return Some(all);
        }
        let mut outer = self.axes();
        let unit = size_of::<T>() as isize;
        let inner = outer.pop().unwrap_or(Axis { extent: 1, from: unit, to: 1 });
        let across = outer.iter().position(|axis| axis.from == unit && axis.extent > 1).filter(|_| inner.from != unit);
        let across = across.map(|place| outer.remove(place));
        let from = |bytes: isize| {
            let place = self.data.wrapping_offset(bytes).cast::<T>();
            // SAFETY: `bytes` is the place of an index inside the shape, where the library has an element, which need not
            // be aligned; it lives as long as the view, and nobody writes it meanwhile.
            made(unsafe { place.read_unaligned() })
        };
        each(&outer, |bytes, at| match across {
            None => row(&mut all[at..at + inner.extent], (bytes, inner.from, unit), &from),
            Some(across) => tiles(&mut all[at..], (inner, across), &|offset| from(bytes + offset)),
        });
        Some(all)
    }

    fn axes(&self) -> Vec<Axis> {
        let mut to = 1;
        let mut axes: Vec<_> = (0..self.rank)
            .rev()
            .map(|place| {
                let axis = Axis { extent: self.shape[place], from: self.strides[place], to };
                to *= axis.extent;
                axis
            })
            .collect();
        axes.reverse();
        axes
    }
}

/// Visits every index of some axes: its place in the tensor, in bytes, and in the copy.
fn each(axes: &[Axis], mut visit: impl FnMut(isize, usize)) {
    let mut index = [0usize; RANK];
    loop {
        let places = index.iter().zip(axes);
        let (bytes, at) =
            places.fold((0, 0), |(bytes, at), (&n, axis)| (bytes + n as isize * axis.from, at + n * axis.to));
        visit(bytes, at);
        let Some(next) = (0..axes.len()).rev().find(|&place| index[place] + 1 < axes[place].extent) else { return };
        index[next] += 1;
        index[next + 1..].fill(0);
    }
}

fn row<U>(to: &mut [U], (start, step, unit): (isize, isize, isize), from: &impl Fn(isize) -> U) {
    let all = to.iter_mut().enumerate();
    match step == unit {
        // `unit` is a constant here, which makes this a copy of whole vectors.
        true => all.for_each(|(n, to)| *to = from(start + n as isize * unit)),
        false => all.for_each(|(n, to)| *to = from(start + n as isize * step)),
    }
}

/// Copies along the last axis and the one whose neighbours lie side by side in the tensor.
fn tiles<U>(to: &mut [U], (inner, across): (Axis, Axis), from: &impl Fn(isize) -> U) {
    for row in (0..across.extent).step_by(TILE) {
        for column in (0..inner.extent).step_by(TILE) {
            for n in column..(column + TILE).min(inner.extent) {
                for m in row..(row + TILE).min(across.extent) {
                    to[m * across.to + n * inner.to] = from(m as isize * across.from + n as isize * inner.from);
                }
            }
        }
    }
}
