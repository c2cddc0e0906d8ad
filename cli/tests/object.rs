//! Objects as a C program sees them: what `emit --stage object` wrote links into programs that give the bytes of `run`,
//! needs nothing of any library, and says what is wrong with a call.

#![cfg(feature = "llvm")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod linked;

use std::fs;

use chunkwise_compiler::{Form, report};
use chunkwise_dsl::{compile, source::Source};
use linked::{Linked, Place, States, example, root};

/// Odd sizes, no tokens, one token; fewer work items than cores, so that `run` takes value tiles.
fn agrees_everywhere(name: &str, file: &str, form: &[&str]) {
    let place = Place::new(name);
    let linked = Linked::new(&place, file, form);
    for states in [States::Declared, States::Given] {
        for (batch, tokens, heads) in [(2, 37, 3), (3, 64, 2), (2, 1, 3), (2, 0, 3), (1, 65, 1)] {
            linked.agrees(&[("B", batch), ("T", tokens), ("H", heads)], states);
        }
    }
}

#[test]
fn chunked_gla_gives_the_bytes_of_run() {
    agrees_everywhere("gla-chunked", &example("gla"), &["--form", "chunked", "--chunk", "16", "--schedule", "fused"]);
}

#[test]
fn recurrent_gla_gives_the_bytes_of_run() {
    agrees_everywhere("gla-recurrent", &example("gla"), &["--form", "recurrent"]);
}

#[test]
fn chunked_gated_deltanet_gives_the_bytes_of_run() {
    agrees_everywhere(
        "gdn-chunked",
        &example("gated_deltanet"),
        &["--form", "chunked", "--chunk", "24", "--schedule", "fused"],
    );
}

#[test]
fn gated_deltanet_in_several_kernels_gives_the_bytes_of_run() {
    let form = ["--form", "chunked", "--chunk", "16", "--schedule", "split"];
    agrees_everywhere("gdn-split", &example("gated_deltanet"), &form);
}

#[test]
fn recurrent_gated_deltanet_gives_the_bytes_of_run() {
    agrees_everywhere("gdn-recurrent", &example("gated_deltanet"), &["--form", "recurrent"]);
}

#[test]
fn every_example_gives_the_bytes_of_run() {
    let place = Place::new("examples");
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "attn") {
            let file = path.display().to_string();
            let linked =
                Linked::new(&place, &file, &["--chunk", "16", "--schedule", "fused", "--form", chunks_first(&file)]);
            linked.agrees(&[("B", 2), ("T", 19), ("H", 3)], States::Given);
        }
    }
}

fn chunks_first(file: &str) -> &'static str {
    let program = compile(&Source::new(file, fs::read_to_string(file).unwrap()), &[]).unwrap();
    let (_, forms) = report(&program.variants[0]);
    let has = |form: Form| forms.iter().any(|report| report.form == form && report.missing.is_none());
    [Form::Chunked, Form::Recurrent].into_iter().find(|form| has(*form)).unwrap_or(Form::Parallel).name()
}

/// Calls nothing, links with itself under another name, and reads as C++.
#[test]
fn objects_stand_alone_and_beside_each_other() {
    let place = Place::new("beside");
    let dims = ["--dim", "K=64", "--dim", "V=64", "--name"];
    let prompt = ["--form", "chunked", "--chunk", "64"];
    place.emit(&example("gla"), "gla_prompt", &[&prompt[..], &dims, &["gla_prompt"]].concat());
    place.emit(&example("gla"), "gla_token", &[&["--form", "recurrent"], &dims[..], &["gla_token"]].concat());
    place.emit(&example("deltanet"), "delta", &["--name", "delta"]);
    let program = root().join("examples/call_gla.c").display().to_string();
    place.cc(&[&program, "-I.", "gla_prompt.o", "gla_token.o", "delta.o", "-pie", "-fPIE", "-o", "both"]);
    assert!(place.succeeds("./both", &[]).contains("10 tokens one by one"));
    for stem in ["gla_prompt", "gla_token", "delta"] {
        assert_eq!(place.succeeds("nm", &["-u", &format!("{stem}.o")]), "", "{stem} needs a symbol");
        let symbols = place.succeeds("nm", &["-g", "--defined-only", &format!("{stem}.o")]);
        let mut names: Vec<&str> = symbols.lines().filter_map(|line| line.split(' ').next_back()).collect();
        names.sort_unstable();
        assert_eq!(names, [stem.to_string(), format!("{stem}_workspace")]);
        let flags = ["-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-x", "c++"];
        place.succeeds("c++", &[&flags[..], &[&format!("{stem}.h")]].concat());
    }
}

const ODD: &str = "variant double {
  axes    B, T, H, K, V;
  input   int, k : [B,T,H,K], v : [B,T,H,V], φ : [B,T,H], ids : i32 [B,T];
  param   size_t : [H,K,V], u : [K];
  state   S : [K,V] = size_t, a : [K] = u, n : [] = 1 / K;
  decay   f[t] = exp(logsigmoid(φ[t]));
  update  S additive(k, v);
  update  a[t] = a[t-1] + k[t];
  update  n[t] = n[t-1] + ids[t];
  output  o[t] = S[t]' * int[t] + n[t] * (2 + sin(φ[t])) ^ cos(φ[t]) + sum(a[t] .* k[t]);
}
";

/// Names that C keeps for itself, initial values that are params and expressions, int32, every kind of function.
#[test]
fn odd_programs_give_the_bytes_of_run() {
    let place = Place::new("odd");
    let file = place.path("odd.attn").display().to_string();
    fs::write(&file, ODD).unwrap();
    let linked = Linked::new(&place, &file, &["--form", "recurrent"]);
    linked.agrees(&[("B", 2), ("T", 5), ("H", 3)], States::Declared);
    linked.agrees(&[("B", 2), ("T", 0), ("H", 3)], States::Declared);
    linked.agrees(&[("B", 2), ("T", 5), ("H", 3)], States::Given);
    assert_eq!(place.succeeds("nm", &["-u", "k.o"]), "");
}

const CODES: &str = r#"#include "k.h"
#include <assert.h>
#include <stdlib.h>
int main(void) {
    float x[64] = {0}, o[64], S[64];
    size_t bytes = gla_workspace(1, 2, 1);
    char *w = malloc(bytes);
    const int64_t huge = INT64_MAX, large = (int64_t)1 << 31;
    assert(w != NULL && bytes > 0);
    assert(gla(x, x, x, x, NULL, o, S, 1, 2, 1, w, bytes) == GLA_OK);
    assert(gla(x, x, x, x, NULL, o, S, 1, 2, 1, w, bytes - 1) == GLA_SMALL_WORKSPACE);
    assert(gla(x, x, x, x, NULL, o, S, 1, 2, 1, w, 0) == GLA_SMALL_WORKSPACE);
    assert(gla(x, x, x, x, NULL, o, S, 1, 2, 1, NULL, bytes) == GLA_NULL_POINTER);
    assert(gla(NULL, x, x, x, NULL, o, S, 1, 2, 1, w, bytes) == GLA_NULL_POINTER);
    assert(gla(x, x, x, x, NULL, NULL, S, 1, 2, 1, w, bytes) == GLA_NULL_POINTER);
    assert(gla(x, x, x, x, NULL, o, NULL, 1, 2, 1, w, bytes) == GLA_NULL_POINTER);
    assert(gla(NULL, NULL, NULL, NULL, NULL, NULL, S, 1, 0, 1, w, bytes) == GLA_OK);
    assert(gla(NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 2, 1, w, bytes) == GLA_OK);
    assert(gla(x, x, x, x, NULL, o, S, -1, 2, 1, w, bytes) == GLA_WRONG_SIZE);
    assert(gla(x, x, x, x, NULL, o, S, 1, -2, 1, w, bytes) == GLA_WRONG_SIZE);
    assert(gla(x, x, x, x, NULL, o, S, 1, 2, huge, w, bytes) == GLA_WRONG_SIZE);
    assert(gla(x, x, x, x, NULL, o, S, large, large, large, w, bytes) == GLA_WRONG_SIZE);
    assert(gla_workspace(1, -1, 1) == 0 && gla_workspace(large, large, large) == 0);
    assert(gla_workspace(0, 0, 0) > 0);
    free(w);
    return 0;
}
"#;

#[test]
fn a_wrong_call_says_what_is_wrong() {
    let place = Place::new("codes");
    for form in ["chunked", "recurrent"] {
        place.emit(&example("gla"), "k", &["--form", form, "--dim", "K=4", "--dim", "V=4"]);
        fs::write(place.path("codes.c"), CODES).unwrap();
        place.cc(&["codes.c", "k.o", "-o", "codes"]);
        place.succeeds("./codes", &[]);
    }
}

const MODES: &str = r#"#include "k.h"
#include <assert.h>
#include <stdlib.h>
static int usual(void) {
    volatile float tiny = 1e-39f, half = 0.5f;
    return tiny * half > 0.0f;
}
int main(void) {
    float zero[4] = {0}, o[4], in[16], out[16];
    size_t bytes = gla_workspace(1, 1, 1);
    void *w = malloc(bytes);
    for (int i = 0; i < 16; i++) in[i] = 1e-39f;
    assert(usual());
    assert(gla(zero, zero, zero, zero, in, o, out, 1, 1, 1, w, bytes) == GLA_OK && usual());
    for (int i = 0; i < 16; i++) assert(out[i] == 0.0f);
    assert(gla(zero, zero, zero, zero, in, o, out, 1, 1, 1, w, 0) == GLA_SMALL_WORKSPACE && usual());
#if defined(__x86_64__)
    unsigned mode = __builtin_ia32_stmxcsr() | 0x8040;
    __builtin_ia32_ldmxcsr(mode);
    assert(gla(zero, zero, zero, zero, in, o, out, 1, 1, 1, w, bytes) == GLA_OK);
    assert(__builtin_ia32_stmxcsr() == mode && !usual());
#endif
    free(w);
    return 0;
}
"#;

#[test]
fn a_call_counts_subnormal_numbers_as_0_and_leaves_the_mode_of_its_caller() {
    let place = Place::new("modes");
    for form in ["chunked", "recurrent"] {
        place.emit(&example("gla"), "k", &["--form", form, "--dim", "K=4", "--dim", "V=4"]);
        fs::write(place.path("modes.c"), MODES).unwrap();
        place.cc(&["modes.c", "k.o", "-o", "modes"]);
        place.succeeds("./modes", &[]);
    }
}

#[test]
fn a_wrong_command_line_leaves_nothing() {
    let place = Place::new("usage");
    let file = example("gla");
    let base = ["emit", file.as_str(), "--stage", "object"];
    for (more, says) in [
        (vec![], "-o"),
        (vec!["-o", "k.o", "--header", "./k.o"], "--header"),
        (vec!["-o", "k.o", "--backend", "reference"], "llvm"),
        (vec!["-o", "k.o", "--name", "while"], "identifier"),
        (vec!["-o", "k.o", "--name", "exp"], "identifier"),
        (vec!["-o", "k.o", "--target-cpu", "abacus"], "abacus"),
        (vec!["-o", "k.o", "--form", "chunked", "--chunk", "0"], "--chunk"),
    ] {
        let done = place.chunkwise(&[&base[..], &more].concat());
        assert_eq!(done.status.code(), Some(2), "{more:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains(says), "{more:?}");
    }
    let done = place.chunkwise(&["emit", &file, "--stage", "kernel", "--header", "k.h"]);
    assert_eq!(done.status.code(), Some(2));
    for (object, header) in [("no/k.o", "k.h"), ("k.o", "no/k.h")] {
        let done = place.chunkwise(&[&base[..], &["-o", object, "--header", header]].concat());
        assert_eq!(done.status.code(), Some(1));
    }
    assert_eq!(fs::read_dir(place.path(".")).unwrap().count(), 0, "a file was left");
}

#[test]
fn an_object_for_an_older_processor_needs_no_library_either() {
    let place = Place::new("older");
    let file = place.path("odd.attn").display().to_string();
    fs::write(&file, ODD).unwrap();
    for name in chunkwise_compiler::codegen::llvm::Target::names() {
        place.emit(&file, "k", &["--target-cpu", name]);
        assert_eq!(place.succeeds("nm", &["-u", "k.o"]), "", "{name}");
    }
}
