//! The command as scripts see it: exit statuses, what is said where, and that nothing is left behind by a failure.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::fs;

use chunkwise_runtime::{Tensor, Tensors, tensor};

use place::{PROGRAM, Place, inputs};

fn changed(name: &str, tensor: Tensor) -> Tensors {
    let mut tensors = inputs();
    tensors.insert(name.to_string(), tensor);
    tensors
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let place = Place::new("usage");
    for arguments in [
        vec![],
        vec!["frobnicate"],
        vec!["check"],
        vec!["check", "gated.attn", "--frobnicate"],
        vec!["verify", "gated.attn", "--chunk", "0"],
        vec!["verify", "gated.attn", "--chunk", "-3"],
        vec!["verify", "gated.attn", "--form", "sideways"],
        vec!["verify", "gated.attn", "--backend", "abacus"],
        vec!["verify", "gated.attn", "--threads", "0"],
        vec!["verify", "gated.attn", "--batch", "0"],
        vec!["verify", "gated.attn", "--dim", "K"],
        vec!["verify", "gated.attn", "--dim", "K=many"],
        vec!["emit", "gated.attn", "--stage", "soup"],
        vec!["emit", "gated.attn", "--backend", "llvm,reference"],
        vec!["run", "gated.attn"],
    ] {
        place.run(&arguments).fails(2, &[]);
    }
}

#[test]
fn names_that_the_program_lacks_exit_with_2() {
    let place = Place::new("names");
    place.run(&["verify", "gated.attn", "--dim", "Q=3"]).fails(2, &["Q", "B, H, K, T, V"]);
    place.run(&["check", "gated.attn", "--arg", "W=3"]).fails(2, &["W"]);
    place.run(&["emit", "gated.attn", "--stage", "typed", "--variant", "gatd"]).fails(2, &["did you mean `gated`"]);
}

#[test]
fn a_wrong_source_file_exits_with_2_and_says_all_that_is_wrong() {
    let place = Place::new("source");
    place.run(&["check", "absent.attn"]).fails(2, &["absent.attn"]);
    fs::write(place.path("bytes.attn"), [0xff, 0xfe, 0x00]).unwrap();
    place.run(&["check", "bytes.attn"]).fails(2, &["bytes.attn", "UTF-8"]);
    fs::write(place.path("empty.attn"), "").unwrap();
    place.run(&["check", "empty.attn"]).fails(2, &["empty.attn"]);
    let wrong = PROGRAM.replace("exp(g[t])", "exp(gg[t])").replace("S[t]' * q[t]", "S[t] * q[t] + x");
    fs::write(place.path("wrong.attn"), wrong).unwrap();
    let done = place.run(&["check", "wrong.attn"]);
    done.fails(2, &["wrong.attn:5", "gg", "wrong.attn:7"]);
    // Sound files are still reported.
    let done = place.run(&["check", "wrong.attn", "gated.attn"]);
    assert_eq!(done.status, 2);
    assert!(done.stdout.contains("variant gated"), "{}", done.stdout);
}

#[test]
fn a_warning_is_said_once_and_changes_no_status() {
    let place = Place::new("warning");
    let odd = PROGRAM.replace("v : [B,T,H,V],", "v, unused : [B,T,H,V],");
    fs::write(place.path("odd.attn"), odd).unwrap();
    let done = place.run(&["check", "odd.attn"]);
    assert!(done.succeeds().contains("variant gated"));
    assert_eq!(done.stderr.matches("warning[unread-input]").count(), 1, "{}", done.stderr);
    assert!(done.stderr.contains("odd.attn:3:"), "{}", done.stderr);
    assert_eq!(place.run(&["check", "gated.attn"]).stderr, "");
}

#[test]
fn thousands_of_errors_end_in_a_count() {
    let place = Place::new("thousands");
    let errors: String = (0..8_000).map(|n| format!("  let e{n}[t] = nope{n}[t];\n")).collect();
    fs::write(place.path("many.attn"), PROGRAM.replace("  state ", &format!("{errors}  state "))).unwrap();
    fs::write(place.path("long.attn"), PROGRAM.replace("  state ", &format!("{}  state ", errors.replace('\n', " "))))
        .unwrap();
    for file in ["many.attn", "long.attn"] {
        let done = place.run(&["check", file]);
        done.fails(2, &["and 7900 more errors"]);
        assert_eq!(done.stderr.matches("error[undeclared-name]").count(), 100);
    }
}

#[test]
fn a_file_of_several_variants_wants_to_know_which() {
    let place = Place::new("several");
    fs::write(place.path("two.attn"), format!("{PROGRAM}{}", PROGRAM.replace("variant gated", "variant other")))
        .unwrap();
    place.run(&["emit", "two.attn", "--stage", "typed"]).fails(2, &["--variant", "gated, other"]);
    place.run(&["emit", "two.attn", "--stage", "typed", "--variant", "other"]).succeeds();
    assert!(place.run(&["check", "two.attn"]).succeeds().contains("variant other"));
}

#[test]
fn a_back_end_that_is_not_here_exits_with_1() {
    let place = Place::new("backend");
    let inputs = place.tensors("in.safetensors", inputs());
    let run = ["run", "gated.attn", "--inputs", &inputs, "--output", "out.safetensors", "--backend", "wgpu"];
    // Vulkan's loader finds no driver.
    let bare = [("VK_DRIVER_FILES", "/nowhere"), ("VK_ICD_FILENAMES", "/nowhere")];
    place.run_with(&run, &bare).fails(1, &["wgpu", "not usable"]);
    assert!(!place.path("out.safetensors").exists());
    let listed = place.run_with(&["backends"], &bare);
    assert!(listed.succeeds().contains("reference") && listed.stdout.contains("wgpu"));
}

#[test]
fn what_is_of_gpus_needs_their_back_end() {
    let place = Place::new("precision");
    let named = ["bench", "gated.attn", "--backend", "reference", "--precision", "f16"];
    place.run(&named).fails(2, &["--precision", "--backend wgpu"]);
    let inputs = place.tensors("in.safetensors", inputs());
    let left_open = ["run", "gated.attn", "--inputs", &inputs, "--output", "out.safetensors", "--precision", "f16"];
    place.run(&left_open).fails(2, &["--precision f16", "--backend wgpu"]);
}

#[test]
fn products_of_bf16_need_the_back_end_that_has_them() {
    let place = Place::new("bf16");
    let named = |backend| ["bench", "gated.attn", "--backend", backend, "--precision", "bf16"];
    place.run(&named("reference")).fails(2, &["--precision bf16", "--backend cranelift"]);
    #[cfg(feature = "llvm")]
    place.run(&named("llvm")).fails(2, &["--precision bf16", "--backend cranelift"]);
}

/// Left open, the back end is the one that has the precision.
#[cfg(feature = "cranelift")]
#[test]
fn products_of_bf16_run_where_nothing_else_is_said() {
    let place = Place::new("bf16-run");
    let run = |what: &[&str]| place.run(&[what, &["--precision", "bf16"]].concat());
    run(&["verify", "gated.attn"]).succeeds();
    let timed = run(&["bench", "gated.attn", "--form", "chunked", "--tokens", "64", "--json"]);
    assert!(timed.succeeds().contains("\"precision\":\"bf16\""), "{}", timed.stdout);
    let inputs = place.tensors("in.safetensors", inputs());
    let done = run(&["run", "gated.attn", "--inputs", &inputs, "--output", "out.safetensors", "-v"]);
    done.succeeds();
    assert!(done.stderr.contains("products of"), "{}", done.stderr);
    assert!(done.stderr.contains("bf16 deviates from f32"), "{}", done.stderr);
}

#[test]
fn a_run_writes_outputs_and_final_states() {
    let place = Place::new("run");
    let whole = place.tensors("in.safetensors", inputs());
    place.run_on(&whole).succeeds();
    let out = tensor::read(&place.path("out.safetensors")).unwrap();
    assert_eq!(out.keys().collect::<Vec<_>>(), ["S", "o"]);
    assert_eq!(out["o"].shape, [2, 5, 3, 6]);
    assert_eq!(out["S"].shape, [2, 3, 4, 6]);
}

#[test]
fn two_calls_with_the_state_carried_over_equal_one() {
    let place = Place::new("carried");
    let part = |range: std::ops::Range<usize>| -> Tensors {
        inputs().into_iter().map(|(name, tensor)| (name, tensor.slice(1, range.clone()))).collect()
    };
    let results = |name: &str, tensors: Tensors| {
        let file = place.tensors(name, tensors);
        place.run_on(&file).succeeds();
        tensor::read(&place.path("out.safetensors")).unwrap()
    };
    let whole = results("whole.safetensors", inputs());
    let first = results("first.safetensors", part(0..2));
    let mut rest = part(2..5);
    rest.insert("S".to_string(), first["S"].tensor.clone().unwrap());
    let second = results("second.safetensors", rest);
    let close = |a: &Tensor, b: &Tensor| a.to_f64().iter().zip(b.to_f64()).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close(whole["S"].tensor.as_ref().unwrap(), second["S"].tensor.as_ref().unwrap()));
    assert!(close(&whole["o"].tensor.clone().unwrap().slice(1, 2..5), second["o"].tensor.as_ref().unwrap()));
}

#[test]
fn no_tokens_give_empty_outputs_and_the_initial_state() {
    let place = Place::new("none");
    let mut none: Tensors = inputs().into_iter().map(|(name, tensor)| (name, tensor.slice(1, 0..0))).collect();
    let state = Tensor::f32(vec![2, 3, 4, 6], (0..144).map(|n| n as f32).collect());
    none.insert("S".to_string(), state.clone());
    let file = place.tensors("in.safetensors", none);
    place.run_on(&file).succeeds();
    let out = tensor::read(&place.path("out.safetensors")).unwrap();
    assert_eq!(out["o"].shape, [2, 0, 3, 6]);
    assert_eq!(out["S"].tensor, Some(state));
}

#[test]
fn wrong_tensors_are_named() {
    let place = Place::new("tensors");
    let cases: Vec<(Tensors, Vec<&str>)> = vec![
        (inputs().into_iter().filter(|(name, _)| name != "v").collect(), vec!["`v`", "[B,T,H,V]"]),
        (changed("vv", Tensor::zeros(vec![1])), vec!["`vv`", "expected only"]),
        (changed("v", Tensor::zeros(vec![2, 5, 6])), vec!["`v`", "rank 3", "rank 4"]),
        (changed("v", Tensor::i32(vec![2, 5, 3, 6], vec![0; 180])), vec!["`v`", "I32", "F32"]),
        (changed("v", Tensor::zeros(vec![2, 4, 3, 6])), vec!["`v`", "[2, 4, 3, 6]", "[B,T,H,V]"]),
        (changed("S", Tensor::zeros(vec![2, 3, 6, 4])), vec!["`S`", "[2, 3, 6, 4]", "[2,3,4,6]"]),
    ];
    for (tensors, says) in cases {
        let file = place.tensors("in.safetensors", tensors);
        place.run_on(&file).fails(2, &says);
    }
    // A slip of the pen is told.
    let mut slipped = inputs();
    let gate = slipped.remove("g").unwrap();
    slipped.insert("G".to_string(), gate);
    let file = place.tensors("in.safetensors", slipped);
    place.run_on(&file).fails(2, &["`G`", "did you mean `g`?", "tensor `g` was not found"]);
    // So is a size on the command line that the tensors contradict.
    let file = place.tensors("in.safetensors", inputs());
    let run = ["run", "gated.attn", "--inputs", &file, "--output", "out.safetensors", "--dim", "K=5"];
    place.run(&run).fails(2, &["K"]);
}

#[test]
fn damaged_tensor_files_exit_with_2() {
    let place = Place::new("damaged");
    place.run_on("absent.safetensors").fails(2, &["absent.safetensors"]);
    fs::write(place.path("text.safetensors"), "no tensors at all, only text").unwrap();
    place.run_on("text.safetensors").fails(2, &["text.safetensors", "not a safetensors file"]);
    place.tensors("in.safetensors", inputs());
    let whole = fs::read(place.path("in.safetensors")).unwrap();
    for keep in [0, 5, 40, whole.len() / 2, whole.len() - 1] {
        fs::write(place.path("cut.safetensors"), &whole[..keep]).unwrap();
        place.run_on("cut.safetensors").fails(2, &["cut.safetensors"]);
    }
}

#[test]
fn an_output_that_cannot_be_written_exits_with_1() {
    let place = Place::new("unwritable");
    let file = place.tensors("in.safetensors", inputs());
    for output in ["no/such/folder/out.safetensors", "."] {
        let done = place.run(&["run", "gated.attn", "--inputs", &file, "--output", output]);
        done.fails(1, &["cannot write"]);
    }
}

#[test]
fn check_reports_inputs_states_and_forms() {
    let place = Place::new("check");
    let done = place.run(&["check", "gated.attn"]);
    let text = done.succeeds();
    for part in ["variant gated", "q : [B,T,H,K]", "S : [K,V]", "recurrent", "chunked", "parallel"] {
        assert!(text.contains(part), "expected `{part}` in:\n{text}");
    }
    let line: serde_json::Value =
        serde_json::from_str(place.run(&["check", "gated.attn", "--json"]).succeeds()).unwrap();
    assert_eq!(line["variant"], "gated");
    assert_eq!(line["states"][0]["shape"], serde_json::json!(["B", "H", "K", "V"]));
}

/// What no back end compiles is `no`, once; the reason names the form that was asked for.
#[cfg(feature = "cranelift")]
#[test]
fn check_says_what_compiles() {
    let place = Place::new("compiles");
    let text = place.run(&["check", "gated.attn"]).succeeds().to_string();
    assert!(text.contains("compiles  cranelift yes, llvm "), "{text}");
    #[cfg(not(feature = "wgpu"))]
    assert!(text.contains("wgpu not built in"), "{text}");
    let turned =
        "variant turned { axes B, T, K; input q : [B,T,K]; param b : []; output o[t] = rope(q[t], t, base = b); }";
    let solved = PROGRAM.replace("* q[t];", "* solve(S[t] * S[t]' + eye(K), q[t]);");
    for (name, source, reason) in [
        ("solved", solved.as_str(), "`solve` in the recurrent form is unsupported"),
        ("turned", turned, "its turns are constants"),
    ] {
        let file = format!("{name}.attn");
        fs::write(place.path(&file), source).unwrap();
        let text = place.run(&["check", &file]).succeeds().to_string();
        assert!(!text.contains(" yes") && text.contains("compiles  cranelift no"), "{text}");
        let forward = text.split("\n  backward").next().unwrap();
        assert_eq!(forward.matches(reason).count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(place.run(&["check", &file, "--json"]).succeeds()).unwrap();
        assert_eq!(line["compiles"]["cranelift"]["ok"], false, "{line}");
        assert_eq!(line["compiles"]["cranelift"]["forms"], serde_json::json!([]), "{line}");
        assert!(line["compiles"]["cranelift"]["reason"].is_string(), "{line}");
    }
    let line: serde_json::Value =
        serde_json::from_str(place.run(&["check", "gated.attn", "--json"]).succeeds()).unwrap();
    let forms = serde_json::json!(["recurrent", "chunked", "parallel"]);
    assert_eq!(line["compiles"]["cranelift"], serde_json::json!({"ok": true, "forms": forms, "reason": null}));
    // And `run` says the same of the form that is asked for.
    let inputs = place.tensors("in.safetensors", inputs());
    for form in ["recurrent", "chunked", "parallel"] {
        let run = ["run", "solved.attn", "--inputs", &inputs, "--output", "out.safetensors", "--form", form];
        place.run(&run).fails(2, &[&format!("in the {form} form")]);
    }
}

/// What no kernel does has a place: its statement's, or that of the variant's name.
#[test]
fn refusals_say_where() {
    let place = Place::new("refusals");
    let curved = "update S[t] = a[t] * S[t-1] + k[t] * (v[t] + tanh(S[t-1]' * k[t]))';";
    let curved = PROGRAM.replace("update  S additive(k, v);", curved);
    assert_ne!(curved, PROGRAM);
    let line_of = |text: &str, part: &str| text.lines().position(|line| line.contains(part)).map(|n| n + 1);
    let solved = PROGRAM.replace("* q[t];", "* solve(S[t] * S[t]' + eye(K), q[t]);");
    for (source, form, part) in [(&curved, "chunked", "tanh"), (&solved, "recurrent", "solve")] {
        fs::write(place.path("refused.attn"), source).unwrap();
        for command in [&["emit", "--stage", "kernel"][..], &["verify", "--backend", "cranelift"], &["bench"]] {
            let call = [command, &["refused.attn", "--form", form, "--json", "--quiet"]].concat();
            let done = place.run(&call);
            done.fails(2, &["unsupported"]);
            let told = &done.stderr;
            let first: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
            assert_eq!((&first["code"], &first["file"]), (&"unsupported".into(), &"refused.attn".into()), "{told}");
            assert_eq!(first["line"].as_u64(), line_of(source, part).map(|line| line as u64), "{told}");
            assert!(first["column"].is_u64() && first["help"].is_string(), "{told}");
        }
        place
            .run(&["emit", "--stage", "kernel", "refused.attn", "--form", form])
            .fails(2, &["error[unsupported]", "-->"]);
    }
}

/// What only the reference evaluates, it runs where the back end is left open.
#[test]
fn a_declared_value_that_only_the_reference_evaluates_runs_there() {
    let place = Place::new("declared");
    let source = "variant square { axes B, T, H, K; input q, k : [B,T,H,K]; state S : [K,K] = eye(K);
        update S additive(k, k); output o[t] = S[t]' * q[t]; }";
    fs::write(place.path("square.attn"), source).unwrap();
    let tensors: Tensors = inputs().into_iter().filter(|(name, _)| name == "q" || name == "k").collect();
    let file = place.tensors("in.safetensors", tensors);
    assert!(place.run(&["check", "square.attn"]).succeeds().contains("only the reference evaluates"));
    let done = place.run(&["run", "square.attn", "--inputs", &file, "--output", "out.safetensors"]);
    done.succeeds();
    assert!(done.stderr.contains("run on the reference"), "{}", done.stderr);
}

#[test]
fn verify_ends_with_0_where_every_error_is_in_bound() {
    let place = Place::new("verify");
    let arguments = ["verify", "gated.attn", "--dim", "K=4", "--dim", "V=6", "--tokens", "1,9", "--json"];
    let done = place.run(&arguments);
    for line in done.succeeds().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["ok"], true, "{line}");
    }
    assert!(!done.stdout.is_empty());
}

#[test]
fn bench_prints_a_line_of_json_an_entry() {
    let place = Place::new("bench");
    let arguments =
        ["bench", "gated.attn", "--backend", "reference", "--tokens", "3", "--dim", "K=4", "--dim", "V=6", "--json"];
    let done = place.run(&arguments);
    let line: serde_json::Value = serde_json::from_str(done.succeeds()).unwrap();
    assert_eq!((line["tokens"].as_u64(), line["dims"]["K"].as_u64()), (Some(3), Some(4)));
    let keys = "variant backend form chunk batch tokens heads dims threads median_ms p20_ms p80_ms runs flops bytes gflops gbps compile_ms";
    for key in keys.split(' ') {
        assert!(!line[key].is_null(), "{key} in {line}");
    }
}

#[test]
fn emit_prints_kernels_between_two_passes() {
    let place = Place::new("passes");
    let after = |pass: &str| {
        let line =
            ["emit", "gated.attn", "--stage", "kernel", "--form", "recurrent", "--backend", "cranelift", "--after"];
        place.run(&[&line[..], &[pass]].concat()).succeeds().to_owned()
    };
    assert!(!after("lower-scans").contains("sweep"));
    assert!(after("fuse-update").contains("sweep"));
}

#[test]
fn emit_writes_a_stage_to_a_file() {
    let place = Place::new("emit");
    place.run(&["emit", "gated.attn", "--stage", "ast", "-o", "ast.txt"]).succeeds();
    assert!(fs::read_to_string(place.path("ast.txt")).unwrap().contains("variant gated"));
}

/// Programs that mix what other tests have apart: each holds at all the lengths and draws that `verify` tries.
#[cfg(feature = "cranelift")]
#[test]
fn mixed_programs_verify() {
    let place = Place::new("mixed");
    let grid = "axes B, T, H, K, V, Y, X, T = Y*X; input q, k : [B,T,H,K], v : [B,T,H,V];";
    let line = "axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V];";
    let scan = "state S : [K,V] = 0; update S additive(k, v);";
    let programs = [
        // Rows in order are tokens in order.
        ("raster", format!("{grid} order raster; {scan} output o[t] = S[t]' * q[t]; check grid((5,7));")),
        // Pairs under a condition of their own, beside a state.
        (
            "near",
            format!(
                "{line} {scan} let w[i] = sum[j : i - 8 < j and j <= i](softmax[j : i - 8 < j and j <= i](q[i]' * k[j]) * v[j]);
                 output o[t] = S[t]' * q[t] + w[t];"
            ),
        ),
        // Slow decays of a vector, one token a chunk.
        (
            "vector",
            format!(
                "{line} param w : [H,K]; state b : [K] = 0; decay a = exp(w); update b additive(k);
                 output o[t] = b[t] .* q[t] + v[t,0]; check draw(w = logdecay);"
            ),
        ),
        // Tokens that stand elsewhere, both ways and in parts.
        (
            "standing",
            format!(
                "{line} input perm : i32 [B,T]; order causal(by = perm), reverse(by = perm); local block(7); {scan}
                 output o[t] = S[t]' * q[t] + t * v[t];"
            ),
        ),
        // What is read elsewhere does not divide into two calls.
        (
            "gather",
            format!(
                "{line} input ids : i32 [B,T]; state S : [K,V] = 0; let kk[t] = k[ids[t]]; update S additive(kk, v);
                 output o[t] = S[t]' * q[t];"
            ),
        ),
    ];
    for (name, text) in programs {
        let file = format!("{name}.attn");
        fs::write(place.path(&file), format!("variant {name} {{ {text} }}")).unwrap();
        let done = place.run(&["verify", &file, "--backend", "cranelift", "--chunk", "1,16"]);
        assert_eq!(done.status, 0, "{name}\n{}{}", done.stdout, done.stderr);
    }
}

/// What has no states has kernels too.
#[cfg(feature = "cranelift")]
#[test]
fn bench_times_kernels_where_there_are_some() {
    let place = Place::new("bench-stateless");
    let done = place.run(&["bench", "@scaled_dot_product", "--tokens", "16", "--quiet", "--json"]);
    let rows: Vec<serde_json::Value> =
        done.succeeds().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["backend"] != "reference"), "{rows:?}");
}

/// A variant that calls two, and a stack of stacks: every form against the reference; objects of them are refused.
#[cfg(feature = "cranelift")]
#[test]
fn calls_and_stacks_verify() {
    let place = Place::new("calls");
    let text =
        "variant scan { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; state S : [K,V] = 0; decay a = 0.9;
          update S additive(k, v); output o[t] = S[t]' * q[t]; }
        variant near { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; local window(4);
          output o[i] = sum[j](softmax[j](q[i]' * k[j]) * v[j]); }
        variant mixer { axes B, T, A, K, V, D; input x : [B,T,D]; param wq, wv : [A,K,D], S0 : [A,K,K];
          let q[t,a] = wq[a] * x[t]; let v[t,a] = wv[a] * x[t];
          let o = scan(q = q, k = q, v = v, S = S0); let p = near(q = q, k = q, v = v);
          output y[t] = flatten(o[t] + p[t]); check dims(A = 2, K = 4, D = 8); }
        variant block { axes B, T, D; input x : [B,T,D]; param a : [D]; state s : [D] = 0; decay d = sigmoid(a);
          update s additive(x); output y[t] = x[t] + tanh(s[t]); }
        variant mix { axes B, T, D; input x : [B,T,D]; param W : [D,D]; output y[t] = x[t] + 0.1 * W * x[t]; }
        stack three(r = 2) { repeat r { block; } mix; }
        stack deep { three; repeat 2 shared { mix; } three; }";
    fs::write(place.path("calls.attn"), text).unwrap();
    let told = ["verify", "calls.attn", "--backend", "cranelift", "--tokens", "1,9", "--chunk", "4", "--dim", "D=8"];
    let done = place.run(&told);
    assert_eq!(done.status, 0, "{}{}", done.stdout, done.stderr);
    for name in ["mixer", "three", "deep"] {
        assert!(
            done.stdout.lines().any(|line| line.starts_with(&format!("{name} ")) && line.contains("chunked")),
            "{name}"
        );
        let part = ["explain", "calls.attn", "--variant", name, "--form", "chunked", "--check"];
        assert!(place.run(&part).succeeds().contains("part "), "{name}");
    }
    #[cfg(feature = "llvm")]
    place
        .run(&["emit", "calls.attn", "--variant", "mixer", "--stage", "object", "-o", "m.o"])
        .fails(2, &["calls others"]);
}
