//! Typed program -> terms: one system for each state.
//!
//! ```text
//! update S[t] = a[t] * (eye(K) - b[t] * k[t] * k[t]') * S[t-1] + b[t] * k[t] * v[t]'
//!   -> (add (mul a (app (oadd oid (ocomp (odi -b) (or1 1 k k))) (prev s0 S))) (mul b (outer k v)))
//! ```
//!
//! What does not depend on the state is a leaf. Nothing is distributed, merged or reordered here: that is the rule
//! book's. A state whose transition acts from the right (`S[t-1] * M`) is held transposed, X = S'; where it acts from
//! both sides, one of them must be a diagonal, which scales the columns of what is held.

mod columns;
mod features;
mod operator;
mod vector;
mod written;

use std::collections::{HashMap, HashSet};

use chunkwise_dsl::typed::{ExprId, ExprKind, Function, LetValue, StateId, Stmt, Ty as Type, Variant};
use egg::{Id, RecExpr};

use super::{
    Feat, Leaf, Term,
    facts::{Definition, Known},
};

/// One state's recurrence and what is read of it.
#[derive(Debug, Clone)]
pub struct System {
    pub state: StateId,
    /// Held as X = S': the program's V-side is the terms' K-side.
    pub transposed: bool,
    pub known: Known,
    /// S[t] in terms of `(prev s0 S)`.
    pub update: RecExpr<Term>,
    pub reads: Vec<Read>,
}

/// A value that is linear in the state, and the expression of the program that it is.
#[derive(Debug, Clone)]
pub struct Read {
    pub expr: ExprId,
    pub term: RecExpr<Term>,
}

/// Why a state has no chunked form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    ElementWise,
    Dense,
    TwoSided,
    NonAffine,
    Coupled,
    /// The transition is fine, but the state is read as a whole.
    WholeRead,
}

/// The sub-expression that blocks the chunked form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    pub class: Class,
    pub at: ExprId,
    pub reason: String,
}

type Lowered<T> = Result<T, Blocked>;

/// The states that every expression depends on, lets of the scan seen through.
pub struct Dependence {
    states: HashMap<ExprId, Vec<StateId>>,
}

impl Dependence {
    pub fn new(variant: &Variant) -> Self {
        let mut found = Self { states: HashMap::new() };
        for place in 0..variant.exprs.len() {
            found.collect(variant, ExprId(place as u32));
        }
        found
    }

    pub fn on(&self, expr: ExprId) -> &[StateId] {
        self.states.get(&expr).map_or(&[], Vec::as_slice)
    }

    fn collect(&mut self, variant: &Variant, expr: ExprId) -> Vec<StateId> {
        if let Some(known) = self.states.get(&expr) {
            return known.clone();
        }
        // Guards the walk against iterated lets, which name themselves.
        self.states.insert(expr, Vec::new());
        let mut states = match &variant.expr(expr).kind {
            ExprKind::StateOld(state) | ExprKind::StateNew(state) => vec![*state],
            ExprKind::Let(id) => match &variant.lets[id.index()].value {
                LetValue::Expr(value) => self.collect(variant, *value),
                LetValue::Iterate { init, step, .. } => {
                    [self.collect(variant, *init), self.collect(variant, *step)].concat()
                }
                LetValue::Norm { of, .. } => match &variant.lets[of.index()].value {
                    LetValue::Expr(value) => self.collect(variant, *value),
                    _ => Vec::new(),
                },
            },
            kind => kind.children().iter().flat_map(|&child| self.collect(variant, child)).collect(),
        };
        states.sort();
        states.dedup();
        self.states.insert(expr, states.clone());
        states
    }
}

/// What `x[t]` of a let stands for, followed to the end; other expressions are themselves.
pub fn resolve(variant: &Variant, expr: ExprId) -> ExprId {
    let value_of = |id: chunkwise_dsl::typed::LetId, at: &[ExprId]| {
        let named = &variant.lets[id.index()];
        let same = named.indices.len() == at.len()
            && named.indices.iter().zip(at).all(|(index, at)| variant.expr(*at).kind == ExprKind::Index(*index));
        match named.value {
            LetValue::Expr(value) if same => Some(value),
            _ => None,
        }
    };
    let next = match &variant.expr(expr).kind {
        ExprKind::Let(id) => value_of(*id, &[]),
        ExprKind::Subscript { base, at } => match &variant.expr(*base).kind {
            ExprKind::Let(id) => value_of(*id, at),
            _ => None,
        },
        _ => None,
    };
    next.map_or(expr, |value| resolve(variant, value))
}

/// The system of one state, or the sub-expression that has no place in one.
pub fn lower(variant: &Variant, dependence: &Dependence, state: StateId) -> Lowered<System> {
    let build = |transposed, sides| System::build(variant, dependence, state, (transposed, sides));
    let two_sided = |built: &Lowered<System>| matches!(built, Err(Blocked { class: Class::TwoSided, .. }));
    let orders = [(false, Sides::One), (true, Sides::One), (false, Sides::Both), (true, Sides::Both)];
    let mut upright = None;
    for (transposed, sides) in orders {
        let built = build(transposed, sides);
        if upright.is_none() && !two_sided(&built) || built.is_ok() {
            return built;
        }
        if !transposed {
            upright = Some(built);
        }
    }
    upright.expect("the state was lowered upright")
}

impl System {
    fn build(
        variant: &Variant,
        dependence: &Dependence,
        state: StateId,
        (transposed, sides): (bool, Sides),
    ) -> Lowered<System> {
        let mut lowering = Lowering {
            variant,
            dependence,
            state,
            rank: variant.states[state.index()].dims.len(),
            transposed,
            sides,
            known: Known::default(),
            guards: Vec::new(),
            term: RecExpr::default(),
            shared: HashMap::new(),
            searched: HashSet::new(),
        };
        let update = variant.body.iter().find_map(|stmt| match stmt {
            Stmt::Update(update) if update.state == state => Some(update.value),
            _ => None,
        });
        match update {
            Some(value) => lowering.update(value)?,
            None => lowering.previous(),
        };
        let update = lowering.begin(RecExpr::default());
        let mut reads = Vec::new();
        for root in roots(variant, state) {
            lowering.collect_reads(root, &mut reads)?;
        }
        Ok(System { state, transposed, known: lowering.known, update, reads })
    }
}

/// Everything outside the state's own update that may read it.
fn roots(variant: &Variant, state: StateId) -> Vec<ExprId> {
    variant
        .body
        .iter()
        .filter_map(|stmt| match stmt {
            Stmt::Update(update) if update.state != state => Some(update.value),
            Stmt::Output(output) => Some(output.value),
            _ => None,
        })
        .collect()
}

/// From which sides of the held state its transition may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    /// The left.
    One,
    /// The right too, by diagonals.
    Both,
}

struct Lowering<'a> {
    variant: &'a Variant,
    dependence: &'a Dependence,
    state: StateId,
    /// Dims of the state: 0, 1 or 2.
    rank: usize,
    transposed: bool,
    sides: Sides,
    known: Known,
    /// The branches of `if` that are being lowered: what is not taken is 0 there, NaN included.
    guards: Vec<(ExprId, bool)>,
    term: RecExpr<Term>,
    /// The matrices that `term` holds already, outside all branches: what the program uses twice is lowered once.
    shared: HashMap<(ExprId, bool), Id>,
    /// Where reads have been looked for.
    searched: HashSet<ExprId>,
}

impl Lowering<'_> {
    /// Goes on with another term; the one so far.
    fn begin(&mut self, term: RecExpr<Term>) -> RecExpr<Term> {
        self.shared.clear();
        std::mem::replace(&mut self.term, term)
    }

    fn kind(&self, expr: ExprId) -> &ExprKind {
        &self.variant.expr(expr).kind
    }

    fn ty(&self, expr: ExprId) -> &Type {
        &self.variant.expr(expr).ty
    }

    fn depends(&self, expr: ExprId) -> bool {
        self.dependence.on(expr).contains(&self.state)
    }

    fn add(&mut self, term: Term) -> Id {
        self.term.add(term)
    }

    fn leaf_term(&mut self, leaf: Leaf) -> Id {
        self.add(Term::Leaf(leaf))
    }

    fn blocked<T>(&self, class: Class, at: ExprId, reason: impl Into<String>) -> Lowered<T> {
        Err(Blocked { class, at, reason: reason.into() })
    }

    /// S[t-1]
    fn previous(&mut self) -> Id {
        let (start, state) = (self.add(Term::Init), self.add(Term::State));
        self.add(Term::Prev([start, state]))
    }

    /// A scalar that is 0 or 1.
    fn indicator(&mut self, name: &str, definition: Definition) -> Leaf {
        let leaf = self.known.named(name, definition, Feat::S);
        self.known.ranges.insert(leaf.factors[0].0, (0.0, 1.0));
        leaf
    }

    /// What the state is after its update. One that forgets the state is a decay of 0.
    fn update(&mut self, value: ExprId) -> Lowered<Id> {
        let updated = self.matrix(value, self.transposed)?;
        if self.depends(value) {
            return Ok(updated);
        }
        let previous = self.previous();
        let forgotten = self.scaled(Leaf::number(0.0), previous);
        Ok(self.add(Term::Add([forgotten, updated])))
    }

    /// `if cond then x else y` is linear in both: each is 0 where it is not taken.
    fn either(&mut self, cond: ExprId, branch: impl Fn(&mut Self, bool) -> Lowered<Id>) -> Lowered<Id> {
        let one = |this: &mut Self, taken: bool| {
            this.guards.push((cond, taken));
            let x = branch(this, taken);
            this.guards.pop();
            let name = format!("{}({})", if taken { "if" } else { "unless" }, this.name(cond));
            let guard = this.indicator(&name, Definition::Guarded(vec![(cond, taken)], None));
            Ok(this.scaled(guard, x?))
        };
        let (then, otherwise) = (one(self, true)?, one(self, false)?);
        Ok(self.add(Term::Add([then, otherwise])))
    }

    /// The matrix with one number everywhere.
    fn filled(&mut self, number: f64) -> Id {
        let key = self.leaf_term(Leaf { number, ..Leaf::ones(Feat::K) });
        let one = self.leaf_term(Leaf::ones(Feat::V));
        self.add(Term::Outer([key, one]))
    }

    fn scaled(&mut self, factor: Leaf, term: Id) -> Id {
        let factor = self.leaf_term(factor);
        self.add(Term::Mul([factor, term]))
    }

    /// A value of the state's own shape, as a stream of matrices: of its transpose if `turned`. The state's own value
    /// appears as it is held; transposes of sums and products go to their parts.
    fn matrix(&mut self, expr: ExprId, turned: bool) -> Lowered<Id> {
        let expr = resolve(self.variant, expr);
        // Within a branch the same value is 0 where the branch is not taken.
        if !self.guards.is_empty() {
            return self.new_matrix(expr, turned);
        }
        if let Some(id) = self.shared.get(&(expr, turned)) {
            return Ok(*id);
        }
        let id = self.new_matrix(expr, turned)?;
        self.shared.insert((expr, turned), id);
        Ok(id)
    }

    fn new_matrix(&mut self, expr: ExprId, turned: bool) -> Lowered<Id> {
        if !self.depends(expr) {
            return self.free_matrix(expr, turned);
        }
        match self.kind(expr).clone() {
            ExprKind::StateOld(_) | ExprKind::StateNew(_) if self.rank == 2 && turned != self.transposed => {
                self.blocked(Class::TwoSided, expr, "the state meets its own transpose")
            }
            ExprKind::StateOld(_) => Ok(self.previous()),
            ExprKind::StateNew(_) => Ok(self.add(Term::State)),
            ExprKind::Map { function, args } => self.matrix_map(expr, function, &args, turned),
            ExprKind::Product(a, b) => self.matrix_product(expr, a, b, turned),
            ExprKind::Transpose(inner) => self.matrix(inner, turned != (self.rank == 2)),
            ExprKind::If { cond, then, otherwise } if !self.depends(cond) => {
                self.either(cond, |this, taken| this.matrix(if taken { then } else { otherwise }, turned))
            }
            _ => self.blocked(Class::NonAffine, expr, "the state goes through a function that is not linear"),
        }
    }

    fn matrix_map(&mut self, expr: ExprId, function: Function, args: &[ExprId], turned: bool) -> Lowered<Id> {
        match (function, args) {
            (Function::Add, [a, b]) => {
                let (a, b) = (self.matrix(*a, turned)?, self.matrix(*b, turned)?);
                Ok(self.add(Term::Add([a, b])))
            }
            (Function::Sub, [a, b]) => {
                let (a, b) = (self.matrix(*a, turned)?, self.matrix(*b, turned)?);
                let b = self.scaled(Leaf::number(-1.0), b);
                Ok(self.add(Term::Add([a, b])))
            }
            (Function::Neg, [x]) => {
                let x = self.matrix(*x, turned)?;
                Ok(self.scaled(Leaf::number(-1.0), x))
            }
            (Function::Div, [x, by]) if !self.depends(*by) && self.ty(*by).is_scalar() => {
                let factor = self.reciprocal(*by);
                let x = self.matrix(*x, turned)?;
                Ok(self.scaled(factor, x))
            }
            (Function::Mul, [a, b]) => {
                let (free, dependent) = match (self.depends(*a), self.depends(*b)) {
                    (false, true) => (*a, *b),
                    (true, false) => (*b, *a),
                    _ => return self.blocked(Class::NonAffine, expr, "the state is multiplied by itself"),
                };
                self.matrix_scaled(expr, (free, dependent), turned)
            }
            _ => self.blocked(Class::NonAffine, expr, format!("{} of the state is not linear", function.name())),
        }
    }

    /// `free .* dependent`, one of them possibly a scalar.
    fn matrix_scaled(&mut self, expr: ExprId, (free, dependent): (ExprId, ExprId), turned: bool) -> Lowered<Id> {
        let scalar = self.ty(free).is_scalar();
        let whole = self.ty(dependent).dims().len() == self.rank;
        if whole && (scalar || self.rank == 1) {
            let factor = self.leaf(free, if scalar { Feat::S } else { Feat::K });
            let x = self.matrix(dependent, turned)?;
            return Ok(self.scaled(factor, x));
        }
        if whole && self.rank == 2 && self.is_outer(free) {
            if self.sides == Sides::One {
                return self.blocked(Class::TwoSided, expr, "the state is scaled from the left and from the right");
            }
            let x = self.matrix(dependent, turned)?;
            return Ok(self.scaled_by_outer(free, x, turned));
        }
        if self.rank == 1 && self.ty(dependent).is_scalar() {
            // k * (w' * z): a scalar read of a vector state, written along k.
            let key = self.leaf(free, Feat::K);
            let key = self.leaf_term(key);
            let (value, _) = self.vector(dependent)?;
            return Ok(self.add(Term::Outer([key, value])));
        }
        self.blocked(Class::ElementWise, expr, "the state is multiplied element by element by a matrix")
    }

    fn matrix_product(&mut self, expr: ExprId, a: ExprId, b: ExprId, turned: bool) -> Lowered<Id> {
        let outer = self.ty(a).dims().len() == 1 && matches!(self.ty(b), Type::Row(_));
        if outer {
            return self.outer(expr, a, b, turned);
        }
        match (self.depends(a), self.depends(b)) {
            (true, true) => self.blocked(Class::NonAffine, expr, "the state is multiplied by itself"),
            (false, true) if !turned || self.rank < 2 => {
                let operator = self.operator(a, false)?;
                let x = self.matrix(b, turned)?;
                Ok(self.add(Term::Apply([operator, x])))
            }
            (true, false) if turned && self.rank == 2 => {
                let operator = self.operator(b, true)?;
                let x = self.matrix(a, turned)?;
                Ok(self.add(Term::Apply([operator, x])))
            }
            (on_right, _) if self.sides == Sides::Both && self.rank == 2 => {
                let (diagonal, x) = if on_right { (b, a) } else { (a, b) };
                let diagonal = self.columns(diagonal)?;
                let x = self.matrix(x, turned)?;
                Ok(self.columns_scaled(diagonal, x))
            }
            _ => self.blocked(Class::TwoSided, expr, "matrices act on the state from the left and from the right"),
        }
    }
}
