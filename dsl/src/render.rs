//! Diagnostics as text for people: the one place that renders them. Writes nothing anywhere.

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteDiagnostic, NamedSource, Report};

use crate::diagnostic::Diagnostic;
use crate::source::Source;

/// How rendered text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// No escape codes: for files, pipes and tests.
    #[default]
    Plain,
    /// Colours by ANSI escape codes: for terminals.
    Colour,
}

/// The diagnostics of a source one after the other, without colours.
pub fn render(diagnostics: &[Diagnostic], source: &Source) -> String {
    render_with(diagnostics, source, Style::Plain)
}

/// The diagnostics of a source one after the other. Each shows its code, message, `file:line:column`, the lines with
/// its spans underlined, and its help.
pub fn render_with(diagnostics: &[Diagnostic], source: &Source, style: Style) -> String {
    let theme = match style {
        Style::Plain => GraphicalTheme::unicode_nocolor(),
        Style::Colour => GraphicalTheme::unicode(),
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_links(false);
    let mut text = String::new();
    for diagnostic in diagnostics {
        let report = report(diagnostic, source);
        if handler.render_report(&mut text, report.as_ref()).is_err() {
            // Writing to a string does not fail, but a diagnostic must never be lost to the renderer.
            text.push_str(&format!("{}: {}", diagnostic.code, diagnostic.message));
        }
        text.push('\n');
    }
    text
}

fn report(diagnostic: &Diagnostic, source: &Source) -> Report {
    let labels = diagnostic.labels.iter().enumerate().map(|(place, label)| {
        // A span out of the text or inside a character would fail the whole report.
        let start = boundary(&source.text, label.span.start);
        let length = boundary(&source.text, label.span.end).saturating_sub(start);
        let text = Some(label.text.clone());
        if place == 0 {
            LabeledSpan::new_primary_with_span(text, (start, length))
        } else {
            LabeledSpan::new_with_span(text, (start, length))
        }
    });
    let mut report = MietteDiagnostic::new(diagnostic.message.clone()).with_code(diagnostic.code).with_labels(labels);
    if let Some(help) = &diagnostic.help {
        report = report.with_help(help.clone());
    }
    Report::new(report).with_source_code(NamedSource::new(&source.name, source.text.to_string()))
}

/// The nearest place at or before `at` that is inside the text and between characters.
fn boundary(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    #[test]
    fn a_diagnostic_names_place_code_and_mend() {
        let source = Source::new("f.attn", "variant f {\n  updte S;\n}\n");
        let diagnostic = Diagnostic::new("unknown-statement", "there is no statement `updte`")
            .label(Span::new(14, 19), "expected the keyword of a statement")
            .help("did you mean `update`?");
        let text = render(&[diagnostic], &source);
        for part in ["unknown-statement", "there is no statement", "f.attn:2:3", "expected the keyword", "did you mean"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_wild_span_renders() {
        let source = Source::new("f.attn", "β");
        for span in [Span::new(1, 1), Span::new(7, 9), Span::new(2, 0), Span::new(0, 2)] {
            let text = render_with(&[Diagnostic::new("syntax", "odd").label(span, "here")], &source, Style::Colour);
            assert!(text.contains("odd"), "{text}");
        }
        let empty = Source::new("e.attn", "");
        assert!(render(&[Diagnostic::new("empty-file", "none").label(Span::new(0, 0), "x")], &empty).contains("none"));
    }
}
