//! What an extraction may choose and what it prefers. Counts work in the abstract: passes over pairs of tokens, over
//! tokens, over states; the plan prices real sizes.

use crate::{
    ir::{Feat, Frame, Leaf, Term, Ty, facts::Graph},
    layout::Form,
};

const NEVER: f64 = f64::INFINITY;

/// Prefers the one normal form: `scan (odi d + or1 ..) (outer ..) s0` and reads of it.
pub fn normal(graph: &Graph, term: &Term) -> f64 {
    let ty = |id: &egg::Id| graph[*id].data.ty;
    match term {
        Term::State | Term::Affine(_) | Term::ReadAffine(_) | Term::Apply(_) | Term::ApplyTransposed(_) => NEVER,
        Term::Compose(_) | Term::Identity | Term::ScaleColumns(_) => NEVER,
        // A state-free product is one leaf; a matrix is never scaled, its writes are.
        Term::Mul([_, x]) if matches!(ty(x), Ty::Mat(_)) => NEVER,
        // What is read of a write is a product of leaves.
        Term::Read([_, x]) | Term::ReadRight([_, x]) if !graph[*x].data.dep => NEVER,
        Term::Leaf(_) => 1.0,
        Term::Mul(_) => 10.0,
        Term::Add(_) => 12.0,
        Term::OpAdd(_) => 2.0,
        Term::Read(_) | Term::ReadRight(_) | Term::Prev(_) => 3.0,
        Term::Outer(_) => 4.0,
        _ => 1.0,
    }
}

/// The cost of a node in one form; infinite where the form or a target has no realisation of it.
pub fn of_form(graph: &Graph, term: &Term, form: Form) -> f64 {
    let ty = |id: &egg::Id| graph[*id].data.ty;
    let own = crate::ir::facts::type_of(term, &|id| graph[id].data.ty);
    let abstracted = matches!(
        term,
        Term::State
            | Term::Affine(_)
            | Term::ReadAffine(_)
            | Term::Apply(_)
            | Term::ApplyTransposed(_)
            | Term::ScaleColumns(_)
            | Term::DecayedPrev(_)
            | Term::Last(_)
            | Term::Tri(_)
            | Term::TriStrict(_)
            | Term::TriBefore(_)
            | Term::TriRight(_)
            | Term::TriRightBefore(_)
            | Term::ZeroMat
            | Term::ZeroVec
    );
    if abstracted {
        return NEVER;
    }
    match form {
        Form::Recurrent if chunked_only(term) => return NEVER,
        Form::Chunked | Form::Parallel if token_by_token(term) => return NEVER,
        Form::Parallel if own.frame() == Frame::Chunk || matches!(term, Term::Boundary(_)) => return NEVER,
        Form::Chunked if of_tokens(term, own) => return NEVER,
        Form::Chunked if gathers_tokens(term, &ty) => return NEVER,
        _ => {}
    }
    let columns = |ty: Ty| match ty.feat() {
        Some(Feat::S) => 0.1,
        _ => 10.0,
    };
    let feature = |id: &egg::Id| ty(id).feat() == Some(Feat::F);
    match term {
        // A stack's rest is no value of the program.
        Term::Leaf(leaf) if !is_defined(graph, leaf) => NEVER,
        Term::Pairs([q, _]) if feature(q) => 2.0,
        Term::MatMul([_, x]) | Term::Solve([_, x]) => columns(ty(x)) * 2.0 + 1.0,
        Term::SolveColumns([_, _, x]) => columns(ty(x)) * 3.0,
        Term::SolveDecayed(_) => 100.0,
        Term::Pairs(_) => 20.0,
        Term::TriProducts(_) | Term::TriProductsBefore(_) => 60.0,
        Term::TriRightProducts(_) | Term::TriRightProductsBefore(_) => 90.0,
        Term::DecayMask(_) | Term::Hadamard(_) | Term::Rows(_) => 3.0,
        // Dearer than their twins, so that reads and the final state choose one and the same solve.
        Term::DecayMaskBefore(_) | Term::DecayFromStartBefore(_) => 6.0,
        Term::ReadStart(_) | Term::ReadStartRight(_) | Term::ReadStartRightBefore(_) | Term::Gather(_) => 25.0,
        Term::Step(_) | Term::StepBoth(_) => 30.0,
        Term::DecayFromStart(_) | Term::DecayToEnd(_) => 4.0,
        Term::Read(_) | Term::ReadRight(_) | Term::Scan(_) => 40.0,
        // Only for what reads the whole state: never for a vector of it, nor for the state at the end.
        Term::All(_) | Term::AllBefore(_) => 1e6,
        Term::Add(_) | Term::Mul(_) => 2.0,
        _ => 0.01,
    }
}

fn is_defined(graph: &Graph, leaf: &Leaf) -> bool {
    let known = &graph.analysis;
    leaf.factors.iter().all(|(atom, _)| !known.features.contains_key(atom) || known.definitions.contains_key(atom))
}

/// What a node costs beside where chunks run apart: a solve of what depends on the state at a chunk's start holds the next
/// chunk up.
pub fn of_waiting(graph: &Graph, term: &Term) -> f64 {
    match term {
        Term::Solve([_, x]) | Term::SolveColumns([_, _, x]) | Term::SolveDecayed([_, _, _, x])
            if graph[*x].data.dep =>
        {
            1e4
        }
        _ => 0.0,
    }
}

fn chunked_only(term: &Term) -> bool {
    matches!(
        term,
        Term::Chunks(_)
            | Term::Tokens(_)
            | Term::MatMul(_)
            | Term::Boundary(_)
            | Term::Solve(_)
            | Term::Step(_)
            | Term::StepBoth(_)
            | Term::SolveDecayed(_)
            | Term::All(_)
            | Term::AllBefore(_)
    )
}

fn token_by_token(term: &Term) -> bool {
    matches!(term, Term::Scan(_) | Term::Read(_) | Term::ReadRight(_) | Term::Prev(_))
}

/// Work over all tokens at once, which a chunked form must not do.
fn of_tokens(term: &Term, ty: Ty) -> bool {
    ty.frame() == Frame::Tokens && !matches!(term, Term::Leaf(_) | Term::Tokens(_))
        || matches!(ty, Ty::Tri { frame: Frame::Tokens, .. })
}

fn gathers_tokens(term: &Term, ty: &dyn Fn(&egg::Id) -> Ty) -> bool {
    let over_tokens = |id: &egg::Id| ty(id).frame() == Frame::Tokens;
    match term {
        Term::Step([d, k, v, _]) => [d, k, v].into_iter().any(over_tokens),
        Term::StepBoth([d, b, k, v, _]) => [d, b, k, v].into_iter().any(over_tokens),
        Term::Gather([k, v]) => [k, v].into_iter().any(over_tokens),
        _ => false,
    }
}
