//! A source file's text and places in it.

use std::cell::Cell;
use std::sync::Arc;

/// A half-open byte range of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// A named text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub name: Arc<str>,
    pub text: Arc<str>,
}

impl Source {
    pub fn new(name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The text under a span.
    pub fn slice(&self, span: Span) -> &str {
        &self.text[span.start..span.end]
    }
}

/// A place as people and editors count: both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Where the lines of a text start, so that many places are found without reading it again.
#[derive(Debug, Clone)]
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
    /// The byte asked for last and the characters before it on its line: places asked for in the order of the text are
    /// found in one pass even over a line of a megabyte.
    last: Cell<(usize, usize)>,
}

impl<'t> Lines<'t> {
    pub fn of(source: &'t Source) -> Self {
        let text: &str = &source.text;
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts, last: Cell::new((0, 0)) }
    }

    /// The place of a byte. One past the text is at its end, one inside a character at that character.
    pub fn place(&self, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let line = self.line_of(at);
        let start = self.starts[line];
        let (from, before) =
            Some(self.last.get()).filter(|(last, _)| (start..=at).contains(last)).unwrap_or((start, 0));
        let before = before + self.text[from..at].chars().count();
        self.last.set((at, before));
        Place { line: line + 1, column: before + 1 }
    }

    /// The number, from 0, of the line that holds a byte.
    pub fn line_of(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at) - 1
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// The bytes of a line, counted from 0, without its end.
    pub fn span(&self, line: usize) -> Span {
        let start = self.starts[line];
        let end = self.starts.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let ends_in_return = self.text[start..end].ends_with('\r');
        Span::new(start, end - usize::from(ends_in_return))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new("t", "a\r\nβγ = 1\n");
        let lines = Lines::of(&source);
        assert_eq!(lines.place(0), Place { line: 1, column: 1 });
        assert_eq!(lines.place(3), Place { line: 2, column: 1 });
        assert_eq!(lines.place(5), Place { line: 2, column: 2 });
        assert_eq!(lines.place(10), Place { line: 2, column: 6 });
        assert_eq!(lines.place(6), Place { line: 2, column: 2 }, "inside a character");
        assert_eq!(lines.place(99), Place { line: 3, column: 1 }, "past the end");
        assert_eq!((lines.count(), source.slice(lines.span(0)), source.slice(lines.span(1))), (3, "a", "βγ = 1"));
    }
}
