//! Where values of small programs are computed: tiles and shared buffers, passes, iterations.

use chunkwise_dsl::{source::Source, typed::Program};

use super::*;

fn program(body: &str) -> Program {
    let text = format!(
        "variant f {{ axes B, T = Y*X, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H]; \
         param w : [H,K,K], c : [H,K,3,3]; order full; {body} }}"
    );
    chunkwise_dsl::compile(&Source::new("f.attn", text), &[]).expect("the program checks")
}

/// A program with its graph and where that is placed.
struct Placed {
    graph: Graph,
    placement: Placement,
}

fn placed(body: &str) -> Placed {
    let program = program(body);
    let variant = &program.variants[0];
    let graph = Graph::of(variant).expect("a graph");
    let placement = place(variant, &graph);
    Placed { graph, placement }
}

impl Placed {
    /// The places of the units that compute a node, and whether it is shared there.
    fn homes(&self, is: impl Fn(&Op) -> bool) -> Vec<(usize, bool)> {
        let mut homes = Vec::new();
        for (unit, of) in self.placement.units.iter().enumerate() {
            for placed in of.nodes.iter().filter(|placed| is(&self.graph.node(placed.node).op)) {
                homes.push((unit, placed.shared));
            }
        }
        homes
    }

    /// `once`, `rows`, `pass` or `image`, a unit each.
    fn spaces(&self) -> Vec<&'static str> {
        let of = |unit: &Unit| match unit.space {
            Space::Once(_) => "once",
            Space::Rows(_) | Space::OverHeads(_) => "rows",
            Space::Pass(_) => "pass",
            Space::Image { .. } => "image",
        };
        self.placement.units.iter().map(of).collect()
    }
}

#[test]
fn sums_over_tokens_are_a_pass_before_the_rows_that_read_them() {
    let placed = placed("let s = sum[j](k[j] * v[j]'); output o[t] = s' * q[t];");
    assert_eq!(placed.spaces(), ["pass", "rows"]);
    assert_eq!(placed.homes(|op| matches!(op, Op::Fold(_)))[0], (0, true));
}

#[test]
fn a_light_value_is_a_tile_wherever_it_is_read_at_its_own_row() {
    let placed = placed("let a[t] = exp(k[t]); let s = sum[j](a[j] * v[j]'); output o[t] = s' * a[t] + sum(a[t]);");
    let exp = |op: &Op| *op == Op::Map(Function::Exp);
    assert_eq!(placed.homes(exp), [(0, false), (1, false)]);
}

#[test]
fn a_heavy_value_of_two_units_is_shared() {
    let placed = placed("let a[t] = w * k[t]; let s = sum[j](a[j] * v[j]'); output o[t] = s' * a[t];");
    // Once: w lies turned, its columns as rows of the product's right factor.
    assert_eq!(placed.spaces(), ["once", "rows", "pass", "rows"]);
    assert_eq!(placed.homes(|op| matches!(op, Op::Fold(_)))[0], (1, true));
}

#[test]
fn what_is_read_at_other_rows_is_shared() {
    let placed = placed("let a[t] = exp(k[t]); output o[t] = a[t-1] + a[t];");
    assert_eq!(placed.spaces(), ["rows", "rows"]);
    assert_eq!(placed.homes(|op| *op == Op::Map(Function::Exp)), [(0, true)]);
}

#[test]
fn sums_that_need_each_other_are_passes_one_after_another() {
    let placed = placed("let a = mean[j](g[j]); let s = sum[j]((g[j] - a)^2); output o[t] = s * q[t];");
    // Once: the quotient of the mean.
    assert_eq!(placed.spaces(), ["pass", "once", "pass", "rows"]);
    let placed = self::placed("let a = sum[j](g[j]); let s = sum[j](k[j]); output o[t] = (a + s) .* q[t];");
    assert_eq!(placed.spaces(), ["pass", "rows"]);
}

#[test]
fn an_iteration_holds_what_its_steps_compute() {
    let placed = placed("let a = k' * k; let x[s] = x[s-1] * a * x[s-1] for s in 1..3 from w; output o[t] = x * q[t];");
    let steps = placed.placement.units.iter().flat_map(|unit| &unit.nodes).filter(|placed| placed.inside.is_some());
    assert!(steps.clone().count() >= 1);
    assert!(steps.clone().all(|step| step.row.is_none() && !step.shared));
    let whole = placed.homes(|op| matches!(op, Op::Iterate { .. }));
    assert_eq!(whole.len(), 1);
    assert!(whole[0].1, "rows read its last entry");
}

#[test]
fn a_convolution_is_rows_of_an_image_and_reads_memory() {
    let placed = placed("let y = dwconv(silu(k), c); output o[t] = y[t] .* q[t];");
    assert_eq!(placed.spaces().iter().filter(|space| **space == "image").count(), 1);
    assert_eq!(placed.homes(|op| *op == Op::Copy).iter().filter(|(_, shared)| *shared).count(), 2);
}

#[test]
fn what_depends_on_no_batch_axis_is_computed_once() {
    let placed = placed("let n = softmax(w * w); output o[t] = n * q[t];");
    let Space::Once(axes) = &placed.placement.units[0].space else { panic!("once first") };
    assert_eq!(axes.len(), 1, "the heads alone");
}

#[test]
fn what_no_output_needs_is_not_placed() {
    let placed = placed("let a[t] = exp(k[t]); let s = sum[j](a[j]); output o[t] = q[t];");
    assert_eq!(placed.spaces(), ["rows"]);
    assert_eq!(placed.placement.units[0].nodes.len(), 1);
}

#[test]
fn an_output_that_is_a_sum_is_written_by_it() {
    let placed = placed("output o[t] = w' * q[t];");
    assert_eq!(placed.placement.written_by.len(), 1);
    assert_eq!(placed.spaces(), ["rows"]);
}

/// The sweeps of the last unit: of each how many values of pairs it has, and of its folds those that go along with a
/// maximum.
fn sweeps(placed: &Placed) -> Vec<(usize, Vec<bool>)> {
    let unit = placed.placement.units.last().expect("a unit");
    let online = |sweep: &Sweep| sweep.folds.iter().map(|fold| fold.relative_to.is_some()).collect();
    unit.sweeps.iter().map(|sweep| (sweep.all().count() - sweep.folds.len(), online(sweep))).collect()
}

#[test]
fn softmax_and_what_it_weighs_are_one_sweep() {
    let attention = "let p[i,j] = softmax[j](q[i]' * k[j] / sqrt(K)); output o[i] = sum[j](p[i,j] * v[j]);";
    for local in ["", "local window(5);", "local where i - j < 4 or j < 2;"] {
        assert_eq!(sweeps(&placed(&format!("{local} {attention}"))), [(2, vec![false, true, true])], "{local}");
    }
    let by_hand = "let s[i,j] = q[i]' * k[j]; let m[i] = max[j](s[i,j]); let w[i,j] = exp(s[i,j] - m[i]);
                   output o[i] = sum[j](w[i,j] * v[j]) / sum[j](w[i,j]); output m[i] = m[i];";
    assert_eq!(sweeps(&placed(by_hand)), [(2, vec![false, true, true])]);
}

#[test]
fn what_reads_a_fold_otherwise_is_a_sweep_of_its_own() {
    let squared =
        "let s[i,j] = q[i]' * k[j]; let m[i] = max[j](s[i,j]); output o[i] = sum[j]((s[i,j] - m[i])^2 * v[j]);";
    let found: Vec<Vec<bool>> = sweeps(&placed(squared)).into_iter().map(|(_, online)| online).collect();
    assert_eq!(found, [vec![false], vec![false]]);
    let twice = "let p[i,j] = softmax[j](q[i]' * k[j]); let m[i] = sum[j](p[i,j] * v[j]);
                 output o[i] = sum[j](p[i,j] * (v[j] - m[i]));";
    assert_eq!(sweeps(&placed(twice)).len(), 2);
}

#[test]
fn bounds_of_what_is_seen_bound_the_sweep_where_all_of_its_folds_have_them() {
    let bands = |body: &str| placed(body).placement.units.last().map(|unit| unit.sweeps[0].bands.len());
    assert_eq!(bands("local window(5); output o[i] = sum[j](g[j] * g[i]);"), Some(2));
    assert_eq!(bands("local where g[j] > 0; output o[i] = sum[j](g[j] * g[i]);"), Some(0));
    let mixed = "local window(5); let p[i,j] = softmax[j](g[i] * g[j]); output o[i] = sum[j : true](p[i,j] * v[j]);";
    let unit = placed(mixed).placement.units.pop().unwrap();
    assert_eq!(unit.sweeps.iter().map(|sweep| sweep.bands.len()).collect::<Vec<_>>(), [2, 0]);
}

#[test]
fn what_is_read_at_other_pairs_is_kept_whole() {
    let turned = placed("let s[i,j] = q[i]' * k[j]; output o[i,j] = s[i,j] + s[j,i];");
    assert!(sweeps(&turned).is_empty());
}
