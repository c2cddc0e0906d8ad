//! The places of tokens under an order: a scan over places is a scan forward. Where states restart, the parts of the
//! sequence follow each other, each as long as the longest: what fills a shorter one up comes after its tokens, so nobody
//! reads what a state is there.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, Local, LocalKind, Order, OrderKind, Ty, Variant};

use crate::Unsupported;

use super::edit::Edit;
use super::standing::{self, Standing};
use super::{Result, Stage};

/// How an order counts.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// From the last token on.
    backwards: bool,
    by_columns: bool,
    /// The tokens in the order in which they stand, where that is not their own.
    by: Option<(ExprId, Option<Standing>)>,
    tokens: Size,
    /// Rows and columns, where tokens lie on a grid.
    grid: Option<[Size; 2]>,
    parts: Option<Parts>,
}

/// Parts that are scans of their own.
#[derive(Debug, Clone)]
struct Parts {
    /// Places in a part.
    length: Size,
    /// Places in all.
    places: Size,
    tiles: Option<Tiles>,
}

/// Parts of a grid: so many rows and columns, `rate` apart.
#[derive(Debug, Clone)]
struct Tiles {
    window: [Size; 2],
    rate: Size,
    /// Windows side by side, as often as the rate squared.
    across: Size,
}

/// A part on one axis of the grid: where it begins, how many of its positions there are.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: ExprId,
    count: ExprId,
}

impl Places {
    /// # Errors
    /// Parts that are no stretches or windows, and tokens before a grid.
    pub fn of(variant: &Variant, order: &Order, prefix: &str) -> Result<Self> {
        let refused =
            |what: &str, why: &str| Unsupported::new(what, why, "run it with --backend reference").at(variant.span);
        let backwards = matches!(order.kind, OrderKind::Reverse | OrderKind::RasterRev | OrderKind::ColumnRev);
        let by_columns = matches!(order.kind, OrderKind::Column | OrderKind::ColumnRev);
        let mut partitions = variant.locals.iter().filter(|local| !matches!(local.kind, LocalKind::Window { .. }));
        let (partition, more) = (partitions.next(), partitions.next());
        let on_grid = by_columns || partition.is_some_and(|local| !matches!(local.kind, LocalKind::Block(_)));
        if on_grid && variant.grid.as_ref().is_none_or(|grid| grid.offset.as_constant() != Some(0)) {
            return Err(refused("this order of the grid", "tokens stand before the grid"));
        }
        let tokens = variant.token.map_or(Size::constant(1), Size::axis);
        let grid = variant.grid.as_ref().map(|grid| [grid.rows.clone(), grid.cols.clone()]);
        let mut places = Self { backwards, by_columns, by: None, tokens, grid, parts: None };
        places.by = order.by.map(|by| (by, Standing::of(variant, by, prefix)));
        let Some(partition) = partition else { return Ok(places) };
        if let (None, LocalKind::Block(_)) = (more, &partition.kind)
            && places.are_tokens()
        {
            // A scan forward restarts at blocks by itself.
            return Ok(places);
        }
        places.parts = places.partition(partition).filter(|_| more.is_none() && variant.locals.len() == 1);
        if places.parts.is_none() {
            let why = "its parts are no stretches of the order and no windows of the grid";
            return Err(refused("this restart of states", why).at(partition.span));
        }
        Ok(places)
    }

    fn partition(&self, local: &Local) -> Option<Parts> {
        let one = Size::constant(1);
        let over = |n: &Size, by: &Size| n.add(by).sub(&one).floor_div(by);
        let (wy, wx, rate) = match &local.kind {
            // Stretches of tokens are no stretches of what goes by columns.
            LocalKind::Block(_) if self.by_columns => return None,
            LocalKind::Block(width) => {
                let places = over(&self.tokens, width)?.mul(width);
                return Some(Parts { length: width.clone(), places, tiles: None });
            }
            LocalKind::GridBlock { wy, wx, shift } if shift.as_constant() == Some(0) => (wy, wx, &one),
            LocalKind::Atrous { wy, wx, rate } => (wy, wx, rate),
            _ => return None,
        };
        let [rows, columns] = self.grid.as_ref()?;
        let (down, across) = (over(rows, &wy.mul(rate))?, over(columns, &wx.mul(rate))?);
        let length = wy.mul(wx);
        let places = down.mul(&across).mul(&rate.mul(rate)).mul(&length);
        let tiles = Tiles { window: [wy.clone(), wx.clone()], rate: rate.clone(), across };
        Some(Parts { length, places, tiles: Some(tiles) })
    }

    /// Whether token t stands at place t.
    pub fn are_tokens(&self) -> bool {
        !self.backwards && !self.by_columns && self.by.is_none() && self.parts.is_none()
    }

    /// The stage that finds where tokens stand, where there is one.
    pub fn standing(&self, variant: &Variant) -> Option<Stage> {
        let (by, standing) = self.by.as_ref()?;
        Some(standing.as_ref()?.stage(variant, *by))
    }

    /// How many places there are, and in a part, where parts fill them up.
    pub fn filled(&self) -> Option<(&Size, &Size)> {
        self.parts.as_ref().map(|parts| (&parts.places, &parts.length))
    }

    /// How many places there are.
    pub fn count(&self) -> &Size {
        self.parts.as_ref().map_or(&self.tokens, |parts| &parts.places)
    }

    /// The token at a place; where there is none, out of range or any.
    pub fn token_at(&self, edit: &mut Edit, place: ExprId) -> ExprId {
        let standing = self.standing_at(edit, place);
        match self.by {
            Some((by, _)) => edit.expr(ExprKind::Subscript { base: by, at: vec![standing] }, Ty::scalar()),
            None => standing,
        }
    }

    /// The token at a place, tokens counted as `by` has them stand.
    fn standing_at(&self, edit: &mut Edit, place: ExprId) -> ExprId {
        let mut write = Writer { edit };
        let Some(parts) = &self.parts else {
            let place = self.turned(&mut write, place);
            return match &self.grid {
                Some([rows, columns]) if self.by_columns => exchanged(&mut write, place, (rows, columns)),
                _ => place,
            };
        };
        let part = write.over(place, &parts.length);
        let at = write.rest(place, &parts.length);
        match &parts.tiles {
            None => {
                let stretch = self.stretch(&mut write, part, &parts.length);
                let at = self.within(&mut write, at, stretch.count);
                write.sum(stretch.first, at)
            }
            Some(tiles) => {
                let [y, x] = self.window(&mut write, part, tiles);
                let all = write.product(y.count, x.count);
                let at = self.within(&mut write, at, all);
                let inner = if self.by_columns { y.count } else { x.count };
                let one = write.number(1);
                let inner = write.scalar(Function::Max, [inner, one]);
                let (slow, fast) =
                    (write.scalar(Function::FloorDiv, [at, inner]), write.scalar(Function::Mod, [at, inner]));
                let (row, column) = if self.by_columns { (fast, slow) } else { (slow, fast) };
                let position = |write: &mut Writer, stretch: Stretch, n: ExprId| {
                    let rate = write.size(&tiles.rate);
                    let n = write.product(n, rate);
                    write.sum(stretch.first, n)
                };
                let (row, column) = (position(&mut write, y, row), position(&mut write, x, column));
                let columns = write.size(&self.columns());
                let row = write.product(row, columns);
                write.sum(row, column)
            }
        }
    }

    /// The place of a token.
    pub fn of_token(&self, edit: &mut Edit, token: ExprId) -> ExprId {
        let token = match &self.by {
            Some((_, Some(standing))) => standing.at(edit, token),
            Some((by, None)) => standing::among(edit, *by, (token, &self.tokens)),
            None => token,
        };
        let mut write = Writer { edit };
        let Some(parts) = &self.parts else {
            let place = match &self.grid {
                Some([rows, columns]) if self.by_columns => exchanged(&mut write, token, (columns, rows)),
                _ => token,
            };
            return self.turned(&mut write, place);
        };
        let (part, at, all) = match &parts.tiles {
            None => {
                let part = write.over(token, &parts.length);
                let stretch = self.stretch(&mut write, part, &parts.length);
                (part, write.rest(token, &parts.length), stretch.count)
            }
            Some(tiles) => self.in_window(&mut write, token, tiles),
        };
        let at = self.within(&mut write, at, all);
        let length = write.size(&parts.length);
        let first = write.product(part, length);
        write.sum(first, at)
    }

    fn columns(&self) -> Size {
        self.grid.as_ref().map_or(Size::constant(1), |[_, columns]| columns.clone())
    }

    /// The part of a token on the grid, its place there counted forward, and how many there are.
    fn in_window(&self, write: &mut Writer, token: ExprId, tiles: &Tiles) -> (ExprId, ExprId, ExprId) {
        let columns = self.columns();
        let (row, column) = (write.over(token, &columns), write.rest(token, &columns));
        let mut along = |at: ExprId, window: &Size| {
            let step = window.mul(&tiles.rate);
            let (tile, phase) = (write.over(at, &step), write.rest(at, &tiles.rate));
            let inside = write.rest(at, &step);
            (tile, phase, write.over(inside, &tiles.rate))
        };
        let (y, x) = (along(row, &tiles.window[0]), along(column, &tiles.window[1]));
        let mut part = y.0;
        for (n, by) in [(x.0, &tiles.across), (y.1, &tiles.rate), (x.1, &tiles.rate)] {
            let by = write.size(by);
            part = write.product(part, by);
            part = write.sum(part, n);
        }
        let [high, wide] = self.window(write, part, tiles);
        let (slow, fast, inner) = if self.by_columns { (x.2, y.2, high) } else { (y.2, x.2, wide) };
        let at = write.product(slow, inner.count);
        let at = write.sum(at, fast);
        (part, at, write.product(high.count, wide.count))
    }

    /// The stretches of a part on a line.
    fn stretch(&self, write: &mut Writer, part: ExprId, length: &Size) -> Stretch {
        let (length, tokens) = (write.size(length), write.size(&self.tokens));
        let first = write.product(part, length);
        let left = write.scalar(Function::Sub, [tokens, first]);
        Stretch { first, count: write.scalar(Function::Min, [length, left]) }
    }

    /// The rows and the columns of a part on the grid.
    fn window(&self, write: &mut Writer, part: ExprId, tiles: &Tiles) -> [Stretch; 2] {
        let column_phase = write.rest(part, &tiles.rate);
        let rest = write.over(part, &tiles.rate);
        let (row_phase, tile) = (write.rest(rest, &tiles.rate), write.over(rest, &tiles.rate));
        let (down, along) = (write.over(tile, &tiles.across), write.rest(tile, &tiles.across));
        let [rows, columns] = self.grid.clone().unwrap_or([self.tokens.clone(), Size::constant(1)]);
        let mut stretch = |tile: ExprId, phase: ExprId, (window, length): (&Size, &Size)| {
            let step = write.size(&window.mul(&tiles.rate));
            let first = write.product(tile, step);
            let first = write.sum(first, phase);
            // (length - first + rate - 1) div rate, no more than the window and not below 0.
            let room = write.size(&length.add(&tiles.rate).sub(&Size::constant(1)));
            let room = write.scalar(Function::Sub, [room, first]);
            let room = write.over(room, &tiles.rate);
            let (most, none) = (write.size(window), write.number(0));
            let room = write.scalar(Function::Max, [room, none]);
            Stretch { first, count: write.scalar(Function::Min, [room, most]) }
        };
        [
            stretch(down, row_phase, (&tiles.window[0], &rows)),
            stretch(along, column_phase, (&tiles.window[1], &columns)),
        ]
    }

    /// A position within a part of so many, from its other end where the order runs backwards.
    fn within(&self, write: &mut Writer, at: ExprId, count: ExprId) -> ExprId {
        if !self.backwards {
            return at;
        }
        let one = write.number(1);
        let last = write.scalar(Function::Sub, [count, one]);
        write.scalar(Function::Sub, [last, at])
    }

    /// `T - 1 - at`
    fn turned(&self, write: &mut Writer, at: ExprId) -> ExprId {
        if !self.backwards {
            return at;
        }
        let last = write.size(&self.tokens.sub(&Size::constant(1)));
        write.scalar(Function::Sub, [last, at])
    }
}

/// `(at mod n) m + at div n`: row and column exchanged, of m by n.
fn exchanged(write: &mut Writer, at: ExprId, (n, m): (&Size, &Size)) -> ExprId {
    let (row, column) = (write.rest(at, n), write.over(at, n));
    let m = write.size(m);
    let row = write.product(row, m);
    write.sum(row, column)
}

/// Integer expressions.
struct Writer<'e> {
    edit: &'e mut Edit,
}

impl Writer<'_> {
    fn scalar(&mut self, function: Function, args: [ExprId; 2]) -> ExprId {
        self.edit.map(function, args.into(), Ty::scalar())
    }

    fn number(&mut self, n: i64) -> ExprId {
        self.edit.number(n as f64)
    }

    fn size(&mut self, size: &Size) -> ExprId {
        self.edit.size(size.clone())
    }

    fn sum(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.scalar(Function::Add, [a, b])
    }

    fn product(&mut self, a: ExprId, b: ExprId) -> ExprId {
        self.scalar(Function::Mul, [a, b])
    }

    /// `at div by`
    fn over(&mut self, at: ExprId, by: &Size) -> ExprId {
        let by = self.size(by);
        self.scalar(Function::FloorDiv, [at, by])
    }

    /// `at mod by`
    fn rest(&mut self, at: ExprId, by: &Size) -> ExprId {
        let by = self.size(by);
        self.scalar(Function::Mod, [at, by])
    }
}
