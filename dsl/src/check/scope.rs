//! Names: what each means where it is written, and the errors for those that mean nothing.

use std::collections::HashMap;

use crate::advice::{self, Script};
use crate::ast::{self, Ident};
use crate::diagnostic::Diagnostic;
use crate::shape::AxisId;
use crate::source::Span;
use crate::suggest::nearest;
use crate::typed::{IndexId, LetId, StateId, TensorId};

use super::{Checked, Checker, ExprId};

/// A name of the variant and where it was given its meaning.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub binding: Binding,
    pub span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Binding {
    Axis(AxisId),
    /// A compile-time parameter of the variant.
    Arg(f64),
    Tensor(TensorId),
    State(StateId),
    Let(LetId),
    /// Its definition is wrong and reported.
    Poison,
}

/// A function of the language, before expansion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Callee<'a> {
    pub params: &'a [Ident],
    pub body: &'a ast::Expr,
}

/// An argument of a function being expanded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Argument<'a> {
    Value(Checked),
    /// Mentions an index that only the function's body binds: checked where it is used.
    Open(&'a ast::Expr),
}

/// The equation around an expression.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    /// Index variables in force, innermost last: those on the left, then those of reductions.
    pub indices: Vec<(String, IndexId)>,
    /// How many of `indices` stand on the left.
    pub left: usize,
    /// The first token index on the left.
    pub token: Option<IndexId>,
    /// Arguments of the functions being expanded, innermost last.
    pub frames: Vec<HashMap<String, Argument<'a>>>,
    /// The functions being expanded.
    pub calls: Vec<String>,
    /// The iterated let being defined: its name, id and index.
    pub iterated: Option<(String, LetId, IndexId)>,
}

impl Scope<'_> {
    pub(super) fn index(&self, name: &str) -> Option<IndexId> {
        self.indices.iter().rev().find(|(known, _)| known == name).map(|(_, id)| *id)
    }
}

/// What a name means at a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning<'a> {
    Argument(Argument<'a>),
    Index(IndexId),
    Bound(Binding),
    Head,
    Number(f64),
    Truth(bool),
}

impl<'a> Checker<'a> {
    pub(super) fn meaning(&self, name: &str, scope: &Scope<'a>) -> Option<Meaning<'a>> {
        if let Some(argument) = scope.frames.last().and_then(|frame| frame.get(name)) {
            return Some(Meaning::Argument(*argument));
        }
        if let Some(index) = scope.index(name) {
            return Some(Meaning::Index(index));
        }
        if let Some(named) = self.names.get(name) {
            return Some(Meaning::Bound(named.binding));
        }
        match name {
            "h" if self.variant.head.is_some() => Some(Meaning::Head),
            "pi" => Some(Meaning::Number(std::f64::consts::PI)),
            "inf" => Some(Meaning::Number(f64::INFINITY)),
            "true" => Some(Meaning::Truth(true)),
            "false" => Some(Meaning::Truth(false)),
            _ => None,
        }
    }

    /// Gives a new name its meaning; a name already taken is an error.
    pub(super) fn declare(&mut self, name: &Ident, binding: Binding) -> Checked<()> {
        if let Some(first) = self.names.get(&name.name).copied() {
            return self.duplicate(name, first);
        }
        self.means(name, binding);
        Some(())
    }

    /// Gives a name a meaning that may shadow a tensor's or a let's, but no axis, parameter or state.
    pub(super) fn shadow(&mut self, name: &Ident, binding: Binding) -> Checked<()> {
        if let Some(first) = self.names.get(&name.name).copied()
            && matches!(first.binding, Binding::Axis(_) | Binding::Arg(_) | Binding::State(_))
        {
            return self.duplicate(name, first);
        }
        self.means(name, binding);
        Some(())
    }

    /// Marks a name whose definition failed, so that its uses stay silent.
    pub(super) fn poison(&mut self, name: &Ident) {
        let kept = self
            .names
            .get(&name.name)
            .is_some_and(|first| matches!(first.binding, Binding::Axis(_) | Binding::Arg(_) | Binding::State(_)));
        if !kept {
            self.means(name, Binding::Poison);
        }
    }

    fn means(&mut self, name: &Ident, binding: Binding) {
        self.names.insert(name.name.clone(), Named { binding, span: name.span });
        self.expansions.forget();
    }

    fn duplicate(&mut self, name: &Ident, first: Named) -> Checked<()> {
        let what = match first.binding {
            Binding::Axis(_) => "an axis",
            Binding::Arg(_) => "a parameter of the variant",
            Binding::Tensor(_) => "an input or param",
            Binding::State(_) => "a state",
            Binding::Let(_) => "a let",
            Binding::Poison => "a name",
        };
        let error = Diagnostic::new("duplicate-name", format!("`{}` is already {what}", name.name))
            .label(name.span, "given a second meaning here")
            .label(first.span, "its first meaning");
        let error = match first.binding {
            Binding::Arg(_) => error.help("a parameter of the variant is a size as it stands: leave it out here"),
            _ => error.help("choose another name"),
        };
        self.report(error);
        None
    }

    /// Reports a name that means nothing here.
    pub(super) fn undeclared<T>(&mut self, name: &str, span: Span, scope: &Scope<'a>) -> Checked<T> {
        if self.is_unsaid(name) {
            return None;
        }
        let mut error = Diagnostic::new("undeclared-name", format!("`{name}` is not declared above"));
        error = error.label(span, "not known here");
        let indexed = self.indices.contains_key(name) || matches!(name, "t" | "i" | "j" | "s");
        let is_function = self.is_function(name);
        if indexed {
            error.message = format!("the index `{name}` is not bound here");
            let help = format!("put it on the left (`x[{name}] = ...`), or reduce over it (`sum[{name}](...)`)");
            error = error.help(help);
        } else if let Some(help) = self.notation(name, scope) {
            error = error.help(help);
        } else if let Some(near) = self.near_name(name, scope) {
            error = error.help(format!("did you mean `{near}`?"));
        } else if is_function {
            error = error.help(format!("`{name}` is a function: call it, `{name}(x)`"));
        } else if self.ahead.declares(name, self.number) {
            error = error.help("statements are read in order: move its declaration above this one");
        } else {
            error = error.help(format!("declare it above: `input {name} : [...];`, `param`, or `let {name} = ...;`"));
        }
        self.report(error);
        None
    }

    /// What a name that is not declared means in papers and elsewhere: `I`, `Sᵀ`, `k_t`.
    fn notation(&self, name: &str, scope: &Scope<'a>) -> Option<String> {
        if let Some(help) = advice::value(name) {
            return Some(help.to_string());
        }
        let known = |base: &str| self.meaning(base, scope).is_some();
        match advice::script(name) {
            Some((base, Script::Transpose)) if known(base) => {
                return Some(format!("the transpose is `'`: `{base}'`"));
            }
            Some((base, Script::Subscript(letter))) if known(base) => {
                return Some(format!("a subscript stands in brackets: write `{base}[{letter}]`"));
            }
            _ => {}
        }
        let (base, subscript) = name.rsplit_once('_')?;
        let letter = matches!(subscript, "t" | "i" | "j" | "s" | "n");
        (letter && known(base)).then(|| format!("a subscript stands in brackets: write `{base}[{subscript}]`"))
    }

    fn near_name(&mut self, name: &str, scope: &Scope<'a>) -> Option<String> {
        self.afford(self.names.len())?;
        let arguments = scope.frames.last().into_iter().flat_map(|frame| frame.keys());
        let mut known: Vec<&str> = self.names.keys().chain(arguments).map(String::as_str).collect();
        known.extend(scope.indices.iter().map(|(name, _)| name.as_str()));
        known.extend(["pi", "inf", "true", "false"]);
        known.sort_unstable();
        nearest(name, known).map(str::to_string)
    }

    /// Whether a misspelt name may still be compared with `candidates` others: in a file of thousands of names and
    /// errors the later errors go without a suggestion.
    pub(super) fn afford(&mut self, candidates: usize) -> Option<()> {
        const MOST: usize = 200_000;
        self.compared += candidates;
        (self.compared <= MOST).then_some(())
    }

    pub(super) fn let_depends_on_scan(&self, id: LetId) -> bool {
        use crate::typed::LetKind;
        let found = &self.variant.lets[id.index()];
        found.scan && !matches!(found.kind, LetKind::Read | LetKind::Norm)
    }

    /// The expression of an argument, checked now if it was left open.
    pub(super) fn argument(&mut self, argument: Argument<'a>, scope: &mut Scope<'a>) -> Checked<ExprId> {
        match argument {
            Argument::Value(value) => value,
            Argument::Open(expr) => {
                let inner = scope.frames.pop();
                let value = self.expr(expr, scope);
                scope.frames.extend(inner);
                value
            }
        }
    }
}
