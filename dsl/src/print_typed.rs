//! Typed programs as text: the listing of a variant, and any expression in the language's own notation.
//!
//! What is printed reads back as the language wherever it has the notation; a decay that a law applied, a bound softmax
//! index and whole arrays print as what they are.

use std::fmt::Write;

use crate::typed::{
    AxisKind, Call, Domain, Dtype, ExprId, ExprKind, FoldOp, Function, Given, GridAxis, IndexId, LetId, LetValue,
    LocalKind, Merge, NormKind, OrderKind, ReduceOp, Stmt, TensorRole, Ty, Variant,
};

/// How tightly a printed form binds; a looser one inside a tighter one is bracketed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    If,
    Or,
    And,
    Not,
    Compare,
    Add,
    Mul,
    Neg,
    Pow,
    Postfix,
}

/// The listing of a variant: axes, tensors, states, then what is done, each with its type.
pub fn typed(variant: &Variant) -> String {
    let mut text = format!("variant {} {{\n", variant.name);
    for (name, value) in &variant.args {
        line(&mut text, format!("arg {name} = {value}"));
    }
    axes(variant, &mut text);
    for tensor in &variant.tensors {
        let role = if tensor.role == TensorRole::Input { "input" } else { "param" };
        let dtype = if tensor.dtype == Dtype::I32 { "i32 " } else { "" };
        let dims: Vec<String> = tensor.dims.iter().map(|dim| dim.size.print(&|axis| variant.axis_name(axis))).collect();
        line(&mut text, format!("{role} {} : {dtype}[{}]", tensor.name, dims.join(",")));
    }
    orders(variant, &mut text);
    for local in &variant.locals {
        line(&mut text, format!("local {}", local_text(variant, &local.kind)));
    }
    for state in &variant.states {
        let shape = type_text(variant, &Ty::Array(state.dims.clone()));
        let way = if state.reverse { " in reverse" } else { "" };
        let decay = state.decay.map_or(String::new(), |id| format!("  # decay {}", variant.lets[id.index()].name));
        line(&mut text, format!("state {} : {shape} = {}{way}{decay}", state.name, expr_text(variant, state.init)));
    }
    for call in &variant.calls {
        line(&mut text, call_text(variant, call));
    }
    for stmt in &variant.body {
        line(&mut text, stmt_text(variant, stmt));
    }
    text.push_str("}\n");
    text
}

/// An expression in the language's notation.
pub fn expr_text(variant: &Variant, id: ExprId) -> String {
    Printer { variant }.at(id, Level::If)
}

/// A type: `scalar`, `[K,V]`, `[V]'` for a row, `condition`.
pub fn type_text(variant: &Variant, ty: &Ty) -> String {
    let dims: Vec<String> = ty.dims().iter().map(|dim| dim.print(&|axis| variant.axis_name(axis))).collect();
    match ty {
        Ty::Bool => "condition".to_string(),
        Ty::Array(dims) if dims.is_empty() => "scalar".to_string(),
        Ty::Array(_) => format!("[{}]", dims.join(",")),
        Ty::Row(_) => format!("[{}]'", dims.join(",")),
    }
}

fn line(text: &mut String, content: impl AsRef<str>) {
    let content = content.as_ref();
    let written = match content.split_once("  # ") {
        Some((code, comment)) => writeln!(text, "  {code};  # {comment}"),
        None => writeln!(text, "  {content};"),
    };
    written.expect("writing to a string cannot fail");
}

fn axes(variant: &Variant, text: &mut String) {
    let list: Vec<String> = variant
        .axes
        .iter()
        .map(|axis| match &axis.value {
            Some(value) => format!("{} = {}", axis.name, value.print(&|axis| variant.axis_name(axis))),
            None => axis.name.clone(),
        })
        .collect();
    if !list.is_empty() {
        line(text, format!("axes {}", list.join(", ")));
    }
    let batch: Vec<&str> =
        variant.axes.iter().filter(|axis| axis.kind == AxisKind::Batch).map(|axis| axis.name.as_str()).collect();
    if !batch.is_empty() {
        line(text, format!("batch {}", batch.join(", ")));
    }
}

fn orders(variant: &Variant, text: &mut String) {
    let list: Vec<String> = variant
        .orders
        .iter()
        .map(|order| {
            let bound = order
                .bindings
                .iter()
                .map(|(id, value)| format!("{} = {}", variant.lets[id.index()].name, expr_text(variant, *value)));
            let by = order.by.map(|by| format!("by = {}", expr_text(variant, by)));
            let args: Vec<String> = bound.chain(by).collect();
            let name = order_name(order.kind);
            if args.is_empty() { name.to_string() } else { format!("{name}({})", args.join(", ")) }
        })
        .collect();
    let merge = match (variant.orders.len(), variant.merge) {
        (0 | 1, _) => "",
        (_, Merge::Sum) => " merge sum",
        (_, Merge::Mean) => " merge mean",
    };
    line(text, format!("order {}{merge}", list.join(", ")));
}

fn order_name(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Causal => "causal",
        OrderKind::Full => "full",
        OrderKind::Reverse => "reverse",
        OrderKind::Raster => "raster",
        OrderKind::Column => "column",
        OrderKind::RasterRev => "raster_rev",
        OrderKind::ColumnRev => "column_rev",
    }
}

fn local_text(variant: &Variant, kind: &LocalKind) -> String {
    let size = |size: &crate::shape::Size| size.print(&|axis| variant.axis_name(axis));
    match kind {
        LocalKind::Window { left, right } => format!("window({}, {})", size(left), size(right)),
        LocalKind::Block(width) => format!("block({})", size(width)),
        LocalKind::GridBlock { wy, wx, shift } => {
            format!("block({}, {}, shift = {})", size(wy), size(wx), size(shift))
        }
        LocalKind::Disc { radius } => format!("disc({})", expr_text(variant, *radius)),
        LocalKind::Atrous { wy, wx, rate } => format!("atrous({}, {}, rate = {})", size(wy), size(wx), size(rate)),
        LocalKind::Where { cond, .. } => format!("where {}", expr_text(variant, *cond)),
    }
}

fn left(variant: &Variant, name: &str, indices: &[IndexId]) -> String {
    let list: Vec<&str> = indices.iter().map(|index| variant.indices[index.index()].name.as_str()).collect();
    if list.is_empty() { name.to_string() } else { format!("{name}[{}]", list.join(",")) }
}

fn stmt_text(variant: &Variant, stmt: &Stmt) -> String {
    match stmt {
        Stmt::Let(id) => format!("let {}", let_text(variant, *id)),
        Stmt::Read(id) => format!("read {}", let_text(variant, *id)),
        Stmt::Update(update) => {
            let name = left(variant, &variant.states[update.state.index()].name, &[update.index]);
            let ty = type_text(variant, &variant.expr(update.value).ty);
            format!("update {name} : {ty} = {}", expr_text(variant, update.value))
        }
        Stmt::Output(output) => {
            let name = left(variant, &output.name, &output.indices);
            let scan = if output.scan { "  # of the scan" } else { "" };
            format!("output {name} : {} = {}{scan}", type_text(variant, &output.ty), expr_text(variant, output.value))
        }
    }
}

fn let_text(variant: &Variant, id: LetId) -> String {
    let found = &variant.lets[id.index()];
    let name = left(variant, &found.name, &found.indices);
    let value = match &found.value {
        LetValue::Expr(value) => expr_text(variant, *value),
        LetValue::Iterate { from, to, init, step } => {
            let index = &variant.indices[found.indices[0].index()].name;
            format!("{} for {index} in {from}..{to} from {}", expr_text(variant, *step), expr_text(variant, *init))
        }
        LetValue::Norm { of, norm, heads } => {
            let over = if *heads { " over heads too" } else { "" };
            let of = &variant.lets[of.index()];
            format!("{}({}, eps = {}){over}", norm_name(norm.kind), left(variant, &of.name, &of.indices), norm.eps)
        }
    };
    let scan = if found.scan { "  # of the scan" } else { "" };
    format!("{name} : {} = {value}{scan}", type_text(variant, &found.ty))
}

/// `let gla.o : [T,V] = gla(q = qq, W = W[2], T = N)`
fn call_text(variant: &Variant, call: &Call) -> String {
    let given = call.callee.tensors.iter().zip(&call.given).map(|(tensor, given)| {
        let given = match given {
            Given::Value(value) => expr_text(variant, *value),
            Given::Tensor { tensor, entry } => {
                let entry = entry.map_or(String::new(), |entry| format!("[{entry}]"));
                format!("{}{entry}", variant.tensors[tensor.index()].name)
            }
            Given::Result { call, result } => result_name(variant, *call, *result),
        };
        format!("{} = {given}", tensor.name)
    });
    let sizes = call.callee.axes.iter().zip(&call.sizes);
    let sizes = sizes.map(|(axis, size)| format!("{} = {}", axis.name, size.print(&|axis| variant.axis_name(axis))));
    let initial = call
        .initial
        .iter()
        .map(|(state, value)| format!("{} = {}", call.callee.states[state.index()].name, expr_text(variant, *value)));
    let args: Vec<String> = given.chain(initial).chain(sizes).collect();
    let results = call.results.iter().map(|result| {
        let ty = type_text(variant, &Ty::Array(result.own_dims()));
        format!("{}.{} : {ty}", call.name, result.name)
    });
    format!("let {} = {}({})", results.collect::<Vec<_>>().join(", "), call.callee.name, args.join(", "))
}

/// What a call gave, by the names of both.
fn result_name(variant: &Variant, call: usize, result: usize) -> String {
    let call = &variant.calls[call];
    format!("{}.{}", call.name, call.results[result].name)
}

fn norm_name(kind: NormKind) -> &'static str {
    match kind {
        NormKind::Rms => "rms",
        NormKind::Srms => "srms",
        NormKind::Layer => "layer_norm",
        NormKind::L2 => "l2norm",
    }
}

fn reduce_name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "sum",
        ReduceOp::Mean => "mean",
        ReduceOp::Max => "max",
        ReduceOp::Min => "min",
        ReduceOp::Prod => "prod",
        ReduceOp::Argmax => "argmax",
        ReduceOp::Count => "count",
    }
}

fn fold_name(op: FoldOp) -> &'static str {
    match op {
        FoldOp::Sum => "sum",
        FoldOp::Mean => "mean",
        FoldOp::Max => "max",
        FoldOp::Min => "min",
        FoldOp::Norm2 => "norm2",
    }
}

struct Printer<'v> {
    variant: &'v Variant,
}

impl Printer<'_> {
    /// The expression, in brackets if it binds less tightly than its place needs.
    fn at(&self, id: ExprId, needed: Level) -> String {
        let (text, level) = self.form(id);
        if level < needed { format!("({text})") } else { text }
    }

    fn whole(&self, id: ExprId) -> String {
        self.at(id, Level::If)
    }

    fn list(&self, ids: &[ExprId]) -> String {
        ids.iter().map(|id| self.whole(*id)).collect::<Vec<_>>().join(", ")
    }

    fn index(&self, id: IndexId) -> &str {
        &self.variant.indices[id.index()].name
    }

    fn size(&self, size: &crate::shape::Size) -> String {
        size.print(&|axis| self.variant.axis_name(axis))
    }

    fn form(&self, id: ExprId) -> (String, Level) {
        let v = self.variant;
        let call = |text: String| (text, Level::Postfix);
        match &v.expr(id).kind {
            ExprKind::Number(value) if *value < 0.0 => (format!("{value}"), Level::Neg),
            ExprKind::Number(value) => call(format!("{value}")),
            ExprKind::Bool(value) => call(value.to_string()),
            ExprKind::Size(size) => {
                let text = self.size(size);
                let level = if size.as_axis().is_some() { Level::Postfix } else { Level::Add };
                (text, level)
            }
            ExprKind::Index(index) => call(self.index(*index).to_string()),
            ExprKind::Coord { index, axis } => {
                let field = if *axis == GridAxis::Y { "y" } else { "x" };
                call(format!("{}.{field}", self.index(*index)))
            }
            ExprKind::Head => call("h".to_string()),
            ExprKind::Tensor(tensor) => call(v.tensors[tensor.index()].name.clone()),
            ExprKind::Result { call: of, result } => call(result_name(v, *of, *result)),
            ExprKind::Let(found) => call(v.lets[found.index()].name.clone()),
            ExprKind::StateOld(state) => call(format!("{}[t-1]", v.states[state.index()].name)),
            ExprKind::StateNew(state) => call(format!("{}[t]", v.states[state.index()].name)),
            ExprKind::IterateOld(found) => {
                let found = &v.lets[found.index()];
                call(format!("{}[{}-1]", found.name, self.index(found.indices[0])))
            }
            ExprKind::Subscript { base, .. } if self.is_last(id) => self.form(*base),
            ExprKind::Subscript { base, at } => {
                let at: Vec<String> = at.iter().map(|id| self.whole(*id)).collect();
                call(format!("{}[{}]", self.at(*base, Level::Postfix), at.join(",")))
            }
            ExprKind::Map { function, args } => self.map(*function, args),
            ExprKind::Product(a, b) => {
                (format!("{} * {}", self.at(*a, Level::Mul), self.at(*b, Level::Neg)), Level::Mul)
            }
            ExprKind::Transpose(inner) => call(format!("{}'", self.at(*inner, Level::Postfix))),
            ExprKind::If { cond, then, otherwise } => {
                let (cond, then) = (self.at(*cond, Level::Or), self.at(*then, Level::Or));
                (format!("if {cond} then {then} else {}", self.whole(*otherwise)), Level::If)
            }
            ExprKind::Reduce { op, index, domain, body } => {
                call(format!("{}[{}]({})", reduce_name(*op), self.domain(*index, domain), self.whole(*body)))
            }
            ExprKind::Softmax { index, domain, at, .. } => {
                call(format!("softmax[{}]({})", self.domain(*index, domain), self.whole(*at)))
            }
            ExprKind::Fold { op, arg } => call(format!("{}({})", fold_name(*op), self.whole(*arg))),
            ExprKind::SoftmaxAxis(arg) => call(format!("softmax({})", self.whole(*arg))),
            ExprKind::Normalise { norm, arg } => {
                call(format!("{}({}, eps = {})", norm_name(norm.kind), self.whole(*arg), norm.eps))
            }
            ExprKind::Stack(args) => call(format!("stack({})", self.list(args))),
            ExprKind::Flatten(arg) => call(format!("flatten({})", self.whole(*arg))),
            ExprKind::Diag(arg) => call(format!("diag({})", self.whole(*arg))),
            ExprKind::Eye(n) => call(format!("eye({})", self.size(n))),
            ExprKind::Cols { arg, from, to } => {
                call(format!("cols({}, {}, {})", self.whole(*arg), self.size(from), self.size(to)))
            }
            ExprKind::Conv1d { arg, weights } => call(format!("conv1d({})", self.list(&[*arg, *weights]))),
            ExprKind::Dwconv { arg, weights, stride } => {
                call(format!("dwconv({}, stride = {stride})", self.list(&[*arg, *weights])))
            }
            ExprKind::Rope { arg, at, base } => call(format!("rope({})", self.list(&[*arg, *at, *base]))),
            ExprKind::Rope2d { arg, index } => call(format!("rope2d({}, {})", self.whole(*arg), self.index(*index))),
            ExprKind::TopkMask { arg, count } => call(format!("topk_mask({})", self.list(&[*arg, *count]))),
            ExprKind::SolveCg { matrix, vector, iters } => {
                call(format!("solve_cg({}, iters = {iters})", self.list(&[*matrix, *vector])))
            }
            ExprKind::Solve { matrix, vector } => call(format!("solve({})", self.list(&[*matrix, *vector]))),
        }
    }

    /// Whether an expression is the last entry of an iterated let, which the let's name means after the iteration.
    fn is_last(&self, id: ExprId) -> bool {
        let v = self.variant;
        let ExprKind::Subscript { base, at } = &v.expr(id).kind else { return false };
        match (&v.expr(*base).kind, at.as_slice()) {
            (ExprKind::Let(found), [at]) => match v.lets[found.index()].value {
                // Exact: iteration counts are small.
                LetValue::Iterate { to, .. } => v.expr(*at).kind == ExprKind::Number(to as f64),
                _ => false,
            },
            _ => false,
        }
    }

    /// `j`, or `j : cond`; one over tokens that is not limited to the visible ones says so.
    fn domain(&self, index: IndexId, domain: &Domain) -> String {
        let name = self.index(index);
        match (domain.filter, domain.visible_from) {
            (Some(filter), _) => format!("{name} : {}", self.whole(filter)),
            (None, None) if self.variant.indices[index.index()].token => format!("{name} : true"),
            (None, _) => name.to_string(),
        }
    }

    fn map(&self, function: Function, args: &[ExprId]) -> (String, Level) {
        use Function::*;
        let scalar = |id: ExprId| self.variant.expr(id).ty.is_scalar();
        let (symbol, level) = match function {
            Add | Sub => (function.name(), Level::Add),
            Mul if args.iter().any(|arg| scalar(*arg)) => ("*", Level::Mul),
            Div if scalar(args[1]) => ("/", Level::Mul),
            Mul | Div | Mod | FloorDiv => (function.name(), Level::Mul),
            Pow => return (self.infix("^", args, Level::Postfix, Level::Neg), Level::Pow),
            Lt | Le | Gt | Ge | Eq | Ne => {
                return (self.infix(function.name(), args, Level::Add, Level::Add), Level::Compare);
            }
            And => return (self.infix("and", args, Level::And, Level::Not), Level::And),
            Or => return (self.infix("or", args, Level::Or, Level::And), Level::Or),
            Neg => return (format!("-{}", self.at(args[0], Level::Pow)), Level::Neg),
            Not => return (format!("not {}", self.at(args[0], Level::Compare)), Level::Not),
            _ => return (format!("{}({})", function.name(), self.list(args)), Level::Postfix),
        };
        // One level groups left to right, so the right side binds tighter.
        let right = if level == Level::Add { Level::Mul } else { Level::Neg };
        (self.infix(symbol, args, level, right), level)
    }

    fn infix(&self, symbol: &str, args: &[ExprId], left: Level, right: Level) -> String {
        format!("{} {symbol} {}", self.at(args[0], left), self.at(args[1], right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    const GATED: &str = "variant f { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];
        state S : [K,V] = 0; decay a[t] = exp(g[t]); update S delta(k, v, beta);
        let w[t] = if t > 0 and not (t == 3) then (q[t] - k[t])^2 else 0;
        output o[t] = S[t]' * q[t] / sqrt(K) * -2; output p[i] = sum[j](w[j] * (q[i]' * k[j])); }";

    #[test]
    fn a_variant_prints_with_its_types() {
        let program = crate::compile(&Source::new("t", GATED), &[]).expect("the text checks");
        let text = typed(&program.variants[0]);
        let wanted = [
            "  axes B, T, H, K, V;\n",
            "  input g : [B,T,H];\n",
            "  state S : [K,V] = 0;  # decay a\n",
            "  let a[t] : scalar = exp(g[t]);\n",
            "  update S[t] : [K,V] = a[t] * S[t-1] + beta[t] * k[t] * (v[t] - (a[t] * S[t-1])' * k[t])';\n",
            "  let w[t] : [K] = if t > 0 and not t == 3 then (q[t] - k[t]) ^ 2 else 0;\n",
            "  output o[t] : [V] = S[t]' * q[t] / sqrt(K) * -2;  # of the scan\n",
            "  output p[i] : [K] = sum[j](w[j] * (q[i]' * k[j]));\n",
        ];
        for line in wanted {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
