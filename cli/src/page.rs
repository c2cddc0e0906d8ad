//! The pages of `docs/`, and what of them has a name: sections by their headings, rows of tables by their first cell.

/// A page, as it stands in `docs/`.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The file's name without its extension.
    pub name: &'static str,
    pub text: &'static str,
}

macro_rules! page {
    ($name:literal) => {
        Page { name: $name, text: include_str!(concat!("../../docs/", $name, ".md")) }
    };
}

impl Page {
    pub const COMMANDS: Page = page!("commands");

    /// In the order in which a topic is looked for.
    pub const ALL: [Page; 9] = [
        page!("language"),
        page!("functions"),
        page!("laws_and_forms"),
        page!("numbers"),
        page!("packing"),
        page!("from_paper_to_variant"),
        Page::COMMANDS,
        page!("errors"),
        page!("python"),
    ];
}

/// A heading and what stands under it, smaller headings included.
#[derive(Debug, Clone)]
pub struct Section {
    pub title: &'static str,
    /// With the heading.
    pub text: &'static str,
}

/// A row of a table.
#[derive(Debug, Clone)]
pub struct Row {
    /// The heading under which the table stands.
    pub under: &'static str,
    /// The titles of the columns.
    pub header: Vec<String>,
    pub cells: Vec<String>,
}

impl Page {
    /// Every section, the page itself first.
    pub fn sections(&self) -> Vec<Section> {
        let headings: Vec<(usize, usize, &'static str)> = self
            .prose()
            .filter_map(|(at, line)| {
                let level = line.bytes().take_while(|&byte| byte == b'#').count();
                let title = line[level..].strip_prefix(' ').filter(|_| level > 0)?;
                Some((at, level, title.trim()))
            })
            .collect();
        let section = |(place, &(at, level, title)): (usize, &(usize, usize, &'static str))| {
            let next = headings[place + 1..].iter().find(|(_, other, _)| *other <= level);
            Section { title, text: &self.text[at..next.map_or(self.text.len(), |(end, ..)| *end)] }
        };
        headings.iter().enumerate().map(section).collect()
    }

    /// Every row of every table.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        let (mut under, mut header) = ("", None);
        for (_, line) in self.prose() {
            if let Some(title) = line.strip_prefix('#') {
                under = title.trim_start_matches('#').trim();
            }
            let Some(cells) = cells(line) else {
                header = None;
                continue;
            };
            match header.clone() {
                None => header = Some(cells),
                Some(header) if !is_rule(&cells) => rows.push(Row { under, header, cells }),
                Some(_) => {}
            }
        }
        rows
    }

    /// The lines outside code blocks, with their places.
    fn prose(&self) -> impl Iterator<Item = (usize, &'static str)> + use<> {
        let mut at = 0;
        let mut code = false;
        self.text.split_inclusive('\n').filter_map(move |line| {
            let start = at;
            at += line.len();
            let fence = line.starts_with("```");
            code ^= fence;
            (!code && !fence).then_some((start, line.trim_end()))
        })
    }
}

impl Section {
    pub fn names(&self) -> Vec<String> {
        let coded = coded(self.title);
        if coded.is_empty() { vec![self.title.to_lowercase()] } else { coded }
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.names().iter().any(|known| known == name)
    }
}

impl Row {
    pub fn names(&self) -> Vec<String> {
        self.cells.first().map(|cell| coded(cell)).unwrap_or_default()
    }

    pub fn is_called(&self, name: &str) -> bool {
        self.names().iter().any(|known| known == name)
    }
}

/// The cells of a line of a table. A `\|` is a bar.
pub fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let inner = inner.replace("\\|", "\u{0}");
    Some(inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect())
}

/// Whether a table's line is the one under its header.
pub fn is_rule(cells: &[String]) -> bool {
    cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| matches!(c, '-' | ':')))
}

/// What stands in backquotes, without the brackets that follow a name: `exp(x)` is called exp.
fn coded(text: &str) -> Vec<String> {
    let code = text.split('`').skip(1).step_by(2);
    let name = |code: &str| {
        let end = code.find(['(', '[']).filter(|end| *end > 0).unwrap_or(code.len());
        code[..end].trim().to_string()
    };
    code.map(name).filter(|name| !name.is_empty()).collect()
}
