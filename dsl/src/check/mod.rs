//! ast -> typed: resolves names, expands functions and laws, infers index variables and shapes, and finds every error.
//!
//! A mistake is reported once: what depends on it is `None` and stays silent. Rooms: `scope` names and what they mean,
//! `index` index variables, `ahead` what stands below, `arena` hash-consed expressions, `axes` sizes, `declare` tensors
//! and states, `bind` lets and feature maps, `expr operator call expand recursion sequence reduce` expressions, `law`
//! decays and updates, `order` what is visible, `outputs` reads and results, `checks` the check statement, `compose`
//! variants called, `unify` their axes, `layers` stacks, `stack` what holds between items, `mend` what to write instead, `warn` what is legal and hardly meant, `vocabulary` the names that the
//! language has. Not here: which forms exist.

mod ahead;
mod arena;
mod axes;
mod bind;
mod broken;
mod call;
mod checks;
mod compose;
mod declare;
mod expand;
mod expr;
mod index;
mod law;
mod layers;
mod mend;
mod operator;
mod order;
mod outputs;
mod recursion;
mod reduce;
mod scope;
mod sequence;
mod stack;
#[cfg(test)]
mod tests;
mod unify;
mod update;
pub mod vocabulary;
mod warn;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use crate::ast;
use crate::diagnostic::Diagnostic;
use crate::source::{Source, Span};
use crate::suggest::nearest;
use crate::typed::{self, ExprId, IndexId, LetId, Merge, StateId};

use arena::Arena;
use scope::{Callee, Named};

/// What a checked part came to; None where an error is already reported.
type Checked<T = ExprId> = Option<T>;

/// Checks a file. `args` are the values given for variant parameters (`--arg W=128`).
///
/// # Errors
/// Every mistake of the file, in file order.
pub fn check(file: &ast::File, source: &Source, args: &[(String, f64)]) -> Result<typed::Program, Vec<Diagnostic>> {
    let mut diagnostics = broken::items(file);
    // A parameter may stand in what does not parse.
    if file.broken.is_empty() {
        diagnostics.extend(unknown_args(file, args));
    }
    let shells = shells(file);
    let around = Rc::new(Around::of(file, &shells, source));
    let mut program = typed::Program { source: source.clone(), variants: Vec::new(), warnings: Vec::new() };
    for item in &file.items {
        let Some(mut checker) = check_item(file, item, args, &around) else { continue };
        let fine = checker.diagnostics.is_empty();
        diagnostics.append(&mut checker.diagnostics);
        program.warnings.append(&mut checker.warnings);
        // A stack through which nothing can flow is no variant, and its warning says so.
        if fine && checker.variant.outputs().next().is_none() {
            continue;
        }
        around.keep((&checker.variant.name, args), fine.then(|| Arc::new(checker.variant.clone())));
        program.variants.push(checker.variant);
    }
    if diagnostics.is_empty() {
        return Ok(program);
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.start().unwrap_or_default());
    let mut seen = HashSet::new();
    diagnostics.retain(|d| seen.insert((d.code, d.labels.first().map(|label| label.span), d.message.clone())));
    Err(diagnostics)
}

/// The head of every stack, as that of a variant.
fn shells(file: &ast::File) -> Vec<ast::Variant> {
    let stacks = file.items.iter().filter_map(|item| match item {
        ast::Item::Stack(stack) => Some(stack),
        _ => None,
    });
    let shell = |stack: &ast::Stack| ast::Variant {
        name: stack.name.clone(),
        params: stack.params.clone(),
        body: Vec::new(),
        span: stack.span,
    };
    stacks.map(shell).collect()
}

/// A variant or a stack, checked; None for a function.
fn check_item<'a>(
    file: &'a ast::File,
    item: &'a ast::Item,
    args: &[(String, f64)],
    around: &Rc<Around<'a>>,
) -> Option<Checker<'a>> {
    match item {
        ast::Item::Variant(variant) => {
            let mut checker = Checker::new(file, variant, Rc::clone(around));
            checker.run(variant, args);
            Some(checker)
        }
        ast::Item::Stack(stack) => {
            let shell = around.shells.iter().find(|shell| shell.name == stack.name)?;
            let mut checker = Checker::new(file, shell, Rc::clone(around));
            // What is wrong is reported there, or in `check_items`.
            let _ = checker.compose(stack, shell, args);
            Some(checker)
        }
        ast::Item::Function(_) => None,
    }
}

/// The variant or the stack of a name with its parameters so; None where it is wrong.
fn checked<'a>(
    file: &'a ast::File,
    name: &str,
    args: &[(String, f64)],
    around: &Rc<Around<'a>>,
) -> Option<Arc<typed::Variant>> {
    if let Some(known) = around.known((name, args)) {
        return known;
    }
    let item = file.items.get(around.place(name)?)?;
    let checker = stacker::maybe_grow(STACK_LEFT, STACK_MORE, || check_item(file, item, args, around))?;
    let found = (checker.diagnostics.is_empty() && checker.variant.outputs().next().is_some())
        .then(|| Arc::new(checker.variant));
    around.keep((name, args), found.clone());
    found
}

/// What must be left of the stack for a variant called, and by how much it grows.
const STACK_LEFT: usize = 512 << 10;
const STACK_MORE: usize = 4 << 20;

/// Overrides that name no parameter of any variant.
fn unknown_args(file: &ast::File, args: &[(String, f64)]) -> Vec<Diagnostic> {
    let params: Vec<&ast::Ident> = file
        .items
        .iter()
        .flat_map(|item| match item {
            ast::Item::Variant(variant) => variant.params.as_slice(),
            ast::Item::Stack(stack) => stack.params.as_slice(),
            ast::Item::Function(_) => &[],
        })
        .map(|param| &param.name)
        .collect();
    let unknown = args.iter().filter(|(name, _)| params.iter().all(|param| param.name != *name));
    unknown
        .map(|(name, _)| {
            let error = Diagnostic::new("unknown-arg", format!("no variant of this file has a parameter `{name}`"));
            match nearest(name, params.iter().map(|param| param.name.as_str())) {
                Some(near) => error.help(format!("did you mean `{near}`?")),
                None if params.is_empty() => error.help("no variant of this file takes arguments"),
                None => {
                    let list: Vec<_> = params.iter().map(|param| format!("`{}`", param.name)).collect();
                    error.help(format!("the parameters are {}", list.join(", ")))
                }
            }
        })
        .collect()
}

/// What a file's variants have around them.
struct Around<'a> {
    source: Source,
    functions: HashMap<&'a str, Callee<'a>>,
    /// Variants and stacks, by their place among the items.
    variants: HashMap<&'a str, usize>,
    /// What each variant and stack calls.
    calls: HashMap<&'a str, Vec<&'a str>>,
    shells: &'a [ast::Variant],
    /// Variants checked so far, by name and parameters; None where one is wrong.
    checked: RefCell<HashMap<String, Option<Arc<typed::Variant>>>>,
    /// Words of what does not parse and belongs to no variant.
    unsaid: HashSet<String>,
}

impl<'a> Around<'a> {
    fn of(file: &'a ast::File, shells: &'a [ast::Variant], source: &Source) -> Self {
        let (mut functions, mut variants, mut calls) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (place, item) in file.items.iter().enumerate() {
            let (name, called) = match item {
                ast::Item::Function(f) => {
                    functions.insert(f.name.name.as_str(), Callee { params: &f.params, body: &f.body });
                    continue;
                }
                ast::Item::Variant(variant) => (variant.name.name.as_str(), stack::called_by(variant)),
                ast::Item::Stack(stack) => (stack.name.name.as_str(), stack::blocks(&stack.layers)),
            };
            variants.entry(name).or_insert(place);
            calls.entry(name).or_insert(called);
        }
        let (source, unsaid) = (source.clone(), broken::words_outside(file));
        Self { source, functions, variants, calls, shells, checked: RefCell::default(), unsaid }
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.variants.get(name).copied()
    }

    /// Whether a variant calls another, by itself or by what it calls, or is that one.
    fn reaches(&self, from: &str, to: &str) -> bool {
        let (mut open, mut seen) = (vec![from], HashSet::new());
        while let Some(name) = open.pop() {
            if name == to {
                return true;
            }
            if let Some((name, called)) = self.calls.get_key_value(name)
                && seen.insert(*name)
            {
                open.extend(called);
            }
        }
        false
    }

    fn known(&self, of: (&str, &[(String, f64)])) -> Option<Option<Arc<typed::Variant>>> {
        self.checked.borrow().get(&key(of)).cloned()
    }

    fn keep(&self, of: (&str, &[(String, f64)]), found: Option<Arc<typed::Variant>>) {
        self.checked.borrow_mut().entry(key(of)).or_insert(found);
    }
}

/// A name with its parameters, the last of a name in force.
fn key((name, args): (&str, &[(String, f64)])) -> String {
    let args: std::collections::BTreeMap<&str, f64> =
        args.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    format!("{name} {args:?}")
}

/// One variant being checked.
struct Checker<'a> {
    file: &'a ast::File,
    around: Rc<Around<'a>>,
    diagnostics: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    variant: typed::Variant,
    arena: Arena,
    /// Where each expression was last written.
    written: HashMap<ExprId, Span>,
    names: HashMap<String, Named>,
    /// The variant's own functions, its feature maps among them.
    functions: HashMap<String, Callee<'a>>,
    /// The variant's index variables by name: one index is one axis.
    indices: HashMap<String, IndexId>,
    /// The copies that softmaxes over an index bind.
    copies: HashMap<IndexId, Vec<IndexId>>,
    /// Axes named only in another's definition, which a later `axes` may still list.
    implicit: HashSet<String>,
    batch_names: HashSet<String>,
    states: HashMap<StateId, update::Progress>,
    update_counts: HashMap<String, usize>,
    /// Unqualified decays in force and those `on` a state.
    decays: Vec<law::DecayInForce>,
    /// Words of what in the variant does not parse: what they mean is not known, so that none of them is undeclared.
    unsaid: HashSet<String>,
    body: &'a [ast::Stmt],
    /// The number of the statement being checked, and what stands below it.
    number: usize,
    ahead: ahead::Ahead<'a>,
    expansions: expand::Expansions,
    /// Names that misspelt ones were compared with so far.
    compared: usize,
    /// Indices of which nothing says what they range over: reported once.
    lost_indices: HashSet<String>,
    has_read: bool,
    /// The read-out as what follows sees it: the read, or the last norm of it.
    read: Option<LetId>,
    read_span: Option<Span>,
    outputs: HashMap<String, Span>,
    order: Option<Span>,
    /// The values given for parameters of any variant, which those called take too.
    overrides: Vec<(String, f64)>,
    /// How many stages its calls come to.
    stages: usize,
}

impl<'a> Checker<'a> {
    fn new(file: &'a ast::File, variant: &'a ast::Variant, around: Rc<Around<'a>>) -> Self {
        Self {
            file,
            around,
            diagnostics: Vec::new(),
            warnings: Vec::new(),
            variant: empty(variant),
            arena: Arena::default(),
            written: HashMap::new(),
            names: HashMap::new(),
            functions: HashMap::new(),
            indices: HashMap::new(),
            copies: HashMap::new(),
            implicit: HashSet::new(),
            batch_names: HashSet::from(["B".to_string(), "H".to_string()]),
            states: HashMap::new(),
            update_counts: HashMap::new(),
            decays: Vec::new(),
            unsaid: broken::within(file, variant).iter().flat_map(broken::words).collect(),
            body: &variant.body,
            number: 0,
            ahead: ahead::Ahead::of(&variant.body),
            expansions: expand::Expansions::default(),
            compared: 0,
            lost_indices: HashSet::new(),
            has_read: variant.body.iter().any(|stmt| matches!(stmt.kind, ast::StmtKind::Read { .. })),
            read: None,
            read_span: None,
            outputs: HashMap::new(),
            order: None,
            overrides: Vec::new(),
            stages: 0,
        }
    }

    fn run(&mut self, variant: &'a ast::Variant, args: &[(String, f64)]) {
        self.overrides = args.to_vec();
        self.parameters(variant, args);
        self.collect_batch(&variant.body);
        self.count_updates(&variant.body);
        let mut broken = broken::within(self.file, variant).iter().peekable();
        for (number, stmt) in variant.body.iter().enumerate() {
            while let Some(before) = broken.next_if(|broken| broken.span.start < stmt.span.start) {
                self.broken_statement(before);
            }
            self.number = number;
            self.statement(stmt);
        }
        self.finish(variant);
        for stmt in &variant.body {
            if let ast::StmtKind::Check(items) = &stmt.kind {
                self.check_statement(items);
            }
        }
        self.leave_out_what_follows_from_broken(variant);
        self.variant.exprs = self.arena.take();
        if self.diagnostics.is_empty() {
            self.warnings = warn::warnings(&self.variant);
        }
        self.variant.fingerprint = fingerprint(&self.variant);
    }

    fn statement(&mut self, stmt: &'a ast::Stmt) {
        use ast::StmtKind::*;
        match &stmt.kind {
            Axes(axes) => self.axes(axes),
            Batch(names) => self.batch(names),
            Input(decls) => self.tensors(decls, typed::TensorRole::Input),
            Param(decls) => self.tensors(decls, typed::TensorRole::Param),
            State(decls) => self.declare_states(decls),
            Function(f) => self.function(f),
            Feature { name, params, body, on } => self.feature(name, params, body.as_ref(), on),
            Let { lhs, value, iterate: None } => self.let_statement(lhs, value),
            Let { lhs, value, iterate: Some(iterate) } => self.iterate(lhs, value, iterate),
            LetSeveral { names, value } => self.several_results(names, value),
            Order { orders, merge } => self.order(orders, merge.as_ref(), stmt.span),
            Local(local) => self.local(local, stmt.span),
            Decay { lhs, value, on } => self.decay(lhs, value.as_ref(), on),
            Law { state, law } => self.law(state, law, stmt.span),
            Recurrence { lhs, value } => self.recurrence(lhs, value, stmt.span),
            Read { lhs, value } => self.read_statement(lhs, value),
            Norm { norm, over } => self.norm(norm, over),
            Output { lhs, value } => self.output(lhs, value.as_ref(), stmt.span),
            Check(_) => {}
        }
    }

    /// What can be said only once the whole variant is read.
    fn finish(&mut self, variant: &'a ast::Variant) {
        if self.variant.orders.is_empty() && self.order.is_none() {
            let causal = typed::Order { kind: typed::OrderKind::Causal, bindings: Vec::new(), by: None };
            self.variant.orders.push(causal);
        }
        if !variant.body.iter().any(|stmt| matches!(stmt.kind, ast::StmtKind::Output { .. })) {
            let error = Diagnostic::new("no-output", format!("the variant `{}` has no output", variant.name.name))
                .label(variant.name.span, "nothing is given out here")
                .help("say what it computes: `output o[t] = ...;`");
            self.report(error);
        }
        for at in 0..self.variant.calls.len() {
            // Axes may have been declared below a call.
            self.variant.calls[at].results = self.variant.calls[at].results_in(&self.variant);
        }
        self.states_under_orders();
        self.states_under_locals();
        self.states_without_update();
        self.states_both_ways();
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Reports an error at one place and gives None, so that nothing follows from it.
    fn fail<T>(&mut self, code: &'static str, message: String, span: Span, label: &str, help: &str) -> Checked<T> {
        let mut error = Diagnostic::new(code, message).label(span, label);
        if !help.is_empty() {
            error = error.help(help);
        }
        self.report(error);
        None
    }
}

/// A hash of everything that is known of a variant. `DefaultHasher::new` has fixed keys, so it is one in every run.
fn fingerprint(variant: &typed::Variant) -> u64 {
    let mut text = Hashed(DefaultHasher::new());
    write!(text, "{variant:?}").expect("a hash takes any text");
    text.0.finish()
}

/// Text that is hashed as it comes: that of a long variant takes megabytes.
struct Hashed(DefaultHasher);

impl fmt::Write for Hashed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn empty(variant: &ast::Variant) -> typed::Variant {
    typed::Variant {
        name: variant.name.name.clone(),
        fingerprint: 0,
        span: variant.span,
        args: Vec::new(),
        axes: Vec::new(),
        token: None,
        head: None,
        grid: None,
        tensors: Vec::new(),
        states: Vec::new(),
        lets: Vec::new(),
        indices: Vec::new(),
        exprs: Vec::new(),
        calls: Vec::new(),
        body: Vec::new(),
        orders: Vec::new(),
        merge: Merge::Sum,
        locals: Vec::new(),
        checks: typed::Checks::default(),
    }
}
