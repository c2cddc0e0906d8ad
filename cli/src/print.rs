//! Text out: results on stdout, everything else on stderr, as text or as JSON. A closed pipe ends a command quietly. What
//! a table looks like is `table`.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chunkwise_dsl::{
    diagnostic::{self, Diagnostic},
    render::{Style, render_with},
    source::Source,
};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::failure::{Failure, UNSUPPORTED};

/// How every command says what it says.
#[derive(Args, Debug, Clone, Default)]
pub struct Manner {
    /// JSON, one object a line: results on stdout, diagnostics on stderr
    #[arg(long, global = true)]
    pub json: bool,
    /// Whether text on stderr has colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Colour,
    /// Errors only on stderr: no notes, warnings or progress bars
    #[arg(long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

#[derive(ValueEnum, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Colour {
    #[default]
    Auto,
    Always,
    Never,
}

/// How grave a message on stderr is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
    Note,
}

static MANNER: OnceLock<Manner> = OnceLock::new();

/// The bar on the screen. Locked while something is printed.
static SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Takes the manner of this process; the first one given stays.
pub fn set(manner: Manner) {
    MANNER.get_or_init(|| manner);
}

pub fn json() -> bool {
    MANNER.get().is_some_and(|manner| manner.json)
}

pub fn verbose() -> bool {
    MANNER.get().is_some_and(|manner| manner.verbose)
}

fn quiet() -> bool {
    MANNER.get().is_some_and(|manner| manner.quiet)
}

/// Prints a result and ends its line.
pub fn line(text: &str) -> Result<(), Failure> {
    let written = beside_the_bar(|| {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush())
    });
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::ReaderGone),
        Err(error) => Err(Failure::Failed(format!("cannot write to stdout: {error}"))),
    }
}

/// Says what a reader may want to know.
pub fn note(text: &str) {
    say(Severity::Note, "note", text);
}

/// Says what may well be wrong.
pub fn warning(text: &str) {
    say(Severity::Warning, "warning", text);
}

/// What `-v` asks for, as it stands.
pub fn detail(text: &str) {
    match (quiet(), json()) {
        (true, _) => {}
        (false, true) => say(Severity::Note, "detail", text),
        (false, false) => stderr(text),
    }
}

/// Says what went wrong: `code` is of the kind, for programs.
pub fn error(code: &str, text: &str) {
    say(Severity::Error, code, text);
}

fn say(severity: Severity, code: &str, text: &str) {
    if quiet() && severity != Severity::Error {
        return;
    }
    if json() {
        stderr(&object(severity, code, text).to_string());
    } else {
        stderr(&format!("{}: {text}", severity.name()));
    }
}

/// A message without a place in a file.
fn object(severity: Severity, code: &str, text: &str) -> Value {
    let nowhere = Value::Null;
    json!({
        "severity": severity.name(), "code": code, "message": text,
        "file": nowhere, "line": nowhere, "column": nowhere, "help": nowhere,
    })
}

/// What the checker found in a source: errors, or what it warns of.
pub fn diagnostics(found: &[Diagnostic], source: &Source) {
    let grave = |one: &&Diagnostic| !quiet() || one.severity == diagnostic::Severity::Error;
    let found: Vec<Diagnostic> = found.iter().filter(grave).cloned().collect();
    if json() {
        return found.iter().for_each(|one| stderr(&located(one, source).to_string()));
    }
    if !found.is_empty() {
        let style = if colours() { Style::Colour } else { Style::Plain };
        stderr(render_with(&found, source, style).trim_end());
    }
}

/// A message with the place of its first label: line and column from 1, the column in characters.
fn located(found: &Diagnostic, source: &Source) -> Value {
    let place = found.labels.first().map(|label| {
        let before = &source.text[..source.text.floor_char_boundary(label.span.start)];
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    });
    json!({
        "severity": found.severity.name(), "code": found.code, "message": found.message,
        "file": source.name.as_ref(), "line": place.map(|(line, _)| line), "column": place.map(|(_, column)| column),
        "help": found.help,
    })
}

/// There is nowhere to say that stderr is closed.
fn stderr(text: &str) {
    beside_the_bar(|| {
        let _ = writeln!(io::stderr().lock(), "{text}");
    });
}

/// Whether text on stderr may have colours.
fn colours() -> bool {
    match MANNER.get().map_or(Colour::Auto, |manner| manner.color) {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// A progress bar on stderr, drawn only where that is a terminal, until it is finished.
pub fn progress(steps: usize) -> ProgressBar {
    if quiet() || json() || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(steps as u64);
    let bar = match ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    *screen() = Some(bar.clone());
    bar
}

fn screen() -> MutexGuard<'static, Option<ProgressBar>> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn beside_the_bar<T>(write: impl FnOnce() -> T) -> T {
    let screen = screen();
    match screen.as_ref().filter(|bar| !bar.is_finished()) {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Takes the bar away and says a last word, with no line half printed. Nothing is printed after it.
pub fn last_word(text: Option<&str>) {
    // A reader who has stopped reading holds a line back: it is waited for only so long.
    let screen = (0..100).find_map(|_| {
        let free = SCREEN.try_lock().ok();
        if free.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        free
    });
    if let Some(bar) = screen.as_ref().and_then(|bar| bar.as_ref()) {
        bar.finish_and_clear();
    }
    if let Some(text) = text {
        let said =
            if json() { object(Severity::Error, "interrupted", text).to_string() } else { format!("error: {text}") };
        let _ = writeln!(io::stderr(), "{said}");
    }
    std::mem::forget(screen);
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

impl Failure {
    /// Says it on stderr.
    pub fn print(&self) {
        match self {
            Failure::Wrong(messages) => messages.iter().for_each(|message| error("wrong-input", message)),
            Failure::Refused(refusals) => refusals.iter().for_each(|one| error(UNSUPPORTED, &one.to_string())),
            Failure::Diagnosed(found, source) => diagnostics(found, source),
            Failure::Failed(message) => error("failed", message),
            Failure::DidNotHold(message) => error("did-not-hold", message),
            Failure::ReaderGone => {}
        }
    }
}
