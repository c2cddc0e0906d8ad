//! `chunkwise bench --serve` as an outside harness sees it: its answers, and what it refuses.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Stdio},
};

use chunkwise_runtime::{Tensor, Tensors, tensor};

use place::{PROGRAM, Place, inputs};

/// A command that serves.
struct Served {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Served {
    /// Started, and ready.
    fn new(place: &Place, tensors: &str, flags: &[&str]) -> Self {
        let mut command = place.command();
        command.args(["bench", "gated.attn", "--inputs", tensors, "--serve"]).args(flags);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut served = Self { child, out };
        assert_eq!(served.line(), "ready");
        served
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{question}").unwrap();
        self.line()
    }

    /// Asks for times, which must be so many.
    fn run(&mut self, count: usize) {
        let times = self.ask(&format!("run {count}"));
        let times: Vec<u64> = times.split_whitespace().map(|time| time.parse().unwrap()).collect();
        assert_eq!(times.len(), count);
    }

    /// Ends it; no answer may be left.
    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
        assert_eq!(self.line(), "");
    }
}

/// What is in a file.
fn written(place: &Place, name: &str) -> Tensors {
    let stored = tensor::read(&place.path(name)).unwrap();
    stored.into_iter().map(|(name, stored)| (name, stored.tensor.unwrap())).collect()
}

/// What one run over all tokens gives.
fn whole(place: &Place, tensors: &str) -> Tensors {
    place.run_on(tensors).succeeds();
    written(place, "out.safetensors")
}

fn close(got: &Tensor, want: &Tensor) -> bool {
    got.len() == want.len() && got.to_f64().iter().zip(want.to_f64()).all(|(got, want)| (got - want).abs() < 1e-5)
}

#[test]
fn calls_are_timed_and_their_results_written() {
    let place = Place::new("serve");
    let file = place.tensors("in.safetensors", inputs());
    let want = whole(&place, &file);
    let plans: [&[&str]; 3] = [&["--form", "recurrent"], &["--form", "chunked", "--chunk", "2"], &["--form", "auto"]];
    for plan in plans {
        let mut served = Served::new(&place, &file, plan);
        served.run(3);
        served.run(0);
        assert_eq!(served.ask("dump got.safetensors"), "ok");
        served.run(1);
        served.end();
        let got = written(&place, "got.safetensors");
        assert!(close(&got["o"], &want["o"]) && close(&got["S"], &want["S"]), "{plan:?}");
    }
}

#[test]
fn carried_states_make_calls_on_one_token_equal_one_on_all() {
    let place = Place::new("carry");
    let file = place.tensors("in.safetensors", inputs());
    let want = whole(&place, &file);
    for backend in ["auto", "reference"] {
        let mut served = Served::new(&place, &file, &["--carry", "--backend", backend]);
        assert!(served.ask("dump got.safetensors").starts_with("error: no call"), "nothing has been called yet");
        // Two calls, then three: all five tokens.
        served.run(1);
        served.run(2);
        assert_eq!(served.ask("dump got.safetensors"), "ok");
        let got = written(&place, "got.safetensors");
        assert_eq!(got["o"].shape, [2, 1, 3, 6]);
        assert!(close(&got["o"], &want["o"].slice(1, 4..5)) && close(&got["S"], &want["S"]), "{backend}");
        // The sixth call is on the first token again.
        served.run(0);
        assert_eq!(served.ask("dump got.safetensors"), "ok");
        served.end();
        let mut again: Tensors = inputs().into_iter().map(|(name, all)| (name, all.slice(1, 0..1))).collect();
        again.insert("S".to_string(), want["S"].clone());
        let again = place.tensors("again.safetensors", again);
        assert!(close(&written(&place, "got.safetensors")["o"], &whole(&place, &again)["o"]), "{backend}");
    }
}

#[test]
fn params_are_the_same_for_every_token() {
    let place = Place::new("params");
    let program = PROGRAM.replace(", g : [B,T,H];", "; param w : [H];").replace("a[t] = exp(g[t])", "a = w");
    std::fs::write(place.path("gated.attn"), program.replace("g = logdecay", "w = sigmoid")).unwrap();
    let mut tensors = inputs();
    tensors.remove("g");
    tensors.insert("w".to_string(), Tensor::f32(vec![3], vec![0.5, 0.75, 1.0]));
    let file = place.tensors("in.safetensors", tensors);
    let want = whole(&place, &file);
    let mut served = Served::new(&place, &file, &["--carry"]);
    served.run(4);
    assert_eq!(served.ask("dump got.safetensors"), "ok");
    served.end();
    assert!(close(&written(&place, "got.safetensors")["S"], &want["S"]));
}

#[test]
fn a_line_that_fails_is_answered_and_the_next_one_served() {
    let place = Place::new("lines");
    let file = place.tensors("in.safetensors", inputs());
    let mut served = Served::new(&place, &file, &[]);
    for line in ["", "frobnicate", "run", "run -1", "run many", "dump", "dump no/such/folder/x.safetensors"] {
        let answer = served.ask(line);
        assert!(answer.starts_with("error: "), "{line}: {answer}");
    }
    served.run(1);
    served.end();
}

#[test]
fn what_cannot_be_served_exits_before_it_is_ready() {
    let place = Place::new("refused");
    let file = place.tensors("in.safetensors", inputs());
    let bench = |flags: &[&str]| place.run(&[&["bench", "gated.attn"], flags].concat());
    bench(&["--serve"]).fails(2, &["--inputs"]);
    bench(&["--inputs", &file]).fails(2, &["--serve"]);
    bench(&["--carry"]).fails(2, &["--serve"]);
    bench(&["--inputs", "absent.safetensors", "--serve"]).fails(2, &["absent.safetensors"]);
    bench(&["--inputs", &file, "--serve", "--form", "recurrent,chunked"]).fails(2, &["one value of --form"]);
    let mut tensors = inputs();
    tensors.insert("w".to_string(), Tensor::zeros(vec![1]));
    let wrong = place.tensors("wrong.safetensors", tensors);
    bench(&["--inputs", &wrong, "--serve"]).fails(2, &["`w`", "expected only"]);
    let none = inputs().into_iter().map(|(name, all)| (name, all.slice(1, 0..0))).collect();
    let none = place.tensors("none.safetensors", none);
    bench(&["--inputs", &none, "--serve", "--carry"]).fails(2, &["--carry", "token"]);
}

#[test]
fn the_form_auto_is_one_choice() {
    let place = Place::new("auto");
    let sizes = ["--tokens", "40", "--dim", "K=4", "--dim", "V=6", "--json"];
    let lines = |flags: &[&str]| {
        let done = place.run(&[&["bench", "gated.attn"], flags, &sizes].concat());
        done.succeeds().lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&["--form", "auto", "--backend", "auto"]).len(), 1);
    let chosen = lines(&["--form", "auto", "--backend", "reference"]);
    assert_eq!((chosen.len(), chosen[0]["backend"].as_str()), (1, Some("reference")));
}
