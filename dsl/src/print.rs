//! Syntax tree to its canonical text, which parses to the same tree but for the spans. Comments are not kept.

use crate::ast::{
    Arg, BinaryOp, CompareOp, Decl, Expr, ExprKind, File, Function, Ident, Item, Layer, Lhs, Local, Named, Param, Stmt,
    StmtKind,
};

/// The text of a file: an item after the other, a statement a line.
pub fn file(file: &File) -> String {
    let items: Vec<String> = file.items.iter().map(item).collect();
    items.join("\n")
}

fn item(item: &Item) -> String {
    match item {
        Item::Variant(variant) => {
            let body: String = variant.body.iter().map(|line| format!("  {}\n", stmt(line))).collect();
            format!("variant {}{} {{\n{body}}}\n", variant.name.name, params(&variant.params))
        }
        Item::Function(definition) => format!("{}\n", function(definition)),
        Item::Stack(stack) => {
            format!("stack {}{} {{\n{}}}\n", stack.name.name, params(&stack.params), layers(&stack.layers, 1))
        }
    }
}

fn layers(list: &[Layer], depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let line = |layer: &Layer| match layer {
        Layer::Variant(used) => format!("{indent}{};\n", named(used)),
        Layer::Repeat { count, shared, layers: inner } => {
            let shared = if *shared { " shared" } else { "" };
            format!("{indent}repeat {}{shared} {{\n{}{indent}}}\n", expr(count), layers(inner, depth + 1))
        }
    };
    list.iter().map(line).collect()
}

fn params(list: &[Param]) -> String {
    if list.is_empty() {
        return String::new();
    }
    format!("({})", join(list, |param| format!("{}{}", param.name.name, defined(param.default.as_ref()))))
}

fn function(definition: &Function) -> String {
    format!("fn {}({}) = {};", definition.name.name, names(&definition.params), expr(&definition.body))
}

/// The text of one statement, its `;` included.
pub fn stmt(stmt: &Stmt) -> String {
    let text = match &stmt.kind {
        StmtKind::Axes(axes) => {
            format!("axes {}", join(axes, |axis| format!("{}{}", axis.name.name, defined(axis.value.as_ref()))))
        }
        StmtKind::Batch(axes) => format!("batch {}", names(axes)),
        StmtKind::Input(decls) => format!("input {}", join(decls, decl)),
        StmtKind::Param(decls) => format!("param {}", join(decls, decl)),
        StmtKind::State(decls) => format!("state {}", join(decls, decl)),
        StmtKind::Function(definition) => return function(definition),
        StmtKind::Feature { name, params, body, on } => {
            let body = body.as_ref().map(|body| format!("({}) = {}", names(params), expr(body)));
            format!("feature {}{}{}", name.name, body.unwrap_or_default(), clause("on", on))
        }
        StmtKind::Let { lhs: left, value, iterate } => {
            let iterate = iterate.as_ref().map(|iterate| {
                let from = iterate.from.as_ref().map(|from| format!(" from {}", expr(from)));
                format!(" for {} in {}{}", iterate.index.name, expr(&iterate.range), from.unwrap_or_default())
            });
            format!("let {} = {}{}", lhs(left), expr(value), iterate.unwrap_or_default())
        }
        StmtKind::LetSeveral { names: several, value } => format!("let ({}) = {}", names(several), expr(value)),
        StmtKind::Order { orders, merge } => {
            let merge = merge.as_ref().map(|merge| format!(" merge {}", merge.name));
            format!("order {}{}", join(orders, named), merge.unwrap_or_default())
        }
        StmtKind::Local(Local::Named(local)) => format!("local {}", named(local)),
        StmtKind::Local(Local::Where(cond)) => format!("local where {}", expr(cond)),
        StmtKind::Decay { lhs: left, value, on } => {
            format!("decay {}{}{}", lhs(left), defined(value.as_ref()), clause("on", on))
        }
        StmtKind::Law { state, law } => format!("update {} {}", state.name, named(law)),
        StmtKind::Recurrence { lhs: left, value } => format!("update {} = {}", lhs(left), expr(value)),
        StmtKind::Read { lhs: left, value } => format!("read {} = {}", lhs(left), expr(value)),
        StmtKind::Norm { norm, over } => format!("norm {}{}", named(norm), clause("over", over)),
        StmtKind::Output { lhs: left, value } => format!("output {}{}", lhs(left), defined(value.as_ref())),
        StmtKind::Check(checks) => format!("check {}", join(checks, named)),
    };
    text + ";"
}

fn join<T>(list: &[T], text: impl Fn(&T) -> String) -> String {
    list.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn names(list: &[Ident]) -> String {
    join(list, |name| name.name.clone())
}

fn defined(value: Option<&Expr>) -> String {
    value.map(|value| format!(" = {}", expr(value))).unwrap_or_default()
}

fn clause(keyword: &str, list: &[Ident]) -> String {
    if list.is_empty() { String::new() } else { format!(" {keyword} {}", names(list)) }
}

fn decl(decl: &Decl) -> String {
    let dtype = decl.dtype.as_ref().map(|dtype| format!("{} ", dtype.name)).unwrap_or_default();
    let within = decl.within.as_ref().map(|way| format!(" in {}", way.name)).unwrap_or_default();
    format!("{} : {dtype}[{}]{}{within}", names(&decl.names), join(&decl.dims, expr), defined(decl.init.as_ref()))
}

fn lhs(lhs: &Lhs) -> String {
    if lhs.subscripts.is_empty() {
        return lhs.name.name.clone();
    }
    format!("{}[{}]", lhs.name.name, join(&lhs.subscripts, expr))
}

fn named(named: &Named) -> String {
    if named.args.is_empty() {
        named.name.name.clone()
    } else {
        format!("{}({})", named.name.name, join(&named.args, arg))
    }
}

fn arg(arg: &Arg) -> String {
    match &arg.name {
        Some(name) => format!("{} = {}", name.name, expr(&arg.value)),
        None => expr(&arg.value),
    }
}

/// The text of an expression, with no more brackets than it needs.
pub fn expr(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Number(value) => number(*value),
        ExprKind::Name(name) => name.clone(),
        ExprKind::Subscript { base, at } => format!("{}[{}]", at_least(base, POSTFIX), join(at, self::expr)),
        ExprKind::Field { base, field } => format!("{}.{}", at_least(base, POSTFIX), field.name),
        ExprKind::Transpose(base) => format!("{}'", at_least(base, POSTFIX)),
        ExprKind::Neg(operand) => format!("-{}", at_least(operand, NEG)),
        ExprKind::Not(operand) => format!("not {}", at_least(operand, NOT)),
        ExprKind::Binary { op: BinaryOp::Pow, left, right } => {
            format!("{}^{}", at_least(left, POSTFIX), at_least(right, NEG))
        }
        ExprKind::Binary { op, left, right } => {
            let own = level(expr);
            format!("{} {} {}", at_least(left, own), operator(*op), at_least(right, own + 1))
        }
        ExprKind::Compare { first, rest } => {
            let rest: String =
                rest.iter().map(|(op, operand)| format!(" {} {}", comparison(*op), at_least(operand, RANGE))).collect();
            format!("{}{rest}", at_least(first, RANGE))
        }
        ExprKind::If { cond, then, otherwise } => {
            format!("if {} then {} else {}", self::expr(cond), self::expr(then), self::expr(otherwise))
        }
        ExprKind::Call { name, args } => format!("{}({})", name.name, join(args, arg)),
        ExprKind::Reduction { op, indices, cond, body } => {
            let indices = join(indices, |index| match &index.axis {
                Some(axis) => format!("{} in {}", index.name.name, axis.name),
                None => index.name.name.clone(),
            });
            let cond = cond.as_ref().map(|cond| format!(" : {}", self::expr(cond))).unwrap_or_default();
            format!("{}[{indices}{cond}]({})", op.name, self::expr(body))
        }
        ExprKind::Range { from, to } => format!("{} .. {}", at_least(from, RANGE + 1), at_least(to, RANGE + 1)),
        ExprKind::Tuple(list) => format!("({})", join(list, self::expr)),
    }
}

/// The shortest digits that read back as the same number; exponents where zeros would be many.
fn number(value: f64) -> String {
    let plain = format!("{value}");
    let short = format!("{value:e}");
    if plain.len() <= short.len() + 3 { plain } else { short }
}

// How tightly the forms of an expression bind, loosest first; the grammar's levels.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const RANGE: u8 = 5;
const ADD: u8 = 6;
const MUL: u8 = 7;
const NEG: u8 = 8;
const POW: u8 = 9;
const POSTFIX: u8 = 10;

fn level(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::If { .. } => 0,
        ExprKind::Binary { op, .. } => match op {
            BinaryOp::Or => OR,
            BinaryOp::And => AND,
            BinaryOp::Add | BinaryOp::Sub => ADD,
            BinaryOp::Pow => POW,
            _ => MUL,
        },
        ExprKind::Not(_) => NOT,
        ExprKind::Compare { .. } => COMPARE,
        ExprKind::Range { .. } => RANGE,
        ExprKind::Neg(_) => NEG,
        _ => POSTFIX,
    }
}

/// The text of an operand, in brackets if it binds looser than `least`.
fn at_least(operand: &Expr, least: u8) -> String {
    if level(operand) < least { format!("({})", expr(operand)) } else { expr(operand) }
}

fn operator(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::ElementMul => ".*",
        BinaryOp::ElementDiv => "./",
        BinaryOp::Pow => "^",
        BinaryOp::Mod => "mod",
        BinaryOp::FloorDiv => "div",
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
    }
}

fn comparison(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Lt => "<",
        CompareOp::Le => "<=",
        CompareOp::Gt => ">",
        CompareOp::Ge => ">=",
        CompareOp::Eq => "==",
        CompareOp::Ne => "!=",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;
    use crate::source::Source;

    /// The tree's own text without its spans.
    fn bare(file: &File) -> String {
        let mut text = format!("{file:?}");
        while let Some(start) = text.find("Span {") {
            let end = start + text[start..].find('}').unwrap();
            text.replace_range(start..=end, "_");
        }
        text
    }

    fn reads_back(text: &str) {
        let parsed = |text: &str| parse(&Source::new("t.attn", text)).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        let first = parsed(text);
        let printed = file(&first);
        let second = parsed(&printed);
        assert_eq!(bare(&first), bare(&second), "{printed}");
        assert_eq!(file(&second), printed);
    }

    fn printed(text: &str) -> String {
        let program = format!("fn f(a) = {text};");
        file(&parse(&Source::new("t.attn", program)).unwrap()).trim().replace("fn f(a) = ", "")
    }

    #[test]
    fn brackets_stay_where_they_are_needed() {
        for text in [
            "-2^2",
            "(-2)^2",
            "2^-3",
            "2^3^2",
            "(2^3)^2",
            "a - (b - c)",
            "a - b - c",
            "(a + b)' * c",
            "-(-a)'",
            "not (a and b)",
            "(not a) == b",
            "(if a then b else c) + 1",
            "a < b <= c",
            "(a < b) == c",
            "- -a",
            "(1 .. 2) .. 3",
            "(a, b)",
            "1e-30",
            "2 ^ -x.y",
            "(a * b)^-(c + d)",
        ] {
            let once = printed(text);
            assert_eq!(printed(once.trim_end_matches(';')), once);
            reads_back(&format!("fn f(a) = {text};"));
        }
        assert_eq!(printed("((a) + ((b * (c))))"), "a + b * c;");
        assert_eq!(printed("(-2)^2"), "(-2)^2;");
    }

    #[test]
    fn every_program_reads_back() {
        for program in crate::parse::PROGRAMS {
            reads_back(program);
        }
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        for entry in std::fs::read_dir(examples).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "attn") {
                reads_back(&std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
}
