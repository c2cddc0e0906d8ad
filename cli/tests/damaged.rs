//! Damaged tensor files: whatever the bytes, `run` ends with a message and 2, or with results and 0; never in a panic.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod place;

use std::fs;

use serde_json::{Value, json};

use place::{Place, inputs};

/// A file of safetensors with this header, and as many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// The header of the sound file, to be spoilt, and the bytes of its data.
fn header(whole: &[u8]) -> (Value, usize) {
    let length = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&whole[8..8 + length]).unwrap(), whole.len() - 8 - length)
}

fn refuses(place: &Place, what: &str, bytes: &[u8]) {
    fs::write(place.path("bad.safetensors"), bytes).unwrap();
    let done = place.run_on("bad.safetensors");
    assert_eq!(done.status, 2, "{what}: {}", done.stderr);
    assert!(done.stderr.starts_with("error: "), "{what}: {}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{what}: {}", done.stderr);
}

#[test]
fn headers_that_lie_are_refused() {
    let place = Place::new("headers");
    place.tensors("in.safetensors", inputs());
    let whole = fs::read(place.path("in.safetensors")).unwrap();
    let (sound, data) = header(&whole);
    let spoilt = |path: &str, value: Value| {
        let mut header = sound.clone();
        *header.pointer_mut(path).unwrap() = value;
        file(&header.to_string(), data)
    };
    let cases = [
        ("a huge shape", spoilt("/v/shape", json!([1u64 << 40, 1u64 << 40, 3, 6]))),
        ("a shape whose product overflows to the right number", spoilt("/v/shape", json!([1u64 << 63, 2, 3, 6]))),
        ("a negative size", spoilt("/v/shape", json!([-2, 5, 3, 6]))),
        ("a size that is no number", spoilt("/v/shape", json!(["2", 5, 3, 6]))),
        ("a shape that is no list", spoilt("/v/shape", json!(180))),
        ("too few elements", spoilt("/v/shape", json!([2, 5, 3, 5]))),
        ("a rank of 0", spoilt("/g/shape", json!([]))),
        ("half floats", spoilt("/v/dtype", json!("F16"))),
        ("doubles", spoilt("/v/dtype", json!("F64"))),
        ("integers", spoilt("/v/dtype", json!("I32"))),
        ("a type that nobody knows", spoilt("/v/dtype", json!("F4711"))),
        ("offsets that overlap", spoilt("/v/data_offsets", sound["q"]["data_offsets"].clone())),
        ("offsets that run backwards", spoilt("/v/data_offsets", json!([720, 0]))),
        ("offsets beyond the file", spoilt("/v/data_offsets", json!([0, 1u64 << 60]))),
        ("offsets that are no pair", spoilt("/v/data_offsets", json!([0]))),
        ("an entry that is no object", spoilt("/v", json!(null))),
        ("an entry that is empty", spoilt("/v", json!({}))),
        ("a header that is a list", file("[1, 2, 3]", data)),
        ("a header that is cut", file(&sound.to_string()[..40], data)),
        ("a header of no JSON", file("{{{{", data)),
        ("no header", file("", data)),
        ("no tensors", file("{}", 0)),
        ("deep nesting", file(&"[".repeat(100_000), 0)),
        ("a header length beyond the file", [u64::MAX.to_le_bytes().as_slice(), &whole[8..]].concat()),
        ("bytes after the data", [whole.as_slice(), &[0; 3]].concat()),
        ("no bytes", Vec::new()),
    ];
    for (what, bytes) in cases {
        refuses(&place, what, &bytes);
    }
}

/// A generator of its own, so that the same files come out everywhere.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

#[test]
fn bytes_changed_at_random_end_in_a_message_or_in_results() {
    let place = Place::new("bytes");
    place.tensors("in.safetensors", inputs());
    let whole = fs::read(place.path("in.safetensors")).unwrap();
    let (_, data) = header(&whole);
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut refused = 0;
    for round in 0..24 {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(&mut state) % 4 {
            // Headers break most; every third file has its data changed, whose bits are all numbers.
            let within = if round % 3 == 2 { bytes.len() } else { bytes.len() - data };
            let at = next(&mut state) % within;
            bytes[at] = next(&mut state) as u8;
        }
        fs::write(place.path("bad.safetensors"), bytes).unwrap();
        let done = place.run_on("bad.safetensors");
        assert!(done.status == 0 || done.status == 2, "round {round}: {}: {}", done.status, done.stderr);
        assert!(!done.stderr.contains("panicked"), "round {round}: {}", done.stderr);
        assert_eq!(done.status == 2, done.stderr.contains("error: "), "round {round}: {}", done.stderr);
        let _ = fs::remove_file(place.path("out.safetensors"));
        refused += usize::from(done.status == 2);
    }
    assert!(refused >= 12, "only {refused} were refused");
}
