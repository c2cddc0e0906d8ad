//! The vectors of a system: those that depend on the state, what is read of it, and the leaves that do not depend on it.
//! The matrices are in `lower`.

use chunkwise_dsl::typed::LocalKind;

use super::*;

impl Lowering<'_> {
    /// A vector (or scalar) that may depend linearly on the state; a state-free one lies along `feat`.
    pub(super) fn vector_along(&mut self, expr: ExprId, feat: Feat) -> Lowered<(Id, Feat)> {
        if self.depends(resolve(self.variant, expr)) {
            return self.vector(expr);
        }
        let leaf = self.leaf(expr, feat);
        Ok((self.leaf_term(leaf), feat))
    }

    /// A vector (or scalar) that depends linearly on the state, and along which side it lies.
    pub(super) fn vector(&mut self, expr: ExprId) -> Lowered<(Id, Feat)> {
        let expr = resolve(self.variant, expr);
        match self.kind(expr).clone() {
            ExprKind::StateOld(_) | ExprKind::StateNew(_) if self.rank < 2 => self.whole_vector(expr),
            ExprKind::Transpose(x) if self.ty(x).dims().len() == 1 => self.vector(x),
            ExprKind::Product(a, b) => self.read(expr, a, b),
            ExprKind::Map { function: Function::Neg, args } => {
                let (x, feat) = self.vector(args[0])?;
                Ok((self.scaled(Leaf::number(-1.0), x), feat))
            }
            ExprKind::Map { function: function @ (Function::Add | Function::Sub), args } => {
                let feat = self.dependent_side(&args)?;
                let (a, x) = self.vector_along(args[0], feat)?;
                let (b, y) = self.vector_along(args[1], feat)?;
                if x != y {
                    return self.blocked(Class::TwoSided, expr, "reads of both sides of the state are added");
                }
                let b = if function == Function::Sub { self.scaled(Leaf::number(-1.0), b) } else { b };
                Ok((self.add(Term::Add([a, b])), x))
            }
            ExprKind::Map { function: Function::Mul, args } => {
                let (free, dependent) = match (self.depends(args[0]), self.depends(args[1])) {
                    (false, true) => (args[0], args[1]),
                    (true, false) => (args[1], args[0]),
                    _ => return self.blocked(Class::NonAffine, expr, "two reads of the state are multiplied"),
                };
                let (x, feat) = self.vector(dependent)?;
                let scalar_read = self.ty(dependent).is_scalar();
                if scalar_read && !self.ty(free).is_scalar() {
                    return self.blocked(Class::NonAffine, expr, "a scalar read scales a vector");
                }
                let factor = self.leaf(free, if self.ty(free).is_scalar() { Feat::S } else { feat });
                Ok((self.scaled(factor, x), feat))
            }
            ExprKind::If { cond, then, otherwise } if !self.depends(cond) => {
                let feat = self.dependent_side(&[then, otherwise])?;
                let x = self.either(cond, |this, taken| {
                    let (x, side) = this.vector_along(if taken { then } else { otherwise }, feat)?;
                    match side == feat {
                        true => Ok(x),
                        false => {
                            this.blocked(Class::TwoSided, expr, "reads of both sides of the state are chosen from")
                        }
                    }
                })?;
                Ok((x, feat))
            }
            ExprKind::Map { function: Function::Div, args }
                if !self.depends(args[1]) && self.ty(args[1]).is_scalar() =>
            {
                let factor = self.reciprocal(args[1]);
                let (x, feat) = self.vector(args[0])?;
                Ok((self.scaled(factor, x), feat))
            }
            _ => self.blocked(Class::NonAffine, expr, "a read of the state goes through a function that is not linear"),
        }
    }

    /// The side along which the dependent one of two summands lies.
    pub(super) fn dependent_side(&mut self, args: &[ExprId]) -> Lowered<Feat> {
        let dependent = if self.depends(args[0]) { args[0] } else { args[1] };
        let kept = self.term.clone();
        let side = self.vector(dependent).map(|(_, feat)| feat);
        self.begin(kept);
        side
    }

    /// A vector or scalar state as a stream of vectors.
    pub(super) fn whole_vector(&mut self, expr: ExprId) -> Lowered<(Id, Feat)> {
        let matrix = self.matrix(expr, self.transposed)?;
        let one = self.leaf_term(Leaf::ones(if self.rank == 0 { Feat::K } else { Feat::V }));
        Ok(match self.rank {
            0 => (self.add(Term::Read([one, matrix])), Feat::V),
            _ => (self.add(Term::ReadRight([one, matrix])), Feat::K),
        })
    }

    /// `M' * w`, `M * y`, `w' * M` and, of a vector state, `w' * z`: a read.
    pub(super) fn read(&mut self, expr: ExprId, a: ExprId, b: ExprId) -> Lowered<(Id, Feat)> {
        let (matrix, vector, mut from_left) = match (self.depends(a), self.depends(b)) {
            (true, true) => return self.blocked(Class::NonAffine, expr, "the state is multiplied by itself"),
            (true, false) => (a, b, false),
            _ => (b, a, true),
        };
        if self.rank == 2 && self.ty(matrix).dims().len() == 1 && self.ty(vector).dims().len() == 2 {
            return self.scaled_read(expr, matrix, vector);
        }
        let mut matrix = resolve(self.variant, matrix);
        if let ExprKind::Transpose(inner) = self.kind(matrix).clone() {
            matrix = inner;
            from_left = !from_left;
        }
        let vector = self.untransposed(vector);
        if self.ty(vector).dims().len() > 1 {
            return self.blocked(Class::WholeRead, expr, "the state is read through a matrix, not through a vector");
        }
        if self.rank < 2 {
            let w = self.leaf(vector, Feat::K);
            let (w, x) = (self.leaf_term(w), self.matrix(matrix, self.transposed)?);
            return Ok((self.add(Term::Read([w, x])), Feat::V));
        }
        if self.ty(matrix).dims().len() < 2 {
            return self.blocked(Class::NonAffine, expr, "a read of the state is read again");
        }
        let kept = self.term.clone();
        let x = match self.matrix(matrix, self.transposed) {
            // `(a * S') * k` has its transpose inside.
            Err(Blocked { class: Class::TwoSided, .. }) => {
                self.begin(kept);
                from_left = !from_left;
                self.matrix(matrix, !self.transposed)?
            }
            other => other?,
        };
        if from_left != self.transposed {
            let w = self.leaf(vector, Feat::K);
            let w = self.leaf_term(w);
            Ok((self.add(Term::Read([w, x])), Feat::V))
        } else {
            let y = self.leaf(vector, Feat::V);
            let y = self.leaf_term(y);
            Ok((self.add(Term::ReadRight([y, x])), Feat::K))
        }
    }

    pub(super) fn untransposed(&self, expr: ExprId) -> ExprId {
        let expr = resolve(self.variant, expr);
        match self.kind(expr) {
            ExprKind::Transpose(inner) if self.ty(*inner).dims().len() == 1 => self.untransposed(*inner),
            _ => expr,
        }
    }

    /// A state-free value as a canonical product along `feat` (a scalar fills).
    pub(super) fn leaf(&mut self, expr: ExprId, feat: Feat) -> Leaf {
        let expr = self.untransposed(expr);
        if feat != Feat::S && self.ty(expr).is_scalar() {
            let scalar = self.leaf(expr, Feat::S);
            return scalar.times(&Leaf::ones(feat)).expect("a scalar times a vector of ones");
        }
        let side = |of: &Self, x: ExprId| if of.ty(x).is_scalar() { Feat::S } else { feat };
        match self.kind(expr).clone() {
            ExprKind::Number(x) => Leaf::number(x),
            ExprKind::Map { function: Function::Neg, args } => {
                let x = self.leaf(args[0], feat);
                Leaf { number: -x.number, ..x }
            }
            ExprKind::Map { function: Function::Mul, args } => {
                let (a, b) = (side(self, args[0]), side(self, args[1]));
                let (a, b) = (self.leaf(args[0], a), self.leaf(args[1], b));
                a.times(&b).expect("element-wise factors lie along one side")
            }
            ExprKind::Map { function: Function::Div, args } if self.ty(args[1]).is_scalar() => {
                let (x, by) = (self.leaf(args[0], feat), self.reciprocal(args[1]));
                x.times(&by).expect("a scalar divisor")
            }
            _ => self.atom(expr, feat),
        }
    }

    pub(super) fn reciprocal(&mut self, expr: ExprId) -> Leaf {
        let expr = self.untransposed(expr);
        match *self.kind(expr) {
            ExprKind::Number(x) if x != 0.0 => Leaf::number(1.0 / x),
            _ => {
                let name = format!("1/{}", self.name(expr));
                self.guarded(&name, Definition::Reciprocal(expr), Feat::S)
            }
        }
    }

    pub(super) fn atom(&mut self, expr: ExprId, feat: Feat) -> Leaf {
        let name = self.name(expr);
        let leaf = self.guarded(&name, Definition::Expr(expr), feat);
        let (low, high) = crate::ir::facts::range_of(self.variant, expr);
        let range = if self.guards.is_empty() { (low, high) } else { (low.min(0.0), high.max(0.0)) };
        self.known.ranges.insert(leaf.factors[0].0, range);
        if feat != Feat::S && self.guards.is_empty() {
            self.divide_features(leaf.factors[0].0, expr);
        }
        leaf
    }

    /// An atom that is 0 in the branches not taken.
    pub(super) fn guarded(&mut self, name: &str, definition: Definition, feat: Feat) -> Leaf {
        if self.guards.is_empty() {
            return self.known.named(name, definition, feat);
        }
        let conditions: Vec<String> = self
            .guards
            .iter()
            .map(|(cond, taken)| format!("{}({})", if *taken { "if" } else { "unless" }, self.name(*cond)))
            .collect();
        let definition = Definition::Guarded(self.guards.clone(), Some(Box::new(definition)));
        self.known.named(&format!("{name} {}", conditions.join(" ")), definition, feat)
    }

    /// The name that the program gives an expression, else its text without token subscripts; made unique by its place
    /// where two share a text.
    pub(super) fn name(&self, expr: ExprId) -> String {
        let given = self.variant.lets.iter().rev().find(|named| match named.value {
            LetValue::Expr(value) => resolve(self.variant, value) == expr && named.indices.len() <= 1,
            _ => false,
        });
        let text = match given {
            Some(named) => named.name.clone(),
            None => chunkwise_dsl::print_typed::expr_text(self.variant, expr).replace("[t]", ""),
        };
        let taken = self.known.definitions.iter().any(|(atom, definition)| {
            atom.name.as_str() == text
                && !matches!(definition, Definition::Expr(other) | Definition::Reciprocal(other) if *other == expr)
        });
        if taken { format!("{text}#{}", expr.0) } else { text }
    }

    /// Every read of the state below `expr` that is linear in it, outermost first.
    pub(super) fn collect_reads(&mut self, expr: ExprId, reads: &mut Vec<Read>) -> Lowered<()> {
        let expr = resolve(self.variant, expr);
        if !self.depends(expr) || !self.searched.insert(expr) {
            return Ok(());
        }
        if self.starts_read(expr) {
            let kept = self.begin(RecExpr::default());
            let lowered = self.vector(expr);
            let term = self.begin(kept);
            match lowered {
                Ok(_) => {
                    reads.push(Read { expr, term });
                    return Ok(());
                }
                Err(blocked) if matches!(self.kind(expr), ExprKind::StateOld(_) | ExprKind::StateNew(_)) => {
                    return Err(blocked);
                }
                Err(_) => {}
            }
        }
        if matches!(self.kind(expr), ExprKind::StateOld(_) | ExprKind::StateNew(_)) {
            return self.whole_read(expr, reads);
        }
        match self.kind(expr).clone() {
            ExprKind::Let(id) => match self.variant.lets[id.index()].value.clone() {
                LetValue::Norm { of, .. } => match self.variant.lets[of.index()].value {
                    LetValue::Expr(value) => self.collect_reads(value, reads),
                    _ => Ok(()),
                },
                LetValue::Expr(value) => self.collect_reads(value, reads),
                LetValue::Iterate { init, step, .. } => {
                    self.collect_reads(init, reads)?;
                    self.collect_reads(step, reads)
                }
            },
            kind => kind.children().into_iter().try_for_each(|child| self.collect_reads(child, reads)),
        }
    }

    /// The state itself: every token's matrix.
    fn whole_read(&mut self, expr: ExprId, reads: &mut Vec<Read>) -> Lowered<()> {
        if self.variant.locals.iter().any(|local| matches!(local.kind, LocalKind::Window { .. })) {
            return self.blocked(Class::WholeRead, expr, "the state is read as a whole matrix under `local window`");
        }
        let kept = self.begin(RecExpr::default());
        self.matrix(expr, self.transposed)?;
        let term = self.begin(kept);
        reads.push(Read { expr, term });
        Ok(())
    }

    /// Whether a read may begin here: sums are left to their summands.
    pub(super) fn starts_read(&self, expr: ExprId) -> bool {
        match self.kind(expr) {
            ExprKind::Product(..) => self.ty(expr).dims().len() < 2,
            ExprKind::StateOld(_) | ExprKind::StateNew(_) => self.rank < 2,
            ExprKind::Map { function: Function::Mul | Function::Div, args } => {
                // A factor that is a read of another state is left to the statement that uses both.
                args.iter().filter(|&&arg| !self.dependence.on(arg).is_empty()).count() == 1
                    && args.iter().any(|&arg| {
                        let arg = resolve(self.variant, arg);
                        self.depends(arg) && self.starts_read(arg)
                    })
            }
            _ => false,
        }
    }
}
