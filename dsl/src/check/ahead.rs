//! What stands below the statement being checked: which names are declared there, which mentioned, and which statements
//! subscript by an index. Gathered once, so that asking costs the answer and not the file.

use std::collections::HashMap;

use crate::ast::{self, ExprKind};

use super::index::{children, expressions};

/// For each name the last statement, by number, that does something with it.
#[derive(Debug, Default)]
pub(super) struct Ahead<'a> {
    declared: HashMap<&'a str, usize>,
    mentioned: HashMap<&'a str, usize>,
    /// The statements in which an index stands directly as a subscript, in file order.
    subscripted: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Ahead<'a> {
    pub(super) fn of(body: &'a [ast::Stmt]) -> Self {
        let mut ahead = Self::default();
        for (number, stmt) in body.iter().enumerate() {
            for name in declared(stmt) {
                ahead.declared.insert(name, number);
            }
            for expr in expressions(stmt) {
                ahead.expression(expr, number);
            }
        }
        ahead
    }

    fn expression(&mut self, expr: &'a ast::Expr, number: usize) {
        match &expr.kind {
            ExprKind::Name(name) => {
                self.mentioned.insert(name, number);
            }
            ExprKind::Subscript { at, .. } => {
                for subscript in at {
                    if let ExprKind::Name(index) = &subscript.kind {
                        let numbers = self.subscripted.entry(index).or_default();
                        if numbers.last() != Some(&number) {
                            numbers.push(number);
                        }
                    }
                }
            }
            _ => {}
        }
        children(expr).into_iter().for_each(|child| self.expression(child, number));
    }

    /// Whether a statement below `number` declares the name.
    pub(super) fn declares(&self, name: &str, number: usize) -> bool {
        self.declared.get(name).is_some_and(|last| *last > number)
    }

    /// Whether the right side of a statement below `number` mentions the name.
    pub(super) fn mentions(&self, name: &str, number: usize) -> bool {
        self.mentioned.get(name).is_some_and(|last| *last > number)
    }

    /// The statements below `number` in which the index stands directly as a subscript.
    pub(super) fn subscripting(&self, index: &str, number: usize) -> &[usize] {
        let all = self.subscripted.get(index).map_or(&[][..], Vec::as_slice);
        &all[all.partition_point(|found| *found <= number)..]
    }
}

/// The names that a statement declares.
fn declared(stmt: &ast::Stmt) -> Vec<&str> {
    use ast::StmtKind::*;
    match &stmt.kind {
        Axes(axes) => axes.iter().map(|axis| axis.name.name.as_str()).collect(),
        Input(decls) | Param(decls) | State(decls) => {
            decls.iter().flat_map(|decl| &decl.names).map(|name| name.name.as_str()).collect()
        }
        LetSeveral { names, .. } => names.iter().map(|name| name.name.as_str()).collect(),
        Let { lhs, .. } | Decay { lhs, .. } | Read { lhs, .. } => vec![&lhs.name.name],
        _ => Vec::new(),
    }
}
