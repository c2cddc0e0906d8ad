//! Every rule as an equation: both sides evaluated on random instances, the pattern's variables typed by the operators
//! above them.
//!
//! Where several types are admissible (a scalar or a K-vector decay, one vector a token or two, tokens or chunks, a
//! transition that tells columns apart or not) each is tried. A left side that has a value must have an equal right
//! side; a rule that no typing instantiates fails. A fix-point rule (`is x`) is an implication: x is what the right side
//! makes, and the left side must then be x.

use std::collections::{HashMap, HashSet};

use chunkwise_dsl::shape::Size;
use egg::{ENodeOrVar, Language, PatternAst, Subst, Var};

use super::*;
use crate::ir::{
    Frame,
    eval::{Dims, Evaluated, IllTyped, Instance, Op, Tri, Value},
    facts::{Feature, Known, Part, type_of},
};

const BOUND: f64 = 1e-9;

/// Small, and no two sizes alike; the last chunk is short.
const DIMS: Dims = Dims { tokens: 7, chunk: 4, rows: 3, columns: 2 };

/// What a pattern variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Shape {
    Ten(Feat, usize),
    Decay(Feat),
    Mat,
    Init,
    PerChunk,
    Op { uniform: bool },
    Tri { rows: usize, columns: usize, strict: bool },
}

use Shape::{Decay, Init, Mat, PerChunk, Ten};

const S: Shape = Ten(Feat::S, 1);
const K: Shape = Ten(Feat::K, 1);
const V: Shape = Ten(Feat::V, 1);

fn decays() -> Vec<Shape> {
    vec![Decay(Feat::S), Decay(Feat::K)]
}

/// What may decay rows or columns.
fn any_decay() -> Vec<Shape> {
    vec![Decay(Feat::S), Decay(Feat::K), Decay(Feat::V)]
}

fn column_decay() -> Vec<Shape> {
    vec![Decay(Feat::V)]
}

fn starts() -> Vec<Shape> {
    vec![Init, PerChunk]
}

fn operators() -> Vec<Shape> {
    vec![Shape::Op { uniform: true }, Shape::Op { uniform: false }]
}

fn pairs() -> Vec<Shape> {
    vec![Shape::Tri { rows: 1, columns: 1, strict: false }]
}

/// What may stand at one place below an operator.
fn admissible(term: &Term, place: usize) -> Vec<Shape> {
    let signature: Vec<Vec<Shape>> = match term {
        Term::Add(_) => vec![vec![S, K, V, Mat]; 2],
        Term::Mul(_) => vec![vec![S, K, V], vec![S, K, V, Mat]],
        Term::Dot(_) | Term::Pairs(_) => vec![vec![K, V]; 2],
        Term::Stack(_) => vec![vec![S, K, V]; 2],
        Term::Outer(_) | Term::Gather(_) => vec![vec![K], vec![V]],
        Term::Prev(_) => vec![starts(), vec![Mat]],
        Term::DecayedPrev(_) => vec![decays(), starts(), vec![Mat]],
        Term::Read(_) => vec![vec![K], vec![Mat]],
        Term::ReadRight(_) => vec![vec![V], vec![Mat]],
        Term::ScaleColumns(_) => vec![vec![V], vec![Mat]],
        Term::Apply(_) => vec![operators(), vec![Mat]],
        Term::Affine(_) => vec![operators(), vec![Mat], vec![Mat]],
        Term::ReadAffine(_) => vec![vec![K], vec![V], vec![Mat]],
        Term::Scan(_) | Term::All(_) | Term::AllBefore(_) => vec![operators(), vec![Mat], starts()],
        Term::Final(_) | Term::Last(_) => vec![vec![Mat]],
        Term::Diagonal(_) | Term::DecayMask(_) | Term::DecayMaskBefore(_) => vec![decays()],
        Term::DiagonalBoth(_) => vec![decays(), column_decay()],
        Term::RankOne(_) => vec![vec![S, V], vec![K], vec![K]],
        Term::Post(_) => vec![vec![S, V], vec![K], vec![K], decays()],
        Term::OpAdd(_) | Term::Compose(_) => vec![operators(); 2],
        Term::ApplyTransposed(_) => vec![operators(), vec![K]],
        Term::Tri(_) | Term::TriStrict(_) | Term::TriBefore(_) | Term::TriProducts(_) | Term::TriProductsBefore(_) => {
            vec![any_decay(), vec![K, V], vec![K, V]]
        }
        Term::TriRight(_) | Term::TriRightBefore(_) | Term::TriRightProducts(_) | Term::TriRightProductsBefore(_) => {
            vec![any_decay(), pairs(), vec![K, V]]
        }
        Term::Rows(_) => vec![vec![S], pairs()],
        Term::MatMul(_) | Term::Solve(_) => vec![pairs(), vec![S, K, V]],
        Term::SolveColumns(_) => vec![vec![V], pairs(), vec![V]],
        Term::SolveDecayed(_) => vec![vec![S, V], any_decay(), pairs(), vec![V]],
        Term::DecayFromStart(_) | Term::DecayFromStartBefore(_) | Term::DecayToEnd(_) => vec![any_decay(), vec![K, V]],
        Term::ReadStart(_) => vec![vec![K], starts()],
        Term::ReadStartRight(_) | Term::ReadStartRightBefore(_) => vec![decays(), vec![V], starts()],
        Term::Chunks(_) | Term::Tokens(_) => vec![[vec![S, K, V, Mat], decays(), operators()].concat()],
        Term::Boundary(_) => vec![vec![Init]],
        Term::Step(_) => vec![decays(), vec![K], vec![V], starts()],
        Term::StepBoth(_) => vec![decays(), column_decay(), vec![K], vec![V], starts()],
        Term::Hadamard(_) => vec![pairs(); 2],
        Term::Lower(_) | Term::StrictlyLower(_) => vec![pairs()],
        _ => Vec::new(),
    };
    signature.get(place).cloned().unwrap_or_else(|| panic!("no signature for place {place} of {term}"))
}

/// Both sets' shapes; a decay is a scalar or a K-vector.
fn meet(a: &[Shape], b: &[Shape]) -> Vec<Shape> {
    let narrower = |x: Shape, y: Shape| match (x, y) {
        (Decay(f), Ten(g, 1)) | (Ten(g, 1), Decay(f)) if f == g => Some(Decay(f)),
        (x, y) if x == y => Some(x),
        _ => None,
    };
    let mut both: Vec<Shape> = a.iter().flat_map(|&x| b.iter().filter_map(move |&y| narrower(x, y))).collect();
    both.sort();
    both.dedup();
    both
}

/// The shapes that a rule's variable may have, before conditions on whole assignments.
fn shapes(rule: &Rule, phase: Phase, var: Var) -> Vec<Shape> {
    let mut found: Option<Vec<Shape>> = None;
    for side in [rule.lhs, rule.rhs] {
        let side = pattern(side);
        for node in side.ast.as_ref() {
            let ENodeOrVar::ENode(term) = node else { continue };
            for (place, child) in term.children().iter().enumerate() {
                if side.ast[*child] == ENodeOrVar::Var(var) {
                    let here = admissible(term, place);
                    found = Some(found.map_or(here.clone(), |all| meet(&all, &here)));
                }
            }
        }
    }
    let mut found = found.unwrap_or_else(|| vec![S, K, V, Mat]);
    if phase != Phase::Normalise {
        found = found.into_iter().flat_map(stacked).collect();
    }
    for condition in rule.conditions.iter().filter(|condition| condition.var == var) {
        found = found.into_iter().filter_map(|shape| admits(condition.kind, shape)).collect();
    }
    found
}

/// A shape with one vector a token, and with two.
fn stacked(shape: Shape) -> Vec<Shape> {
    match shape {
        Ten(feat, _) => vec![Ten(feat, 1), Ten(feat, 2)],
        Shape::Tri { strict, .. } => {
            let sizes = [(1, 1), (1, 2), (2, 1), (2, 2)];
            sizes.map(|(rows, columns)| Shape::Tri { rows, columns, strict }).to_vec()
        }
        other => vec![other],
    }
}

fn admits(kind: Kind, shape: Shape) -> Option<Shape> {
    let feat = match shape {
        Ten(feat, _) | Decay(feat) => Some(feat),
        _ => None,
    };
    let holds = match kind {
        Kind::Scalar => feat == Some(Feat::S),
        Kind::Rowwise => matches!(feat, Some(Feat::S | Feat::K)),
        Kind::AlongK => feat == Some(Feat::K),
        Kind::AlongV => feat == Some(Feat::V),
        Kind::Start => shape == Init,
        Kind::Matrix => shape == Mat,
        Kind::Strict => {
            return match shape {
                Shape::Tri { rows, columns, .. } => Some(Shape::Tri { rows, columns, strict: true }),
                _ => None,
            };
        }
        // Size guards, ranges that decays have by their shape, and what other code of this audit arranges.
        _ => true,
    };
    holds.then_some(shape)
}

type Assignment = HashMap<Var, Value>;

fn value_of(instance: &Instance, name: &str, shape: Shape, frame: Frame) -> Value {
    let times = instance.dims.times(frame);
    let random = |count: usize| instance.numbers(name, count);
    match shape {
        Ten(feat, stack) => Value::Ten(instance.stream(name, frame, feat, stack, false)),
        Decay(feat) => Value::Ten(instance.stream(name, frame, feat, 1, true)),
        Mat => Value::Mat(instance.matrices(name, frame)),
        Init => Value::Mat(instance.matrices(name, Frame::Any)),
        PerChunk => Value::Mat(instance.matrices(name, Frame::Chunks)),
        Shape::Op { uniform } => {
            let mut op = Op::zeros(instance.dims, frame);
            let square = DIMS.rows * DIMS.rows;
            op.data = random(times * DIMS.columns * square);
            if uniform {
                for time in op.data.chunks_mut(DIMS.columns * square) {
                    (square..time.len()).for_each(|place| time[place] = time[place % square]);
                }
            }
            Value::Op(op)
        }
        Shape::Tri { rows, columns, strict } => {
            let mut tri = Tri::zeros(instance.dims, frame, rows, columns);
            let numbers = random(times * rows * times * columns);
            for segment in instance.dims.segments(frame) {
                for (t, s) in segment.clone().flat_map(|t| segment.clone().map(move |s| (t, s))) {
                    for (i, j) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                        if s < t || !strict {
                            *tri.at_mut((t, i), (s, j)) = numbers[(t * rows + i) * times * columns + s * columns + j];
                        }
                    }
                }
            }
            Value::Tri(tri)
        }
    }
}

fn ty(shape: Shape, frame: Frame) -> Ty {
    match shape {
        Ten(feat, stack) => Ty::Ten { frame, feat, stack: stack as u8 },
        Decay(feat) => Ty::Ten { frame, feat, stack: 1 },
        Mat => Ty::Mat(frame),
        Init => Ty::Init,
        PerChunk => Ty::Mat(Frame::Chunks),
        Shape::Op { .. } => Ty::Op(frame),
        Shape::Tri { rows, columns, strict } => Ty::Tri { frame, rows: rows as u8, columns: columns as u8, strict },
    }
}

/// Whether the facts' own typing takes a side.
fn is_typed(ast: &PatternAst<Term>, of: &HashMap<Var, Ty>) -> bool {
    let mut types: Vec<Ty> = Vec::new();
    for node in ast.as_ref() {
        let found = match node {
            ENodeOrVar::Var(var) => of[var],
            ENodeOrVar::ENode(term) => type_of(term, &|id| types[usize::from(id)]),
        };
        let mixed = match node {
            ENodeOrVar::ENode(Term::Add(sides)) => {
                let [a, b] = sides.map(|id| matches!(types[usize::from(id)], Ty::Mat(_)));
                a != b
            }
            _ => false,
        };
        if found == Ty::Unknown || mixed {
            return false;
        }
        types.push(found);
    }
    true
}

fn evaluate(ast: &PatternAst<Term>, of: &Assignment, instance: &Instance) -> Evaluated<Value> {
    let mut values: Vec<Value> = Vec::new();
    for node in ast.as_ref() {
        let value = match node {
            ENodeOrVar::Var(var) => {
                of.get(var).cloned().ok_or_else(|| IllTyped(format!("{var} is on the right side alone")))?
            }
            ENodeOrVar::ENode(term) => {
                let children: Vec<&Value> = term.children().iter().map(|&id| &values[usize::from(id)]).collect();
                instance.node(term, &children)?
            }
        };
        values.push(value);
    }
    Ok(values.pop().expect("a pattern has a root"))
}

/// Every choice of one shape a variable.
fn choices(options: &[(Var, Vec<Shape>)]) -> Vec<HashMap<Var, Shape>> {
    options.iter().fold(vec![HashMap::new()], |all, (var, shapes)| {
        all.iter()
            .flat_map(|chosen| {
                shapes.iter().map(|&shape| {
                    let mut chosen = chosen.clone();
                    chosen.insert(*var, shape);
                    chosen
                })
            })
            .collect()
    })
}

/// The frame of a variable: what `unch` takes is of chunks even where the rest is of tokens.
fn frame_of(lhs: &PatternAst<Term>, var: Var, rest: Frame) -> Frame {
    let of_chunks = lhs.as_ref().iter().any(|node| match node {
        ENodeOrVar::ENode(Term::Tokens([x])) => lhs[*x] == ENodeOrVar::Var(var),
        _ => false,
    });
    if of_chunks { Frame::Chunk } else { rest }
}

fn has(rule: &Rule, kind: Kind) -> Option<Var> {
    rule.conditions.iter().find(|condition| condition.kind == kind).map(|condition| condition.var)
}

/// Leaves in place of variables, and the parts that `splits` or `divides` bind, through the conditions' own code.
fn with_leaves(rule: &Rule, instance: &Instance, of: &mut Assignment, variant: usize) -> bool {
    let leaf = |number: f64, factors: &[(&str, Feat)], feat: Feat| {
        let ones = if feat == Feat::S { Leaf::number(number) } else { Leaf { number, ..Leaf::ones(feat) } };
        factors.iter().fold(ones, |all, (name, feat)| all.times(&Leaf::atom(name, *feat)).expect("factors fit"))
    };
    let mut leaves: Vec<(Var, Leaf)> = Vec::new();
    if let Some(var) = has(rule, Kind::Splits) {
        let factors: &[(&str, Feat)] = [&[("s1", Feat::S), ("k1", Feat::K)] as &[_], &[("k1", Feat::K)], &[]][variant];
        leaves.push((var, leaf(-1.5, factors, Feat::K)));
    }
    if let Some(var) = has(rule, Kind::Divides) {
        let (s, k) = (("s1", Feat::S), ("k1", Feat::K));
        let (d, c, w) = [
            (leaf(2.0, &[s], Feat::S), leaf(3.0, &[s, ("s2", Feat::S)], Feat::S), leaf(1.0, &[k], Feat::K)),
            (leaf(1.0, &[k], Feat::K), leaf(-1.0, &[("v2", Feat::V)], Feat::V), leaf(1.0, &[k, k], Feat::K)),
            (leaf(1.0, &[s, k], Feat::K), leaf(1.0, &[s], Feat::S), leaf(1.0, &[k, ("k2", Feat::K)], Feat::K)),
        ][variant]
            .clone();
        leaves.extend([(var, d), (var_named("c"), c), (var_named("w"), w)]);
    }
    if has(rule, Kind::Outer).or(has(rule, Kind::Stacked)).is_some() {
        for (name, number) in [("q", -1.5), ("k", 2.0)] {
            let factors: &[(&str, Feat)] = if variant == 1 { &[("s1", Feat::S)] } else { &[] };
            let scalar = leaf(number, factors, Feat::S);
            let features = Leaf::atom(&format!("{name}{variant}"), Feat::K);
            leaves.push((var_named(name), scalar.times(&features).expect("a scalar times a vector")));
        }
    }
    if leaves.is_empty() {
        return variant == 0;
    }
    let mut graph = Graph::new(instance.known.clone());
    let mut subst = Subst::default();
    for (var, leaf) in leaves {
        let class = graph.add(Term::Leaf(leaf));
        subst.insert(var, class);
    }
    for condition in rule.conditions.iter().filter(|condition| condition.binds()) {
        assert!(holds(condition, &mut graph, Id::from(0), &mut subst), "{}: the leaves do not fit", rule.name);
    }
    for var in [pattern(rule.lhs), pattern(rule.rhs)].iter().flat_map(|side| variables(&side.ast)) {
        if let Some(&class) = subst.get(var) {
            let leaf = graph[class].data.leaf.clone().expect("a leaf was added");
            // Conditions name the parts of features that no program has a name for.
            let instance = &Instance { known: graph.analysis.clone(), ..instance.clone() };
            let value = instance.node(&Term::Leaf(leaf), &[]).expect("a leaf has a value");
            of.insert(var, value);
        }
    }
    true
}

/// What the features q and k are made of, in three ways: of equal vectors, of unlike ones, of parts that are features.
fn features(rule: &Rule, variant: usize) -> Known {
    let mut known = Known::default();
    let part = |name: String| Part { leaf: Leaf::atom(&name, Feat::F), length: Size::constant(2) };
    for name in ["q", "k"] {
        let named = |letter: &str| part(format!("{name}{letter}"));
        let outer = |a: &str, b: &str| Feature::Outer([named(a), named(b)]);
        let feature = match (has(rule, Kind::Outer), has(rule, Kind::Stacked), variant) {
            (None, None, _) => return known,
            (Some(_), _, 0) => outer("x", "x"),
            (Some(_), _, 1) => outer("x", "y"),
            (Some(_), _, _) => {
                known.features.insert(Leaf::atom(&format!("{name}z"), Feat::F).factors[0].0, outer("x", "y"));
                Feature::Outer([Part { length: Size::constant(4), ..named("z") }, named("x")])
            }
            (_, _, 0) => Feature::Stack(vec![named("x"), named("y")]),
            (_, _, count) => {
                let one = Part { leaf: Leaf { number: 0.5, ..Leaf::ones(Feat::F) }, length: Size::constant(1) };
                known.features.insert(Leaf::atom(&format!("{name}z"), Feat::F).factors[0].0, outer("x", "x"));
                let all = vec![one, Part { length: Size::constant(4), ..named("z") }, named("y"), named("x")];
                Feature::Stack(all.into_iter().take(2 + count).collect())
            }
        };
        known.features.insert(Leaf::atom(&format!("{name}{variant}"), Feat::K).factors[0].0, feature);
    }
    known
}

/// Whether an assignment instantiates the rule; panics if the sides differ on it.
fn holds_on(rule: &Rule, chosen: &HashMap<Var, Shape>, frame: Frame, seed: u64) -> bool {
    let (lhs, rhs) = (pattern(rule.lhs), pattern(rule.rhs));
    let mut used = false;
    for variant in 0..3 {
        let mut instance = Instance::new(DIMS, features(rule, variant), seed);
        let mut of: Assignment = HashMap::new();
        let mut types: HashMap<Var, Ty> = HashMap::new();
        for (&var, &shape) in chosen {
            let frame = frame_of(&lhs.ast, var, frame);
            of.insert(var, value_of(&instance, &var.to_string(), shape, frame));
            types.insert(var, ty(shape, frame));
        }
        if !with_leaves(rule, &instance, &mut of, variant) || !is_typed(&lhs.ast, &types) {
            continue;
        }
        if has(rule, Kind::Whole).is_some() {
            let of = |name: &str| &of[&var_named(name)];
            let any = Id::from(0);
            let states = instance.node(&Term::Scan([any; 3]), &[of("A"), of("B"), of("s")]);
            let Ok(Value::Mat(states)) = states else { continue };
            instance.state = Some(states);
        }
        used |= equation(rule, &lhs.ast, &rhs.ast, of, &instance, chosen);
    }
    used
}

fn equation(
    rule: &Rule,
    lhs: &PatternAst<Term>,
    rhs: &PatternAst<Term>,
    mut of: Assignment,
    instance: &Instance,
    chosen: &HashMap<Var, Shape>,
) -> bool {
    let fix_point = has(rule, Kind::Is);
    if let Some(var) = fix_point {
        // What is defined is what the right side makes of the rest; the left side must then give it back.
        match evaluate(rhs, &of, instance) {
            Ok(solution) => of.insert(var, solution),
            Err(_) => return false,
        };
    }
    let Ok(left) = evaluate(lhs, &of, instance) else { return false };
    let right = evaluate(rhs, &of, instance)
        .unwrap_or_else(|error| panic!("{}: the right side has no value on {chosen:?}: {error}", rule.name));
    let off = left.deviation(&right);
    assert!(
        off.is_some_and(|off| off <= BOUND),
        "{}: {} != {} on {chosen:?}: off by {off:?}",
        rule.name,
        rule.lhs,
        rule.rhs
    );
    true
}

/// How many typings instantiate a rule.
fn audit(rule: &Rule, phase: Phase) -> usize {
    let options: Vec<(Var, Vec<Shape>)> =
        variables(&pattern(rule.lhs).ast).into_iter().map(|var| (var, shapes(rule, phase, var))).collect();
    let mut typings = 0;
    for chosen in choices(&options) {
        for frame in [Frame::Tokens, Frame::Chunk] {
            // Chunks start from states a chunk, tokens from one; the state itself is a stream over tokens.
            let of_chunks = chosen.values().any(|&shape| shape == PerChunk);
            let of_tokens = has(rule, Kind::Whole).is_some();
            if of_chunks && frame == Frame::Tokens || of_tokens && frame == Frame::Chunk {
                continue;
            }
            typings += usize::from((1..=2).all(|seed| holds_on(rule, &chosen, frame, seed)));
        }
    }
    typings
}

#[test]
fn every_rule_holds_on_every_admissible_typing() {
    let (mut rules_seen, mut typings) = (0, 0);
    let mut unused = Vec::new();
    for phase in Phase::ALL {
        for rule in rules(phase) {
            let count = audit(&rule, phase);
            if count == 0 {
                unused.push(rule.name);
            }
            rules_seen += 1;
            typings += count;
        }
    }
    assert!(unused.is_empty(), "no typing instantiates {unused:?}");
    println!("{rules_seen} rules hold on {typings} typings");
}

#[test]
fn rules_over_vectors_were_tried_stacked_and_in_both_frames() {
    let all: HashSet<&str> = rules(Phase::Derive).iter().map(|rule| rule.name).collect();
    for name in ["row-scaling", "strict-system-is-solved", "read-of-scan", "feedback-before-decay"] {
        assert!(all.contains(name));
        let rule = by_name(name).expect("a rule of the book");
        assert!(audit(&rule, Phase::Derive) >= 4, "{name} has few typings");
    }
}
