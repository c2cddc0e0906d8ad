//! What is visible: orders with their bindings and merge, localities, and what of these a state allows.

use crate::ast::{self, Arg, Ident, Named};
use crate::diagnostic::Diagnostic;
use crate::shape::Size;
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{
    ExprId, ExprKind, Function, LetId, LetKind, Local, LocalKind, Merge, Order, OrderKind, StateId, Stmt, Ty,
};

use super::scope::{Binding, Scope};
use super::{Checked, Checker};

pub(super) const ORDERS: &[(&str, OrderKind)] = &[
    ("causal", OrderKind::Causal),
    ("full", OrderKind::Full),
    ("reverse", OrderKind::Reverse),
    ("raster", OrderKind::Raster),
    ("column", OrderKind::Column),
    ("raster_rev", OrderKind::RasterRev),
    ("column_rev", OrderKind::ColumnRev),
];

pub(super) const LOCALS: &[&str] = &["window", "block", "disc", "atrous"];

impl<'a> Checker<'a> {
    pub(super) fn order(&mut self, orders: &'a [Named], merge: Option<&'a Ident>, span: Span) {
        if let Some(first) = self.order {
            let error = Diagnostic::new("several-orders", "a variant has one `order` statement")
                .label(span, "the second")
                .label(first, "the first")
                .help("several orders stand in one: `order causal, reverse merge mean;`");
            self.report(error);
            return;
        }
        self.order = Some(span);
        self.variant.merge = match merge.map(|ident| (ident, ident.name.as_str())) {
            None | Some((_, "sum")) => Merge::Sum,
            Some((_, "mean")) => Merge::Mean,
            Some((ident, other)) => {
                let message = format!("no merge `{other}`");
                self.fail::<()>("unknown-merge", message, ident.span, "not known", "write `merge sum` or `merge mean`");
                Merge::Sum
            }
        };
        let mut lets: Vec<(String, Option<LetId>)> = Vec::new();
        for (place, named) in orders.iter().enumerate() {
            if let Some(order) = self.one_order(named, place == 0, &mut lets) {
                self.variant.orders.push(order);
            }
        }
    }

    fn one_order(&mut self, named: &'a Named, first: bool, lets: &mut Vec<(String, Option<LetId>)>) -> Checked<Order> {
        let name = &named.name;
        let Some(kind) = ORDERS.iter().find(|(known, _)| *known == name.name).map(|(_, kind)| *kind) else {
            let help = match nearest(&name.name, ORDERS.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "the orders are causal, full, reverse, raster, column, raster_rev, column_rev".to_string(),
            };
            for binding in named.args.iter().filter_map(|arg| arg.name.as_ref()) {
                self.poison(binding);
            }
            return self.fail("unknown-order", format!("no order `{}`", name.name), name.span, "not known", &help);
        };
        if matches!(kind, OrderKind::Raster | OrderKind::Column | OrderKind::RasterRev | OrderKind::ColumnRev) {
            self.need_grid(name.span)?;
        }
        let mut order = Order { kind, bindings: Vec::new(), by: None };
        let mut given = Vec::new();
        for arg in &named.args {
            match &arg.name {
                Some(by) if by.name == "by" => order.by = self.permutation(arg),
                Some(bound) => {
                    given.push(bound.name.clone());
                    let value = self.expr(&arg.value, &mut Scope::default());
                    self.bind_order(bound, value, first, lets, &mut order);
                }
                None => {
                    let message = format!("`{}` binds names", name.name);
                    let help = "write `reverse(g = gb)`: in this order `g` means `gb`";
                    self.fail::<()>("order-binding", message, arg.value.span, "no name here", help);
                }
            }
        }
        if let Some((missing, _)) = lets.iter().find(|(known, _)| !given.contains(known)) {
            let message = format!("`{}` does not say what `{missing}` is in this order", name.name);
            let help = "every order binds the same names";
            self.fail::<()>("order-binding", message, named.span, "another order binds it", help);
        }
        Some(order)
    }

    fn bind_order(
        &mut self,
        name: &'a Ident,
        value: Checked,
        first: bool,
        lets: &mut Vec<(String, Option<LetId>)>,
        order: &mut Order,
    ) {
        if first {
            let id = value.and_then(|value| {
                if let Some(known) = self.names.get(&name.name).copied()
                    && known.binding != Binding::Poison
                {
                    self.declare(name, Binding::Poison);
                    return None;
                }
                let id = self.new_let(name, LetKind::Let, Vec::new(), value, None)?;
                self.shadow(name, Binding::Let(id))?;
                Some(id)
            });
            if id.is_none() {
                self.poison(name);
            }
            lets.push((name.name.clone(), id));
            order.bindings.extend(id.zip(value));
            return;
        }
        let Some((_, id)) = lets.iter().find(|(known, _)| *known == name.name) else {
            let message = format!("`{}` is bound in this order, but not in the first", name.name);
            self.fail::<()>("order-binding", message, name.span, "bound here", "every order binds the same names");
            return;
        };
        let (Some(id), Some(value)) = (*id, value) else { return };
        let (wanted, found) = (self.variant.lets[id.index()].ty.clone(), self.ty(value));
        if !self.same_type(&wanted, &found) {
            let (wanted, found) = (self.type_text(&wanted), self.type_text(&found));
            let message = format!("`{}` is {wanted} in the first order, and {found} in this", name.name);
            let help = "what a name means in each order has one shape";
            self.fail::<()>("shape-mismatch", message, name.span, &format!("{found} here"), help);
            return;
        }
        order.bindings.push((id, value));
    }

    fn permutation(&mut self, arg: &'a Arg) -> Checked {
        let id = self.expr(&arg.value, &mut Scope::default())?;
        let ty = self.ty(id);
        let fits = matches!(&ty, Ty::Array(dims) if dims.len() == 1 && self.is_token_size(&dims[0]));
        if fits {
            return Some(id);
        }
        let found = self.type_text(&ty);
        let message = format!("`by` is a permutation of the tokens, [T], not {found}");
        self.fail("shape-mismatch", message, arg.value.span, &format!("{found} here"), "declare it `perm : i32 [B,T]`")
    }

    pub(super) fn local(&mut self, local: &'a ast::Local, span: Span) {
        let kind = match local {
            ast::Local::Where(cond) => self.local_where(cond, span),
            ast::Local::Named(named) => self.named_local(named),
        };
        self.variant.locals.extend(kind.map(|kind| Local { span, kind }));
    }

    fn local_where(&mut self, cond: &'a ast::Expr, span: Span) -> Checked<LocalKind> {
        let Some(size) = self.token_size() else {
            let message = "a locality is between tokens, and this variant has no axis `T`".to_string();
            let help = self.token_mend().unwrap_or_else(|| "list it: `axes T;`".to_string());
            return self.fail("no-token-axis", message, span, "needs tokens", &help);
        };
        let i = self.bind_index("i", size.clone(), &Scope::default());
        let j = self.bind_index("j", size, &Scope::default());
        let indices = vec![("i".to_string(), i), ("j".to_string(), j)];
        // No token is the left's here: what is visible is what this condition says, so sums in it are over everybody.
        let mut scope = Scope { indices, ..Scope::default() };
        let id = self.expr(cond, &mut scope)?;
        let cond = self.condition(id, cond.span)?;
        Some(LocalKind::Where { i, j, cond })
    }

    fn named_local(&mut self, named: &'a Named) -> Checked<LocalKind> {
        let (name, args) = (&named.name, &named.args);
        let scope = Scope::default();
        match name.name.as_str() {
            "window" => {
                let found = self.arguments(name, args, &["L", "R"], 1)?;
                let left = self.size(found[0]?, &scope);
                let right = found[1].map_or(Some(Size::constant(0)), |right| self.size(right, &scope));
                Some(LocalKind::Window { left: left?, right: right? })
            }
            "block" => {
                let found = self.arguments(name, args, &["Wy", "Wx", "shift"], 1)?;
                let first = self.part_size(found[0]?);
                let Some(second) = found[1] else {
                    if let Some(shift) = found[2] {
                        let help = "write `block(Wy, Wx, shift = s)`";
                        let message = "only tiles of the grid are shifted".to_string();
                        return self.fail("wrong-arity", message, shift.span, "shifted here", help);
                    }
                    return first.map(LocalKind::Block);
                };
                let second = self.part_size(second);
                let shift = found[2].map_or(Some(Size::constant(0)), |shift| self.size(shift, &scope));
                self.need_grid(named.span)?;
                Some(LocalKind::GridBlock { wy: first?, wx: second?, shift: shift? })
            }
            "disc" => {
                let found = self.arguments(name, args, &["r"], 1)?;
                let radius = self.scalar(found[0]?, "a radius", &mut Scope::default())?;
                self.need_grid(named.span)?;
                Some(LocalKind::Disc { radius })
            }
            "atrous" => {
                let found = self.arguments(name, args, &["wy", "wx", "rate"], 2)?;
                let (wy, wx) = (self.part_size(found[0]?), self.part_size(found[1]?));
                let rate = found[2].map_or(Some(Size::constant(1)), |rate| self.part_size(rate));
                self.need_grid(named.span)?;
                Some(LocalKind::Atrous { wy: wy?, wx: wx?, rate: rate? })
            }
            _ => {
                let help = match nearest(&name.name, LOCALS.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write window, block, disc, atrous, or `local where ...`".to_string(),
                };
                self.fail("unknown-local", format!("no locality `{}`", name.name), name.span, "not known", &help)
            }
        }
    }

    /// A size of a part, at least 1 where it is known.
    fn part_size(&mut self, expr: &'a ast::Expr) -> Checked<Size> {
        let size = self.size(expr, &Scope::default())?;
        match size.as_constant() {
            Some(n) if n < 1 => {
                self.fail("not-a-size", format!("a part has at least 1 token, not {n}"), expr.span, "too small", "")
            }
            _ => Some(size),
        }
    }

    /// A state needs an order to scan in.
    pub(super) fn states_under_orders(&mut self) {
        let full = self.variant.orders.iter().any(|order| order.kind == OrderKind::Full);
        if let (true, Some(state), Some(span)) = (full, self.variant.states.first().cloned(), self.order) {
            let error = Diagnostic::new(
                "full-with-state",
                format!("`order full` has no direction to scan `{}` in", state.name),
            )
            .label(span, "every token sees all")
            .label(state.span, "scanned token by token")
            .help("write `order causal;`, or sum over all tokens without a state: `let S = sum[j](k[j] * v[j]');`");
            self.report(error);
        }
    }

    /// Parts restart a state; a window keeps the last writes, which only some updates allow; nothing else is defined.
    pub(super) fn states_under_locals(&mut self) {
        if self.variant.states.is_empty() {
            return;
        }
        for local in self.variant.locals.clone() {
            match &local.kind {
                LocalKind::Block(_) | LocalKind::Atrous { .. } => {}
                LocalKind::GridBlock { shift, .. } if shift.as_constant() == Some(0) => {}
                LocalKind::Window { right, .. } if right.as_constant() == Some(0) => self.windowed(local.span),
                _ => {
                    let help = "for a state: `block(W)`, `block(Wy, Wx)`, `atrous(...)`, or `window(L)`";
                    let message = "this locality is not defined for a state".to_string();
                    self.fail::<()>("local-with-state", message, local.span, "the variant has states", help);
                }
            }
        }
    }

    fn windowed(&mut self, span: Span) {
        for place in 0..self.variant.states.len() {
            let id = StateId(u32::try_from(place).expect("a file has fewer than 2^32 states"));
            let state = self.variant.states[place].clone();
            let from_zero = matches!(self.arena.get(state.init).kind, ExprKind::Number(value) if value == 0.0);
            let update = self.variant.body.iter().find_map(|stmt| match stmt {
                Stmt::Update(update) if update.state == id => Some(update.value),
                _ => None,
            });
            let reason = if !from_zero {
                Some("its initial value is not 0")
            } else if update.is_some_and(|value| !self.is_additive(value)) {
                Some("its update is neither additive nor gated")
            } else {
                None
            };
            if let Some(reason) = reason {
                let error = Diagnostic::new("window-with-state", format!("a window over `{}`: {reason}", state.name))
                    .label(span, "keeps only the last tokens' writes")
                    .label(state.span, reason)
                    .help("a window is for additive and gated updates from 0; `block(W)` restarts any state");
                self.report(error);
            }
        }
    }

    /// A decayed old state plus writes that no state enters.
    fn is_additive(&self, value: ExprId) -> bool {
        // Asked before descending, so that of two parts at most one is descended into.
        let free = |id: ExprId| !self.arena.depends(id).scan;
        if free(value) {
            return false;
        }
        match &self.arena.get(value).kind {
            ExprKind::Map { function: Function::Add, args } => {
                (free(args[1]) && self.is_additive(args[0])) || (free(args[0]) && self.is_additive(args[1]))
            }
            ExprKind::Map { function: Function::Sub, args } => free(args[1]) && self.is_additive(args[0]),
            _ => self.is_decayed(value),
        }
    }

    fn is_decayed(&self, value: ExprId) -> bool {
        let free = |id: ExprId| !self.arena.depends(id).scan;
        if free(value) {
            return false;
        }
        match &self.arena.get(value).kind {
            ExprKind::StateOld(_) => true,
            ExprKind::Map { function: Function::Mul, args } => {
                (free(args[0]) && self.is_decayed(args[1])) || (free(args[1]) && self.is_decayed(args[0]))
            }
            ExprKind::Product(a, b) => {
                matches!(self.arena.get(*a).kind, ExprKind::Diag(_)) && free(*a) && self.is_decayed(*b)
            }
            _ => false,
        }
    }
}
