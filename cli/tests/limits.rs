//! What is asked too much of the command, and what it says of results that are not finite: no abort, no silence.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::fs;

use chunkwise_runtime::{Data, Tensor, Tensors, tensor};

use place::{Done, Place, inputs};

#[test]
fn sizes_that_no_memory_holds_exit_with_1_and_name_the_axis() {
    let place = Place::new("sizes");
    let huge = ["--dim", "K=1000000000000"];
    for command in ["bench", "verify"] {
        place.run(&[command, "gated.attn", huge[0], huge[1]]).fails(1, &["bytes", "axis `K` is 1000000000000"]);
        place.run(&[command, "gated.attn", "--tokens", "1000000000000"]).fails(1, &["axis `T` is 1000000000000"]);
        place.run(&[command, "gated.attn", "--batch", "1000000000000"]).fails(1, &["axis `B` is 1000000000000"]);
    }
    place
        .run(&["bench", "gated.attn", "--dim", "K=4", "--dim", "V=4", "--heads", "1", "--tokens", "100000000000"])
        .fails(1, &["1600000000000 bytes", "axis `T` is 100000000000"]);
    place.run(&["emit", "gated.attn", "--stage", "kernel", huge[0], huge[1]]).fails(1, &["bytes", "axis `K`"]);
    // What is beyond that is no size.
    place.run(&["bench", "gated.attn", "--tokens", "10000000000000000"]).fails(2, &["axis `T` is 10000000000000000"]);
}

/// The command where no more than so many KiB of memory are to be had.
#[cfg(target_os = "linux")]
#[test]
fn memory_that_is_not_there_is_an_error() {
    let place = Place::new("memory");
    let limited = |arguments: &str| {
        let command = format!("ulimit -v 4000000; exec {} {arguments}", env!("CARGO_BIN_EXE_chunkwise"));
        let output = place.shell(&command).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    for command in ["bench", "verify"] {
        limited(&format!("{command} gated.attn --dim K=100000000 --backend reference"))
            .fails(1, &["more than can be had", "axis `K` is 100000000"]);
    }
}

fn changed(name: &str, change: impl Fn(&mut [f32])) -> Tensors {
    let mut tensors = inputs();
    if let Some(Tensor { data: Data::F32(data), .. }) = tensors.get_mut(name) {
        change(data);
    }
    tensors
}

#[test]
fn a_decay_above_1_and_what_comes_of_it_are_said() {
    let place = Place::new("grows");
    let file = place.tensors("in.safetensors", changed("g", |g| g[4] = 100.0));
    let done = place.run_on(&file);
    done.succeeds();
    assert!(done.stderr.contains("warning: the decay `exp(g[t])` of `S` is"), "{}", done.stderr);
    assert!(done.stderr.contains("above 1, first at g[0,1,1] = 100: a log decay is at most 0"), "{}", done.stderr);
    assert!(done.stderr.contains("warning: `o` is") && done.stderr.contains("the decay of `S`"), "{}", done.stderr);
    let sound = place.tensors("in.safetensors", inputs());
    assert_eq!(place.run_on(&sound).stderr, "");
    // What is not finite among the inputs explains itself.
    let file = place.tensors("in.safetensors", changed("v", |v| v[0] = f32::NAN));
    assert!(!place.run_on(&file).stderr.contains("warning"));
}

#[test]
fn a_quotient_by_0_is_said() {
    let place = Place::new("quotient");
    let text = "variant gated { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H];
                state S : [K,V] = 0; decay a[t] = exp(g[t]); update S additive(k, v);
                output o[t] = S[t]' * q[t] / sum(q[t]); }";
    fs::write(place.path("gated.attn"), text).unwrap();
    let file = place.tensors(
        "in.safetensors",
        changed("q", |q| {
            q.fill(1.0);
            q[..4].fill(0.0);
        }),
    );
    let done = place.run_on(&file);
    done.succeeds();
    assert!(done.stderr.contains("warning: `o` is NaN at [0,0,0,0], the first of 6 elements"), "{}", done.stderr);
    assert!(done.stderr.contains("likely cause: a quotient by 0"), "{}", done.stderr);
    assert!(tensor::read(&place.path("out.safetensors")).unwrap().contains_key("o"));
}

#[test]
fn verify_says_that_the_reference_itself_grows() {
    let place = Place::new("diverges");
    let text = "variant grows { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V], b : [B,T,H];
                state S : [K,V] = 0; update S delta(k, v, b); output o[t] = S[t]' * q[t]; }";
    fs::write(place.path("grows.attn"), text).unwrap();
    let done = place.run(&["verify", "grows.attn", "--tokens", "700", "--backend", "cranelift", "--form", "recurrent"]);
    assert_eq!(done.status, 1, "{}", done.stdout);
    assert!(done.stdout.contains("the reference itself grows to"), "{}", done.stdout);
}
