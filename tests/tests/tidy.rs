//! The house rules that a program can check: headers, lengths, names, the direction of imports, where `unsafe` stands,
//! the README's map, and snapshots without a case. What formatting and clippy check is not repeated here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no source: build products and version control.
const NOT_OURS: [&str; 2] = ["target", ".git"];
/// The crates, lowest first: each may import only those before it.
const CRATES: [&str; 5] = ["dsl", "compiler", "runtime", "cli", "python"];
/// The rooms of a crate, its top-level modules, lowest first: each may import only those before it, so no two stand in a
/// circle. What a crate's root gives out again counts as its room's.
const ROOMS: [(&str, &[&str]); 5] = [
    (
        "dsl",
        &[
            "draw",
            "advice",
            "shape",
            "source",
            "suggest",
            "ast",
            "diagnostic",
            "typed",
            "parse",
            "print",
            "render",
            "function",
            "print_typed",
            "check",
        ],
    ),
    (
        "compiler",
        &[
            "layout",
            "unsupported",
            "bind",
            "needed",
            "calls",
            "reference",
            "ir",
            "rules",
            "egraph",
            "program",
            "plan",
            "kernel",
            "scans",
            "adjoint",
            "interface",
            "codegen",
            "compile",
            "explain",
            "stage",
        ],
    ),
    (
        "runtime",
        &[
            "whole",
            "floats",
            "tensor",
            "named",
            "backend",
            "device",
            "rates",
            "inputs",
            "initial",
            "request",
            "launch",
            "permutation",
            "reference",
            "draw",
            "gradient",
            "room",
            "split",
            "suspect",
            "cpu",
            "gpu",
            "backends",
            "compiled",
            "ready",
            "session",
            "execute",
            "choose",
            "compiles",
            "calibrate",
        ],
    ),
    (
        "cli",
        &[
            "failure",
            "print",
            "interrupt",
            "table",
            "page",
            "unused",
            "usage",
            "help",
            "sizes",
            "arguments",
            "examples",
            "program",
            "new",
            "backends",
            "calibrate",
            "completions",
            "check",
            "explain",
            "object",
            "emit",
            "run",
            "verify",
            "bench",
        ],
    ),
    ("python", &["errors", "view", "operand", "results", "engine", "stretch", "facts", "session", "kernel"]),
];
/// The lowest of the compiler's rooms that the derivation lives in.
const DERIVATION: &str = "ir";
/// Names that say nothing of what a module holds.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "helpers", "common", "misc", "core", "base"];
/// Where code may be unsafe: where machine code is called, and where Python's tensors are looked at.
const UNSAFE: [&str; 3] = ["runtime/src/cpu", "runtime/src/gpu", "python/src/view"];
const LONGEST: usize = 500;

#[test]
fn every_file_opens_with_a_header() {
    report(sources().iter().filter(|s| !s.text.starts_with("//!")).map(|s| format!("{}: no //! header", s.name)));
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter_map(|s| {
        let lines = s.text.lines().count();
        (lines > LONGEST).then(|| format!("{}: {lines} lines, more than {LONGEST}", s.name))
    });
    report(long);
}

#[test]
fn modules_are_named_after_what_they_hold() {
    let empty = sources().into_iter().filter(|s| {
        Path::new(&s.name).with_extension("").iter().any(|part| EMPTY_NAMES.iter().any(|&empty| part == empty))
    });
    report(empty.map(|s| format!("{}: the name says nothing of what it holds", s.name)));
}

#[test]
fn crates_import_downwards() {
    let mut found = Vec::new();
    for (at, krate) in CRATES.iter().enumerate() {
        let manifest = read(&root().join(krate).join("Cargo.toml"));
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for above in &CRATES[at + 1..] {
            if dependencies.contains(&format!("chunkwise-{above}")) {
                found.push(format!("{krate}/Cargo.toml: depends on {above}, which is above it"));
            }
        }
    }
    report(found);
}

#[test]
fn rooms_import_upstream() {
    let sources = sources();
    let mut found = Vec::new();
    for (krate, rooms) in ROOMS {
        let given_out = given_out(&read(&root_of(krate)));
        for source in &sources {
            let Some(own) = room_of(krate, &source.name) else { continue };
            let Some(place) = rooms.iter().position(|room| *room == own) else {
                found.push(format!("{}: `{own}` has no place among the rooms of {krate} (`ROOMS`)", source.name));
                continue;
            };
            let code = source.code();
            for name in imported(&code) {
                let room = given_out.get(name).map_or(name, String::as_str);
                if rooms[place + 1..].contains(&room) {
                    found.push(format!("{}: imports {name} of {room}, which is downstream of it", source.name));
                }
            }
        }
        let present = |room: &&&str| sources.iter().any(|source| room_of(krate, &source.name) == Some(**room));
        found.extend(rooms.iter().filter(|room| !present(room)).map(|room| format!("{krate} has no room {room}")));
    }
    report(found);
}

/// The file that a crate begins with.
fn root_of(krate: &str) -> PathBuf {
    root().join(krate).join("src/lib.rs")
}

/// The top-level module of a crate that a file is of; none of its root.
fn room_of<'n>(krate: &str, file: &'n str) -> Option<&'n str> {
    let path = file.strip_prefix(krate)?.strip_prefix("/src/")?;
    path.split(['/', '.']).next().filter(|room| !matches!(*room, "lib" | "main"))
}

/// What a crate's root gives out again, each name with its module: `pub use layout::{Form, Tiles};`.
fn given_out(root: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in root.split("pub use ").skip(1) {
        let Some((module, names)) = line.split(';').next().and_then(|path| path.split_once("::")) else { continue };
        found.extend(words(names).into_iter().map(|name| (name.to_string(), module.to_string())));
    }
    found
}

/// The reference judges what the derivation makes, so it shares nothing with it.
#[test]
fn the_reference_stands_alone() {
    let reference = sources().into_iter().filter(|s| s.name.starts_with("compiler/src/reference/"));
    report(reference.flat_map(|source| {
        let (_, rooms) = ROOMS[1];
        let derivation = rooms.iter().skip_while(|room| **room != DERIVATION);
        let rooms = derivation.filter(|room| imported(&source.code()).contains(**room)).collect::<Vec<_>>();
        rooms.into_iter().map(move |room| format!("{}: imports {room}", source.name))
    }));
}

#[test]
fn unsafe_stays_where_machine_code_is() {
    let outside = sources().into_iter().filter(|s| !UNSAFE.iter().any(|place| s.name.starts_with(place)));
    let mut found = Vec::new();
    for source in outside {
        let code = source.code_and_tests();
        for block in ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"] {
            if code.contains(block) && source.name != "tests/tests/tidy.rs" {
                found.push(format!("{}: {block}", source.name));
            }
        }
    }
    report(found);
}

/// A variant is a file of `examples/`: whatever branches on its name would have to be touched for the next one.
#[test]
fn nothing_knows_a_variant_by_name() {
    let variants = variants();
    let mut found = Vec::new();
    for source in sources().into_iter().filter(|s| CRATES.iter().any(|c| s.name.starts_with(&format!("{c}/src")))) {
        let code = source.code();
        for word in words(&code).into_iter().filter(|w| variants.contains(*w)) {
            found.push(format!("{}: names the variant {word}", source.name));
        }
    }
    report(found);
}

#[test]
fn nothing_unwraps_outside_tests() {
    let product = sources().into_iter().filter(|s| !s.name.starts_with("tests/") && !is_test_module(&s.name));
    report(lines_with(product, &[".unwrap()"]));
}

#[test]
fn nothing_is_left_undone() {
    // Spelt in halves, so that this file does not hold them.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("], ["dbg", "!("], ["#[ig", "nore"]];
    let marks: Vec<String> = marks.iter().map(|halves| halves.concat()).collect();
    report(lines_with(sources(), &marks.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[test]
fn the_readme_maps_the_folders() {
    let readme = read(&root().join("README.md"));
    let mapped: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("/` |").map(|(name, _)| name.to_string()))
        .collect();
    let present: BTreeSet<String> = entries(&root())
        .into_iter()
        .filter(|path| path.is_dir())
        .map(|path| file_name(&path))
        .filter(|name| !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()))
        .filter(|name| !files(&root().join(name)).is_empty())
        .collect();
    let unmapped = present.difference(&mapped).map(|name| format!("README.md: the map lacks `{name}/`"));
    let absent = mapped.difference(&present).map(|name| format!("README.md: the map names `{name}/`, which is absent"));
    report(unmapped.chain(absent));
}

/// A page has a title, the README leads to it, and the command holds it.
#[test]
fn pages_are_titled_linked_and_built_in() {
    let (readme, built_in) = (read(&root().join("README.md")), read(&root().join("cli/src/page.rs")));
    let mut found = Vec::new();
    for page in pages().into_iter().filter(|page| page.starts_with("docs/")) {
        let name = page.trim_start_matches("docs/").trim_end_matches(".md");
        if !read(&root().join(&page)).starts_with("# ") {
            found.push(format!("{page}: no title"));
        }
        if !readme.contains(&format!("({page})")) {
            found.push(format!("README.md: does not link {page}"));
        }
        if !built_in.contains(&format!("page!(\"{name}\")")) {
            found.push(format!("cli/src/page.rs: lacks {page}"));
        }
    }
    report(found);
}

/// A link within the project leads to a file, and to a heading of it.
#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for page in pages() {
        let text = read(&root().join(&page));
        let folder = root().join(&page).parent().map(Path::to_path_buf).unwrap_or_default();
        // Outside code, of lines and of blocks: `sum[j](e)` is no link.
        let prose: String = text.split('`').step_by(2).collect();
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root().join(&page) } else { folder.join(file) };
            if !target.exists() {
                found.push(format!("{page}: no {file}"));
            } else if !anchor.is_empty() && !anchors(&read(&target)).contains(anchor) {
                found.push(format!("{page}: no heading {link}"));
            }
        }
    }
    report(found);
}

/// The pages for people: those of the root and of `docs/`.
fn pages() -> Vec<String> {
    let markdown = |path: &PathBuf| path.extension().is_some_and(|e| e == "md");
    let listed = entries(&root()).into_iter().chain(entries(&root().join("docs")));
    listed.filter(markdown).map(|path| relative(&path)).collect()
}

/// What the headings of a page are called in links.
fn anchors(text: &str) -> BTreeSet<String> {
    let titles = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let anchor = |title: &str| -> String {
        let kept = title
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .collect::<String>();
        kept.replace(' ', "-")
    };
    titles.map(anchor).collect()
}

#[test]
fn every_snapshot_has_its_case() {
    let mut found = Vec::new();
    for path in files(&root().join("tests/cases")) {
        let name = relative(&path);
        if name.ends_with(".snap.new") {
            found.push(format!("{name}: an unreviewed snapshot"));
        } else if name.ends_with(".snap") {
            let case = path.parent().map(|folder| folder.with_extension("attn")).unwrap_or_default();
            let stage = file_name(&path.with_extension(""));
            if !case.is_file() || !read(&case).contains(&stage) {
                found.push(format!("{name}: no case has this stage"));
            }
        }
    }
    report(found);
}

/// One Rust file.
struct Source {
    /// The path from the root, with `/`.
    name: String,
    text: String,
}

impl Source {
    /// Without comments.
    fn code_and_tests(&self) -> String {
        let line = |line: &str| match line.trim_start().starts_with("//") {
            true => String::new(),
            false => line.split(" // ").next().unwrap_or_default().to_string(),
        };
        self.text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Without comments and unit tests.
    fn code(&self) -> String {
        if is_test_module(&self.name) { String::new() } else { before_tests(&self.code_and_tests()).to_string() }
    }
}

/// Unit tests written out in their file stand last in it; a `mod tests;` may stand anywhere.
fn before_tests(text: &str) -> &str {
    let written_out = |place: &usize| text[*place..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let marks = ["#[cfg(test)]\nmod ", "#[cfg(all(test"].into_iter();
    let tests = marks.flat_map(|mark| text.match_indices(mark).map(|(place, _)| place)).filter(written_out).min();
    &text[..tests.unwrap_or(text.len())]
}

fn is_test_module(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/") || name.ends_with("_tests.rs")
}

/// The lines that hold one of the marks, unit tests apart.
fn lines_with(sources: impl IntoIterator<Item = Source>, marks: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (number, line) in before_tests(&source.text).lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                found.push(format!("{}:{}: {mark}", source.name, number + 1));
            }
        }
    }
    found
}

fn words(code: &str) -> Vec<&str> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect()
}

/// The modules that code takes from its own crate: `crate::plan`, `crate::{Form, plan::Plan}`.
fn imported(code: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (place, mark) in code.match_indices("crate::") {
        let rest = &code[place + mark.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.extend(words(rest).first());
            continue;
        };
        let (mut depth, mut starts) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => starts = true,
                c if starts && !c.is_whitespace() => {
                    found.extend(words(&group[at..]).first());
                    starts = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn variants() -> BTreeSet<String> {
    let examples = entries(&root().join("examples"));
    let names = examples.iter().filter(|path| path.extension().is_some_and(|e| e == "attn"));
    // `based` is an English word too, and stands in messages as one.
    names.map(|path| file_name(&path.with_extension(""))).filter(|name| name != "based").collect()
}

fn sources() -> Vec<Source> {
    let rust = files(&root()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| Source { name: relative(&path), text: read(&path) }).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(folder) {
        if !path.is_dir() {
            found.push(path);
        } else if !NOT_OURS.contains(&file_name(&path).as_str()) {
            found.extend(files(&path));
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).into_iter().flatten().flatten();
    listing.map(|entry| entry.path()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in the workspace").to_path_buf()
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("found under the root").to_string_lossy().replace('\\', "/")
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Fails with all that was found.
fn report(found: impl IntoIterator<Item = String>) {
    let found = found.into_iter().collect::<Vec<_>>().join("\n");
    assert!(found.is_empty(), "\n{found}");
}
