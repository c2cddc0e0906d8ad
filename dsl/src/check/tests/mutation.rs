//! Programs with a few words out of place: whatever is written, checking it ends soon, with a program or with errors that
//! can be shown.

use std::time::{Duration, Instant};

use crate::draw::Draw;
use crate::parse::PROGRAMS;
use crate::render::render;
use crate::source::Source;

/// The words of a text with the white space before each.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut last = None;
    for c in text.chars() {
        let class = (c.is_alphanumeric() || c == '_', c.is_whitespace());
        let continues = last == Some(class) && (class.0 || class.1) || last == Some((false, true));
        match words.last_mut().filter(|_| continues) {
            Some(word) => word.push(c),
            None => words.push(c.to_string()),
        }
        last = Some(class);
    }
    words
}

fn mutated(text: &str, draw: &mut Draw) -> String {
    let mut words = words(text);
    for _ in 0..1 + draw.below(2) {
        let (at, other) = (draw.below(words.len()), draw.below(words.len()));
        match draw.below(5) {
            0 => words.insert(at, draw.piece().to_string()),
            1 => drop(words.remove(at)),
            2 => words.swap(at, other),
            3 => words[at] = words[other].clone(),
            _ => {
                let stretch = words[at..(at + draw.below(30)).min(words.len())].to_vec();
                drop(words.splice(other..other, stretch));
            }
        }
        if words.is_empty() {
            words.push(";".to_string());
        }
    }
    words.concat()
}

#[test]
fn no_mutation_panics_or_takes_long() {
    let mut draw = Draw(0x2545_F491_4F6C_DD1D);
    let (mut sound, rounds) = (0, 400);
    for round in 0..rounds {
        let source = Source::new("m.attn", mutated(PROGRAMS[round % PROGRAMS.len()], &mut draw));
        let start = Instant::now();
        match crate::compile(&source, &[]) {
            Ok(program) => {
                sound += 1;
                render(&program.warnings, &source);
                program.variants.iter().for_each(|variant| drop(crate::print_typed::typed(variant)));
            }
            Err(errors) => {
                assert!(!errors.is_empty(), "{}", source.text);
                assert!(render(&errors, &source).contains("m.attn"), "{}", source.text);
            }
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}: {}", start.elapsed(), source.text);
    }
    assert!(
        (10..rounds).contains(&sound),
        "{sound} of {rounds} mutations are sound: they change too much or too little"
    );
}
