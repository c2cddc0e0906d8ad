//! The places of tokens under an order: a scan over places is a scan forward.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{ExprId, Function, LocalKind, Order, OrderKind, Variant};

use crate::Unsupported;

use super::Result;
use super::edit::Edit;

/// How an order counts.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// From the last token on.
    backwards: bool,
    /// By columns of a grid of so many rows and columns.
    columns: Option<[Size; 2]>,
    tokens: Size,
}

impl Places {
    /// # Errors
    /// A part of the sequence that a restart divides otherwise than the order does, or tokens before a grid.
    pub fn of(variant: &Variant, order: &Order) -> Result<Self> {
        let refused = |what: &str, why: &str| {
            Err(Unsupported::new(what, why, "run it with --backend reference").at(variant.span))
        };
        let tokens = variant.token.map_or(Size::constant(1), Size::axis);
        let backwards = matches!(order.kind, OrderKind::Reverse | OrderKind::RasterRev | OrderKind::ColumnRev);
        let by_columns = matches!(order.kind, OrderKind::Column | OrderKind::ColumnRev);
        let columns = match &variant.grid {
            Some(grid) if by_columns => {
                if grid.offset.as_constant() != Some(0) {
                    return refused("an order by columns", "tokens stand before the grid");
                }
                Some([grid.rows.clone(), grid.cols.clone()])
            }
            _ => None,
        };
        let places = Self { backwards, columns, tokens };
        let parts = variant.locals.iter().find(|local| !matches!(local.kind, LocalKind::Window { .. }));
        match parts {
            Some(local) if !places.are_tokens() || !matches!(local.kind, LocalKind::Block(_)) => {
                refused("a restart within this order", "its parts are no stretches of the order")
                    .map_err(|r| r.at(local.span))
            }
            _ => Ok(places),
        }
    }

    /// Whether token t stands at place t.
    pub fn are_tokens(&self) -> bool {
        !self.backwards && self.columns.is_none()
    }

    /// The token at a place.
    pub fn token_at(&self, edit: &mut Edit, place: ExprId) -> ExprId {
        let place = self.turned(edit, place);
        match &self.columns {
            Some([rows, columns]) => exchanged(edit, place, (rows, columns)),
            None => place,
        }
    }

    /// The place of a token.
    pub fn of_token(&self, edit: &mut Edit, token: ExprId) -> ExprId {
        let place = match &self.columns {
            Some([rows, columns]) => exchanged(edit, token, (columns, rows)),
            None => token,
        };
        self.turned(edit, place)
    }

    /// `T - 1 - at`
    fn turned(&self, edit: &mut Edit, at: ExprId) -> ExprId {
        if !self.backwards {
            return at;
        }
        let last = edit.size(self.tokens.sub(&Size::constant(1)));
        edit.scalar(Function::Sub, [last, at])
    }
}

/// `(at mod n) m + at div n`: row and column exchanged, of m by n.
fn exchanged(edit: &mut Edit, at: ExprId, (n, m): (&Size, &Size)) -> ExprId {
    let (n, m) = (edit.size(n.clone()), edit.size(m.clone()));
    let row = edit.scalar(Function::Mod, [at, n]);
    let row = edit.scalar(Function::Mul, [row, m]);
    let column = edit.scalar(Function::FloorDiv, [at, n]);
    edit.scalar(Function::Add, [row, column])
}
