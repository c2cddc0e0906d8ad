//! Views: a value as an expression sees it, over the index variables that are free in it and its own dims, and which
//! element of a node that is. Transposes, subscripts and the like change the view and make no node.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::IndexId;

use super::{Index, NodeId, Operand};

/// A value. The indices of `read` count the free index variables first, then the dims.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// In ascending order.
    pub free: Vec<IndexId>,
    pub dims: Vec<Size>,
    pub read: Operand,
}

/// What a view ranges over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Free(IndexId),
    Dim(usize),
}

impl View {
    /// A node whose axes are the free variables, then the dims.
    pub fn of(node: NodeId, free: Vec<IndexId>, dims: Vec<Size>) -> Self {
        let read = Operand::whole(node, free.len() + dims.len());
        Self { free, dims, read }
    }

    /// What the position of an index stands for.
    pub fn label(&self, axis: usize) -> Label {
        self.free.get(axis).map_or_else(|| Label::Dim(axis - self.free.len()), |free| Label::Free(*free))
    }

    /// The operand where the labels stand at these positions.
    pub fn at(&self, place: &dyn Fn(Label) -> Index) -> Operand {
        let all: Vec<Index> = (0..self.free.len() + self.dims.len()).map(|axis| place(self.label(axis))).collect();
        self.read.through(&all)
    }

    /// The view over other free variables and dims: `place` says where each of this view's labels stands, in terms of
    /// the new ones.
    pub fn over(&self, free: Vec<IndexId>, dims: Vec<Size>, place: &dyn Fn(Label) -> Index) -> View {
        let read = self.at(place);
        View { free, dims, read }
    }

    /// The view with its dims read as the places of `dims`, in terms of the new dims.
    pub fn reshaped(&self, dims: Vec<Size>, places: &dyn Fn(usize) -> Index) -> View {
        let free = self.free.clone();
        let count = free.len();
        let shifted = |index: Index| index.replaced(&|dim| Index::Axis(count + dim));
        self.over(free.clone(), dims, &|label| match label {
            Label::Free(index) => position(&free, index),
            Label::Dim(dim) => shifted(places(dim)),
        })
    }

    /// The free variable `from` as `to`.
    pub fn renamed(&self, from: IndexId, to: IndexId) -> View {
        let other = |index: IndexId| if index == from { to } else { index };
        let mut free: Vec<IndexId> = self.free.iter().map(|index| other(*index)).collect();
        free.sort_unstable();
        free.dedup();
        let count = free.len();
        let places = free.clone();
        self.over(free, self.dims.clone(), &|label| match label {
            Label::Free(index) => position(&places, other(index)),
            Label::Dim(dim) => Index::Axis(count + dim),
        })
    }

    pub fn transposed(&self) -> View {
        match self.dims.as_slice() {
            [a, b] => self.reshaped(vec![b.clone(), a.clone()], &|dim| Index::Axis(1 - dim)),
            _ => self.clone(),
        }
    }

    pub fn is_free_in(&self, index: IndexId) -> bool {
        self.free.contains(&index)
    }
}

/// The place of a free variable.
pub(super) fn position(free: &[IndexId], index: IndexId) -> Index {
    free.iter().position(|other| *other == index).map_or(Index::Number(0), Index::Axis)
}

/// Free variables of several, in ascending order.
pub(super) fn union<'a>(all: impl IntoIterator<Item = &'a [IndexId]>) -> Vec<IndexId> {
    let mut free: Vec<IndexId> = all.into_iter().flatten().copied().collect();
    free.sort_unstable();
    free.dedup();
    free
}
