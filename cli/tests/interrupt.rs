//! What a signal leaves behind: nothing half written, and the rows that were done.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use chunkwise_runtime::{Tensor, Tensors};

use place::Place;

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Whether the process has a file of this folder open that is not among those that were there.
fn writes(child: &Child, folder: &Path) -> bool {
    let folder = fs::canonicalize(folder).unwrap();
    let Ok(open) = fs::read_dir(format!("/proc/{}/fd", child.id())) else { return false };
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.into_iter().any(|target| {
        let name = target.to_string_lossy().into_owned();
        target.starts_with(&folder) && (name.contains(".part") || name.ends_with("(deleted)"))
    })
}

/// Starts a run whose final state takes long to write, and signals it as soon as it writes; None if it was over before.
fn killed_in_mid_write(place: &Place, signal: &str) -> Option<ExitStatus> {
    let arguments = "run gated.attn --inputs in.safetensors --output out.safetensors --backend cranelift --threads 1";
    let mut child = place.command().args(arguments.split(' ')).stderr(Stdio::null()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if writes(&child, &place.path("")) {
            send(signal, &child);
            let status = child.wait().unwrap();
            return (!status.success()).then_some(status);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    None
}

/// Without `/proc` nobody sees when it writes.
#[cfg(all(target_os = "linux", feature = "cranelift"))]
#[test]
fn a_run_that_is_killed_in_mid_write_leaves_the_old_file_and_nothing_else() {
    let place = Place::new("killed");
    let (k, v) = (1024, 16384);
    let inputs = Tensors::from([
        ("q".to_string(), Tensor::zeros(vec![1, 1, 1, k])),
        ("k".to_string(), Tensor::zeros(vec![1, 1, 1, k])),
        ("v".to_string(), Tensor::zeros(vec![1, 1, 1, v])),
        ("g".to_string(), Tensor::zeros(vec![1, 1, 1])),
    ]);
    place.tensors("in.safetensors", inputs);
    let names = || {
        let entries = fs::read_dir(place.path("")).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let before = names();
    let out = place.path("out.safetensors");
    for signal in ["-INT", "-TERM"] {
        for old in [None, Some("old")] {
            // A signal may also come when the file is whole, or not at all: then it is tried again.
            let caught = (0..400).any(|_| {
                let _ = fs::remove_file(&out);
                old.into_iter().for_each(|text| fs::write(&out, text).unwrap());
                let killed = killed_in_mid_write(&place, signal).is_some();
                let found = fs::read(&out).ok();
                let caught = killed && found.as_deref() == old.map(str::as_bytes);
                assert!(caught || found.is_some_and(|bytes| bytes.len() > 4 * k * v), "{signal} over {old:?}");
                caught
            });
            assert!(caught, "{signal} never came while the file was written");
            let _ = fs::remove_file(&out);
            assert_eq!(names(), before, "after {signal} over {old:?}");
        }
    }
}

/// Starts a command, signals it after so many lines of stdout, and says how it ended: its status, the lines, stderr.
fn interrupted_after(place: &Place, line: &str, lines: usize) -> (Option<i32>, Vec<String>, String) {
    let mut command = place.command();
    command.args(line.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut read: Vec<String> = out.by_ref().take(lines).collect();
    send("-INT", &child);
    read.extend(out);
    let done = child.wait_with_output().unwrap();
    (done.status.code(), read, String::from_utf8(done.stderr).unwrap())
}

#[cfg(feature = "cranelift")]
#[test]
fn an_interrupt_leaves_the_rows_that_are_done_and_says_so() {
    let place = Place::new("rows");
    for line in [
        "verify gated.attn --backend cranelift --tokens 2000 --dim K=32 --dim V=32",
        "bench gated.attn --backend cranelift --form chunked --chunk 1,2,3,4,5,6,7,8 --tokens 64",
    ] {
        let started = Instant::now();
        let (status, read, said) = interrupted_after(&place, line, 2);
        assert_eq!(status, Some(130), "{line}: {said}");
        assert!(said.contains("interrupted at ") && said.contains(" done"), "{line}: {said}");
        assert!(read.len() >= 2 && read[1].starts_with("gated "), "{read:?}");
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
