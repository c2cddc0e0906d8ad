//! Every example, in every form that it has, on every back end usable here, against the reference interpreter: over token
//! counts round the chunk length or the grids it is checked on, sizes that are no power of two, gates at the ends of their
//! range, and initial states; in two calls with the state carried; and with one token spoilt, which nothing that does not
//! see it may notice.
//!
//! Trials are named `example::backend::form::aspect`.

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use chunkwise_compiler::{
    Form, Schedule,
    bind::{Sizes, bind_dims, carries_state, output_dims},
    reference::{Array, Results},
    report,
};
use chunkwise_dsl::{
    shape::{AxisId, Size},
    typed::{AxisKind, Draw, OrderKind, Output, OutputDim, Variant},
};
use chunkwise_runtime::{
    Backend, Data, Engine, Outputs, Plan, Request, Tensor, Tensors,
    draw::{self, Gates},
};
use chunkwise_tests::example;
use libtest_mimic::{Arguments, Failed, Trial};

/// Tokens in a chunk.
const CHUNK: usize = 8;
const SEED: u64 = 17;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("twins::reference", twins)];
    let examples = match example::all() {
        Ok(examples) => examples,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for backend in Backend::ALL.into_iter().filter(|&backend| backend != Backend::Reference) {
        match backend.devices() {
            Ok(_) => examples.iter().for_each(|variant| trials.extend(trials_of(variant, backend))),
            Err(why) => eprintln!("skipped: {}: {why}", backend.name()),
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

type Aspect = fn(&mut Bench) -> Result<(), Failed>;

fn trials_of(variant: &Arc<Variant>, backend: Backend) -> Vec<Trial> {
    let aspects: [(&str, Aspect); 4] =
        [("agrees", agrees), ("carries", carries), ("causal", causal), ("isolates", isolates)];
    let mut trials = Vec::new();
    for form in report(variant).1.into_iter().filter(|report| report.missing.is_none()).map(|report| report.form) {
        for (aspect, test) in aspects {
            let variant = Arc::clone(variant);
            let name = format!("{}::{}::{}::{aspect}", variant.name, backend.name(), form.name());
            trials.push(Trial::test(name, move || test(&mut Bench::new(&variant, backend, form))));
        }
    }
    trials
}

/// One variant in one form on one back end.
struct Bench<'a> {
    variant: &'a Variant,
    engine: Engine,
    plan: Plan,
}

impl<'a> Bench<'a> {
    fn new(variant: &'a Variant, backend: Backend, form: Form) -> Self {
        Self { variant, engine: Engine::new(), plan: Plan { backend, form, schedule: Schedule::Fused, chunk: CHUNK } }
    }

    fn run(&mut self, sizes: &Sizes, inputs: &Tensors, initial: &Tensors) -> Result<Outputs, Failed> {
        Ok(self.engine.run(Request { variant: self.variant, sizes, inputs, initial, threads: 2 }, self.plan)?)
    }

    fn bound(&self) -> f64 {
        self.variant.checks.tolerance.unwrap_or(self.plan.backend.bound())
    }

    /// The tensors that differ from the reference by more than the bound.
    fn compare(&self, what: &str, got: &Outputs, want: &Results) -> Result<(), Failed> {
        for (name, want) in want.outputs.iter().chain(carried(self.variant, want)) {
            let (_, got) = got.all().find(|(found, _)| found == name).ok_or(format!("{what}: no tensor {name}"))?;
            if got.shape != want.shape {
                return Err(format!("{what}: {name} has shape {:?}, expected {:?}", got.shape, want.shape).into());
            }
            let error = deviation(&got.to_f64(), &want.data);
            if error > self.bound() || error.is_nan() {
                return Err(format!("{what}: {name} deviates by {error:.1e}, more than {:.1e}", self.bound()).into());
            }
        }
        Ok(())
    }
}

/// The final states, where the variant gives any.
fn carried<'r>(variant: &Variant, results: &'r Results) -> impl Iterator<Item = &'r (String, Array)> {
    results.states.iter().filter(move |_| carries_state(variant)).collect::<Vec<_>>().into_iter()
}

fn agrees(bench: &mut Bench) -> Result<(), Failed> {
    let variant = bench.variant;
    for length in lengths(variant) {
        for gates in draws(variant) {
            let sizes = sizes_of(variant, length)?;
            let inputs = draw::inputs(variant, &sizes, gates, SEED + length.tokens() as u64);
            let initial = initial(variant, &sizes)?;
            let got = bench.run(&sizes, &inputs, &initial)?;
            let want = reference(variant, &sizes, &inputs, &initial)?;
            bench.compare(&format!("{length:?}, {gates:?} gates"), &got, &want)?;
        }
    }
    Ok(())
}

/// Gates at the ends of their range are other inputs only where gates are drawn.
fn draws(variant: &Variant) -> Vec<Gates> {
    let gated = variant.checks.draws.iter().any(|(_, how)| !matches!(how, Draw::Normal | Draw::Unit));
    if gated { vec![Gates::Plain, Gates::Extreme] } else { vec![Gates::Plain] }
}

/// The second of two calls starts where the first ended.
fn carries(bench: &mut Bench) -> Result<(), Failed> {
    let variant = bench.variant;
    // A part of a grid's tokens is no grid.
    if !carries_state(variant) || variant.grid.is_some() {
        return Ok(());
    }
    let tokens = 3 * CHUNK + 3;
    let whole = sizes(variant, tokens)?;
    let inputs = draw::inputs(variant, &whole, Gates::Plain, SEED);
    for cut in [0, 1, CHUNK, CHUNK + 3, tokens - 1] {
        let mut got = initial(variant, &whole)?;
        let mut want = got.clone();
        for part in [0..cut, cut..tokens] {
            let what = format!("tokens {part:?} of two calls");
            let sizes = sizes(variant, part.len())?;
            let inputs = tokens_of(variant, &inputs, part);
            let outputs = bench.run(&sizes, &inputs, &got)?;
            let results = reference(variant, &sizes, &inputs, &want)?;
            bench.compare(&what, &outputs, &results)?;
            got = outputs.states.into_iter().collect();
            want = results.states.into_iter().map(|(name, array)| (name, narrowed(array))).collect();
        }
    }
    Ok(())
}

/// Under a causal order, whatever token t holds, NaN too, the tokens before it come out bit for bit the same; and so do
/// other batch elements. Without states a token may read others by position: then nothing is asked.
fn causal(bench: &mut Bench) -> Result<(), Failed> {
    let variant = bench.variant;
    let causal =
        matches!(variant.orders.as_slice(), [] | [chunkwise_dsl::typed::Order { kind: OrderKind::Causal, .. }]);
    if !causal || variant.token.is_none() {
        return Ok(());
    }
    let sizes = sizes(variant, 3 * CHUNK + 3)?;
    let tokens = variant.token.map_or(0, |axis| sizes.extent(&Size::axis(axis)));
    let inputs = draw::inputs(variant, &sizes, Gates::Plain, SEED);
    let initial = initial(variant, &sizes)?;
    if variant.states.is_empty() && reads_ahead(variant, &sizes, &inputs)? {
        return Ok(());
    }
    let sound = bench.run(&sizes, &inputs, &initial)?;
    for at in [1, CHUNK, CHUNK + 3, tokens - 1] {
        for value in [1.5, f32::NAN] {
            let got = bench.run(&sizes, &spoilt(variant, &inputs, at, value), &initial)?;
            for (output, (name, tensor)) in variant.outputs().zip(&got.outputs) {
                let before = |tensor: &Tensor| bits(&along_tokens(variant, output, tensor, 0..at));
                let (_, sound) =
                    sound.outputs.iter().find(|(found, _)| found == name).ok_or("the output is missing")?;
                if before(tensor) != before(sound) {
                    return Err(format!("{value} at token {at} changes {name} before it").into());
                }
            }
        }
    }
    Ok(())
}

/// Whether the last token reaches those before it in the reference.
fn reads_ahead(variant: &Variant, sizes: &Sizes, inputs: &Tensors) -> Result<bool, Failed> {
    let last = variant.token.map_or(0, |axis| sizes.extent(&Size::axis(axis))).saturating_sub(1);
    let of = |inputs: &Tensors| reference(variant, sizes, inputs, &Tensors::new());
    let (sound, got) = (of(inputs)?, of(&spoilt(variant, inputs, last, 1.5))?);
    let before = |(output, (_, array)): (&Output, &(String, Array))| {
        let tensor = narrowed(array.clone());
        bits(&along_tokens(variant, output, &tensor, 0..last))
    };
    let [sound, got] = [sound, got].map(|all| variant.outputs().zip(&all.outputs).map(before).collect::<Vec<_>>());
    Ok(sound != got)
}

/// Under a `local`, whatever token t holds, NaN and Inf too, what the reference keeps free of it comes out bit for bit
/// the same: the other blocks, and the tokens whose window does not reach it.
fn isolates(bench: &mut Bench) -> Result<(), Failed> {
    let variant = bench.variant;
    if variant.locals.is_empty() {
        return Ok(());
    }
    let tokens = 7 * CHUNK + 3;
    let sizes = sizes(variant, tokens)?;
    let inputs = draw::inputs(variant, &sizes, Gates::Plain, SEED);
    let initial = initial(variant, &sizes)?;
    let schedules = if bench.plan.form == Form::Chunked { Schedule::ALL.to_vec() } else { vec![Schedule::Fused] };
    for schedule in schedules {
        bench.plan.schedule = schedule;
        let sound = match bench.engine.prepare(variant, &sizes, bench.plan) {
            Err(chunkwise_runtime::Failure::Unsupported(_)) if schedule == Schedule::Split => continue,
            _ => bench.run(&sizes, &inputs, &initial)?,
        };
        for (at, value) in [(1, f32::NAN), (3 * CHUNK - 1, f32::INFINITY), (4 * CHUNK + 3, f32::NAN)] {
            let spoilt = spoilt(variant, &inputs, at, value);
            let want = reference(variant, &sizes, &spoilt, &initial)?;
            let got = bench.run(&sizes, &spoilt, &initial)?;
            let mut free = 0;
            for ((name, want), (sound, got)) in want.outputs.iter().zip(sound.outputs.iter().zip(&got.outputs)) {
                let (sound, got) = (sound.1.to_f64(), got.1.to_f64());
                for place in (0..want.data.len()).filter(|&place| want.data[place].is_finite()) {
                    free += 1;
                    if sound[place].to_bits() != got[place].to_bits() {
                        return Err(
                            format!("{value} at token {at} changes {name}[{place}], which does not see it").into()
                        );
                    }
                }
            }
            if free * 2 < want.outputs.iter().map(|(_, want)| want.data.len()).sum::<usize>() {
                return Err(format!("{value} at token {at} reaches nearly everything in the reference").into());
            }
        }
    }
    Ok(())
}

/// The law and the equation of one paper are one variant: the same forms, the same numbers.
fn twins() -> Result<(), Failed> {
    let examples = example::all()?;
    let find = |name: &str| examples.iter().find(|variant| variant.name == name).ok_or(format!("no example {name}"));
    let (law, equation) = (find("gated_deltanet")?, find("gated_deltanet_equation")?);
    let forms = |variant| report(variant).1.into_iter().map(|r| (r.form, r.missing.is_none())).collect::<Vec<_>>();
    if forms(law) != forms(equation) {
        return Err(format!("forms {:?} and {:?}", forms(law), forms(equation)).into());
    }
    let run = |variant: &Variant| -> Result<Results, Failed> {
        let sizes = sizes(variant, 20)?;
        let inputs = draw::inputs(variant, &sizes, Gates::Extreme, SEED);
        reference(variant, &sizes, &inputs, &initial(variant, &sizes)?)
    };
    let (law, equation) = (run(law)?, run(equation)?);
    for ((name, a), (_, b)) in law.outputs.iter().zip(&equation.outputs) {
        let error = deviation(&a.data, &b.data);
        if error > 1e-12 {
            return Err(format!("{name} differs by {error:.1e}").into());
        }
    }
    Ok(())
}

fn reference(variant: &Variant, sizes: &Sizes, inputs: &Tensors, initial: &Tensors) -> Result<Results, Failed> {
    Ok(chunkwise_runtime::reference::results(Request { variant, sizes, inputs, initial, threads: 1 })?)
}

/// Initial states, where the variant takes any.
fn initial(variant: &Variant, sizes: &Sizes) -> Result<Tensors, Failed> {
    if carries_state(variant) { Ok(draw::states(variant, sizes, SEED)?) } else { Ok(BTreeMap::new()) }
}

/// How many tokens there are, and how they lie.
#[derive(Debug, Clone, Copy)]
enum Length {
    Tokens(usize),
    Grid(usize, usize),
}

impl Length {
    fn tokens(self) -> usize {
        match self {
            Length::Tokens(n) => n,
            Length::Grid(y, x) => y * x,
        }
    }
}

/// Token counts round the chunk length; of a grid those that the variant is checked on.
fn lengths(variant: &Variant) -> Vec<Length> {
    match (&variant.grid, variant.token) {
        (Some(_), _) if variant.checks.grids.is_empty() => vec![Length::Grid(1, 1), Length::Grid(5, 7)],
        (Some(_), _) => variant.checks.grids.iter().map(|(y, x)| Length::Grid(*y, *x)).collect(),
        (None, Some(_)) => [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 3].map(Length::Tokens).into(),
        (None, None) => vec![Length::Tokens(0)],
    }
}

/// Sizes of so many tokens; of a grid's those of the smallest one that has them, or else the largest.
fn sizes(variant: &Variant, tokens: usize) -> Result<Sizes, Failed> {
    let mut all = lengths(variant);
    all.sort_by_key(|length| length.tokens());
    let grid = all.iter().find(|length| length.tokens() >= tokens).or(all.last()).copied();
    let length = if variant.grid.is_some() { grid } else { None };
    sizes_of(variant, length.unwrap_or(Length::Tokens(tokens)))
}

/// Two of every batch axis, odd sizes of the others; the derived ones follow.
fn sizes_of(variant: &Variant, length: Length) -> Result<Sizes, Failed> {
    let mut odd = [5, 7, 3, 6].into_iter().cycle();
    let mut dims: Vec<(String, usize)> = Vec::new();
    let grid = variant.grid.as_ref();
    let is = |size: &Size, place: usize| *size == Size::axis(AxisId(place as u32));
    for (place, axis) in variant.axes.iter().enumerate().filter(|(_, axis)| axis.value.is_none()) {
        let size = match (length, axis.kind) {
            (Length::Tokens(n), _) if variant.token == Some(AxisId(place as u32)) => n,
            (Length::Grid(y, _), _) if grid.is_some_and(|grid| is(&grid.rows, place)) => y,
            (Length::Grid(_, x), _) if grid.is_some_and(|grid| is(&grid.cols, place)) => x,
            (_, AxisKind::Batch | AxisKind::Group) => 2,
            (_, AxisKind::Own) => odd.next().unwrap_or(1),
        };
        dims.push((axis.name.clone(), size));
    }
    bind_dims(variant, &dims).map_err(|errors| {
        let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
        messages.join("; ").into()
    })
}

/// Where a tensor's token axis is.
fn token_dim(variant: &Variant, name: &str) -> Option<usize> {
    let token = Size::axis(variant.token?);
    variant.tensors.iter().find(|tensor| tensor.name == name)?.dims.iter().position(|dim| dim.size == token)
}

/// Some tokens of every input.
fn tokens_of(variant: &Variant, inputs: &Tensors, range: std::ops::Range<usize>) -> Tensors {
    let part = |(name, tensor): (&String, &Tensor)| match token_dim(variant, name) {
        Some(dim) => (name.clone(), tensor.slice(dim, range.clone())),
        None => (name.clone(), tensor.clone()),
    };
    inputs.iter().map(part).collect()
}

/// Some tokens of an output.
fn along_tokens(variant: &Variant, output: &Output, tensor: &Tensor, range: std::ops::Range<usize>) -> Tensor {
    let own = output.indices.iter().map(|index| variant.indices[index.index()].size.clone()).chain(output.ty.dims());
    let of_tokens =
        own.into_iter().next().is_some_and(|size| variant.token.is_some_and(|axis| size == Size::axis(axis)));
    let token = |dim: &OutputDim| of_tokens && matches!(dim, OutputDim::Own(0));
    match output_dims(variant, output).iter().position(token) {
        Some(dim) => tensor.slice(dim, range),
        None => tensor.clone(),
    }
}

/// The inputs with one value at all of token `at`.
fn spoilt(variant: &Variant, inputs: &Tensors, at: usize, value: f32) -> Tensors {
    let mut spoilt = inputs.clone();
    for (name, tensor) in &mut spoilt {
        let Some(dim) = token_dim(variant, name) else { continue };
        let inner: usize = tensor.shape[dim + 1..].iter().product();
        let block = tensor.shape[dim] * inner;
        if let Data::F32(data) = &mut tensor.data {
            data.chunks_mut(block).for_each(|outer| outer[at * inner..(at + 1) * inner].fill(value));
        }
    }
    spoilt
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    tensor.to_f64().into_iter().map(f64::to_bits).collect()
}

fn narrowed(array: Array) -> Tensor {
    Tensor::f32(array.shape, array.data.into_iter().map(|x| x as f32).collect())
}

/// max|got - want| / max|want|; infinite where only one of two is finite.
fn deviation(got: &[f64], want: &[f64]) -> f64 {
    let finite = |x: &&f64| x.is_finite();
    let largest = want.iter().filter(finite).fold(0.0f64, |most, x| most.max(x.abs()));
    let differs = |(got, want): (&f64, &f64)| match (got.is_finite(), want.is_finite()) {
        (true, true) => (got - want).abs(),
        (false, false) => 0.0,
        _ => f64::INFINITY,
    };
    let worst = got.iter().zip(want).map(differs).fold(0.0, f64::max);
    if largest > 0.0 { worst / largest } else { worst }
}
