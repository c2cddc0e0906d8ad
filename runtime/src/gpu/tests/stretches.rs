//! Kernels in many dispatches give what they give in one: everything that a form hands from token to token, looks back at
//! or steps through is met by a dispatch that ends in the middle of it. And states beyond f16 under that precision.

use chunkwise_compiler::{Derivation, bind::Sizes};
use chunkwise_dsl::typed::Variant;

use super::super::place::Layout;
use super::*;
use crate::execute::compiled_chunk;
use crate::{Outputs, Tensors, device::Precision, reference};

/// Few enough that a few tokens take several dispatches.
const TRIPS: u64 = 500;
/// Kernels that hand states on take few trips a chunk.
const FEWER: u64 = 100;

struct Run {
    variant: Variant,
    sizes: Sizes,
    inputs: Tensors,
}

impl Run {
    fn new(body: &str, tokens: usize) -> Self {
        let text = format!("variant f {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; {body} }}");
        let program =
            chunkwise_dsl::compile(&Source::new("f.attn", text.as_str()), &[]).unwrap_or_else(|e| panic!("{e:?}"));
        let variant = program.variants.into_iter().next().unwrap();
        let dims = [("B", 1), ("T", tokens), ("H", 2), ("K", 12), ("V", 8)].map(|(name, n)| (name.to_string(), n));
        let sizes = bind_dims(&variant, &dims).unwrap();
        let inputs = draw::inputs(&variant, &sizes, Gates::Plain, 3);
        Self { variant, sizes, inputs }
    }

    fn request(&self) -> Request<'_> {
        static NONE: Tensors = Tensors::new();
        Request { variant: &self.variant, sizes: &self.sizes, inputs: &self.inputs, initial: &NONE, threads: 1 }
    }

    fn run(&self, plan: Plan, settings: &Settings) -> Result<Outputs, Failure> {
        Engine::with(settings.clone()).run(self.request(), plan)
    }

    /// Dispatches that a plan takes; None where there is no adapter.
    fn dispatches(&self, plan: Plan, settings: &Settings) -> Option<usize> {
        if let Err(why) = open::open(settings) {
            eprintln!("skipped: {why}");
            return None;
        }
        let (variant, sizes, layout) = (&self.variant, &self.sizes, (plan.form, plan.schedule));
        let tokens = sizes.get(variant.token.unwrap()).unwrap();
        let chunk = compiled_chunk(plan, tokens);
        let tiles = tiles_wanted(settings, 2).unwrap();
        let derivation = &Derivation::of(variant);
        let loaded = Build { derivation, sizes, layout, chunk, tiles, settings }.load().unwrap();
        let by_name = ["B", "T", "H", "K", "V"].map(|name| (name.to_string(), self.size(name) as i64));
        let (sizes, (inputs, states_in, outputs, states_out)) = (BTreeMap::from(by_name), Default::default());
        let (chunk, tiles) = (loaded.chunk().unwrap_or(tokens as i64), loaded.tiles());
        let launch = Launch { sizes: &sizes, chunk, tiles, inputs, states_in, outputs, states_out };
        let (gpu, _) = loaded.ready().unwrap();
        let fit = loaded.admission.measure(&launch).unwrap();
        let layout = Layout::new((loaded.module(), &loaded.code), &fit, (&gpu.limits, &gpu.pace)).unwrap();
        assert!(layout.steps.iter().all(|step| step.stretch.trips <= gpu.limits.trips));
        Some(layout.steps.len())
    }

    fn size(&self, name: &str) -> usize {
        let place = self.variant.axes.iter().position(|axis| axis.name == name).unwrap();
        self.sizes.get(chunkwise_dsl::shape::AxisId(place as u32)).unwrap()
    }
}

fn lowered(trips: u64) -> Settings {
    Settings { lowered: vec![(Limit::Trips, trips)], ..Settings::default() }
}

fn recurrent() -> Plan {
    Plan { backend: Backend::Wgpu, form: Form::Recurrent, schedule: Schedule::Fused, chunk: 1 }
}

fn chunked(schedule: Schedule, chunk: usize) -> Plan {
    Plan { backend: Backend::Wgpu, form: Form::Chunked, schedule, chunk }
}

/// A program's results in many dispatches are those in few, and the reference's.
fn agree(body: &str, plans: &[Plan]) {
    agree_in(TRIPS, body, plans);
}

fn agree_in(trips: u64, body: &str, plans: &[Plan]) {
    let run = Run::new(body, 203);
    for &plan in plans {
        let Some(few) = run.dispatches(plan, &Settings::default()) else { return };
        let many = run.dispatches(plan, &lowered(trips)).unwrap();
        let kernels = match (plan.form, plan.schedule) {
            // Every row of so many tokens is more than one dispatch does.
            (Form::Parallel, _) => 1..=many - 1,
            (_, Schedule::Split) => 3..=4,
            _ => 1..=1,
        };
        assert!(kernels.contains(&few) && many > few, "{body}: {few} and {many} dispatches of {plan:?}");
        let whole = run.run(plan, &Settings::default()).unwrap();
        let parts = run.run(plan, &lowered(trips)).unwrap();
        for ((name, a), (_, b)) in whole.all().zip(parts.all()) {
            assert_eq!(bits(a), bits(b), "{body}: `{name}` of {plan:?}");
        }
        let want = reference::results(run.request()).unwrap();
        for ((name, got), (_, want)) in parts.outputs.iter().zip(&want.outputs) {
            close(&got.to_f64(), &want.data, 1e-4, &format!("{body}: `{name}` of {plan:?}"));
        }
    }
}

fn close(got: &[f64], want: &[f64], bound: f64, what: &str) {
    let largest = want.iter().fold(1e-30, |most: f64, x| most.max(x.abs()));
    let worst = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max) / largest;
    assert!(worst <= bound, "{what}: off by {worst:.1e}");
}

#[test]
fn states_go_on_under_scalar_and_diagonal_decay() {
    let plans = [recurrent(), chunked(Schedule::Fused, 7)];
    let scalar = "input g : [B,T,H]; state S : [K,V] = 0; decay a[t] = exp(g[t]); update S additive(k, v); \
                  output o[t] = S[t]' * q[t]; check draw(g = logdecay);";
    agree(scalar, &plans);
    agree_in(FEWER, scalar, &[chunked(Schedule::Split, 5)]);
    agree(
        "input g : [B,T,H,K]; state S : [K,V] = 0; decay a[t] = exp(g[t]); update S additive(k, v); \
         output o[t] = S[t]' * q[t]; check draw(g = logdecay);",
        &plans,
    );
}

#[test]
fn delta_rules_go_on() {
    agree(
        "input b : [B,T,H]; feature unit(x) = l2norm(x) on q, k; state S : [K,V] = 0; update S delta(k, v, b); \
         output o[t] = S[t]' * q[t]; check draw(b = sigmoid);",
        &[recurrent(), chunked(Schedule::Split, 5)],
    );
}

#[test]
fn windows_and_blocks_are_where_they_were() {
    agree(
        "local window(5); state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t];",
        &[recurrent(), chunked(Schedule::Fused, 7)],
    );
    agree(
        "local block(10); state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t];",
        &[recurrent(), chunked(Schedule::Fused, 7)],
    );
}

#[test]
fn what_looks_back_sees_all_tokens() {
    let body = "param c : [H,K,4]; let m = conv1d(k, c); state S : [K,V] = 0; update S additive(m, v); \
                output o[t] = S[t]' * q[t];";
    agree(body, &[recurrent()]);
    agree_in(FEWER, body, &[chunked(Schedule::Split, 5)]);
}

#[test]
fn cascades_of_states_go_on() {
    agree(
        "state S : [K,V] = 0, z : [K] = 0; update z additive(k); update S[t] = 0.9 * S[t-1] + z[t] * v[t]'; \
         output o[t] = S[t]' * q[t];",
        &[recurrent()],
    );
}

#[test]
fn pairs_of_tokens_come_in_blocks_of_rows() {
    // The solve of a block is not cut.
    agree_in(
        4 * TRIPS,
        "input b : [B,T,H]; feature unit(x) = l2norm(x) on q, k; state S : [K,V] = 0; update S delta(k, v, b); \
         output o[t] = S[t]' * q[t]; check draw(b = sigmoid);",
        &[Plan { form: Form::Parallel, ..recurrent() }],
    );
}

#[test]
fn what_cannot_be_cut_is_refused_with_the_limit() {
    let run = Run::new("state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t];", 3000);
    let plan = Plan { form: Form::Parallel, ..recurrent() };
    match run.run(plan, &lowered(Limit::Trips.least())) {
        Err(Failure::Unusable(_, why)) => eprintln!("skipped: {why}"),
        Err(failure) => {
            let text = failure.to_string();
            assert!(text.contains("take 256") && text.contains("`trips`") && text.contains("--form chunked"), "{text}");
        }
        Ok(_) => panic!("3000 tokens were compared pair by pair in 256 trips"),
    }
}

/// Keys and values that are all 40 add up to 40 * 40 * t: 65,504 is passed after 41 tokens.
#[test]
fn states_beyond_the_largest_half_are_read_as_they_are() {
    let body = "state S : [K,V] = 0; update S additive(k, v); output o[t] = S[t]' * q[t];";
    let mut run = Run::new(body, 75);
    for (name, value) in [("q", 1e-3), ("k", 40.0), ("v", 40.0)] {
        let tensor = run.inputs.get_mut(name).unwrap();
        *tensor = Tensor::f32(tensor.shape.clone(), vec![value; tensor.len()]);
    }
    let settings = Settings { precision: Precision::F16, ..Settings::default() };
    let want = reference::results(run.request()).unwrap();
    assert!(want.states[0].1.data.iter().all(|x| *x > 65_504.0));
    for plan in [recurrent(), chunked(Schedule::Fused, 7), chunked(Schedule::Split, 16)] {
        let got = match run.run(plan, &settings) {
            Err(Failure::Unusable(_, why)) => return eprintln!("skipped: {why}"),
            got => got.unwrap(),
        };
        close(&got.outputs[0].1.to_f64(), &want.outputs[0].1.data, 2e-3, &format!("{plan:?}"));
        close(&got.states[0].1.to_f64(), &want.states[0].1.data, 2e-3, &format!("{plan:?}"));
    }
}

#[test]
fn what_f16_does_not_hold_is_infinite() {
    let mut run = Run::new("state S : [K,V] = 0; update S additive(k, v); output o[t] = 7000 * (S[t]' * q[t]);", 3);
    for tensor in run.inputs.values_mut() {
        *tensor = Tensor::f32(tensor.shape.clone(), vec![1.0; tensor.len()]);
    }
    let settings = Settings { precision: Precision::F16, ..Settings::default() };
    match run.run(recurrent(), &settings) {
        Err(Failure::Unusable(_, why)) => eprintln!("skipped: {why}"),
        got => assert!(got.unwrap().outputs[0].1.to_f64().iter().all(|x| *x == f64::INFINITY)),
    }
}
