//! Every flag that a command takes does something there, or is refused with the way out; and how all commands say what
//! they say: `--json`, `--quiet`, `--color`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::fs;

use serde_json::Value;

use place::{Done, PROGRAM, Place, inputs};

fn run(place: &Place, line: &str) -> Done {
    place.run(&line.split(' ').collect::<Vec<_>>())
}

/// What each command has no use for.
#[test]
fn flags_without_an_effect_are_refused() {
    let place = Place::new("unused");
    place.tensors("in.safetensors", inputs());
    let on_tensors = "run gated.attn --inputs in.safetensors --output out.safetensors";
    let refused = [
        ("explain gated.attn --check --dot", "--dot"),
        ("emit gated.attn --backend cranelift --device 0", "--device"),
        ("emit gated.attn --backend cranelift --limit groups=4", "--limit"),
        ("emit gated.attn --stage kernel --backend wgpu --limit groups=4", "--limit"),
        ("emit gated.attn --stage kernel --precision bf16", "--precision"),
        ("emit gated.attn --stage typed --schedule split", "--schedule"),
        ("emit gated.attn --stage kernel --form recurrent --schedule split", "--schedule"),
        ("emit gated.attn --backend cranelift --precision f16", "--backend wgpu"),
        ("emit gated.attn --backend llvm --precision bf16", "--backend cranelift"),
        ("emit gated.attn --backend llvm --precision f16", "--backend wgpu"),
        ("emit gated.attn --backend wgpu --precision bf16", "--backend cranelift"),
        ("emit gated.attn --stage code --after fuse-update", "--stage kernel"),
        ("emit gated.attn --stage object -o g.o --after fuse-update", "--stage kernel"),
        ("emit gated.attn --stage kernel --backend reference --after fuse-update", "no passes"),
        ("emit gated.attn --stage kernel --backend llvm --after soup", "lower-scans, fuse-update, specialise-decode"),
        ("emit gated.attn --stage kernel --backend cranelift --after fold-transpose", "strip-mine, in this order"),
        ("emit gated.attn --header g.h", "--header"),
        ("emit gated.attn --name g", "--name"),
        ("emit gated.attn --target-cpu host", "--target-cpu"),
        ("emit gated.attn --stage object -o g.o --precision bf16", "--precision bf16"),
        ("emit gated.attn --stage object -o g.o --precision f16", "--precision f16"),
        ("emit gated.attn --stage object -o g.o --device 0", "--device"),
        ("emit gated.attn --stage object -o g.o --limit groups=4", "--limit"),
        ("emit gated.attn --stage object -o g.o --backend cranelift", "--backend llvm"),
        ("bench gated.attn --form parallel --schedule split", "--schedule split"),
        ("bench gated.attn --decode --tokens 4", "--tokens"),
        ("bench gated.attn --inputs in.safetensors --serve --tokens 4", "--tokens"),
        ("bench gated.attn --inputs in.safetensors --serve --seed 4", "--seed"),
        ("bench gated.attn --backend cranelift --limit groups=4", "--backend wgpu"),
        ("bench gated.attn --tokens 4 --dim T=8", "--dim T"),
        ("bench gated.attn --batch 4 --dim B=8", "--dim B"),
        ("verify gated.attn --heads 4 --dim H=8", "--dim H"),
        ("verify gated.attn --backend reference --device 0", "--backend wgpu"),
    ];
    for (line, named) in refused {
        let done = run(&place, line);
        assert_eq!(done.status, 2, "{line}: {}", done.stderr);
        assert!(done.stderr.contains(named), "{line}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{line}");
    }
    assert!(!place.path("g.o").exists() && !place.path("g.h").exists());
    let done = run(&place, &format!("{on_tensors} --backend reference --limit groups=4"));
    assert_eq!(done.status, 2, "{}", done.stderr);
    // Where no back end is named, a limit does not fall on another one than the GPU's.
    let done = run(&place, &format!("{on_tensors} --limit groups=4"));
    assert!(done.status == 2 && done.stderr.contains("--backend wgpu"), "{}", done.stderr);
    assert!(!place.path("out.safetensors").exists());
}

/// Flags that all commands share and one has no use for: scripts hand them to every command.
#[cfg(feature = "cranelift")]
#[test]
fn shared_flags_without_an_effect_are_said() {
    let place = Place::new("said");
    place.tensors("in.safetensors", inputs());
    for (line, named) in [
        ("check gated.attn --threads 2", "--threads"),
        ("check gated.attn --seed 1", "--seed"),
        ("check gated.attn --form recurrent --chunk 16", "--chunk"),
        ("explain gated.attn --backend cranelift", "--backend"),
        ("explain gated.attn --schedule split", "--schedule"),
        ("explain gated.attn --chunk 4", "--chunk"),
        ("explain gated.attn --dim K=4", "--dim"),
        ("explain gated.attn --precision bf16", "--precision"),
        ("explain gated.attn --device 0", "--device"),
        ("explain gated.attn --limit groups=4", "--limit"),
        ("explain gated.attn --threads 2", "--threads"),
        ("explain gated.attn --seed 1", "--seed"),
        ("emit gated.attn --threads 2", "--threads"),
        ("emit gated.attn --seed 1", "--seed"),
        ("emit gated.attn --form recurrent --chunk 16", "--chunk"),
        ("bench gated.attn --form recurrent --chunk 16", "--chunk"),
        ("verify gated.attn --form recurrent --chunk 16", "--chunk"),
        ("run gated.attn --inputs in.safetensors --output out.safetensors --seed 1", "--seed"),
        ("run gated.attn --inputs in.safetensors --output out.safetensors --form recurrent --chunk 4", "--chunk"),
    ] {
        let done = run(&place, line);
        assert_eq!(done.status, 0, "{line}: {}", done.stderr);
        assert!(done.stderr.contains("note: ") && done.stderr.contains(named), "{line}: {}", done.stderr);
    }
}

/// The others change what comes out.
#[cfg(feature = "cranelift")]
#[test]
fn the_other_flags_are_honoured() {
    let place = Place::new("honoured");
    fs::write(place.path("arg.attn"), PROGRAM.replace("variant gated", "variant gated(W = 8)")).unwrap();
    let emit = "emit gated.attn --stage kernel";
    for (line, other) in [
        ("check gated.attn --form recurrent", "check gated.attn"),
        ("check gated.attn --backend llvm", "check gated.attn"),
        ("check arg.attn --arg W=4", "check arg.attn"),
        ("explain gated.attn --form recurrent", "explain gated.attn"),
        ("explain gated.attn --dot", "explain gated.attn"),
        ("emit gated.attn --stage kernel --dim K=4", emit),
        ("emit gated.attn --stage kernel --form recurrent", emit),
        ("emit gated.attn --stage kernel --schedule split", emit),
        ("emit gated.attn --backend cranelift --stage asm", "emit gated.attn --backend cranelift"),
        ("backends --json", "backends"),
    ] {
        assert_ne!(run(&place, line).succeeds(), run(&place, other).succeeds(), "{line}");
    }
    // The usual form is the same everywhere.
    assert_eq!(run(&place, &format!("{emit} --form chunked")).succeeds(), run(&place, emit).succeeds());
    assert_eq!(
        run(&place, "explain gated.attn --form chunked").succeeds(),
        run(&place, "explain gated.attn").succeeds()
    );
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"))).collect()
}

#[cfg(feature = "cranelift")]
#[test]
fn every_command_speaks_json() {
    let place = Place::new("json");
    place.tensors("in.safetensors", inputs());
    let small = "--backend cranelift --dim K=4 --dim V=6";
    for (line, key) in [
        ("check gated.attn".to_string(), "compiles"),
        ("explain gated.attn --check".into(), "deviation"),
        ("explain gated.attn --dot".into(), "dot"),
        ("emit gated.attn --stage kernel".into(), "text"),
        ("run gated.attn --inputs in.safetensors --output out.safetensors --backend cranelift".into(), "tensors"),
        (format!("verify gated.attn --tokens 3 {small}"), "error"),
        (format!("bench gated.attn --tokens 3 {small}"), "tokens_per_s"),
        (format!("bench gated.attn --decode {small}"), "workspace_bytes"),
        ("backends".into(), "backend"),
    ] {
        let done = run(&place, &format!("{line} --json"));
        let lines = objects(done.succeeds());
        assert!(!lines.is_empty() && lines.iter().all(|line| !line[key].is_null()), "{line}: {}", done.stdout);
        objects(&done.stderr);
    }
}

#[test]
fn diagnostics_are_objects_under_json() {
    let place = Place::new("diagnostics");
    fs::write(place.path("wrong.attn"), PROGRAM.replace("exp(g[t])", "exp(gg[t])")).unwrap();
    for (line, code, at) in [
        ("check wrong.attn --json", "undeclared-name", Some((5, 22))),
        ("check absent.attn --json", "wrong-input", None),
        ("check gated.attn --json --frobnicate", "command-line", None),
        ("emit gated.attn --json --variant other", "wrong-input", None),
    ] {
        let done = run(&place, line);
        assert_eq!((done.status, done.stdout.as_str()), (2, ""), "{line}");
        let found = objects(&done.stderr);
        let first = found.iter().find(|one| one["code"] == code).unwrap_or_else(|| panic!("{line}: {}", done.stderr));
        assert_eq!(first["severity"], "error");
        for key in ["message", "file", "line", "column", "help"] {
            assert!(first.get(key).is_some(), "{line}: {key} in {first}");
        }
        if let Some((line, column)) = at {
            assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(line), Some(column)), "{first}");
            assert_eq!(first["file"], "wrong.attn");
        }
    }
}

#[test]
fn quiet_leaves_errors_and_colours_are_as_asked_for() {
    let place = Place::new("quiet");
    fs::write(place.path("wrong.attn"), PROGRAM.replace("exp(g[t])", "exp(gg[t])")).unwrap();
    let escape = '\u{1b}';
    let coloured = |line: &str| run(&place, line).stderr.contains(escape);
    assert!(coloured("check wrong.attn --color always") && !coloured("check wrong.attn"));
    assert!(!coloured("check wrong.attn --color never"));
    assert!(coloured("check --color=always") && !coloured("check --color never"));
    let notes = "emit gated.attn --stage kernel --chunk 8";
    assert!(run(&place, notes).stderr.contains("note: "));
    assert_eq!(run(&place, &format!("{notes} --quiet")).stderr, "");
    assert!(run(&place, "check absent.attn --quiet").stderr.contains("error: "));
    run(&place, "check gated.attn --color sometimes").fails(2, &["always", "never"]);
}
