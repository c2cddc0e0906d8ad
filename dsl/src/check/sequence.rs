//! Functions over the sequence and solvers: convolutions, rotary positions, selection, linear systems.

use crate::ast::{self, Arg, Ident};
use crate::shape::Size;
use crate::source::Span;
use crate::typed::{ExprId, ExprKind, Ty};

use super::scope::Scope;
use super::{Checked, Checker};

impl<'a> Checker<'a> {
    pub(super) fn sequence_call(
        &mut self,
        name: &'a Ident,
        args: &'a [Arg],
        span: Span,
        scope: &mut Scope<'a>,
    ) -> Checked {
        match name.name.as_str() {
            "conv1d" => self.conv1d(name, args, span, scope),
            "dwconv" => self.dwconv(name, args, span, scope),
            "rope" => self.rope(name, args, span, scope),
            "rope2d" => self.rope2d(name, args, span, scope),
            "topk_mask" => self.topk_mask(name, args, span, scope),
            _ => self.solver(name, args, span, scope),
        }
    }

    /// An argument that is a value per token as a whole array, `[T,K]`.
    fn sequence(&mut self, name: &Ident, arg: &'a ast::Expr, scope: &mut Scope<'a>) -> Checked<(ExprId, Vec<Size>)> {
        let id = self.array(name, arg, scope)?;
        match self.ty(id) {
            Ty::Array(dims) if dims.len() == 2 => Some((id, dims)),
            ty => {
                let found = self.type_text(&ty);
                let message = format!("`{}` is of a whole sequence of vectors, [T,K], not of {found}", name.name);
                let help = format!("leave the subscript out: `let y = {}(x, w);`", name.name);
                self.fail("shape-mismatch", message, arg.span, &format!("{found} here"), &help)
            }
        }
    }

    fn conv1d(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x", "w"], 2)?;
        let (x, w) = (self.sequence(name, found[0]?, scope), self.expr(found[1]?, scope));
        let ((x, dims), w) = (x?, w?);
        let shape = self.ty(w);
        let fits = matches!(&shape, Ty::Array(taps) if taps.len() == 2 && self.same_size(&taps[0], &dims[1]));
        if !fits {
            let channels = self.size_text(&dims[1]);
            return self.wrong_weights(name, w, &format!("[{channels},N]"), found[1]?.span);
        }
        Some(self.node(ExprKind::Conv1d { arg: x, weights: w }, Ty::Array(dims), span))
    }

    fn wrong_weights(&mut self, name: &Ident, w: ExprId, wanted: &str, span: Span) -> Checked {
        let ty = self.ty(w);
        let shape = self.type_text(&ty);
        let message = format!("the weights of `{}` are {wanted} here, not {shape}", name.name);
        self.fail("shape-mismatch", message, span, &format!("{shape} here"), "")
    }

    fn dwconv(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x", "w", "stride"], 2)?;
        let (x, w) = (self.sequence(name, found[0]?, scope), self.expr(found[1]?, scope));
        let stride = match found[2] {
            Some(stride) => self.whole(stride, scope),
            None => Some(1),
        };
        let ((x, dims), w, stride) = (x?, w?, stride?);
        if stride < 1 {
            let message = format!("a stride is at least 1, not {stride}");
            return self.fail("not-a-size", message, found[2]?.span, "too small", "");
        }
        self.need_grid(span)?;
        let grid = self.variant.grid.clone()?;
        if !self.same_size(&dims[0], &grid.rows.mul(&grid.cols)) {
            let (rows, tokens) = (grid.rows.mul(&grid.cols), self.size_text(&dims[0]));
            let message = format!("`dwconv` is over the grid of {} tokens, not over {tokens}", self.size_text(&rows));
            return self.fail("shape-mismatch", message, found[0]?.span, "not the grid", "");
        }
        let shape = self.ty(w);
        let fits = match &shape {
            Ty::Array(taps) => taps.len() == 2 || (taps.len() == 3 && self.same_size(&taps[0], &dims[1])),
            _ => false,
        };
        if !fits {
            let channels = self.size_text(&dims[1]);
            return self.wrong_weights(name, w, &format!("[{channels},ky,kx] or [ky,kx]"), found[1]?.span);
        }
        let kept = |n: &Size| n.add(&Size::constant(stride - 1)).floor_div(&Size::constant(stride));
        let tokens = match stride {
            1 => dims[0].clone(),
            _ => kept(&grid.rows)?.mul(&kept(&grid.cols)?),
        };
        let ty = Ty::Array(vec![tokens, dims[1].clone()]);
        Some(self.node(ExprKind::Dwconv { arg: x, weights: w, stride }, ty, span))
    }

    fn rope(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x", "t", "base"], 2)?;
        let arg = self.array(name, found[0]?, scope);
        let at = self.scalar(found[1]?, "the position", scope);
        let base = match found[2] {
            Some(base) => self.scalar(base, "the base", scope),
            None => Some(self.number_node(10000.0, span)),
        };
        let (arg, at, base) = (arg?, at?, base?);
        let ty = self.ty(arg);
        self.even(name, &ty, 2, span)?;
        Some(self.node(ExprKind::Rope { arg, at, base }, ty, span))
    }

    /// Pairs need a last axis that `parts` divides, where its size is known already.
    fn even(&mut self, name: &Ident, ty: &Ty, parts: i64, span: Span) -> Checked<()> {
        match ty.dims().last().and_then(Size::as_constant) {
            Some(n) if n % parts != 0 => {
                let message = format!("`{}` turns pairs, and {n} is not divisible by {parts}", name.name);
                self.fail("shape-mismatch", message, span, "", "")
            }
            _ => Some(()),
        }
    }

    fn rope2d(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x", "t"], 2)?;
        let (arg, at) = (self.array(name, found[0]?, scope), self.expr(found[1]?, scope));
        let (arg, at) = (arg?, at?);
        let index = self.grid_index(at, found[1]?.span)?;
        let ty = self.ty(arg);
        self.even(name, &ty, 4, span)?;
        Some(self.node(ExprKind::Rope2d { arg, index }, ty, span))
    }

    fn topk_mask(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let found = self.arguments(name, args, &["x", "n"], 2)?;
        let (arg, count) = (self.array(name, found[0]?, scope), self.scalar(found[1]?, "the count", scope));
        let (arg, count) = (arg?, count?);
        let ty = self.ty(arg);
        Some(self.node(ExprKind::TopkMask { arg, count }, ty, span))
    }

    fn solver(&mut self, name: &'a Ident, args: &'a [Arg], span: Span, scope: &mut Scope<'a>) -> Checked {
        let by_steps = name.name == "solve_cg";
        let params: &[&str] = if by_steps { &["A", "b", "iters"] } else { &["A", "b"] };
        let found = self.arguments(name, args, params, params.len())?;
        let (matrix, vector) = (self.expr(found[0]?, scope), self.expr(found[1]?, scope));
        let iters = if by_steps { self.whole(found[2]?, scope) } else { Some(0) };
        let (matrix, vector, iters) = (matrix?, vector?, iters?);
        let (ta, tb) = (self.ty(matrix), self.ty(vector));
        let fits = match (&ta, &tb) {
            (Ty::Array(a), Ty::Array(b)) => {
                a.len() == 2 && b.len() == 1 && self.same_size(&a[0], &a[1]) && self.same_size(&a[1], &b[0])
            }
            _ => false,
        };
        if !fits {
            let (fa, fb) = (self.type_text(&ta), self.type_text(&tb));
            let message = format!("`{}` wants a square matrix and a vector of its size, not {fa} and {fb}", name.name);
            return self.fail("shape-mismatch", message, span, "these shapes do not fit", "");
        }
        if iters < 0 {
            let message = format!("a number of steps is not negative: {iters}");
            return self.fail("not-a-size", message, found[2]?.span, "negative here", "");
        }
        let kind =
            if by_steps { ExprKind::SolveCg { matrix, vector, iters } } else { ExprKind::Solve { matrix, vector } };
        Some(self.node(kind, tb, span))
    }
}
