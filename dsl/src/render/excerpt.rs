//! What of a source is shown for a diagnostic: the lines from its first label to its last, and of a long line only the
//! part around the labels. So a diagnostic costs what stands between its labels, however large the rest is.

use crate::diagnostic::Label;
use crate::source::{Lines, Place, Source, Span};

/// The longest line that is shown whole, in characters.
const WHOLE: usize = 500;
/// What is shown of a longer line on either side of a label, in bytes.
const AROUND: usize = 60;
/// What is shown at most of one label on a longer line, in bytes.
const LABEL: usize = 200;
/// What stands for the parts of a line that are not shown.
const CUT: &str = "…";

/// The part of a source that a diagnostic shows.
pub(super) struct Excerpt {
    pub text: String,
    /// The number of its first line, from 1.
    pub first_line: usize,
    /// The labels' spans in `text`, in their order.
    pub spans: Vec<Span>,
    /// Where the first label seems to begin, if its line is cut on the left.
    pub shifted: Option<Place>,
}

/// A line as it is shown.
struct Row {
    /// What of the source.
    shown: Span,
    /// Where in the excerpt's text that begins.
    at: usize,
}

impl Row {
    /// Where a place on this line stands in the excerpt; what is cut off stands at the edge.
    fn moved(&self, at: usize) -> usize {
        self.at + at.clamp(self.shown.start, self.shown.end) - self.shown.start
    }
}

impl Excerpt {
    /// None where there is no label.
    pub fn of(labels: &[Label], source: &Source, lines: &Lines) -> Option<Self> {
        let spans: Vec<Span> = labels.iter().map(|label| within(label.span, &source.text)).collect();
        let primary = *spans.first()?;
        let first = spans.iter().map(|span| lines.line_of(span.start)).min()?;
        let last = spans.iter().map(|span| lines.line_of(span.end)).max()?;
        let mut text = String::new();
        let mut rows = Vec::new();
        for line in first..=last {
            let line = lines.span(line);
            let shown = shown(line, &source.text, &spans);
            text.push_str(if shown.start > line.start { CUT } else { "" });
            rows.push(Row { shown, at: text.len() });
            text.push_str(source.slice(shown));
            text.push_str(if shown.end < line.end { CUT } else { "" });
            text.push('\n');
        }
        let moved = |at: usize| rows[lines.line_of(at) - first].moved(at);
        let row = &rows[lines.line_of(primary.start) - first];
        let cut = row.shown.start > lines.span(lines.line_of(primary.start)).start;
        let shifted = cut.then(|| Place {
            line: lines.line_of(primary.start) + 1,
            column: 2 + source.text[row.shown.start..primary.start].chars().count(),
        });
        let spans = spans.iter().map(|span| Span::new(moved(span.start), moved(span.end))).collect();
        Some(Self { text, first_line: first + 1, spans, shifted })
    }
}

/// The span between characters, inside the text.
fn within(span: Span, text: &str) -> Span {
    let start = text.floor_char_boundary(span.start);
    Span::new(start, text.floor_char_boundary(span.end).max(start))
}

/// What is shown of a line: all of one that is not long; else a stretch around the first label on it, and around the
/// others as far as that keeps it short.
fn shown(line: Span, text: &str, spans: &[Span]) -> Span {
    if line.end - line.start <= WHOLE || text[line.start..line.end].chars().nth(WHOLE).is_none() {
        return line;
    }
    let on_line = spans.iter().filter(|span| span.start <= line.end && span.end >= line.start);
    let stretches = on_line.map(|span| {
        let start = span.start.max(line.start);
        let end = span.end.min(line.end).min(start + LABEL);
        let (start, end) = (start.saturating_sub(AROUND).max(line.start), (end + AROUND).min(line.end));
        Span::new(text.floor_char_boundary(start), text.ceil_char_boundary(end))
    });
    let grown = |all: Span, more: Span| Some(all.to(more)).filter(|both| both.end - both.start <= WHOLE).unwrap_or(all);
    stretches.reduce(grown).unwrap_or(Span::new(line.start, text.floor_char_boundary(line.start + LABEL)))
}
