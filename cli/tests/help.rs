//! `help`, `examples`, `new`, `completions` and `man`: what a person meets on the first day. Everything that the language
//! has is described.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use chunkwise_dsl::{check::vocabulary::families, compile, source::Source};
use place::Place;

#[test]
fn every_name_of_the_language_has_help() {
    let place = Place::new("help-names");
    let mut missing = Vec::new();
    for family in families() {
        for name in family.names {
            let done = place.run(&["help", "--", name]);
            if done.status != 0 || !done.stdout.contains(name) {
                missing.push(format!("{} `{name}`", family.kind));
            }
        }
    }
    assert!(missing.is_empty(), "docs/ says nothing of {}", missing.join(", "));
}

#[test]
fn every_error_code_has_help() {
    let place = Place::new("help-codes");
    let codes = codes(&PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dsl/src")));
    assert!(codes.contains("shape-mismatch") && codes.len() > 50, "{codes:?}");
    let missing: Vec<&String> = codes.iter().filter(|code| place.run(&["help", code]).status != 0).collect();
    assert!(missing.is_empty(), "docs/errors.md says nothing of {missing:?}");
}

/// The codes in the checker's sources: words with dashes in quotes, and what a finding is made with.
fn codes(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            found.extend(codes(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let quoted = text.split('"').collect::<Vec<_>>();
            for pair in quoted.windows(2) {
                let (before, word) = (pair[0].trim_end(), pair[1]);
                let kebab = word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && word.contains('-');
                let plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase());
                let made = before.ends_with("Diagnostic::new(")
                    || before.ends_with("Diagnostic::warning(")
                    || before.ends_with("fail(")
                    || before.ends_with("fail::<()>(");
                if kebab && word.len() > 1 && !word.starts_with('-') && !word.ends_with('-') || plain && made {
                    found.insert(word.to_string());
                }
            }
        }
    }
    found
}

/// A page entry, not only a word: a cause and a mend.
#[test]
fn every_case_of_an_error_is_on_the_page() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let page = fs::read_to_string(root.join("docs/errors.md")).unwrap();
    let mut seen = 0;
    for entry in fs::read_dir(root.join("tests/cases/errors")).unwrap() {
        let case = entry.unwrap().path();
        let Some(text) = case.extension().and_then(|_| fs::read_to_string(&case).ok()) else { continue };
        for error in compile(&Source::new("case", text), &[]).err().unwrap_or_default() {
            seen += 1;
            assert!(
                page.contains(&format!("### `{}`\n", error.code)),
                "{}: no entry for {}",
                case.display(),
                error.code
            );
        }
    }
    assert!(seen > 20, "{seen} codes seen");
}

#[test]
fn help_has_pages_sections_and_the_command_line() {
    let place = Place::new("help-topics");
    let says = |topic: &[&str], words: &[&str]| {
        let done = place.run(&[&["help"], topic].concat());
        words
            .iter()
            .for_each(|word| assert!(done.succeeds().contains(word), "{topic:?}: no {word} in\n{}", done.stdout));
        // It is text for a terminal, not Markdown.
        assert!(
            !done.stdout.contains("```") && !done.stdout.contains("\n## ") && !done.stdout.contains(".md)"),
            "{}",
            done.stdout
        );
    };
    says(&[], &["Usage: chunkwise", "verify", "help language"]);
    says(&["check"], &["Usage: chunkwise check", "chunkwise check my.attn", "draw("]);
    says(&["language"], &["The language", "variant", "decay"]);
    says(&["functions"], &["softplus"]);
    says(&["laws"], &["additive"]);
    says(&["delta"], &["beta k (v - P'k)'"]);
    says(&["sum"], &["sum[j](e)", "sum(x)"]);
    says(&["swish"], &["silu"]);
    says(&["mish"], &["tanh(softplus(x))"]);
    says(&["shape-mismatch"], &["diag(a)"]);
    says(&["reductions"], &["visible"]);
    place.run(&["help", "sofmax"]).fails(2, &["no help on `sofmax`", "did you mean `softmax`"]);
    place.run(&["help", "zzzzzz"]).fails(2, &["chunkwise help language"]);
}

#[test]
fn every_command_has_an_example() {
    let place = Place::new("help-examples");
    let listed = place.run(&["--help"]);
    let commands =
        listed.succeeds().lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut seen = 0;
    for line in commands.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        let done = place.run(&[name, "--help"]);
        assert!(done.succeeds().contains(&format!("Examples:\n  chunkwise {name}")), "{name}: {}", done.stdout);
        assert!(!place.run(&[name, "-h"]).succeeds().contains("Examples:"), "{name} -h is short");
        assert!(place.run(&["man", name]).succeeds().starts_with(".ie"), "{name}");
        seen += 1;
    }
    assert!(seen > 10, "{seen} commands seen");
}

#[test]
fn examples_are_listed_shown_and_taken_as_files() {
    let place = Place::new("examples");
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples"));
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> = files
        .filter(|path| path.extension().is_some_and(|e| e == "attn"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let listed = place.run(&["examples"]);
    let lines: Vec<&str> = listed.succeeds().lines().collect();
    let found: BTreeSet<String> =
        lines.iter().map(|line| line.split_whitespace().next().unwrap().to_string()).collect();
    assert_eq!(found, names);
    // A line says more than the name: the title and the paper.
    assert!(lines.iter().all(|line| line.split_whitespace().count() > 3), "{lines:#?}");
    let shown = place.run(&["examples", "gla"]);
    assert!(shown.succeeds().contains("variant gla("), "{}", shown.stdout);
    assert_eq!(place.run(&["examples", "--show", "gla"]).stdout, shown.stdout);
    assert!(place.run(&["check", "@gla"]).succeeds().contains("variant gla"));
    place.run(&["check", "@glaa"]).fails(2, &["no example is called `glaa`", "did you mean @gla"]);
    place.run(&["check", "@"]).fails(2, &["chunkwise examples"]);
    place.run(&["examples", "gated"]).fails(2, &["@gated_deltanet, @gated_deltanet_equation"]);
}

#[test]
fn a_dash_is_standard_input() {
    let place = Place::new("stdin");
    let program = fs::read_to_string(place.path("gated.attn")).unwrap();
    let piped = |arguments: &[&str], text: &str| {
        let mut command = place.command();
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    };
    let (status, out, said) = piped(&["check", "-"], &program);
    assert!(status == 0 && out.contains("variant gated"), "{out}{said}");
    // The syntax tree is made of the text once more.
    let (status, out, said) = piped(&["emit", "-", "--stage", "ast"], &program);
    assert!(status == 0 && out.contains("variant gated"), "{out}{said}");
    let (status, _, said) = piped(&["check", "-"], "variant {");
    assert!(status == 2 && said.contains("<stdin>:1"), "{said}");
}

#[test]
fn a_new_file_checks_and_verifies_and_nothing_is_overwritten() {
    let place = Place::new("new");
    assert_eq!(place.run(&["new", "mine"]).succeeds(), "mine.attn\n");
    let verify = |file: &str| place.run(&["verify", file, "--tokens", "1,20", "--chunk", "8"]).succeeds().to_string();
    assert!(verify("mine.attn").contains("mine"));
    let text = fs::read_to_string(place.path("mine.attn")).unwrap();
    place.run(&["new", "mine"]).fails(2, &["mine.attn", "already"]);
    place.run(&["new", "mine", "--from", "gla"]).fails(2, &["mine.attn", "already"]);
    assert_eq!(fs::read_to_string(place.path("mine.attn")).unwrap(), text);
    place.run(&["new", "copy", "--from", "@deltanet"]).succeeds();
    assert!(place.run(&["check", "copy.attn"]).succeeds().contains("variant copy\n"));
    place.run(&["new", "other", "--from", "deltanett"]).fails(2, &["@deltanet"]);
    place.run(&["new", "no-name"]).fails(2, &["no name of a variant"]);
    place.run(&["new", "if"]).fails(2, &["no name of a variant"]);
    assert!(!place.path("no-name.attn").exists() && !place.path("other.attn").exists());
}

#[test]
fn shells_get_commands_flags_and_their_values() {
    let place = Place::new("completions");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]);
        assert!(script.succeeds().contains("verify") && script.stdout.contains("backend"), "{shell}");
        // The other two have no place for the values of a flag.
        assert!(["elvish", "powershell"].contains(&shell) || script.stdout.contains("cranelift"), "{shell}");
    }
    let page = place.run(&["man"]);
    assert!(page.succeeds().contains(".TH chunkwise 1"), "{}", page.stdout);
    place.run(&["man", "verfy"]).fails(2, &["no command `verfy`", "verify"]);
}

#[test]
fn a_misspelt_value_is_answered_with_the_nearest() {
    let place = Place::new("values");
    for (arguments, meant) in [
        (vec!["verify", "gated.attn", "--backend", "cranelif"], "'cranelift'"),
        (vec!["verify", "gated.attn", "--form", "chunk"], "'chunked'"),
        (vec!["verify", "gated.attn", "--schedule", "splitt"], "'split'"),
        (vec!["verify", "gated.attn", "--precision", "bf61"], "'bf16'"),
        (vec!["verify", "gated.attn", "--limit", "workgroup-memry=3"], "`workgroup-memory`"),
        (vec!["emit", "gated.attn", "--stage", "kernl"], "'kernel'"),
        (vec!["completions", "bsh"], "'bash'"),
        (vec!["verify", "gated.attn", "--dim", "k=3"], "`K`"),
        (vec!["verfy", "gated.attn"], "'verify'"),
        (vec!["verify", "gated.attn", "--backen", "llvm"], "'--backend'"),
    ] {
        place.run(&arguments).fails(2, &[meant]);
    }
}
