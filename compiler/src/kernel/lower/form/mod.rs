//! A plan's nodes -> statements: the chunked form, the parallel one as a single chunk of all tokens, and the recurrent
//! one of affine states (`steps`).
//!
//! ```text
//! rd q S                  ->   product r[t,v] = sum over k of q[t,k] * S[k,v]
//! mm (tril M) x           ->   product (lower) r[t,v] = sum over s <= t of M[t,s] * x[s,v]
//! usolve P y              ->   solve x = y;  x[t] += sum over s < t of P[t,s] * x[s]
//! ```
//!
//! Every stream of the plan is a tile of the block's rows, one for each of its stack; pairs of tokens are tiles of
//! chunk x chunk. States lie in scratch memory for the whole scan and are updated in place once all reads of the
//! block are made.

mod decay;
mod pairs;
mod products;
mod running;
mod solve;
mod state;
mod steps;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use chunkwise_dsl::typed::{ExprId, StateId, Variant};
use petgraph::graph::NodeIndex;

use crate::{
    Form, Schedule, Tiles, Unsupported,
    bind::Sizes,
    ir::Term,
    kernel::{Access, BufferId, Int, Kernel, Map, Module, Product, Stmt, Triangle, Value},
    plan::{Node, Op, Plan},
};

use super::{
    Lowering, Result, Rows, Tile, TileDim,
    locality::{Chunks, Locality},
};

/// A scratch tile of chunk x chunk pairs of tokens.
#[derive(Debug, Clone, PartialEq)]
struct Square {
    buffer: BufferId,
    /// Element [t, s] is at `offset + t * stride + s`.
    offset: Int,
    stride: Int,
}

impl Square {
    fn access(&self, offset: Int, strides: impl IntoIterator<Item = Int>) -> Access {
        Access::new(self.buffer, self.offset.clone() + offset, strides)
    }

    /// Element [i, s] of the rows from `first` on.
    fn rows(&self, first: Int) -> Access {
        self.access(self.stride.clone() * first, [self.stride.clone(), Int::from(1i64)])
    }
}

/// Emits the statements of a plan within one block of tokens.
struct Emission<'l, 'a> {
    lowering: &'l mut Lowering<'a>,
    plan: &'l Plan,
    rows: Rows,
    /// X[k,v] of every state.
    memory: HashMap<StateId, Tile>,
    streams: HashMap<(NodeIndex, usize), Tile>,
    squares: HashMap<(NodeIndex, usize, usize), Square>,
    /// Transposed copies of streams: [feature, token].
    turned: HashMap<NodeKey, Tile>,
    /// Prefix products of a decay: row t holds the product of d over tau < t.
    prefixes: HashMap<NodeIndex, Tile>,
    suffixes: HashMap<NodeIndex, Tile>,
    masks: HashMap<NodeIndex, Square>,
    /// Tokens that a state keeps, under `local window`.
    window: Option<Int>,
    /// Outputs that a read wrote itself.
    written: Vec<String>,
    /// The first row whose results are wanted: under a window, rows before it are only looked at.
    own: Int,
}

type NodeKey = (NodeIndex, usize);

/// The kernels of a chunked or parallel plan.
pub fn lower(variant: &Variant, sizes: &Sizes, plan: &Plan, tiles: Tiles) -> Result<Module> {
    super::recurrent::refuse_order(variant)?;
    let mut lowering = Lowering::new(variant, sizes, tiles);
    let mut chunks = Chunks::new(&mut lowering, &Locality::of(variant)?);
    if plan.schedule == Schedule::Fused {
        chunks = chunks.settled(&mut lowering);
    }
    let memory = plan
        .states
        .iter()
        .map(|state| (state.state, state::start(&mut lowering, state.state, state.transposed)))
        .collect();
    lowering.open(chunks.rows.clone());
    let mut emission = Emission {
        lowering: &mut lowering,
        plan,
        rows: chunks.rows.clone(),
        memory,
        streams: HashMap::new(),
        squares: HashMap::new(),
        turned: HashMap::new(),
        prefixes: HashMap::new(),
        suffixes: HashMap::new(),
        masks: HashMap::new(),
        window: chunks.window.clone(),
        written: Vec::new(),
        own: chunks.own.clone(),
    };
    emission.states()?;
    let Emission { memory, written, .. } = emission;
    for output in variant.outputs() {
        if lowering.is_per_token(output) && !written.contains(&output.name) {
            lowering.store_output(output)?;
        }
    }
    chunks.restart(&mut lowering, |lowering| {
        for state in &plan.states {
            state::begin(lowering, state.state, state.transposed, &memory[&state.state]);
        }
    });
    let body = lowering.close();
    lowering.push(chunks.each(body));
    for output in variant.outputs() {
        if !lowering.is_per_token(output) {
            lowering.store_output(output)?;
        }
    }
    for state in &plan.states {
        state::finish(&mut lowering, state.state, state.transposed, &memory[&state.state]);
    }
    let grid = lowering.grid();
    let body = lowering.close();
    Ok(lowering.finish(vec![Kernel { name: plan.form.name().to_string(), grid, body }]))
}

impl Emission<'_, '_> {
    fn states(&mut self) -> Result<()> {
        for place in 0..self.plan.states.len() {
            let state = &self.plan.states[place];
            if self.window.is_none() {
                self.exponents(state)?;
            }
            if self.plan.form == Form::Recurrent {
                self.steps(state)?;
            }
            self.whole_reads(state)?;
            for (expr, node) in &state.reads {
                if self.is_whole(*node) {
                    continue;
                }
                let value = self.plan.graph[*node].operands[0];
                if self.is_output(*expr, value)? {
                    continue;
                }
                let tile = self.stream(value, 0)?;
                let rank = self.lowering.variant().expr(*expr).ty.dims().len();
                self.lowering.bind(*expr, with_rank(tile, rank))?;
            }
            if self.window.is_none() && self.plan.form != Form::Recurrent {
                let next = self.plan.graph[state.next].operands[0];
                self.next_state(state.state, next)?;
            }
        }
        Ok(())
    }

    /// Writes a read to the output that is nothing else. Products are summed in memory of their own, which lies together.
    fn is_output(&mut self, expr: ExprId, value: NodeIndex) -> Result<bool> {
        let simple = self.plan.form == Form::Recurrent && matches!(self.term(value), Some(Term::Mul(_)));
        if !simple || self.streams.contains_key(&(value, 0)) {
            return Ok(false);
        }
        let Some(output) = self.lowering.output_of(expr)? else { return Ok(false) };
        let (tile, rank) = (self.lowering.output_tile(output), usize::from(self.width(value).is_some()));
        if tile.dims.len() != rank {
            return Ok(false);
        }
        self.fill_stream(&tile, value, 0)?;
        self.written.push(output.name.clone());
        Ok(true)
    }

    fn node(&self, index: NodeIndex) -> &Node {
        &self.plan.graph[index]
    }

    fn term(&self, index: NodeIndex) -> Option<&Term> {
        match &self.node(index).op {
            Op::Term(term) => Some(term),
            _ => None,
        }
    }

    /// The refusal of an operator that nothing here stores.
    fn no_statement(&self, index: NodeIndex) -> Unsupported {
        let operator = self.term(index).map_or("a value".to_string(), |term| format!("the operator `{term}`"));
        Unsupported::new(operator, "it has no statement in a chunked form", "use --form recurrent")
    }

    fn operand(&self, index: NodeIndex, place: usize) -> NodeIndex {
        self.node(index).operands[place]
    }

    fn push(&mut self, stmt: Stmt) {
        self.lowering.push(stmt);
    }

    fn map(&mut self, axes: Vec<Int>, dst: Access, value: Value) {
        self.push(Stmt::Map(Map::new(axes, dst, value)));
    }

    /// `for t in from..to { body }`
    fn each(&mut self, from: impl Into<Int>, to: Int, body: impl FnOnce(&mut Self, Int) -> Result<()>) -> Result<()> {
        let var = self.lowering.var();
        let before = self.lowering.exchange(Vec::new());
        let built = body(self, Int::Var(var));
        let inner = self.lowering.exchange(before);
        built?;
        self.push(Stmt::For { var, from: from.into(), to, step: Int::from(1i64), body: inner });
        Ok(())
    }

    /// `dst[i, j] = value(i, j)` for j <= i + diagonal.
    fn lower_map(&mut self, axes: [Int; 2], diagonal: Int, dst: Access, value: Value) {
        self.push(Stmt::Map(Map { below: Some(diagonal), ..Map::new(axes.into(), dst, value) }));
    }

    /// `dst[i.., r]` = the product of `value` over all rows up to r.
    fn product(&mut self, (m, n, k): (Int, Int, Int), (dst, a, b): (Access, Access, Access), accumulate: bool) {
        self.shaped_product((m, n, k), (dst, a, b), accumulate, Triangle::Full);
    }

    fn shaped_product(
        &mut self,
        (m, n, k): (Int, Int, Int),
        (dst, a, b): (Access, Access, Access),
        accumulate: bool,
        shape: Triangle,
    ) {
        self.push(Stmt::Product(Product { m, n, k, dst, a, b, accumulate, shape }));
    }

    fn count(&self) -> Int {
        self.rows.count.clone()
    }

    /// Scratch memory of `extra` more than the block's rows, of so many elements each.
    fn rows_of(&mut self, name: &str, extent: Option<Int>, extra: i64) -> Tile {
        let elements = extent.clone().unwrap_or(Int::from(1i64));
        let buffer = self.lowering.scratch(name, (self.rows.capacity.clone() + extra) * elements);
        Tile::dense(buffer, 0i64, &extent.into_iter().collect::<Vec<_>>())
    }

    fn square(&mut self, name: &str) -> Square {
        let side = self.rows.capacity.clone();
        let buffer = self.lowering.scratch(name, side.clone() * side.clone());
        Square { buffer, offset: Int::from(0i64), stride: side }
    }
}

/// The element [row, i] of a tile.
fn at(tile: &Tile) -> Access {
    Access::new(tile.buffer, tile.offset.clone(), [tile.row.clone()].into_iter().chain(strides(tile)))
}

/// Element i of a tile's row.
fn row_of(tile: &Tile, row: Int) -> Access {
    Access::new(tile.buffer, tile.offset.clone() + tile.row.clone() * row, strides(tile))
}

fn strides(tile: &Tile) -> Vec<Int> {
    tile.dims.iter().map(|dim| dim.stride.clone()).collect()
}

fn extent(tile: &Tile) -> Option<Int> {
    tile.dims.first().map(|dim| dim.extent.clone())
}

/// The tile as a value of so many dims: dims of extent 1 come and go at the end.
fn with_rank(mut tile: Tile, rank: usize) -> Tile {
    while tile.dims.len() > rank {
        tile.dims.pop();
    }
    while tile.dims.len() < rank {
        tile.dims.push(TileDim { extent: Int::from(1i64), stride: Int::from(1i64) });
    }
    tile
}
