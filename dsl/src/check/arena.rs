//! The expressions of a variant, hash-consed: equal kind and type are one node, which keeps the first span.

use std::collections::HashMap;

use crate::source::Span;
use crate::typed::{Expr, ExprId, ExprKind, Ty};

/// What an expression depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Depends {
    /// A state, or a let of the scan.
    pub scan: bool,
    /// The read-out, which exists only after the scan.
    pub read: bool,
}

impl Depends {
    pub(super) fn or(self, other: Depends) -> Depends {
        Depends { scan: self.scan || other.scan, read: self.read || other.read }
    }
}

/// How far an expression spreads when nothing of it is shared.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    /// The levels below it.
    pub depth: usize,
    /// The expressions below it, each as often as it is used.
    pub size: usize,
}

impl Spread {
    fn over(self, child: Spread) -> Spread {
        let size = self.size.saturating_add(child.size).saturating_add(1);
        Spread { depth: self.depth.max(child.depth + 1), size }
    }
}

#[derive(Debug, Default)]
pub(super) struct Arena {
    exprs: Vec<Expr>,
    depends: Vec<Depends>,
    spreads: Vec<Spread>,
    known: HashMap<String, ExprId>,
}

impl Arena {
    /// The node of this kind and type. `own` is what the node depends on by itself, its children apart.
    pub(super) fn push(&mut self, kind: ExprKind, ty: Ty, span: Span, own: Depends) -> ExprId {
        // f64 has no Hash; its debug text tells every number, -0 and the infinities apart.
        let key = format!("{kind:?} {ty:?}");
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let children = kind.children();
        let depends = children.iter().fold(own, |all, child| all.or(self.depends[child.index()]));
        let spread = children.iter().map(|child| self.spreads[child.index()]).fold(Spread::default(), Spread::over);
        let id = ExprId(u32::try_from(self.exprs.len()).expect("a file has fewer than 2^32 expressions"));
        self.exprs.push(Expr { kind, ty, span });
        self.depends.push(depends);
        self.spreads.push(spread);
        self.known.insert(key, id);
        id
    }

    pub(super) fn get(&self, id: ExprId) -> &Expr {
        &self.exprs[id.index()]
    }

    pub(super) fn depends(&self, id: ExprId) -> Depends {
        self.depends[id.index()]
    }

    pub(super) fn spread(&self, id: ExprId) -> Spread {
        self.spreads[id.index()]
    }

    /// Hands the expressions over; the arena is empty afterwards.
    pub(super) fn take(&mut self) -> Vec<Expr> {
        self.known.clear();
        self.depends.clear();
        self.spreads.clear();
        std::mem::take(&mut self.exprs)
    }

    /// The expression with each node for which `replace` knows another one replaced by it.
    pub(super) fn rewrite(&mut self, root: ExprId, replace: &dyn Fn(&ExprKind) -> Option<ExprKind>) -> ExprId {
        self.rewrite_known(root, replace, &mut HashMap::new())
    }

    fn rewrite_known(
        &mut self,
        id: ExprId,
        replace: &dyn Fn(&ExprKind) -> Option<ExprKind>,
        done: &mut HashMap<ExprId, ExprId>,
    ) -> ExprId {
        if let Some(found) = done.get(&id) {
            return *found;
        }
        let Expr { mut kind, ty, span } = self.get(id).clone();
        for child in kind.children_mut() {
            *child = self.rewrite_known(*child, replace, done);
        }
        let kind = replace(&kind).unwrap_or(kind);
        let new = self.push(kind, ty, span, Depends::default());
        // A leaf's own dependence is not in its kind.
        self.depends[new.index()] = self.depends[new.index()].or(self.depends[id.index()]);
        done.insert(id, new);
        new
    }
}
