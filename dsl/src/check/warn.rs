//! Warnings: what is legal in a checked variant and hardly meant. Reads the typed variant only; each rule is a function.

use std::collections::{BTreeMap, HashSet};

use crate::diagnostic::Diagnostic;
use crate::shape::Size;
use crate::typed::{
    ExprId, ExprKind, Function, IndexId, Let, LetId, LetKind, LetValue, LocalKind, OrderKind, Stmt, TensorId,
    TensorRole, Ty, Variant,
};

/// All warnings of a variant, in the order of the text.
pub(super) fn warnings(variant: &Variant) -> Vec<Diagnostic> {
    let read = Read::of(variant);
    let rules = [
        unread_tensors(variant, &read),
        unread_lets(variant, &read),
        scalars(variant),
        reads_ahead(variant),
        powers_of_tokens(variant),
        negative_subscripts(variant),
    ];
    let mut found = rules.concat();
    found.sort_by_key(|warning| warning.start());
    found
}

/// What the statements of a variant read.
#[derive(Default)]
struct Read {
    tensors: HashSet<TensorId>,
    lets: HashSet<LetId>,
}

impl Read {
    fn of(variant: &Variant) -> Self {
        let mut read = Self::default();
        for id in below(variant, roots(variant)) {
            match variant.expr(id).kind {
                ExprKind::Tensor(tensor) => drop(read.tensors.insert(tensor)),
                ExprKind::Let(named) => drop(read.lets.insert(named)),
                _ => {}
            }
        }
        for named in &variant.lets {
            if let LetValue::Norm { of, .. } = &named.value {
                read.lets.insert(*of);
            }
        }
        read
    }
}

/// The expressions that the statements of a variant are made of.
fn roots(variant: &Variant) -> Vec<ExprId> {
    let mut roots: Vec<ExprId> = variant.states.iter().map(|state| state.init).collect();
    variant.lets.iter().for_each(|named| roots.extend(values(named)));
    roots.extend(variant.calls.iter().flat_map(|call| call.written.iter().copied()));
    for stmt in &variant.body {
        match stmt {
            Stmt::Update(update) => roots.push(update.value),
            Stmt::Output(output) => roots.push(output.value),
            Stmt::Let(_) | Stmt::Read(_) => {}
        }
    }
    for order in &variant.orders {
        roots.extend(order.by.into_iter().chain(order.bindings.iter().map(|(_, value)| *value)));
    }
    for local in &variant.locals {
        match local.kind {
            LocalKind::Where { cond, .. } => roots.push(cond),
            LocalKind::Disc { radius } => roots.push(radius),
            _ => {}
        }
    }
    roots
}

fn values(named: &Let) -> Vec<ExprId> {
    match named.value {
        LetValue::Expr(value) => vec![value],
        LetValue::Iterate { init, step, .. } => vec![init, step],
        LetValue::Norm { .. } => Vec::new(),
    }
}

/// Every expression below some, each once.
fn below(variant: &Variant, mut open: Vec<ExprId>) -> HashSet<ExprId> {
    let mut seen = HashSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(variant.children(id));
        }
    }
    seen
}

fn unread_tensors(variant: &Variant, read: &Read) -> Vec<Diagnostic> {
    let unread = (0..).map(TensorId).zip(&variant.tensors).filter(|(id, _)| !read.tensors.contains(id));
    unread
        .map(|(_, tensor)| {
            let what = match tensor.role {
                TensorRole::Input => "input",
                TensorRole::Param => "param",
            };
            Diagnostic::warning("unread-input", format!("nothing reads the {what} `{}`", tensor.name))
                .label(tensor.span, "declared here")
                .help("use it, or leave it out: it must be given at run time all the same")
        })
        .collect()
}

fn unread_lets(variant: &Variant, read: &Read) -> Vec<Diagnostic> {
    let outputs: HashSet<&str> = variant.outputs().map(|output| output.name.as_str()).collect();
    let unread = (0..).map(LetId).zip(&variant.lets).filter(|(id, _)| !read.lets.contains(id));
    // What a result is called by was read, or nothing below used it: the result itself is given out.
    unread
        .filter(|(_, named)| named.kind != LetKind::Let || !outputs.contains(named.name.as_str()))
        .map(|(_, named)| unread_let(variant, named))
        .collect()
}

fn unread_let(variant: &Variant, named: &Let) -> Diagnostic {
    let name = &named.name;
    let at = named.indices.first().map_or(String::new(), |at| format!("[{}]", variant.indices[at.index()].name));
    let (code, message, help) = match named.kind {
        LetKind::Decay => {
            let state = variant.states.first().map_or("S", |state| state.name.as_str());
            let help = format!(
                "a decay is applied by the laws below it; a recurrence is the whole update, so write it there: \
                 `update {state}[t] = {name}{at} * {state}[t-1] + ...;`"
            );
            ("unapplied-decay", format!("no law applies the decay `{name}`"), help)
        }
        LetKind::Feature => {
            let message = format!("nothing reads `{name}` as the feature map gives it");
            ("unread-let", message, format!("leave `{name}` out of the feature map's list, or use it below"))
        }
        LetKind::Read | LetKind::Norm => {
            ("unread-let", format!("nothing gives out the read `{name}`"), format!("write `output {name}{at};`"))
        }
        LetKind::Let => ("unread-let", format!("nothing reads `{name}`"), "use it, or leave it out".to_string()),
    };
    Diagnostic::warning(code, message).label(named.span, "defined here").help(help)
}

/// `1 - k*k'` in an update: the scalar is taken from every element, where the identity is meant. A sum that scales
/// element by element, `(1 - F) .* S[t-1]`, is an element-wise gate.
fn scalars(variant: &Variant) -> Vec<Diagnostic> {
    let updates = variant.body.iter().filter_map(|stmt| match stmt {
        Stmt::Update(update) => Some(update.value),
        _ => None,
    });
    let mut open: Vec<ExprId> = updates.collect();
    let (mut seen, mut found, mut gates) = (HashSet::new(), BTreeMap::new(), HashSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let kind = &variant.expr(id).kind;
        match kind {
            ExprKind::Let(named) => open.extend(values(&variant.lets[named.index()])),
            ExprKind::Map { function: Function::Mul | Function::Div, args } => gates.extend(args.clone()),
            ExprKind::Map { function: Function::Add | Function::Sub, args } => {
                if let Some(matrix) = args.iter().find(|arg| is_matrix(&variant.expr(**arg).ty))
                    && args.iter().any(|arg| variant.expr(*arg).ty.is_scalar())
                {
                    found.insert(id, *matrix);
                }
            }
            _ => {}
        }
        open.extend(variant.children(id));
    }
    found.retain(|id, _| !gates.contains(id));
    found.into_iter().map(|(id, matrix)| scalar_warning(variant, id, matrix)).collect()
}

fn is_matrix(ty: &Ty) -> bool {
    matches!(ty, Ty::Array(dims) if dims.len() == 2)
}

fn scalar_warning(variant: &Variant, sum: ExprId, matrix: ExprId) -> Diagnostic {
    let dims = variant.expr(matrix).ty.dims();
    let text = |size: &Size| size.print(&|axis| variant.axis_name(axis));
    let shape = format!("[{},{}]", text(&dims[0]), text(&dims[1]));
    let help = if dims[0] == dims[1] {
        format!(
            "the identity matrix is `eye({0})`: write `eye({0}) - ...` or, scaled, `c * eye({0}) + ...`",
            text(&dims[0])
        )
    } else {
        "if that is meant, write it as a state's own shape; the identity matrix is `eye(n)`".to_string()
    };
    Diagnostic::warning("scalar-plus-matrix", format!("a scalar is added to every element of a matrix {shape}"))
        .label(variant.expr(sum).span, "in an update")
        .help(help)
}

/// `k[t+1]` where only what came before is visible.
fn reads_ahead(variant: &Variant) -> Vec<Diagnostic> {
    let forward = |kind| matches!(kind, OrderKind::Causal | OrderKind::Raster);
    if !variant.orders.iter().any(|order| forward(order.kind)) {
        return Vec::new();
    }
    let mut equations: Vec<(ExprId, &[IndexId])> = Vec::new();
    for named in &variant.lets {
        equations.extend(values(named).into_iter().map(|value| (value, named.indices.as_slice())));
    }
    for stmt in &variant.body {
        match stmt {
            Stmt::Update(update) => equations.push((update.value, std::slice::from_ref(&update.index))),
            Stmt::Output(output) => equations.push((output.value, &output.indices)),
            Stmt::Let(_) | Stmt::Read(_) => {}
        }
    }
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (value, left) in equations {
        let Some(token) = left.iter().find(|index| variant.indices[index.index()].token) else { continue };
        for id in below(variant, vec![value]) {
            if reads_after(variant, id, *token) && seen.insert(id) {
                found.push(ahead_warning(variant, id, *token));
            }
        }
    }
    found
}

/// Whether an expression subscripts a sequence by the token plus something.
fn reads_after(variant: &Variant, id: ExprId, token: IndexId) -> bool {
    let ExprKind::Subscript { base, at } = &variant.expr(id).kind else { return false };
    let over_tokens = variant.expr(*base).ty.dims().first().and_then(Size::as_axis) == variant.token;
    let is_token = |id: ExprId| variant.expr(id).kind == ExprKind::Index(token);
    let ahead = |id: ExprId| matches!(variant.expr(id).kind, ExprKind::Number(n) if n > 0.0);
    let shifted = match at.first().map(|first| &variant.expr(*first).kind) {
        Some(ExprKind::Map { function: Function::Add, args }) => {
            (is_token(args[0]) && ahead(args[1])) || (ahead(args[0]) && is_token(args[1]))
        }
        _ => false,
    };
    over_tokens && variant.token.is_some() && shifted
}

fn ahead_warning(variant: &Variant, id: ExprId, token: IndexId) -> Diagnostic {
    let t = &variant.indices[token.index()].name;
    let help = if variant.states.is_empty() {
        format!("the token before is `[{t}-1]`; where later tokens may be seen, write `order full;`")
    } else {
        format!("the token before is `[{t}-1]`; a scan from the last token on is `order reverse;`")
    };
    Diagnostic::warning("read-ahead", "this reads a later token under a causal order")
        .label(variant.expr(id).span, format!("a token after `{t}`"))
        .help(help)
}

/// `k^T`: the transpose of papers is a power of the number of tokens here.
fn powers_of_tokens(variant: &Variant) -> Vec<Diagnostic> {
    let is_tokens = |id: ExprId| match &variant.expr(id).kind {
        ExprKind::Size(size) => size.as_axis().is_some() && size.as_axis() == variant.token,
        _ => false,
    };
    let mut powers: Vec<ExprId> = below(variant, roots(variant)).into_iter().collect();
    powers.retain(
        |id| matches!(&variant.expr(*id).kind, ExprKind::Map { function: Function::Pow, args } if is_tokens(args[1])),
    );
    let warning = |id: ExprId| {
        Diagnostic::warning("power-of-tokens", "this is a power, with the number of tokens as its exponent")
            .label(variant.expr(id).span, "`^T` is no transpose")
            .help("the transpose is `'`: `k * v'`")
    };
    powers.into_iter().map(warning).collect()
}

/// `x[-1]`: the last entry elsewhere, out of range here.
fn negative_subscripts(variant: &Variant) -> Vec<Diagnostic> {
    let is_negative = |id: &ExprId| match &variant.expr(*id).kind {
        ExprKind::Number(n) => *n < 0.0,
        ExprKind::Map { function: Function::Neg, args } => {
            matches!(variant.expr(args[0]).kind, ExprKind::Number(n) if n > 0.0)
        }
        _ => false,
    };
    let negative = |id: &ExprId| match &variant.expr(*id).kind {
        ExprKind::Subscript { at, .. } => at.iter().any(is_negative),
        _ => false,
    };
    let found = below(variant, roots(variant)).into_iter().filter(negative);
    let warning = |id: ExprId| {
        Diagnostic::warning("negative-subscript", "this subscript is out of range, where everything reads 0")
            .label(variant.expr(id).span, "always 0")
            .help("positions count from 0: the last entry along an axis K is `x[K-1]`")
    };
    found.map(warning).collect()
}
