//! Value tiles: whether the columns of a variant's states can be computed apart.
//!
//! Transitions act on rows, so a column of a state never meets another one until an output mixes them. If nothing the
//! variant computes sums, orders, counts or looks up along the columns' axis, work items may take a part of it each.
//! States that do not lie along the axis are then stepped by every tile and written by the first; results all do.

use std::collections::HashSet;

use chunkwise_dsl::{
    shape::{AxisId, Size},
    typed::{AxisKind, ExprId, ExprKind, LetId, LetValue, Stmt, Ty, Variant},
};

/// The axis that value tiles may divide, if there is one.
pub fn axis(variant: &Variant) -> Option<AxisId> {
    let axis = variant.states.iter().find_map(|state| match state.dims.as_slice() {
        [_, columns] => columns.as_axis(),
        _ => None,
    })?;
    let declared = &variant.axes[axis.0 as usize];
    let derived = variant.axes.iter().any(|other| other.value.as_ref().is_some_and(|size| mentions(size, axis)));
    if declared.kind != AxisKind::Own || variant.token == Some(axis) || declared.value.is_some() || derived {
        return None;
    }
    let states = variant.states.iter().all(|state| match state.dims.as_slice() {
        [rows, columns] => !mentions(rows, axis) && (columns.as_axis() == Some(axis) || !mentions(columns, axis)),
        dims => !dims.iter().any(|size| mentions(size, axis)),
    });
    let mut walk = Walk { variant, axis, seen: HashSet::new(), apart: true };
    for stmt in &variant.body {
        match stmt {
            Stmt::Update(update) => walk.expr(update.value),
            Stmt::Output(output) => {
                walk.apart &= !output.indices.iter().any(|index| mentions(&variant.indices[index.index()].size, axis));
                walk.apart &= output.ty.dims().iter().any(|size| mentions(size, axis));
                walk.expr(output.value);
            }
            Stmt::Let(of) | Stmt::Read(of) => walk.named(*of),
        }
    }
    (states && walk.apart).then_some(axis)
}

fn mentions(size: &Size, axis: AxisId) -> bool {
    size.axes().contains(&axis)
}

struct Walk<'a> {
    variant: &'a Variant,
    axis: AxisId,
    seen: HashSet<ExprId>,
    /// Nothing seen so far mixes columns.
    apart: bool,
}

impl Walk<'_> {
    fn named(&mut self, of: LetId) {
        let named = &self.variant.lets[of.index()];
        self.apart &= !named.indices.iter().any(|index| self.over_index(index.index()));
        match named.value {
            LetValue::Expr(value) => self.expr(value),
            LetValue::Iterate { init, step, .. } => {
                self.expr(init);
                self.expr(step);
            }
            LetValue::Norm { of, .. } => {
                let last = self.variant.lets[of.index()].ty.dims().last().cloned();
                self.apart &= !last.is_some_and(|size| mentions(&size, self.axis));
                self.named(of);
            }
        }
    }

    fn over_index(&self, place: usize) -> bool {
        mentions(&self.variant.indices[place].size, self.axis)
    }

    fn expr(&mut self, id: ExprId) {
        if !self.seen.insert(id) {
            return;
        }
        let expr = self.variant.expr(id);
        let composed = |size: &Size| mentions(size, self.axis) && size.as_axis() != Some(self.axis);
        self.apart &= !expr.ty.dims().iter().any(composed) && self.keeps_apart(&expr.kind);
        if let ExprKind::Let(of) = expr.kind {
            self.named(of);
        }
        for child in expr.kind.children() {
            self.expr(child);
        }
    }

    fn dims(&self, id: ExprId) -> Vec<Size> {
        self.variant.expr(id).ty.dims()
    }

    fn along(&self, id: ExprId) -> bool {
        self.dims(id).iter().any(|size| mentions(size, self.axis))
    }

    fn last_along(&self, id: ExprId) -> bool {
        self.dims(id).last().is_some_and(|size| mentions(size, self.axis))
    }

    fn keeps_apart(&self, kind: &ExprKind) -> bool {
        match kind {
            ExprKind::Size(size) | ExprKind::Eye(size) => !mentions(size, self.axis),
            ExprKind::Index(index) => !self.over_index(index.index()),
            ExprKind::Reduce { index, .. } | ExprKind::Softmax { index, .. } => !self.over_index(index.index()),
            ExprKind::Subscript { base, at } => {
                !self.dims(*base).iter().take(at.len()).any(|size| mentions(size, self.axis))
            }
            ExprKind::Product(a, b) => !self.contracts(*a, *b),
            ExprKind::Fold { arg, .. } | ExprKind::Normalise { arg, .. } | ExprKind::SoftmaxAxis(arg) => {
                !self.last_along(*arg)
            }
            ExprKind::Stack(parts) => !parts.iter().any(|&part| self.along(part)),
            ExprKind::Flatten(arg)
            | ExprKind::Diag(arg)
            | ExprKind::Cols { arg, .. }
            | ExprKind::Conv1d { arg, .. }
            | ExprKind::Dwconv { arg, .. }
            | ExprKind::Rope { arg, .. }
            | ExprKind::Rope2d { arg, .. }
            | ExprKind::TopkMask { arg, .. } => !self.along(*arg),
            ExprKind::SolveCg { vector, .. } | ExprKind::Solve { vector, .. } => !self.along(*vector),
            _ => true,
        }
    }

    /// Whether a product sums along the axis.
    fn contracts(&self, a: ExprId, b: ExprId) -> bool {
        let (left, right) = (&self.variant.expr(a).ty, &self.variant.expr(b).ty);
        let summed = match (left, right) {
            (Ty::Row(size), _) => Some(size),
            (Ty::Array(dims), _) if dims.len() >= 2 => dims.last(),
            _ => None,
        };
        summed.is_some_and(|size| mentions(size, self.axis))
    }
}

#[cfg(test)]
mod tests {
    use chunkwise_dsl::source::Source;

    fn tiled(output: &str) -> Option<String> {
        let text = format!(
            "variant f {{
               axes   B, T, H, K, V;
               input  q, k : [B,T,H,K], v : [B,T,H,V];
               state  S : [K,V] = 0, z : [K] = 0;
               update S additive(k, v);
               update z additive(k);
               {output}
             }}"
        );
        let program = chunkwise_dsl::compile(&Source::new("f.attn", text.as_str()), &[]).expect("the program checks");
        let variant = &program.variants[0];
        super::axis(variant).map(|axis| variant.axis_name(axis))
    }

    #[test]
    fn columns_are_apart_until_an_output_mixes_them() {
        let apart = Some("V".to_string());
        assert_eq!(tiled("output o[t] = S[t]' * q[t] / (z[t]' * q[t]);"), apart);
        assert_eq!(tiled("output o[t] = silu(v[t]) .* (S[t]' * q[t]);"), apart);
        assert_eq!(tiled("output o[t] = rms(S[t]' * q[t]);"), None);
        assert_eq!(tiled("output o[t] = S[t] * v[t];"), None);
        assert_eq!(tiled("output o[t] = S[t]' * q[t] / V;"), None);
    }
}
