//! Graphs of small programs: what is one node, what a sum runs over, which elements are read.

use chunkwise_dsl::{source::Source, typed::Function, typed::Program};

use super::*;

fn program(body: &str) -> Program {
    let text = format!(
        "variant f {{ axes B, T, H, K, V, F; input q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H]; \
         param w : [H,F,K], m : [H,K,K], c : [H,K,4], gamma : [H]; {body} }}"
    );
    chunkwise_dsl::compile(&Source::new("f.attn", text), &[]).expect("the program checks")
}

fn graph(body: &str) -> (Program, Graph) {
    let program = program(body);
    let graph = Graph::of(&program.variants[0]).expect("a graph");
    (program, graph)
}

fn count(graph: &Graph, is: impl Fn(&Op) -> bool) -> usize {
    graph.nodes.iter().filter(|node| is(&node.op)).count()
}

fn maps(graph: &Graph, function: Function) -> usize {
    count(graph, |op| *op == Op::Map(function))
}

fn folds(graph: &Graph) -> Vec<&Node> {
    graph.nodes.iter().filter(|node| matches!(node.op, Op::Fold(_))).collect()
}

/// The names of a node's axes, a star after the token axis.
fn axes(program: &Program, node: &Node) -> String {
    let name = |axis: &Axis| {
        let size = axis.size.print(&|id| program.variants[0].axis_name(id));
        format!("{size}{}", if axis.token { "*" } else { "" })
    };
    node.axes.iter().map(name).collect::<Vec<_>>().join(",")
}

#[test]
fn equal_values_are_one_node() {
    let (_, graph) =
        graph("let a[t] = exp(g[t]); output o[t] = exp(g[t]) * q[t]; output p[i] = a[i] * k[i] + exp(g[i]) * q[i];");
    assert_eq!(maps(&graph, Function::Exp), 1);
    assert_eq!(maps(&graph, Function::Mul), 2);
    assert_eq!(count(&graph, |op| matches!(op, Op::Output(_))), 2);
}

#[test]
fn what_no_output_needs_is_no_node() {
    let (_, graph) = graph("let a[t] = exp(g[t]); output o[i] = sum[j : true](g[i] * k[j] / 3);");
    assert_eq!(maps(&graph, Function::Exp), 0);
    // The quotient of the sum, not that of what is summed.
    assert_eq!(maps(&graph, Function::Div), 1);
}

#[test]
fn operands_stand_before_their_users() {
    let (_, graph) = graph("order causal; let p[i,j] = softmax[j](q[i]' * k[j]); output o[i] = sum[j](p[i,j] * v[j]);");
    for id in graph.ids() {
        assert!(graph.node(id).operands.iter().all(|operand| operand.node < id));
        for operand in &graph.node(id).operands {
            assert_eq!(operand.at.len(), graph.node(operand.node).axes.len());
        }
    }
}

#[test]
fn what_does_not_depend_on_the_summed_position_leaves_the_sum() {
    let (program, graph) = graph("order full; output o[i] = sum[j](gamma * g[i] * k[j] / (1 + g[i]^2));");
    let [sum] = folds(&graph)[..] else { panic!("one sum") };
    assert!(matches!(graph.node(sum.operands[0].node).op, Op::Tensor(_)), "the sum of k alone");
    assert_eq!(axes(&program, sum), "K", "and once, not for every i");
    assert_eq!(maps(&graph, Function::Div), 1);
}

#[test]
fn a_sum_of_what_does_not_depend_on_it_is_a_multiple() {
    let (_, graph) = graph("order full; output o[i] = sum[j](g[i]); output p = sum[r in F](2);");
    assert!(folds(&graph).is_empty());
    assert!(count(&graph, |op| matches!(op, Op::Size(_))) >= 2);
}

#[test]
fn sums_of_products_are_products_of_two_factors() {
    let two = |body: &str| {
        let (_, graph) = graph(body);
        let found: Vec<bool> = folds(&graph).iter().map(|fold| fold.factors(&graph).is_some()).collect();
        assert!(found.contains(&true), "{body}");
    };
    two("order full; output o = sum[j](k[j] * v[j]');");
    two("order full; output o = sum[j]((exp(g[j]) * k[j]) * (g[j] * v[j])');");
    two("output o[t] = m * q[t];");
    two("output o = k' * v;");
    two("order causal; output o[i] = sum[j](exp(q[i]' * k[j]) * v[j]);");
    let (_, graph) = graph("order full; output o = sum[j](exp(g[j]) + k[j]);");
    assert!(folds(&graph).iter().all(|fold| fold.factors(&graph).is_none()));
}

#[test]
fn nothing_visible_divides_by_one() {
    let (_, graph) = graph("order full; local where g[i] > g[j]; let p[i,j] = softmax[j](q[i]' * k[j]); output o = p;");
    // exp(x - max(most, least)) / (if sum == 0 then 1 else sum)
    assert_eq!(maps(&graph, Function::Exp), 1);
    assert_eq!(maps(&graph, Function::Eq), 1);
    let guard = |node: &&Node| {
        let numbers = node.operands.iter().filter(|operand| graph.node(operand.node).op == Op::Number(1f64.to_bits()));
        node.op == Op::Select && numbers.count() == 1
    };
    assert_eq!(graph.nodes.iter().filter(guard).count(), 1);
    let least = |op: &Op| matches!(op, Op::Number(bits) if f64::from_bits(*bits) == reduce::LEAST);
    assert_eq!(count(&graph, least), 1);
}

#[test]
fn a_denominator_leaves_a_sum_that_has_its_condition() {
    let divided = |body: &str| {
        let (program, graph) = graph(body);
        let quotients = graph.nodes.iter().filter(|node| node.op == Op::Map(Function::Div));
        quotients.map(|node| axes(&program, node)).collect::<Vec<_>>()
    };
    let softmax = "let p[i,j] = softmax[j](q[i]' * k[j]);";
    assert_eq!(divided(&format!("order causal; {softmax} output o[i] = sum[j](p[i,j] * v[j]);")), ["T*,V"]);
    // Of tokens none of which has g > 0 the sum is 0, NaN in the denominator or not.
    for order in ["causal", "full"] {
        let body = format!("order {order}; {softmax} output o[i] = sum[j : g[j] > 0](p[i,j] * v[j]);");
        assert_eq!(divided(&body), ["T*,T*"]);
    }
}

#[test]
fn an_order_that_hides_nothing_adds_no_condition() {
    let (_, all) = graph("order full; let p[i,j] = softmax[j](q[i]' * k[j]); output o = p;");
    assert_eq!(maps(&all, Function::Le), 0);
    let (_, causal) = graph("order causal; let p[i,j] = softmax[j](q[i]' * k[j]); output o = p;");
    assert_eq!(maps(&causal, Function::Le), 1);
}

#[test]
fn the_largest_are_counted_ahead_of_each() {
    let (program, graph) = graph("output o[t] = topk_mask(q[t], 2);");
    let [ahead] = folds(&graph)[..] else { panic!("one count") };
    assert_eq!(axes(&program, ahead), "T*,K");
    assert_eq!(maps(&graph, Function::Gt), 1);
    assert_eq!(maps(&graph, Function::Or), 1);
}

#[test]
fn views_make_no_nodes() {
    let (_, graph) = graph("output o[t] = cols(flatten(m'), 2, 5);");
    // The tensor and the output.
    assert_eq!(graph.nodes.len(), 2);
    let [operand] = &graph.node(graph.outputs[0]).operands[..] else { panic!("one operand") };
    // Element n of the columns is element e = n + 2 of the flat transpose: row e mod K, column e div K.
    let number = |index: &Index, n: i64| {
        let index = index.replaced(&|axis| Index::Number(if axis == 1 { n } else { 0 }));
        value(&index, 3)
    };
    let places: Vec<Vec<i64>> = (0..3).map(|n| operand.at.iter().map(|index| number(index, n)).collect()).collect();
    assert_eq!(places, [[2, 0], [0, 1], [1, 1]]);
}

/// What an index without axes is where every size is `size`.
fn value(index: &Index, size: i64) -> i64 {
    let of = |x: &Index| value(x, size);
    match index {
        Index::Number(n) => *n,
        Index::Size(_) => size,
        Index::Axis(_) | Index::Step(_) => panic!("an axis is left"),
        Index::Add(a, b) => of(a) + of(b),
        Index::Sub(a, b) => of(a) - of(b),
        Index::Mul(a, b) => of(a) * of(b),
        Index::Div(a, b) => of(a).div_euclid(of(b)),
        Index::Mod(a, b) => of(a).rem_euclid(of(b)),
        Index::Min(a, b) => of(a).min(of(b)),
        Index::Max(a, b) => of(a).max(of(b)),
    }
}

#[test]
fn subscripts_are_guarded_where_they_can_leave() {
    let within = |body: &str| {
        let (_, graph) = graph(body);
        let operands = graph.nodes.iter().flat_map(|node| &node.operands);
        operands.map(|operand| operand.within.len()).max().unwrap_or(0)
    };
    assert_eq!(within("output o[t] = q[t];"), 0);
    assert_eq!(within("output o[t] = q[t-1];"), 1);
    assert_eq!(within("output o = q[3];"), 1);
    assert_eq!(within("output o[f,k] = w[f, k - 1];"), 1);
    assert_eq!(within("output o[f,k] = m[k - 1, f - 1];"), 2);
    assert_eq!(within("output o = c[1, 2];"), 1);
}

#[test]
fn values_are_printed_with_what_is_fused_written_out() {
    let (program, graph) = graph("order full; let s = sum[j](k[j] * v[j]'); output o[t] = exp(s' * q[t-1] - t);");
    let named: Vec<bool> = graph.nodes.iter().map(|node| matches!(node.op, Op::Fold(_))).collect();
    let printer = Printer { variant: &program.variants[0], graph: &graph, named: &named };
    let sums: Vec<NodeId> = graph.ids().filter(|id| named[id.index()]).collect();
    assert_eq!(printer.value(sums[0]), "sum[t](k[t, k] * v[t, v])");
    assert_eq!(printer.name(sums[0]), format!("n{}[k, v]", sums[0].0));
    assert_eq!(printer.name(graph.outputs[0]), "o[t, v]");
    assert_eq!(printer.value(graph.outputs[0]), format!("exp(n{}[t, v] - t)", sums[1].0));
}
