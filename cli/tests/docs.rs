//! The pages of `docs/` and the README hold: every example in them is a program that checks, those marked `verify` agree
//! with the reference, those marked `error` fail as they say, and the commands shown print what is shown.
//!
//! A block is opened by three backquotes and `attn`, and after that word may say
//!
//! - `verify`: verified on every back end that is built in, over a few tokens;
//! - `statements`: not a whole file but statements of a variant that has the inputs q, k, v, g and beta;
//! - `error CODE`: does not check, for this reason.
//!
//! Blocks of `console` are run in a folder that holds the page's other examples, each under its variant's name.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::{fs, path::PathBuf};

use place::Place;

/// A code block of a page.
struct Block {
    /// `docs/language.md:12`
    place: String,
    /// What stands after the backquotes.
    info: String,
    text: String,
}

#[test]
fn every_example_checks() {
    let place = Place::new("docs-check");
    let (mut seen, mut wrong) = (0, Vec::new());
    for block in blocks().iter().filter(|block| block.info.starts_with("attn")) {
        seen += 1;
        let text = if block.info == "attn statements" { variant_of(&block.text) } else { block.text.clone() };
        fs::write(place.path("example.attn"), text).unwrap();
        let done = place.run(&["check", "example.attn"]);
        let holds = match block.info.strip_prefix("attn error ") {
            Some(code) => done.status == 2 && done.stderr.contains(code),
            None => done.status == 0,
        };
        if !holds {
            wrong.push(format!("{}: exit status {}\n{}", block.place, done.status, done.stderr));
        }
    }
    assert!(seen > 10, "the pages hold {seen} examples only");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn examples_marked_so_agree_with_the_reference() {
    let place = Place::new("docs-verify");
    let (mut seen, mut wrong) = (0, Vec::new());
    for block in blocks().iter().filter(|block| block.info == "attn verify") {
        seen += 1;
        fs::write(place.path("example.attn"), &block.text).unwrap();
        let done = place.run(&["verify", "example.attn", "--tokens", "1,20", "--chunk", "8"]);
        if done.status != 0 {
            wrong.push(format!("{}: {}{}", block.place, done.stdout, done.stderr));
        }
    }
    assert!(seen > 5, "the pages hold {seen} such examples only");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A program in a block of another kind would not be looked at.
#[test]
fn no_program_goes_unmarked() {
    let opens = |line: &str| line.starts_with("variant ") && line.contains('{');
    let unmarked = |block: &&Block| !block.info.starts_with("attn") && block.text.lines().any(opens);
    let found: Vec<String> = blocks().iter().filter(unmarked).map(|block| block.place.clone()).collect();
    assert!(found.is_empty(), "programs in blocks that do not say `attn`: {}", found.join(", "));
}

/// `...` on a line of its own stands for any lines, within a line for any text.
#[test]
fn commands_print_what_is_shown() {
    let mut wrong = Vec::new();
    for page in pages() {
        let place = Place::new("docs-console");
        for block in blocks_of(&page) {
            if let Some(name) = variant_name(&block.text).filter(|_| block.info.starts_with("attn")) {
                fs::write(place.path(&format!("{name}.attn")), &block.text).unwrap();
            }
            if block.info == "console" {
                wrong.extend(sessions(&block.text).into_iter().filter_map(|(command, shown)| {
                    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
                    let done = place.run(&words);
                    let got = format!("{}{}", done.stdout, done.stderr);
                    let (got, shown): (Vec<&str>, Vec<&str>) = (got.lines().collect(), shown.lines().collect());
                    (!matches(&got, &shown)).then(|| format!("{}: {command}\n{}", block.place, got.join("\n")))
                }));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn matches(got: &[&str], shown: &[&str]) -> bool {
    match (got, shown) {
        ([], []) => true,
        (_, ["...", rest @ ..]) => (0..=got.len()).any(|from| matches(&got[from..], rest)),
        ([line, got @ ..], [wanted, shown @ ..]) => fits(line.trim_end(), wanted.trim_end()) && matches(got, shown),
        _ => false,
    }
}

/// The parts between the dots stand in the line one after the other, the first at its start, the last at its end.
fn fits(line: &str, wanted: &str) -> bool {
    match wanted.split_once("...") {
        None => line == wanted,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|left| {
            (0..=left.len()).filter(|at| left.is_char_boundary(*at)).any(|at| fits(&left[at..], rest))
        }),
    }
}

/// The commands of a block, each with what is shown under it.
fn sessions(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command.to_string(), String::new())),
            (None, Some((_, shown))) => shown.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    found
}

/// Statements in a variant that has what they mention.
fn variant_of(statements: &str) -> String {
    let head = "axes B, T, H, K, V;\ninput q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];";
    let output = if statements.contains("output") { "" } else { "output o[t] = q[t];" };
    format!("variant example {{\n{head}\n{statements}\n{output}\n}}\n")
}

fn variant_name(text: &str) -> Option<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix("variant "))?;
    line.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

fn pages() -> Vec<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut pages: Vec<PathBuf> = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages.push(root.join("README.md"));
    pages
}

fn blocks() -> Vec<Block> {
    pages().iter().flat_map(blocks_of).collect()
}

fn blocks_of(page: &PathBuf) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let name = page.file_name().unwrap().to_string_lossy();
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        if let Some(info) = line.strip_prefix("```") {
            open = !open;
            if open {
                let place = format!("{name}:{}", number + 1);
                found.push(Block { place, info: info.trim().to_string(), text: String::new() });
            }
        } else if let Some(block) = found.last_mut().filter(|_| open) {
            block.text.push_str(&format!("{line}\n"));
        }
    }
    found
}
