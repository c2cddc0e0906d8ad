//! Dot products of features: those of flattened outer products and of stacks are made of dot products of their parts.
//! Fewer operations, and exact where the sum over all features would cancel.

use egg::{Id, Subst};

use super::{Kind, var_named};
use crate::ir::{
    Leaf, Term,
    facts::{Feature, Graph},
};

pub const TABLE: &str = "
    # <vec(a b'), vec(c d')> = (a' c) (b' d)
    scores-of-outer-products    | (mmT ?q ?k) => (had (mmT ?qa ?ka) (mmT ?qb ?kb)) | outer q
    # <[a; b], [c; d]> = a' c + b' d
    scores-of-stacks            | (mmT ?q ?k) => (add (mmT ?qa ?ka) (mmT ?qb ?kb)) | stacked q
";

/// Binds qa, qb, ka and kb to the parts of the features q and k, if they are divided alike.
pub(super) fn bind(kind: Kind, graph: &mut Graph, subst: &mut Subst) -> bool {
    let [q, k] = ["q", "k"].map(|name| leaf_of(graph, subst[var_named(name)]));
    let (Some((q, of_chunks)), Some((k, _))) = (q, k) else { return false };
    let (Some([qa, qb]), Some([ka, kb])) = (parts(kind, graph, (&q, &k)), parts(kind, graph, (&k, &q))) else {
        return false;
    };
    for (name, leaf) in [("qa", qa), ("qb", qb), ("ka", ka), ("kb", kb)] {
        let mut class = graph.add(Term::Leaf(leaf));
        if of_chunks {
            class = graph.add(Term::Chunks([class]));
        }
        subst.insert(var_named(name), class);
    }
    true
}

/// The canonical product that a class is, and whether it is one in chunks.
fn leaf_of(graph: &Graph, class: Id) -> Option<(Leaf, bool)> {
    let class = &graph[graph.find(class)];
    let chunked = || {
        class.nodes.iter().find_map(|node| match node {
            Term::Chunks([x]) => graph[graph.find(*x)].data.leaf.clone(),
            _ => None,
        })
    };
    class.data.leaf.clone().map(|leaf| (leaf, false)).or_else(|| chunked().map(|leaf| (leaf, true)))
}

/// Two parts of a leaf, its scalar with the first of an outer product and with both of a stack.
fn parts(kind: Kind, graph: &mut Graph, (leaf, other): (&Leaf, &Leaf)) -> Option<[Leaf; 2]> {
    let known = &graph.analysis;
    let ((scalar, feature), (_, with)) = (known.feature_of(leaf)?, known.feature_of(other)?);
    if !known.divided_alike(feature, with) {
        return None;
    }
    match (kind, feature.clone()) {
        (Kind::Outer, Feature::Outer([a, b])) => Some([scalar.times(&a.leaf)?, b.leaf]),
        (Kind::Stacked, Feature::Stack(parts)) => {
            let (first, rest) = parts.split_first()?;
            let rest = graph.analysis.rest(rest)?;
            Some([scalar.times(&first.leaf)?, scalar.times(&rest)?])
        }
        _ => None,
    }
}
