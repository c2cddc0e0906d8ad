//! The `check` statement: what `verify` tries, and how inputs are drawn.

use std::collections::BTreeSet;

use crate::ast::{self, ExprKind as Ast, Named};
use crate::suggest::nearest;
use crate::typed::{Draw, FormCheck};

use super::scope::{Binding, Scope};
use super::{Checked, Checker};

pub(super) const ITEMS: &[&str] = &["seq", "dims", "grid", "forms", "tol", "draw"];
pub(super) const DRAWS: &[&str] = &["normal", "unit", "sigmoid", "two_sigmoid", "logdecay", "uniform"];

impl<'a> Checker<'a> {
    pub(super) fn check_statement(&mut self, items: &'a [Named]) {
        for item in items {
            match item.name.name.as_str() {
                "seq" => {
                    for arg in &item.args {
                        let tokens = self.check_size(&arg.value);
                        self.variant.checks.tokens.extend(tokens);
                    }
                }
                "dims" => self.check_dims(item),
                "grid" => self.check_grids(item),
                "forms" => {
                    for arg in &item.args {
                        let form = self.form(&arg.value);
                        self.variant.checks.forms.extend(form);
                    }
                }
                "tol" => self.tolerance(item),
                "draw" => self.draws(item),
                other => {
                    let help = match nearest(other, ITEMS.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("a check is one of {}", ITEMS.join(", ")),
                    };
                    let message = format!("no check `{other}`");
                    self.fail::<()>("unknown-check", message, item.name.span, "not known", &help);
                }
            }
        }
    }

    fn check_size(&mut self, expr: &'a ast::Expr) -> Checked<usize> {
        let n = self.whole(expr, &Scope::default())?;
        match usize::try_from(n) {
            Ok(n) => Some(n),
            Err(_) => self.fail("not-a-size", format!("a size is not negative: {n}"), expr.span, "negative here", ""),
        }
    }

    fn check_dims(&mut self, item: &'a Named) {
        for (name, value) in self.named_arguments(&item.args, "dims(K = 32)") {
            let known = matches!(self.names.get(&name.name).map(|named| named.binding), Some(Binding::Axis(_)));
            if !known && !self.is_unsaid(&name.name) {
                let help = match self.near_axis(&name.name) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`dims` gives sizes to axes".to_string(),
                };
                let message = format!("`{}` is no axis", name.name);
                self.fail::<()>("undeclared-name", message, name.span, "not known", &help);
            } else if let Some(size) = self.check_size(value) {
                self.variant.checks.dims.push((name.name.clone(), size));
            }
        }
    }

    fn check_grids(&mut self, item: &'a Named) {
        if self.need_grid(item.span).is_none() {
            return;
        }
        for arg in &item.args {
            match &arg.value.kind {
                Ast::Tuple(sides) if sides.len() == 2 => {
                    let (rows, columns) = (self.check_size(&sides[0]), self.check_size(&sides[1]));
                    self.variant.checks.grids.extend(rows.zip(columns));
                }
                _ => {
                    let message = "a grid is two sizes".to_string();
                    self.fail::<()>("unknown-check", message, arg.value.span, "no pair", "write `grid((7,7))`");
                }
            }
        }
    }

    fn form(&mut self, expr: &'a ast::Expr) -> Checked<FormCheck> {
        match &expr.kind {
            Ast::Name(name) if name == "recurrent" => Some(FormCheck::Recurrent),
            Ast::Name(name) if name == "parallel" => Some(FormCheck::Parallel),
            Ast::Name(name) if name == "chunk" || name == "chunked" => Some(FormCheck::Chunked(None)),
            Ast::Call { name, args } if (name.name == "chunk" || name.name == "chunked") && args.len() == 1 => {
                let length = self.check_size(&args[0].value)?;
                if length == 0 {
                    let message = "a chunk has at least 1 token".to_string();
                    return self.fail("not-a-size", message, args[0].value.span, "0 here", "");
                }
                Some(FormCheck::Chunked(Some(length)))
            }
            _ => {
                let help = "the forms are recurrent, chunk(C) and parallel";
                self.fail("unknown-check", "no such form".to_string(), expr.span, "not known", help)
            }
        }
    }

    fn tolerance(&mut self, item: &'a Named) {
        let Some(found) = self.arguments(&item.name, &item.args, &["bound"], 1) else { return };
        let Some(bound) = found[0].and_then(|bound| self.number(bound, &Scope::default())) else { return };
        if bound > 0.0 {
            self.variant.checks.tolerance = Some(bound);
            return;
        }
        let message = format!("a bound is above 0, not {bound}");
        self.fail::<()>("unknown-check", message, item.span, "not above 0", "write `tol(1e-5)`");
    }

    fn draws(&mut self, item: &'a Named) {
        let tensors = self.variant.tensors.iter().map(|tensor| tensor.name.clone());
        let states = self.variant.states.iter().map(|state| state.name.clone());
        let drawn: BTreeSet<String> = tensors.chain(states).collect();
        for (name, value) in self.named_arguments(&item.args, "draw(g = logdecay)") {
            if !drawn.contains(&name.name) {
                let poisoned = matches!(self.names.get(&name.name).map(|n| n.binding), Some(Binding::Poison));
                let affordable = self.afford(drawn.len());
                let help = match affordable.and_then(|()| nearest(&name.name, drawn.iter().map(String::as_str))) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`draw` says how inputs and params are drawn".to_string(),
                };
                if !poisoned && !self.is_unsaid(&name.name) {
                    let message = format!("`{}` is no input or param", name.name);
                    self.fail::<()>("undeclared-name", message, name.span, "not known", &help);
                }
            } else if let Some(draw) = self.one_draw(value) {
                self.variant.checks.draws.push((name.name.clone(), draw));
            }
        }
    }

    fn one_draw(&mut self, expr: &'a ast::Expr) -> Checked<Draw> {
        let (name, span) = match &expr.kind {
            Ast::Name(name) => (name.as_str(), expr.span),
            Ast::Call { name, args } if name.name == "uniform" => {
                let found = self.arguments(name, args, &["a", "b"], 2)?;
                let plain = Scope::default();
                let (a, b) = (self.number(found[0]?, &plain), self.number(found[1]?, &plain));
                return Some(Draw::Uniform(a?, b?));
            }
            Ast::Call { name, .. } => (name.name.as_str(), name.span),
            _ => ("", expr.span),
        };
        match name {
            "normal" => Some(Draw::Normal),
            "unit" => Some(Draw::Unit),
            "sigmoid" => Some(Draw::Sigmoid),
            "two_sigmoid" => Some(Draw::TwoSigmoid),
            "logdecay" => Some(Draw::LogDecay),
            _ => {
                let help = match nearest(name, DRAWS.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "the draws are normal, unit, sigmoid, two_sigmoid, logdecay and uniform(a, b)".to_string(),
                };
                self.fail("unknown-draw", format!("no draw `{name}`"), span, "not known", &help)
            }
        }
    }
}
