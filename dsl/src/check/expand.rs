//! Functions of the file, expanded in place. The same function of the same values in the same place is expanded once and
//! shared, so that a chain of functions costs its length. What would be huge if nothing of it were shared is an error,
//! since later stages print and walk expressions as trees.

use std::collections::{HashMap, HashSet};

use crate::ast::{self, Arg, ExprKind as Ast, Ident};
use crate::source::Span;
use crate::typed::{ExprId, IndexId};

use super::index::children;
use super::scope::{Argument, Callee, Scope};
use super::{Checked, Checker};

/// The most expressions that expansion looks at in one variant.
const MOST_STEPS: usize = 400_000;
/// The largest tree that an expanded expression may be.
const LARGEST: usize = 100_000;
/// The deepest tree that it may be, and the deepest that calls may nest: what walks a tree recurses.
const DEEPEST: usize = 2_000;

/// A function of values under the indices in force.
type Key = (*const ast::Expr, Vec<ExprId>, Vec<IndexId>);

/// What was expanded since a name last changed its meaning.
#[derive(Debug, Default)]
pub(super) struct Expansions {
    known: HashMap<Key, Checked>,
    steps: usize,
    too_large: bool,
}

impl Expansions {
    /// A name has a new meaning, which a body may mention.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }
}

impl<'a> Checker<'a> {
    pub(super) fn expand_call(
        &mut self,
        name: &'a Ident,
        callee: Callee<'a>,
        args: &'a [Arg],
        (span, scope): (Span, &mut Scope<'a>),
    ) -> Checked {
        // Recursion is reported where the functions are defined.
        if self.expansions.too_large || scope.calls.contains(&name.name) {
            return None;
        }
        let params: Vec<&str> = callee.params.iter().map(|param| param.name.as_str()).collect();
        let found = self.arguments(name, args, &params, params.len())?;
        let binds = bound_names(callee.body);
        let mut frame = HashMap::new();
        let mut values = Some(Vec::new());
        for (param, arg) in params.iter().zip(found) {
            let arg = arg.expect("every parameter is required");
            let argument = if self.is_open(arg, &binds, scope) {
                values = None;
                Argument::Open(arg)
            } else {
                let value = self.expr(arg, scope);
                values = values.zip(value).map(|(mut values, value)| {
                    values.push(value);
                    values
                });
                Argument::Value(value)
            };
            frame.insert((*param).to_string(), argument);
        }
        let indices = scope.indices.iter().map(|(_, index)| *index).collect();
        let key = values.map(|values| (std::ptr::from_ref(callee.body), values, indices));
        if let Some(known) = key.as_ref().and_then(|key| self.expansions.known.get(key)) {
            return *known;
        }
        let value = self.expand_body(callee, name, frame, scope);
        let value = value.and_then(|value| self.of_a_size(value, span));
        if let Some(key) = key {
            self.expansions.known.insert(key, value);
        }
        value
    }

    /// The body with its parameters bound.
    pub(super) fn expand_body(
        &mut self,
        callee: Callee<'a>,
        name: &Ident,
        frame: HashMap<String, Argument<'a>>,
        scope: &mut Scope<'a>,
    ) -> Checked {
        if scope.calls.len() >= DEEPEST {
            return self.too_large(name.span, &format!("calls nest {DEEPEST} deep here"));
        }
        scope.frames.push(frame);
        scope.calls.push(name.name.clone());
        let value = self.expr(callee.body, scope);
        scope.calls.pop();
        scope.frames.pop();
        value
    }

    /// Counts an expression that is looked at for an expansion.
    pub(super) fn expansion_step(&mut self, span: Span) -> Checked<()> {
        self.expansions.steps += 1;
        if self.expansions.steps > MOST_STEPS {
            return self.too_large(span, &format!("beyond {MOST_STEPS} expressions from here on"));
        }
        Some(())
    }

    fn of_a_size(&mut self, value: ExprId, span: Span) -> Checked {
        let spread = self.arena.spread(value);
        if spread.size > LARGEST {
            return self.too_large(span, &format!("more than {LARGEST} expressions when written out"));
        }
        if spread.depth > DEEPEST {
            return self.too_large(span, &format!("an expression of more than {DEEPEST} levels"));
        }
        Some(value)
    }

    /// Said once in a variant: what is too large is so from several places.
    fn too_large<T>(&mut self, span: Span, label: &str) -> Checked<T> {
        if std::mem::replace(&mut self.expansions.too_large, true) {
            return None;
        }
        let help = "functions are expanded in place: name steps with `let`, or iterate, `let V[s] = f(V[s-1]) for s in 1..n from V0;`";
        self.fail("expansion-too-large", "the expansion of functions is too large".to_string(), span, label, help)
    }

    /// Whether an argument mentions an index that only the function's body binds.
    fn is_open(&self, arg: &'a ast::Expr, binds: &HashSet<&str>, scope: &Scope<'a>) -> bool {
        if binds.is_empty() {
            return false;
        }
        let open = matches!(&arg.kind, Ast::Name(name)
            if binds.contains(name.as_str()) && self.meaning(name, scope).is_none());
        open || children(arg).into_iter().any(|child| self.is_open(child, binds, scope))
    }
}

/// Index names that reductions in an expression bind or that a softmax in it asks for.
fn bound_names(expr: &ast::Expr) -> HashSet<&str> {
    let mut names = HashSet::new();
    if let Ast::Reduction { indices, .. } = &expr.kind {
        names.extend(indices.iter().map(|index| index.name.name.as_str()));
    }
    for child in children(expr) {
        names.extend(bound_names(child));
    }
    names
}
