//! Diagnostics as text for people, and as flat entries for programs: the one place that renders them. Writes nothing
//! anywhere. The drawing is rustc's own renderer; what of a long text or line is drawn at all is chosen in `excerpt`.

mod excerpt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::{Lines, Place, Source};

use excerpt::Excerpt;

/// How rendered text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// No escape codes: for files, pipes and tests.
    #[default]
    Plain,
    /// Colours by ANSI escape codes: for terminals.
    Colour,
}

/// The most diagnostics that are rendered: nobody reads on, and the first ones are often the cause of the rest.
pub const MOST: usize = 100;

/// The diagnostics of a source one after the other, without colours.
pub fn render(diagnostics: &[Diagnostic], source: &Source) -> String {
    render_with(diagnostics, source, Style::Plain)
}

/// The first [`MOST`] diagnostics of a source one after the other, and how many there are beyond. Each shows its
/// severity, code and message, `file:line:column`, the lines with its spans underlined, and its help.
pub fn render_with(diagnostics: &[Diagnostic], source: &Source, style: Style) -> String {
    let renderer = match style {
        Style::Plain => Renderer::plain(),
        Style::Colour => Renderer::styled().hyperlink(false),
    };
    let lines = Lines::of(source);
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(MOST) {
        text.push_str(&one(diagnostic, source, &lines, &renderer));
        text.push_str("\n\n");
    }
    if let Some(rest) = diagnostics.get(MOST..).filter(|rest| !rest.is_empty()) {
        let s = if rest.len() == 1 { "" } else { "s" };
        text.push_str(&format!("and {} more {}{s}\n", rest.len(), rest[0].severity.name()));
    }
    text
}

fn one(diagnostic: &Diagnostic, source: &Source, lines: &Lines, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&diagnostic.message).id(diagnostic.code);
    let help = diagnostic.help.as_ref().map(|help| Level::HELP.message(help));
    let Some(excerpt) = Excerpt::of(&diagnostic.labels, source, lines) else {
        return renderer.render(&[title.elements(help)]);
    };
    let annotations = excerpt.spans.iter().zip(&diagnostic.labels).enumerate().map(|(nth, (span, label))| {
        let kind = if nth == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
        kind.span(span.start..span.end).label(&label.text)
    });
    let snippet = Snippet::source(&excerpt.text).path(&*source.name).line_start(excerpt.first_line);
    let text = renderer.render(&[title.element(snippet.annotations(annotations)).elements(help)]);
    match excerpt.shifted {
        None => text,
        Some(shown) => {
            // The renderer counts columns in what it is given.
            let place = |place: Place| format!("{}:{}:{}", source.name, place.line, place.column);
            text.replacen(&place(shown), &place(lines.place(diagnostic.start().unwrap_or_default())), 1)
        }
    }
}

/// A diagnostic without its drawing: what tools and editors want of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'d> {
    pub severity: Severity,
    pub code: &'static str,
    pub message: &'d str,
    pub file: &'d str,
    /// Where it begins; None for what stands at no place (an unknown `--arg`).
    pub place: Option<Place>,
    pub help: Option<&'d str>,
}

/// All diagnostics of a source, as entries.
pub fn entries<'d>(diagnostics: &'d [Diagnostic], source: &'d Source) -> Vec<Entry<'d>> {
    let lines = Lines::of(source);
    let entry = |found: &'d Diagnostic| Entry {
        severity: found.severity,
        code: found.code,
        message: &found.message,
        file: &source.name,
        place: found.start().map(|at| lines.place(at)),
        help: found.help.as_deref(),
    };
    diagnostics.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    fn mistake(span: Span) -> Diagnostic {
        Diagnostic::new("unknown-statement", "there is no statement `updte`")
            .label(span, "expected the keyword of a statement")
            .help("did you mean `update`?")
    }

    #[test]
    fn a_diagnostic_names_severity_place_code_and_mend() {
        let source = Source::new("f.attn", "variant f {\n  updte S;\n}\n");
        let text = render(&[mistake(Span::new(14, 19))], &source);
        assert_eq!(
            text,
            "error[unknown-statement]: there is no statement `updte`
 --> f.attn:2:3
  |
2 |   updte S;
  |   ^^^^^ expected the keyword of a statement
  |
  = help: did you mean `update`?

"
        );
        let warning = Diagnostic::warning("unused-input", "nothing reads `g`").label(Span::new(0, 7), "here");
        assert!(render(&[warning], &source).starts_with("warning[unused-input]: nothing reads `g`\n --> f.attn:1:1"));
    }

    #[test]
    fn a_wild_span_renders() {
        let source = Source::new("f.attn", "β");
        for span in [Span::new(1, 1), Span::new(7, 9), Span::new(2, 0), Span::new(0, 2)] {
            let text = render_with(&[mistake(span)], &source, Style::Colour);
            assert!(text.contains("no statement"), "{text}");
        }
        let empty = Source::new("e.attn", "");
        assert!(render(&[mistake(Span::new(0, 0))], &empty).contains("e.attn:1:1"));
    }

    #[test]
    fn columns_are_true_however_long_the_line() {
        for spaces in [400, 65_500, 65_600, 1_000_000] {
            let source = Source::new(
                "f.attn",
                format!("variant f {{\nβ{}updte S;{}\n}}\n", " ".repeat(spaces), " x".repeat(spaces)),
            );
            let at = 12 + 2 + spaces;
            let text = render(&[mistake(Span::new(at, at + 5))], &source);
            assert!(text.contains(&format!("f.attn:2:{}\n", spaces + 2)), "{text}");
            assert!(text.contains("^^^^^ expected the keyword") && text.contains("updte S;"), "{text}");
            assert!(text.len() < 2_000, "{} bytes for one error", text.len());
            let found = [mistake(Span::new(at, at + 5))];
            assert_eq!(entries(&found, &source)[0].place, Some(Place { line: 2, column: spaces + 2 }));
        }
    }

    #[test]
    fn the_first_hundred_are_rendered_and_the_rest_counted() {
        let source = Source::new("f.attn", "updte S;\n".repeat(8_000));
        let found: Vec<Diagnostic> = (0..8_000).map(|line| mistake(Span::new(9 * line, 9 * line + 5))).collect();
        let text = render(&found, &source);
        assert_eq!(text.matches("error[").count(), MOST);
        assert!(text.ends_with("and 7900 more errors\n"), "{}", &text[text.len() - 40..]);
        assert_eq!(entries(&found, &source).len(), 8_000);
        assert!(!render(&found[..MOST], &source).contains("more error"));
    }
}
