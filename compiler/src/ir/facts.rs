//! What is known of every e-class: its type and frame, its structure, its range, its canonical product.
//!
//! `range` holds over all inputs the language allows: decays lie in [0, 1] by the caller's promise. `dep` and `read`
//! only guard the size of the graph; `strict` is what makes a triangular system solvable.

use std::collections::HashMap;

use egg::{Analysis, DidMerge, EGraph, Id, Language};

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::{ExprId, ExprKind, Function, NormKind, Variant};

use super::{Atom, Feat, Leaf, Term};

/// What time is in a stream. `Any` is a constant of the rules (a number, a zero), good in every frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Frame {
    Any,
    Tokens,
    Chunk,
    Chunks,
}

/// The type of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ty {
    Unknown,
    /// A stream of `stack` vectors (or scalars) at every time.
    Ten {
        frame: Frame,
        feat: Feat,
        stack: u8,
    },
    /// A stream of K x V matrices.
    Mat(Frame),
    /// One K x V matrix.
    Init,
    /// A stream of operators on K x V matrices.
    Op(Frame),
    /// All pairs of times of one segment, `rows` times `columns` entries a pair.
    Tri {
        frame: Frame,
        rows: u8,
        columns: u8,
        strict: bool,
    },
    Roots,
}

impl Ty {
    pub fn frame(self) -> Frame {
        match self {
            Ty::Ten { frame, .. } | Ty::Mat(frame) | Ty::Op(frame) | Ty::Tri { frame, .. } => frame,
            _ => Frame::Any,
        }
    }

    fn in_frame(self, frame: Frame) -> Ty {
        match self {
            Ty::Ten { feat, stack, .. } => Ty::Ten { frame, feat, stack },
            Ty::Mat(_) => Ty::Mat(frame),
            Ty::Op(_) => Ty::Op(frame),
            other => other,
        }
    }

    pub fn stack(self) -> u8 {
        match self {
            Ty::Ten { stack, .. } => stack,
            _ => 1,
        }
    }

    pub fn feat(self) -> Option<Feat> {
        match self {
            Ty::Ten { feat, .. } => Some(feat),
            _ => None,
        }
    }
}

/// Facts of one e-class.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub ty: Ty,
    /// Depends on the state before it is resolved.
    pub dep: bool,
    /// Contains a read of a state.
    pub read: bool,
    /// Equals zero by construction.
    pub zero: bool,
    /// The canonical product, where the class is one.
    pub leaf: Option<Leaf>,
    /// Bounds of every entry.
    pub range: (f64, f64),
}

/// The analysis, with what is known of the atoms.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Range of an atom's entries, where it is known.
    pub ranges: HashMap<Atom, (f64, f64)>,
    /// The state's decays: in [0, 1] by the caller's promise.
    pub promised: Vec<Leaf>,
    /// What every atom stands for.
    pub definitions: HashMap<Atom, Definition>,
    /// What vectors of features are made of.
    pub features: HashMap<Atom, Feature>,
}

/// What an atom stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Definition {
    /// An expression of the program, free of the state.
    Expr(ExprId),
    /// Its reciprocal.
    Reciprocal(ExprId),
    /// w' k of two leaves.
    Dot(Leaf, Leaf),
    /// A sum of leaves of one shape.
    Sum(Vec<Leaf>),
    /// The value (or 1) where every condition is as said, 0 elsewhere.
    Guarded(Vec<(ExprId, bool)>, Option<Box<Definition>>),
}

/// A vector of features whose dot products are made of those of its parts.
#[derive(Debug, Clone, PartialEq)]
pub enum Feature {
    /// vec(a b')
    Outer([Part; 2]),
    /// [a; b; ..], at least two
    Stack(Vec<Part>),
}

/// A part of features, a leaf along `F` (a scalar is one of length 1), and its length.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub leaf: Leaf,
    pub length: Size,
}

/// The e-graph of one state.
pub type Graph = EGraph<Term, Known>;

fn join(a: Frame, b: Frame) -> Frame {
    if a == Frame::Any { b } else { a }
}

fn ten(frame: Frame, feat: Feat, stack: u8) -> Ty {
    Ty::Ten { frame, feat, stack }
}

/// The type of a node from the types of its children.
pub fn type_of(term: &Term, child: &dyn Fn(Id) -> Ty) -> Ty {
    let c: Vec<Ty> = term.children().iter().map(|&id| child(id)).collect();
    let pairs = |rows: Ty, columns: Ty, strict: bool| Ty::Tri {
        frame: join(rows.frame(), columns.frame()),
        rows: rows.stack(),
        columns: columns.stack(),
        strict,
    };
    let with_strict = |ty: Ty, strict: bool| match ty {
        Ty::Tri { frame, rows, columns, .. } => Ty::Tri { frame, rows, columns, strict },
        other => other,
    };
    match term {
        Term::State | Term::ZeroMat => Ty::Mat(if matches!(term, Term::State) { Frame::Tokens } else { Frame::Any }),
        Term::ZeroVec => ten(Frame::Any, Feat::V, 1),
        Term::Init => Ty::Init,
        // A vector of ones is a stream, so that a scan of constants has a time.
        Term::Leaf(leaf) => ten(if leaf.as_number().is_some() { Frame::Any } else { Frame::Tokens }, leaf.feat, 1),
        Term::Add(_) | Term::Mul(_) => match (c[0], c[1]) {
            (Ty::Tri { frame: a, rows, columns, strict }, Ty::Tri { frame: b, strict: other, .. }) => {
                Ty::Tri { frame: join(a, b), rows, columns, strict: strict && other }
            }
            (Ty::Mat(a), b) | (b, Ty::Mat(a)) => Ty::Mat(join(a, b.frame())),
            (Ty::Ten { frame: a, feat: x, stack: r }, Ty::Ten { frame: b, feat: y, stack: q }) => {
                x.join(y).map_or(Ty::Unknown, |feat| ten(join(a, b), feat, r.max(q)))
            }
            _ => Ty::Unknown,
        },
        Term::Dot(_) => ten(join(c[0].frame(), c[1].frame()), Feat::S, 1),
        Term::Stack(_) => match (c[0], c[1]) {
            (Ty::Ten { frame: a, feat: x, stack: r }, Ty::Ten { frame: b, feat: y, stack: q }) => {
                x.join(y).map_or(Ty::Unknown, |feat| ten(join(a, b), feat, r + q))
            }
            _ => Ty::Unknown,
        },
        Term::Outer(_) => Ty::Mat(join(c[0].frame(), c[1].frame())),
        Term::Prev(_) => Ty::Mat(c[1].frame()),
        Term::DecayedPrev(_) => Ty::Mat(c[2].frame()),
        Term::Read(_) => ten(join(c[0].frame(), c[1].frame()), Feat::V, c[0].stack()),
        Term::ReadStart(_) => ten(c[0].frame(), Feat::V, c[0].stack()),
        Term::ReadRight(_) => ten(join(c[0].frame(), c[1].frame()), Feat::K, c[0].stack()),
        Term::ReadStartRight(_) | Term::ReadStartRightBefore(_) => ten(c[1].frame(), Feat::K, c[1].stack()),
        Term::Apply(_) | Term::ScaleColumns(_) => Ty::Mat(join(c[1].frame(), c[0].frame())),
        Term::Affine(_) => Ty::Mat(c[2].frame()),
        Term::ReadAffine(_) => ten(c[2].frame(), Feat::V, 1),
        Term::Scan(_) => Ty::Mat(match (join(c[1].frame(), c[0].frame()), c[2].frame()) {
            // A scan of constants runs over the time that its start is of.
            (Frame::Any, Frame::Chunks) => Frame::Chunk,
            (Frame::Any, _) => Frame::Tokens,
            (frame, _) => frame,
        }),
        Term::All(_) | Term::AllBefore(_) => Ty::Mat(join(c[1].frame(), c[0].frame())),
        Term::Final(_) => Ty::Init,
        Term::Step(_) => c[3],
        Term::StepBoth(_) => c[4],
        Term::Identity => Ty::Op(Frame::Any),
        Term::Diagonal(_) => Ty::Op(c[0].frame()),
        Term::RankOne(_) | Term::Post(_) => Ty::Op(join(c[1].frame(), c[2].frame())),
        Term::OpAdd(_) | Term::Compose(_) | Term::DiagonalBoth(_) => Ty::Op(join(c[0].frame(), c[1].frame())),
        Term::ApplyTransposed(_) => c[1].in_frame(join(c[1].frame(), c[0].frame())),
        Term::Tri(_) | Term::TriProducts(_) => pairs(c[1], c[2], false),
        Term::TriStrict(_) | Term::TriBefore(_) | Term::TriProductsBefore(_) => pairs(c[1], c[2], true),
        Term::TriRight(_) | Term::TriRightBefore(_) | Term::TriRightProducts(_) | Term::TriRightProductsBefore(_) => {
            match (c[1], c[2]) {
                (Ty::Tri { frame, rows, .. }, Ty::Ten { feat, .. }) => ten(frame, feat, rows),
                _ => Ty::Unknown,
            }
        }
        Term::Rows(_) => c[1],
        Term::MatMul(_) => match (c[0], c[1]) {
            (Ty::Tri { frame, rows, .. }, Ty::Ten { feat, .. }) => ten(frame, feat, rows),
            _ => Ty::Unknown,
        },
        Term::Solve(_) => c[1],
        Term::SolveColumns(_) => c[2],
        Term::SolveDecayed(_) => c[3],
        Term::DecayFromStart(_) | Term::DecayFromStartBefore(_) | Term::DecayToEnd(_) => {
            c[1].in_frame(join(c[1].frame(), c[0].frame()))
        }
        Term::Gather(_) => Ty::Mat(Frame::Chunks),
        Term::Chunks(_) => match c[0].frame() {
            Frame::Any => c[0],
            _ => c[0].in_frame(Frame::Chunk),
        },
        Term::Tokens(_) => c[0].in_frame(Frame::Tokens),
        Term::Boundary(_) | Term::Last(_) => Ty::Mat(Frame::Chunks),
        Term::Pairs(_) => pairs(c[0], c[1], false),
        Term::DecayMask(_) | Term::DecayMaskBefore(_) => pairs(c[0], c[0], false),
        Term::Hadamard(_) => c[0],
        Term::Lower(_) => with_strict(c[0], false),
        Term::StrictlyLower(_) => with_strict(c[0], true),
        Term::Roots(_) => Ty::Roots,
    }
}

fn times(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { 0.0 } else { a * b }
}

/// Bounds of a product.
pub fn product_range(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let ends = [times(a.0, b.0), times(a.0, b.1), times(a.1, b.0), times(a.1, b.1)];
    ends.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &x| (lo.min(x), hi.max(x)))
}

const UNBOUNDED: (f64, f64) = (f64::NEG_INFINITY, f64::INFINITY);

impl Known {
    /// The atom of a product or sum of leaves, named by its text.
    pub fn define(&mut self, definition: Definition, feat: Feat) -> Leaf {
        let name = match &definition {
            Definition::Dot(w, k) => format!("({w})'({k})"),
            Definition::Sum(terms) => {
                format!("({})", terms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "))
            }
            Definition::Expr(id) => format!("#{}", id.0),
            Definition::Reciprocal(id) => format!("1/#{}", id.0),
            Definition::Guarded(..) => "guarded".to_string(),
        };
        self.named(&name, definition, feat)
    }

    /// An atom of a given name.
    pub fn named(&mut self, name: &str, definition: Definition, feat: Feat) -> Leaf {
        let leaf = Leaf::atom(name, feat);
        self.definitions.insert(leaf.factors[0].0, definition);
        leaf
    }

    /// A leaf of features, as a scalar and the one atom that they are.
    pub fn feature_of(&self, leaf: &Leaf) -> Option<(Leaf, &Feature)> {
        let (scalar, vector) = leaf.split();
        match vector.factors.as_slice() {
            [(atom, 1)] => Some((scalar, self.features.get(atom)?)),
            _ => None,
        }
    }

    /// Whether two vectors of features are divided alike, so that their parts meet.
    pub fn divided_alike(&self, a: &Feature, b: &Feature) -> bool {
        let parts = |a: &[Part], b: &[Part]| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.length == b.length && self.parts_alike(a, b))
        };
        match (a, b) {
            (Feature::Outer(a), Feature::Outer(b)) => parts(a, b),
            (Feature::Stack(a), Feature::Stack(b)) => parts(a, b),
            _ => false,
        }
    }

    fn parts_alike(&self, a: &Part, b: &Part) -> bool {
        match (self.feature_of(&a.leaf), self.feature_of(&b.leaf)) {
            (Some((_, a)), Some((_, b))) => self.divided_alike(a, b),
            (None, None) => true,
            _ => false,
        }
    }

    /// All parts but the first as one: an atom that the program has no name for, where they are several.
    pub fn rest(&mut self, parts: &[Part]) -> Option<Leaf> {
        match parts {
            [] => None,
            [only] => Some(only.leaf.clone()),
            _ => {
                let names: Vec<String> = parts.iter().map(|part| part.leaf.to_string()).collect();
                let leaf = Leaf::atom(&format!("stack({})", names.join(", ")), Feat::F);
                self.features.insert(leaf.factors[0].0, Feature::Stack(parts.to_vec()));
                Some(leaf)
            }
        }
    }

    /// Bounds of a canonical product.
    pub fn leaf_range(&self, leaf: &Leaf) -> (f64, f64) {
        if self.promised.contains(leaf) {
            return (0.0, 1.0);
        }
        leaf.factors.iter().fold((leaf.number, leaf.number), |range, (atom, power)| {
            let atom = self.ranges.get(atom).copied().unwrap_or(UNBOUNDED);
            (0..*power).fold(range, |range, _| product_range(range, atom))
        })
    }
}

impl Analysis<Term> for Known {
    type Data = Facts;

    fn make(graph: &mut Graph, term: &Term, _id: Id) -> Facts {
        let ty = type_of(term, &|id| graph[id].data.ty);
        let leaf = match term {
            Term::Leaf(leaf) => Some(leaf.clone()),
            Term::Mul([a, b]) => {
                let (a, b) = (&graph[*a].data.leaf, &graph[*b].data.leaf);
                a.as_ref().zip(b.as_ref()).and_then(|(x, y)| x.times(y))
            }
            Term::Dot([a, b]) => {
                let pair = graph[*a].data.leaf.clone().zip(graph[*b].data.leaf.clone());
                pair.map(|(x, y)| graph.analysis.define(Definition::Dot(x, y), Feat::S))
            }
            _ => None,
        };
        let data = |id: &Id| &graph[*id].data;
        let range = match (&leaf, term) {
            (Some(leaf), _) => graph.analysis.leaf_range(leaf),
            (_, Term::Mul([a, b])) => product_range(data(a).range, data(b).range),
            (_, Term::Add([a, b])) => (data(a).range.0 + data(b).range.0, data(a).range.1 + data(b).range.1),
            (_, Term::Chunks([x]) | Term::Tokens([x])) => data(x).range,
            _ => UNBOUNDED,
        };
        let any = |fact: fn(&Facts) -> bool| term.children().iter().any(|id| fact(&graph[*id].data));
        Facts {
            ty,
            dep: matches!(term, Term::State | Term::Boundary(_)) || any(|f| f.dep),
            read: matches!(term, Term::Read(_) | Term::ReadRight(_)) || any(|f| f.read),
            zero: matches!(term, Term::ZeroMat | Term::ZeroVec),
            leaf,
            range,
        }
    }

    fn merge(&mut self, a: &mut Facts, b: Facts) -> DidMerge {
        let before = a.clone();
        a.ty = match (a.ty, b.ty) {
            (Ty::Unknown, ty) => ty,
            (Ty::Tri { frame, rows, columns, strict }, Ty::Tri { strict: other, .. }) => {
                Ty::Tri { frame, rows, columns, strict: strict || other }
            }
            (ty, other) if ty.frame() == Frame::Any && other != Ty::Unknown => other,
            (ty, _) => ty,
        };
        a.dep |= b.dep;
        a.read |= b.read;
        a.zero |= b.zero;
        if a.leaf.is_none() {
            a.leaf = b.leaf.clone();
        }
        a.range = (a.range.0.max(b.range.0), a.range.1.min(b.range.1));
        DidMerge(*a != before, *a != b)
    }

    fn modify(graph: &mut Graph, id: Id) {
        let Some(leaf) = graph[id].data.leaf.clone() else { return };
        if graph[id].nodes.iter().any(|node| matches!(node, Term::Leaf(_))) {
            return;
        }
        let product = graph.add(Term::Leaf(leaf));
        graph.union_trusted(id, product, "product-is-canonical");
    }
}

/// Bounds of every entry of a state-free expression, from the functions it is made of.
pub fn range_of(variant: &Variant, expr: ExprId) -> (f64, f64) {
    range_given(variant, expr, &|_| None)
}

/// The same, where `given` knows more: what tensors hold, what sizes are.
pub fn range_given(variant: &Variant, expr: ExprId, given: &dyn Fn(&ExprKind) -> Option<(f64, f64)>) -> (f64, f64) {
    let expr = super::lower::resolve(variant, expr);
    let of = |expr: &ExprId| range_given(variant, *expr, given);
    let either = |a: (f64, f64), b: (f64, f64)| (a.0.min(b.0), a.1.max(b.1));
    let kind = &variant.expr(expr).kind;
    if let Some(known) = given(kind) {
        return known;
    }
    match kind {
        ExprKind::Number(x) => (*x, *x),
        ExprKind::Map { function, args } => {
            let args: Vec<(f64, f64)> = args.iter().map(of).collect();
            function_range(*function, &args)
        }
        ExprKind::If { then, otherwise, .. } => either(of(then), of(otherwise)),
        // Out of range reads 0.
        ExprKind::Subscript { base, at } => {
            let index = |at: &ExprId| matches!(variant.expr(*at).kind, ExprKind::Index(_));
            if at.iter().all(index) { of(base) } else { either(of(base), (0.0, 0.0)) }
        }
        ExprKind::SoftmaxAxis(_) => (0.0, 1.0),
        ExprKind::Normalise { norm, .. } if norm.kind == NormKind::L2 => (-1.0, 1.0),
        ExprKind::Stack(parts) => {
            parts.iter().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |a, b| (a.0.min(b.0), a.1.max(b.1)))
        }
        _ => UNBOUNDED,
    }
}

fn function_range(function: Function, args: &[(f64, f64)]) -> (f64, f64) {
    use Function::*;
    let rising = |f: fn(f64) -> f64| (f(args[0].0), f(args[0].1));
    match function {
        Exp => rising(f64::exp),
        Tanh => rising(f64::tanh),
        Sigmoid => rising(|x| 1.0 / (1.0 + (-x).exp())),
        Softplus => rising(|x| x.max(0.0) + (-x.abs()).exp().ln_1p()),
        LogSigmoid => rising(|x| x.min(0.0) - (-x.abs()).exp().ln_1p()),
        Relu => rising(|x| x.max(0.0)),
        Neg => (-args[0].1, -args[0].0),
        Add => (args[0].0 + args[1].0, args[0].1 + args[1].1),
        Sub => (args[0].0 - args[1].1, args[0].1 - args[1].0),
        Mul => product_range(args[0], args[1]),
        Div if args[1].0 > 0.0 => product_range(args[0], (1.0 / args[1].1, 1.0 / args[1].0)),
        Min => (args[0].0.min(args[1].0), args[0].1.min(args[1].1)),
        Max => (args[0].0.max(args[1].0), args[0].1.max(args[1].1)),
        Clamp => (args[0].0.max(args[1].0).min(args[2].1), args[0].1.min(args[2].1).max(args[1].0)),
        Sin | Cos | Sign => (-1.0, 1.0),
        Abs | Sqrt | Rsqrt => (0.0, f64::INFINITY),
        _ => UNBOUNDED,
    }
}
