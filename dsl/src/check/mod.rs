//! ast -> typed: resolves names, expands functions and laws, infers index variables and shapes, and finds every error.
//!
//! A mistake is reported once: what depends on it is `None` and stays silent. Rooms: `scope` names and what they mean,
//! `index` index variables, `ahead` what stands below, `arena` hash-consed expressions, `axes` sizes, `declare` tensors
//! and states, `bind` lets and feature maps, `expr operator call expand recursion sequence reduce` expressions, `law`
//! decays and updates, `order` what is visible, `outputs` reads and results, `checks` the check statement, `stack`
//! compositions, `mend` what to write instead, `warn` what is legal and hardly meant, `vocabulary` the names that the
//! language has. Not here: which forms exist.

mod ahead;
mod arena;
mod axes;
mod bind;
mod broken;
mod call;
mod checks;
mod declare;
mod expand;
mod expr;
mod index;
mod law;
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
mod update;
pub mod vocabulary;
mod warn;

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

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
    let around = Rc::new(Around::of(file, source));
    let mut program =
        typed::Program { source: source.clone(), variants: Vec::new(), stacks: Vec::new(), warnings: Vec::new() };
    for item in &file.items {
        match item {
            ast::Item::Variant(variant) => {
                let mut checker = Checker::new(file, variant, Rc::clone(&around));
                checker.run(variant, args);
                diagnostics.append(&mut checker.diagnostics);
                program.warnings.append(&mut checker.warnings);
                program.variants.push(checker.variant);
            }
            ast::Item::Stack(stack) => program.stacks.push(stack.name.name.clone()),
            ast::Item::Function(_) => {}
        }
    }
    if diagnostics.is_empty() {
        return Ok(program);
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.start().unwrap_or_default());
    let mut seen = HashSet::new();
    diagnostics.retain(|d| seen.insert((d.code, d.labels.first().map(|label| label.span), d.message.clone())));
    Err(diagnostics)
}

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
    variants: HashSet<&'a str>,
    /// Words of what does not parse and belongs to no variant.
    unsaid: HashSet<String>,
}

impl<'a> Around<'a> {
    fn of(file: &'a ast::File, source: &Source) -> Self {
        let (mut functions, mut variants) = (HashMap::new(), HashSet::new());
        for item in &file.items {
            match item {
                ast::Item::Function(f) => {
                    functions.insert(f.name.name.as_str(), Callee { params: &f.params, body: &f.body });
                }
                ast::Item::Variant(variant) => {
                    variants.insert(variant.name.name.as_str());
                }
                ast::Item::Stack(_) => {}
            }
        }
        Self { source: source.clone(), functions, variants, unsaid: broken::words_outside(file) }
    }
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
        }
    }

    fn run(&mut self, variant: &'a ast::Variant, args: &[(String, f64)]) {
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
        body: Vec::new(),
        orders: Vec::new(),
        merge: Merge::Sum,
        locals: Vec::new(),
        checks: typed::Checks::default(),
    }
}
