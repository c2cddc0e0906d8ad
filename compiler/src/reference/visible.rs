//! Order and locality: in which sequence tokens are scanned, what is visible from a token, which part of the sequence a
//! state belongs to.

use std::rc::Rc;

use chunkwise_dsl::typed::{GridAxis, IndexId, LocalKind, OrderKind};

use super::eval::Evaluator;
use super::number::Number;
use super::sequence::GridSize;

/// Rows of visible tokens kept at a time.
const ROWS: usize = 64;

/// Where tokens stand.
#[derive(Debug, Default)]
pub(super) struct Visibility {
    /// The number of tokens.
    pub(super) tokens: usize,
    /// The tokens in the sequence they are scanned in, and each one's place in it.
    pub(super) sequence: Vec<usize>,
    pub(super) rank: Vec<usize>,
    /// The place that a token takes for `local`: its position, unless the order has `by`.
    place: Vec<i64>,
    rows: Vec<Option<(i64, Rc<Vec<u32>>)>>,
}

impl<N: Number> Evaluator<'_, N> {
    pub(super) fn prepare_visibility(&mut self) {
        let tokens = self.world.variant.token.and_then(|axis| self.world.sizes.get(axis)).unwrap_or(0);
        // What `by` gives reads no other token, so nothing need be visible yet.
        self.visibility = Visibility { tokens, rows: vec![None; ROWS], ..Visibility::default() };
        // What is no permutation is an error before anything is evaluated.
        let sound = self.misplaced().is_none();
        let permutation = self.permutation().filter(|_| sound).unwrap_or_else(|| (0..tokens as i64).collect());
        let standing: Vec<usize> = permutation.into_iter().filter_map(|token| usize::try_from(token).ok()).collect();
        let sequence: Vec<usize> = self.sequence(tokens).into_iter().map(|place| standing[place]).collect();
        let (mut rank, mut place) = (vec![0; tokens], vec![0; tokens]);
        for (at, token) in sequence.iter().enumerate() {
            rank[*token] = at;
        }
        for (at, token) in standing.iter().enumerate() {
            place[*token] = at as i64;
        }
        self.visibility = Visibility { sequence, rank, place, ..std::mem::take(&mut self.visibility) };
    }

    /// The token that stands at each place, where the order has `by`.
    fn permutation(&mut self) -> Option<Vec<i64>> {
        let by = self.order.and_then(|order| order.by)?;
        Some(self.eval(by).data().iter().map(|token| super::value::place(token.value())).collect())
    }

    /// The first place at which `by` repeats a token or names none, where it is no permutation.
    pub(super) fn misplaced(&mut self) -> Option<(usize, i64)> {
        let permutation = self.permutation()?;
        let mut named = vec![false; permutation.len()];
        let twice = permutation.iter().enumerate().find(|(_, token)| {
            let slot = usize::try_from(**token).ok().and_then(|at| named.get_mut(at));
            slot.is_none_or(|slot| std::mem::replace(slot, true))
        });
        twice.map(|(place, token)| (place, *token))
    }

    fn kind(&self) -> OrderKind {
        self.order.map_or(OrderKind::Causal, |order| order.kind)
    }

    /// The places in the sequence in which they are scanned. Those before the grid come first in every forward order.
    fn sequence(&self, tokens: usize) -> Vec<usize> {
        let mut sequence: Vec<usize> = (0..tokens).collect();
        let kind = self.kind();
        if matches!(kind, OrderKind::Column | OrderKind::ColumnRev) {
            let grid = self.grid_size();
            let count = grid.rows * grid.columns;
            sequence.sort_by_key(|token| match token.checked_sub(grid.offset) {
                Some(at) if at < count => (1, at % grid.columns, at / grid.columns),
                Some(at) => (2, at, 0),
                None => (0, *token, 0),
            });
        }
        if matches!(kind, OrderKind::Reverse | OrderKind::RasterRev | OrderKind::ColumnRev) {
            sequence.reverse();
        }
        sequence
    }

    /// The grid, or a single column where tokens lie on none.
    pub(super) fn grid_size(&self) -> GridSize {
        let sizes = self.world.sizes;
        match &self.world.variant.grid {
            Some(grid) => GridSize {
                offset: sizes.extent(&grid.offset),
                rows: sizes.extent(&grid.rows),
                columns: sizes.extent(&grid.cols),
            },
            None => GridSize {
                offset: 0,
                rows: self.world.variant.token.and_then(|axis| sizes.get(axis)).unwrap_or(0),
                columns: 1,
            },
        }
    }

    /// The row and the column of a token; of one before the grid, those that rounding down gives.
    fn point(&self, token: i64) -> (i64, i64) {
        let grid = self.grid_size();
        let (at, columns) = (token - grid.offset as i64, grid.columns.max(1) as i64);
        (at.div_euclid(columns), at.rem_euclid(columns))
    }

    pub(super) fn coordinate(&self, index: IndexId, axis: GridAxis) -> i64 {
        let (y, x) = self.point(self.env[index.index()]);
        match axis {
            GridAxis::Y => y,
            GridAxis::X => x,
        }
    }

    /// The tokens visible from a token, by position.
    pub(super) fn visible(&mut self, from: i64) -> Rc<Vec<u32>> {
        let Some(i) = usize::try_from(from).ok().filter(|i| *i < self.visibility.tokens) else {
            return Rc::new(Vec::new());
        };
        if let Some((kept, row)) = &self.visibility.rows[i % ROWS]
            && *kept == from
        {
            return Rc::clone(row);
        }
        let full = self.kind() == OrderKind::Full;
        let rank = self.visibility.rank[i];
        let in_order = |this: &Self, j: usize| full || this.visibility.rank[j] <= rank;
        let mut row = Vec::new();
        for j in 0..self.visibility.tokens {
            if in_order(self, j) && self.is_local(i, j) {
                row.push(j as u32);
            }
        }
        let row = Rc::new(row);
        self.visibility.rows[i % ROWS] = Some((from, Rc::clone(&row)));
        row
    }

    fn is_local(&mut self, i: usize, j: usize) -> bool {
        let variant = self.world.variant;
        variant.locals.iter().all(|local| self.holds(&local.kind, i, j))
    }

    fn holds(&mut self, local: &LocalKind, i: usize, j: usize) -> bool {
        let (place_i, place_j) = (self.visibility.place[i], self.visibility.place[j]);
        match local {
            LocalKind::Window { left, right } => {
                let (left, right) = (self.world.sizes.number(left), self.world.sizes.number(right));
                place_i - left < place_j && place_j <= place_i + right
            }
            LocalKind::Block(_) | LocalKind::GridBlock { .. } | LocalKind::Atrous { .. } => {
                self.part(local, place_i) == self.part(local, place_j)
            }
            LocalKind::Disc { radius } => {
                let radius = self.scalar(*radius).value();
                let ((yi, xi), (yj, xj)) = (self.point(place_i), self.point(place_j));
                (((yi - yj) * (yi - yj) + (xi - xj) * (xi - xj)) as f64) < radius * radius
            }
            LocalKind::Where { i: left, j: right, cond } => {
                let saved = (self.env[left.index()], self.env[right.index()]);
                self.set(*left, i);
                self.set(*right, j);
                let holds = self.scalar(*cond).value() != 0.0;
                self.env[left.index()] = saved.0;
                self.env[right.index()] = saved.1;
                holds
            }
        }
    }

    /// Which part of a partition a place lies in.
    fn part(&self, local: &LocalKind, place: i64) -> [i64; 4] {
        let sizes = self.world.sizes;
        let number = |size| sizes.number(size).max(1);
        let (y, x) = self.point(place);
        match local {
            LocalKind::Block(width) => [place.div_euclid(number(width)), 0, 0, 0],
            LocalKind::GridBlock { wy, wx, shift } => {
                let grid = self.grid_size();
                let shift = sizes.number(shift);
                let tile =
                    |at: i64, size: usize, width: i64| (at - shift).rem_euclid(size.max(1) as i64).div_euclid(width);
                let (rows, columns) = (tile(y, grid.rows, number(wy)), tile(x, grid.columns, number(wx)));
                [rows, columns, i64::from(y < shift), i64::from(x < shift)]
            }
            LocalKind::Atrous { wy, wx, rate } => {
                let rate = number(rate);
                let (height, width) = (number(wy) * rate, number(wx) * rate);
                [y.div_euclid(height), x.div_euclid(width), y.rem_euclid(rate), x.rem_euclid(rate)]
            }
            LocalKind::Window { .. } | LocalKind::Disc { .. } | LocalKind::Where { .. } => [0; 4],
        }
    }

    /// Which part of the sequence, by every partition together, a token's state belongs to.
    pub(super) fn parts(&self, token: usize) -> Vec<[i64; 4]> {
        let place = self.visibility.place[token];
        self.world.variant.locals.iter().map(|local| self.part(&local.kind, place)).collect()
    }

    /// How many of the last tokens' writes a state keeps, where a window limits them. Backwards, a window that reaches to
    /// the right keeps those on the right and the token itself.
    pub(super) fn window(&self) -> Option<i64> {
        let backwards = matches!(self.kind(), OrderKind::Reverse | OrderKind::RasterRev | OrderKind::ColumnRev);
        let sizes = self.world.sizes;
        let lengths = self.world.variant.locals.iter().filter_map(|local| match &local.kind {
            LocalKind::Window { left, right } => match sizes.number(right) {
                right if backwards && right > 0 => Some(right + 1),
                _ => Some(sizes.number(left)),
            },
            _ => None,
        });
        lengths.min()
    }
}
