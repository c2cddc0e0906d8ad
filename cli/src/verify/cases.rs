//! What `verify` runs a variant on: sizes, inputs and initial states. Besides plain random inputs: gates at the ends of
//! their range, slow decays over many tokens, an initial state, a call in two parts, no tokens at all, odd sizes, and a
//! NaN that must not spread.

use std::collections::BTreeSet;

use chunkwise_compiler::bind::{Sizes, carries_state, output_dims};
use chunkwise_dsl::{
    shape::{AxisId, Size},
    typed::{Draw, Dtype, ExprId, ExprKind, OutputDim, Variant},
};
use chunkwise_runtime::{
    Outputs, Request, Tensors,
    draw::{self, Gates},
    room,
    tensor::{Data, Tensor},
};

use crate::{
    arguments::{Shape, Shared},
    failure::Failure,
    program::dims_of,
    sizes::{Wish, axis_named, own_axes},
};

/// Token counts: one, a few, round a chunk, several chunks, many.
const TOKENS: [usize; 7] = [1, 7, 63, 64, 65, 130, 1024];

/// Grids of tokens, rows by columns.
const GRIDS: [(usize, usize); 4] = [(1, 1), (5, 7), (8, 8), (9, 13)];

/// From here on a smaller batch is enough: the chunks and tiles are what differs.
const MANY: usize = 512;

/// So many that a driver which ends a kernel after too many trips of its loops would show.
const LONG: usize = 3000;
const LONGEST: &str = "long";
const POISONED: &str = "one NaN";

/// Tokens under a slow decay: so many that what a decay loses at each shows.
const SLOW: usize = 4096;

/// One set of inputs.
pub struct Case {
    pub name: &'static str,
    pub tokens: usize,
    pub sizes: Sizes,
    pub inputs: Tensors,
    pub initial: Tensors,
    /// Run in two calls instead of one.
    pub parts: Option<(Part, Part)>,
}

/// A part of a case's tokens.
pub struct Part {
    sizes: Sizes,
    inputs: Tensors,
}

impl Case {
    pub fn request<'a>(&'a self, variant: &'a Variant, threads: usize) -> Request<'a> {
        Request { variant, sizes: &self.sizes, inputs: &self.inputs, initial: &self.initial, threads }
    }

    /// Whether it has so many tokens that a GPU is given it only where they are asked for: a software one takes long.
    pub fn is_long(&self) -> bool {
        (MANY..LONG).contains(&self.tokens)
    }

    /// Whether it is of more tokens than anybody compares pair by pair.
    pub fn is_longest(&self) -> bool {
        self.name == LONGEST
    }

    /// Whether a run of dual numbers for every direction takes no time.
    pub fn is_small(&self) -> bool {
        self.parts.is_none() && self.tokens < 8 && self.name != POISONED
    }

    /// Something that grows with the time the case takes.
    pub fn work(&self) -> usize {
        self.inputs.values().map(Tensor::len).sum::<usize>() * self.tokens.max(1)
    }
}

impl Part {
    pub fn request<'a>(&'a self, whole: Request<'a>) -> Request<'a> {
        Request { sizes: &self.sizes, inputs: &self.inputs, ..whole }
    }
}

/// How one case is made.
struct Recipe {
    name: &'static str,
    wish: Wish,
    gates: Gates,
    initial: bool,
}

/// All cases of a variant.
///
/// # Errors
/// Sizes asked for on the command line that cannot be.
pub fn cases(variant: &Variant, shape: &Shape, shared: &Shared) -> Result<Vec<Case>, Failure> {
    let base = Wish::new()
        .give_all(&dims_of(variant, shared))
        .give_axis(variant, axis_named(variant, "B"), shape.batch)
        .give_axis(variant, variant.head.or(axis_named(variant, "H")), shape.heads);
    let dims = base.clone().fill_all(&variant.checks.dims);
    let mut cases = Vec::new();
    for wish in lengths(variant, shape, shared, &dims) {
        let recipe = Recipe { name: "plain", wish, gates: Gates::Plain, initial: false };
        cases.push(recipe.make(variant, shared.seed)?);
    }
    for recipe in further(variant, shape, shared, (&base, &dims)) {
        // A size of these that a variant does not take (no tokens with `[T-1]`, odd halves) is no fault of it.
        cases.extend(recipe.make(variant, shared.seed ^ 0xca5e).ok());
    }
    if let Some(recipe) = longest(variant, shape, shared, &dims) {
        cases.extend(recipe.make(variant, shared.seed).ok());
    }
    let middle = cases.iter().position(|case| case.name == "plain" && (8..MANY).contains(&case.tokens)).unwrap_or(0);
    let made = [split(variant, &cases[middle], shared.seed), poisoned(variant, &cases[middle])];
    cases.extend(made.into_iter().flatten());
    Ok(cases)
}

/// The plain cases' sizes: every length, as asked for or as `check` and the defaults say.
fn lengths(variant: &Variant, shape: &Shape, shared: &Shared, dims: &Wish) -> Vec<Wish> {
    let Some(token) = variant.token else { return vec![dims.clone()] };
    let given = |name: &str| shared.dims.iter().any(|(given, _)| given == name);
    if given(&variant.axis_name(token)) {
        return vec![dims.clone()];
    }
    if !shape.tokens.is_empty() {
        return shape.tokens.iter().map(|&n| dims.clone().give_axis(variant, Some(token), Some(n))).collect();
    }
    if let Some(grid) = &variant.grid
        && let (Some(rows), Some(cols)) = (grid.rows.as_axis(), grid.cols.as_axis())
    {
        let (rows, cols) = (variant.axis_name(rows), variant.axis_name(cols));
        let grids: BTreeSet<(usize, usize)> = variant.checks.grids.iter().copied().chain(GRIDS).collect();
        return grids.into_iter().map(|(y, x)| dims.clone().fill(&rows, y).fill(&cols, x)).collect();
    }
    if variant.axes[token.0 as usize].value.is_some() {
        return vec![dims.clone()];
    }
    let long = if pairwise(variant) { 300 } else { 1024 };
    let tokens: BTreeSet<usize> = TOKENS.iter().map(|&n| n.min(long)).chain(variant.checks.tokens.clone()).collect();
    let wish = |n: usize| {
        let wish = dims.clone().give_axis(variant, Some(token), Some(n));
        if n >= MANY { wish.fill("B", 1).fill("H", 2) } else { wish }
    };
    tokens.into_iter().map(wish).collect()
}

/// The cases beside the plain ones.
fn further(variant: &Variant, shape: &Shape, shared: &Shared, (base, dims): (&Wish, &Wish)) -> Vec<Recipe> {
    let given = |axis: AxisId| shared.dims.iter().any(|(name, _)| variant.axis_name(axis) == *name);
    let derived = |axis: AxisId| variant.axes[axis.0 as usize].value.is_some();
    let at = |wish: &Wish, n: usize| match shape.tokens.first() {
        _ if variant.token.is_some_and(given) => wish.clone(),
        Some(&asked) => wish.clone().give_axis(variant, variant.token, Some(asked)),
        None if variant.token.is_some_and(derived) => wish.clone(),
        None => wish.clone().give_axis(variant, variant.token, Some(n)),
    };
    let plain = |name, wish| Recipe { name, wish, gates: Gates::Plain, initial: false };
    let mut recipes = Vec::new();
    if variant.checks.draws.iter().any(|(_, how)| matches!(how, Draw::LogDecay | Draw::Sigmoid)) {
        for n in [65, 130] {
            recipes.push(Recipe { name: "strong decay", wish: at(dims, n), gates: Gates::Extreme, initial: false });
        }
    }
    if !variant.states.is_empty() && variant.checks.draws.iter().any(|(_, how)| *how == Draw::LogDecay) {
        let small = own_axes(variant).into_iter().fold(dims.clone(), |wish, id| wish.fill(&variant.axis_name(id), 8));
        let wish = at(&small.fill("B", 1).fill("H", 1), SLOW);
        recipes.push(Recipe { name: "slow decay", wish, gates: Gates::Slow, initial: false });
    }
    if carries_state(variant) && !variant.states.is_empty() {
        for n in [1, 65] {
            recipes.push(Recipe { name: "initial state", wish: at(dims, n), gates: Gates::Plain, initial: true });
        }
    }
    recipes.push(plain("other sizes", at(&odd(variant, base), 65)));
    if variant.grid.is_none() && shape.tokens.is_empty() && variant.token.is_some() {
        let wish = dims.clone().give_axis(variant, variant.token, Some(0));
        recipes.push(Recipe { name: "no tokens", wish, gates: Gates::Plain, initial: carries_state(variant) });
    }
    recipes
}

/// Many tokens at the usual sizes, whose kernels are there already. None where the number of tokens is not free, or they
/// are compared pair by pair.
fn longest(variant: &Variant, shape: &Shape, shared: &Shared, dims: &Wish) -> Option<Recipe> {
    let token = variant.token?;
    let given = shared.dims.iter().any(|(name, _)| variant.axis_name(token) == *name) || !shape.tokens.is_empty();
    let free = variant.grid.is_none() && variant.axes[token.0 as usize].value.is_none();
    if given || !free || pairwise(variant) {
        return None;
    }
    let wish = dims.clone().give_axis(variant, Some(token), Some(LONG)).fill("B", 1).fill("H", 2);
    Some(Recipe { name: LONGEST, wish, gates: Gates::Plain, initial: false })
}

/// Sizes that differ from the usual ones: the defaults where `check dims` says others, else small odd ones.
fn odd(variant: &Variant, base: &Wish) -> Wish {
    let rotates = |kind: &ExprKind| matches!(kind, ExprKind::Rope { .. } | ExprKind::Rope2d { .. });
    if !variant.checks.dims.is_empty() || variant.exprs.iter().any(|expr| rotates(&expr.kind)) {
        return base.clone();
    }
    let own = own_axes(variant).into_iter().map(|id| variant.axis_name(id));
    own.zip([7, 9, 5, 11, 3, 13]).fold(base.clone(), |wish, (name, size)| wish.fill(&name, size))
}

impl Recipe {
    fn make(self, variant: &Variant, seed: u64) -> Result<Case, Failure> {
        let sizes = self.wish.bind(variant).map_err(Failure::Wrong)?;
        room::for_tensors(variant, &sizes, room::OF_A_COMPARISON)?;
        let tokens = variant.token.map_or(0, |axis| sizes.extent(&Size::axis(axis)));
        let inputs = draw::inputs(variant, &sizes, self.gates, seed.wrapping_add(tokens as u64));
        let initial = match self.initial {
            true => draw::states(variant, &sizes, seed)?,
            false => Tensors::new(),
        };
        Ok(Case { name: self.name, tokens, sizes, inputs, initial, parts: None })
    }
}

/// Whether tokens are compared pair by pair, which takes the square of their number.
fn pairwise(variant: &Variant) -> bool {
    variant.exprs.iter().any(|expr| match &expr.kind {
        ExprKind::Reduce { index, .. } | ExprKind::Softmax { index, .. } => variant.indices[index.index()].token,
        _ => false,
    })
}

/// The same inputs in two calls, the state of the first carried into the second.
fn split(variant: &Variant, case: &Case, seed: u64) -> Option<Case> {
    let token = variant.token?;
    let backwards = variant.states.iter().any(|state| state.reverse);
    if case.tokens < 2 || backwards || !divisible(variant, token) {
        return None;
    }
    let cut = (case.tokens * 2 / 5).max(1);
    let part = |range: std::ops::Range<usize>| Part {
        sizes: {
            let mut sizes = case.sizes.clone();
            sizes.set(token, range.len());
            sizes
        },
        inputs: variant
            .tensors
            .iter()
            .map(|tensor| {
                let along = tensor.dims.iter().position(|dim| dim.size.as_axis() == Some(token));
                let whole = &case.inputs[&tensor.name];
                (tensor.name.clone(), along.map_or_else(|| whole.clone(), |axis| whole.slice(axis, range.clone())))
            })
            .collect(),
    };
    Some(Case {
        name: "two calls",
        tokens: case.tokens,
        sizes: case.sizes.clone(),
        inputs: case.inputs.clone(),
        initial: draw::states(variant, &case.sizes, seed).ok()?,
        parts: Some((part(0..cut), part(cut..case.tokens))),
    })
}

/// Whether a call on all tokens equals two calls: each token sees only itself and the states.
fn divisible(variant: &Variant, token: AxisId) -> bool {
    let mentions = |size: &Size| size.axes().contains(&token);
    let sized = variant.axes.iter().any(|axis| axis.value.as_ref().is_some_and(mentions))
        || variant.axes[token.0 as usize].value.is_some()
        || variant
            .tensors
            .iter()
            .flat_map(|t| &t.dims)
            .any(|dim| mentions(&dim.size) && dim.size.as_axis() != Some(token));
    // What variants called carry is not handed on from call to call.
    if variant.states.is_empty() || !variant.calls.is_empty() || !carries_state(variant) || sized {
        return false;
    }
    // Tokens are met only as the subscript of what is read at the token itself.
    let mut allowed = BTreeSet::new();
    for expr in &variant.exprs {
        if let ExprKind::Subscript { base, at } = &expr.kind {
            allowed.insert(*base);
            allowed.extend(at.iter().copied());
        }
    }
    let whole = |ty: &chunkwise_dsl::typed::Ty| ty.dims().iter().any(mentions);
    let ids = (0..variant.exprs.len()).map(|place| ExprId(place as u32));
    !pairwise(variant)
        && ids.filter(|id| !allowed.contains(id)).all(|id| {
            let expr = variant.expr(id);
            match &expr.kind {
                ExprKind::Index(index) => !variant.indices[index.index()].token,
                ExprKind::Coord { .. }
                | ExprKind::Conv1d { .. }
                | ExprKind::Dwconv { .. }
                | ExprKind::Rope2d { .. } => false,
                ExprKind::Size(size) => !mentions(size),
                _ => !whole(&expr.ty),
            }
        })
        && uses_index_bare(variant)
        && !gathers(variant, token)
}

/// Whether something by token is read where another tensor says.
fn gathers(variant: &Variant, token: AxisId) -> bool {
    variant.exprs.iter().any(|expr| {
        let ExprKind::Subscript { base, at } = &expr.kind else { return false };
        let elsewhere = |at: &ExprId| !matches!(variant.expr(*at).kind, ExprKind::Index(_));
        variant.expr(*base).ty.dims().iter().zip(at).any(|(size, at)| size.axes().contains(&token) && elsewhere(at))
    })
}

/// Whether no token index is used as a number beside being a subscript (`t` in `rope(x, t)` is the same expression as
/// that in `x[t]`).
fn uses_index_bare(variant: &Variant) -> bool {
    let token =
        |id: ExprId| matches!(&variant.expr(id).kind, ExprKind::Index(index) if variant.indices[index.index()].token);
    let values = variant.exprs.iter().filter(|expr| !matches!(expr.kind, ExprKind::Subscript { .. }));
    let convolved = |kind: &ExprKind| matches!(kind, ExprKind::Conv1d { .. } | ExprKind::Dwconv { .. });
    !values.flat_map(|expr| expr.kind.children()).any(token) && !variant.exprs.iter().any(|expr| convolved(&expr.kind))
}

/// The results of two calls as those of one.
pub fn joined(variant: &Variant, before: Outputs, after: Outputs) -> Outputs {
    let along = |name: &str| {
        let output = variant.outputs().find(|output| output.name == name)?;
        output_dims(variant, output).iter().position(|dim| *dim == OutputDim::Own(0))
    };
    let outputs = before.outputs.into_iter().zip(after.outputs).map(|((name, first), (_, second))| {
        let joined = along(&name).map(|axis| concatenated(&first, &second, axis));
        (name, joined.unwrap_or(second))
    });
    Outputs { outputs: outputs.collect(), ..after }
}

fn concatenated(first: &Tensor, second: &Tensor, axis: usize) -> Tensor {
    let mut shape = first.shape.clone();
    shape[axis] += second.shape[axis];
    let blocks = |tensor: &Tensor| tensor.shape[axis..].iter().product::<usize>();
    let (Data::F32(a), Data::F32(b)) = (&first.data, &second.data) else { return second.clone() };
    let (a_block, b_block) = (blocks(first), blocks(second));
    let outer: usize = shape[..axis].iter().product();
    let data = (0..outer)
        .flat_map(|n| a[n * a_block..(n + 1) * a_block].iter().chain(&b[n * b_block..(n + 1) * b_block]).copied());
    Tensor::f32(shape, data.collect())
}

/// A NaN in the first float input that has tokens, in the middle of the first batch element.
fn poisoned(variant: &Variant, case: &Case) -> Option<Case> {
    let token = variant.token?;
    let has_tokens = |t: &&chunkwise_dsl::typed::Tensor| {
        t.dtype == Dtype::F32 && t.dims.iter().any(|dim| dim.size.as_axis() == Some(token))
    };
    let tensor = variant.tensors.iter().find(has_tokens)?;
    let axis = tensor.dims.iter().position(|dim| dim.size.as_axis() == Some(token))?;
    let mut inputs = case.inputs.clone();
    let poisoned = inputs.get_mut(&tensor.name)?;
    let stride: usize = poisoned.shape[axis + 1..].iter().product();
    let place = case.tokens / 2 * stride;
    match &mut poisoned.data {
        Data::F32(data) => *data.get_mut(place)? = f32::NAN,
        Data::I32(_) => return None,
    }
    let (sizes, initial) = (case.sizes.clone(), case.initial.clone());
    Some(Case { name: POISONED, tokens: case.tokens, sizes, inputs, initial, parts: None })
}
