//! Markdown as text for a terminal: the part of it that the pages of `docs/` use. No colours.
//!
//! Headings are underlined, code is indented, paragraphs and lists are filled, tables have aligned columns and fill their
//! last one. Of links the text stays.

use crate::page::{Row, cells, is_rule};

const WIDTH: usize = 100;
/// The least room for the last column of a table.
const LAST: usize = 40;

/// A page or a section of one.
pub fn text(markdown: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut lines = markdown.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let code = lines.by_ref().take_while(|line| !line.starts_with("```"));
            out.push(code.map(|line| format!("    {line}").trim_end().to_string()).collect::<Vec<_>>().join("\n"));
        } else if line.starts_with('#') {
            out.push(heading(line));
        } else if let Some(header) = cells(line) {
            let mut rows = vec![header];
            while let Some(row) = lines.peek().and_then(|line| cells(line)) {
                rows.push(row);
                lines.next();
            }
            rows.retain(|row| !is_rule(row));
            out.push(table(&rows));
        } else if !line.trim().is_empty() {
            let mut paragraph = line.to_string();
            while let Some(next) = lines.next_if(|next| continues(next)) {
                paragraph = format!("{paragraph} {}", next.trim());
            }
            out.push(filled(&paragraph));
        }
    }
    joined(&out)
}

/// A row of a table by itself: its first cell, and under it the others.
pub fn row(row: &Row) -> String {
    let title = row.cells.first().map(|cell| inline(cell)).unwrap_or_default();
    let mut out = vec![format!("{title}  ({})", inline(row.under))];
    for (name, cell) in row.header.iter().zip(&row.cells).skip(1) {
        let said = if row.cells.len() > 2 { format!("{name}: {cell}") } else { cell.clone() };
        out.extend(wrapped(&inline(&said), WIDTH - 4).into_iter().map(|line| format!("    {line}")));
    }
    out.join("\n")
}

/// Blocks with an empty line between; items of a list have none.
fn joined(blocks: &[String]) -> String {
    let item = |block: &str| block.starts_with("- ") || block.starts_with(|c: char| c.is_ascii_digit());
    let mut text = String::new();
    for (place, block) in blocks.iter().enumerate() {
        if place > 0 {
            text.push_str(if item(block) && item(&blocks[place - 1]) { "\n" } else { "\n\n" });
        }
        text.push_str(block);
    }
    text
}

/// Whether a line goes on with the paragraph above it.
fn continues(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with(['#', '|']) && !line.starts_with("```") && marker(line) == 0
}

/// The length of the mark that opens an item of a list: `- ` or `1. `.
fn marker(line: &str) -> usize {
    if line.starts_with("- ") {
        return 2;
    }
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 && line[digits..].starts_with(". ") { digits + 2 } else { 0 }
}

fn heading(line: &str) -> String {
    let level = line.bytes().take_while(|&byte| byte == b'#').count();
    let title = inline(line[level..].trim());
    let rule = match level {
        1 => "=",
        2 => "-",
        _ => return title,
    };
    format!("{title}\n{}", rule.repeat(title.chars().count()))
}

/// A paragraph or an item of a list.
fn filled(paragraph: &str) -> String {
    let indent = marker(paragraph);
    let lines = wrapped(&inline(&paragraph[indent..]), WIDTH - indent);
    let hang = " ".repeat(indent);
    format!("{}{}", &paragraph[..indent], lines.join(&format!("\n{hang}")))
}

/// Without the marks of bold text and of links.
fn inline(text: &str) -> String {
    let mut out = String::new();
    for (place, part) in text.split('`').enumerate() {
        // Code stands as it is, quotes included.
        if place % 2 == 1 {
            out.push_str(&format!("`{part}`"));
        } else {
            out.push_str(&unlinked(&part.replace("**", "")));
        }
    }
    out
}

/// `[text](place)` as its text.
fn unlinked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let Some((_, after)) = after.split_once(')') else { break };
        match before.rsplit_once('[') {
            Some((outside, inside)) => out.push_str(&format!("{outside}{inside}")),
            None => out.push_str(before),
        }
        rest = after;
    }
    out + rest
}

/// Words filled into lines of this width at most; a longer word stands alone.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line from the start");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The first row is the header.
fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| inline(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let natural = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).map(natural).collect();
    let before: usize = widths.iter().map(|width| width + 2).sum();
    let last = WIDTH.saturating_sub(before).max(LAST);
    let mut out = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        let padded = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}  "));
        let head: String = padded.collect();
        let tail = row.get(columns.saturating_sub(1)).map(|cell| wrapped(cell, last)).unwrap_or_default();
        for (line, text) in tail.iter().enumerate() {
            let head = if line == 0 { head.clone() } else { " ".repeat(before) };
            out.push(format!("{head}{text}").trim_end().to_string());
        }
        if place == 0 {
            out.push("-".repeat(before + natural(columns.saturating_sub(1)).min(last)));
        }
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_filled_and_marks_are_gone() {
        let told = text("# A **title**\n\nOne\ntwo [three](x.md#y) `a ** b`.\n- first\n- second\n  goes on\n");
        assert_eq!(told, "A title\n=======\n\nOne two three `a ** b`.\n\n- first\n- second goes on");
        let long = text(&"word ".repeat(40));
        assert!(long.lines().all(|line| line.len() <= WIDTH) && long.lines().count() == 2, "{long}");
    }

    #[test]
    fn code_stays_as_it_is() {
        assert_eq!(text("```sh\n# a  b\n\n| c |\n```\n"), "    # a  b\n\n    | c |");
    }

    #[test]
    fn tables_have_columns() {
        let told = text("| a | b |\n| --- | --- |\n| `x \\| y` | one |\n| z | two |\n");
        assert_eq!(told, "a        b\n------------\n`x | y`  one\nz        two");
    }
}
