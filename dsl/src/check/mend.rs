//! What to write instead: mends of shapes in the words of the program, and of axes that are called or meant otherwise.

use crate::advice;
use crate::shape::Size;
use crate::typed::{AxisKind, ExprId, ExprKind, Function, Ty};

use super::Checker;

/// An operand longer than this is named by a letter.
const SHORT: usize = 32;

impl Checker<'_> {
    /// An operand as it is written, in brackets where it needs them; `letter` for one that is long.
    pub(super) fn quoted(&self, id: ExprId, letter: &str) -> String {
        let text = self.around.source.slice(self.span(id));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() || text.len() > SHORT {
            return letter.to_string();
        }
        // A name, its subscripts, a call, or what has brackets around it binds tighter than any operator.
        let mut depth = 0i32;
        let open = text.chars().any(|c| {
            depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
            depth == 0 && matches!(c, ' ' | '+' | '-' | '*' | '/' | '<' | '>' | '=' | '^')
        });
        if open { format!("({text})") } else { text }
    }

    /// What is meant by a vector and a matrix element by element, or by vectors of two sizes.
    pub(super) fn broadcast_mend(&self, function: &str, (a, b): (ExprId, ExprId)) -> Option<String> {
        let (ta, tb) = (self.ty(a), self.ty(b));
        if let (Ty::Array(x), Ty::Array(y)) = (&ta, &tb)
            && let ([_], [_], ".*") = (x.as_slice(), y.as_slice(), function)
        {
            return Some(format!("the outer product is `{} * {}'`", self.quoted(a, "k"), self.quoted(b, "v")));
        }
        let vector = |ty: &Ty| match ty {
            Ty::Row(n) => Some(n.clone()),
            Ty::Array(dims) => <&[Size; 1]>::try_from(dims.as_slice()).ok().map(|[n]| n.clone()),
            Ty::Bool => None,
        };
        let (vector_id, n, matrix_id, dims) = match (vector(&ta), vector(&tb)) {
            (Some(n), None) => (a, n, b, tb.dims()),
            (None, Some(n)) => (b, n, a, ta.dims()),
            _ => return None,
        };
        let [rows, columns] = dims.as_slice() else { return None };
        let (vector, matrix) = (self.quoted(vector_id, "a"), self.quoted(matrix_id, "B"));
        let factor = match function {
            ".*" => format!("diag({})", vector.trim_end_matches('\'')),
            "./" if vector_id == b => format!("diag(1 ./ {})", vector.trim_end_matches('\'')),
            _ => return None,
        };
        if self.same_size(&n, rows) && !matches!(self.ty(vector_id), Ty::Row(_)) {
            return Some(format!("a vector scales the rows of a matrix by `{factor} * {matrix}`"));
        }
        self.same_size(&n, columns).then(|| format!("a vector scales the columns of a matrix by `{matrix} * {factor}`"))
    }

    /// What is meant by a product whose inner sizes differ.
    pub(super) fn product_mend(&self, a: ExprId, b: ExprId) -> Option<String> {
        let (ta, tb) = (self.ty(a), self.ty(b));
        let (x, y) = (ta.dims(), tb.dims());
        let (l, r) = (self.quoted(a, "a"), self.quoted(b, "B"));
        let text = match (&ta, &tb, x.as_slice(), y.as_slice()) {
            (Ty::Array(_), Ty::Array(_), [k], [m, _]) if self.same_size(k, m) => {
                format!(
                    "a vector is a column: write `{l}' * {r}` for the product, or `diag({l}) * {r}` to scale the rows"
                )
            }
            (Ty::Array(_), _, [k, _], [m] | [m, _]) if self.same_size(k, m) => {
                format!("transpose the left side: `{l}' * {r}`")
            }
            (_, Ty::Array(_), [k] | [_, k], [_, m]) if self.same_size(k, m) => {
                format!("transpose the right side: `{l} * {r}'`")
            }
            (_, _, x, y) if self.same_dims(x, y) => format!("write `{l} .* {r}` to multiply element by element"),
            _ => return None,
        };
        Some(text)
    }

    /// What is meant by `*` of two vectors.
    pub(super) fn vectors_mend(&self, a: ExprId, b: ExprId) -> String {
        let (l, r) = (self.quoted(a, "a"), self.quoted(b, "b"));
        if let Some(power) = [a, b].into_iter().find(|id| self.is_power_of_tokens(*id)) {
            let ExprKind::Map { args, .. } = &self.arena.get(power).kind else { return String::new() };
            return format!("`^T` is a power; the transpose is `'`: `{}'`", self.quoted(args[0], "x"));
        }
        if self.same_dims(&self.ty(a).dims(), &self.ty(b).dims()) {
            return format!(
                "write `{l} .* {r}` element by element, `{l}' * {r}` for the dot product, or `{l} * {r}'` for the outer product"
            );
        }
        format!("write `{l} * {r}'` for the outer product")
    }

    /// `x^T`, with the number of tokens as the exponent.
    fn is_power_of_tokens(&self, id: ExprId) -> bool {
        match &self.arena.get(id).kind {
            ExprKind::Map { function: Function::Pow, args } => match &self.arena.get(args[1]).kind {
                ExprKind::Size(size) => self.is_token_size(size),
                _ => false,
            },
            _ => false,
        }
    }

    /// Axes of groups that heads share and nothing says so, in either operand.
    pub(super) fn group_mend(&self, operands: &[ExprId]) -> Option<String> {
        let head = &self.variant.axes[self.variant.head?.0 as usize];
        let mut sizes = operands.iter().flat_map(|id| self.ty(*id).dims());
        let group = sizes.find_map(|size| {
            let name = self.variant.axes[size.as_axis()?.0 as usize].name.clone();
            advice::GROUP_AXES.contains(&name.as_str()).then_some(name)
        })?;
        head.value.is_none().then(|| {
            format!(
                "heads share an entry of `{group}` where `H = {group}*R` says so: `axes {group}, R, H = {group}*R;`"
            )
        })
    }

    /// A variant without tokens may have them under another name.
    pub(super) fn token_mend(&self) -> Option<String> {
        if self.variant.token.is_some() {
            return None;
        }
        let own = self.variant.axes.iter().filter(|axis| axis.kind == AxisKind::Own);
        own.map(|axis| axis.name.as_str())
            .find(|name| advice::TOKEN_AXES.contains(name))
            .map(|name| format!("the token axis is called `T`: rename `{name}` to `T`"))
    }

    /// An axis that stands before `T` in a tensor, and is no batch axis because nothing lists it as one.
    pub(super) fn batch_mend(&self) -> Option<String> {
        let token = self.variant.token?;
        self.variant.tensors.iter().find_map(|tensor| {
            let own: Vec<_> = tensor.dims.iter().filter(|dim| dim.batch.is_none()).collect();
            let axis = own.first()?.size.as_axis().filter(|axis| *axis != token)?;
            own[1..].iter().any(|dim| dim.size.as_axis() == Some(token)).then(|| {
                let name = self.variant.axis_name(axis);
                format!(
                    "`{name}` stands before `T` in `{}`: a further batch axis is listed, `batch {name};`",
                    tensor.name
                )
            })
        })
    }
}
