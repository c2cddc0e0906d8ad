//! The text of a shader being written: lines, blocks and fresh names.

use std::fmt::Display;

#[derive(Default)]
pub(super) struct Text {
    out: String,
    depth: usize,
    names: usize,
}

/// A place to go back to, forgetting what was written since.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    length: usize,
    depth: usize,
    names: usize,
}

impl Text {
    pub(super) fn line(&mut self, text: impl Display) {
        self.out += &"  ".repeat(self.depth);
        self.out += &text.to_string();
        self.out.push('\n');
    }

    /// `head {`
    pub(super) fn open(&mut self, head: impl Display) {
        self.line(format_args!("{head} {{"));
        self.depth += 1;
    }

    pub(super) fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    pub(super) fn fresh(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}_{}", self.names)
    }

    /// A name for a value.
    pub(super) fn set(&mut self, stem: &str, value: impl Display) -> String {
        let name = self.fresh(stem);
        self.line(format_args!("let {name} = {value};"));
        name
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { length: self.out.len(), depth: self.depth, names: self.names }
    }

    pub(super) fn rewind(&mut self, mark: Mark) {
        self.out.truncate(mark.length);
        (self.depth, self.names) = (mark.depth, mark.names);
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}
