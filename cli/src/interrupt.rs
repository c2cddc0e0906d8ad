//! Signals that end the command (SIGINT, SIGTERM): nothing half written is left, and what was done is said.

use std::sync::{Mutex, PoisonError};

/// What to say of the work that was done.
static WORD: Mutex<Option<String>> = Mutex::new(None);

/// What an interrupt from here on says. A command that has said none ends without a word, as if it listened to nothing.
pub fn would_say(word: String) {
    *WORD.lock().unwrap_or_else(PoisonError::into_inner) = Some(word);
}

/// Listens, on a thread of its own. Where it cannot, signals end the process as they always do.
#[cfg(unix)]
pub fn watch() {
    use signal_hook::{
        consts::{SIGINT, SIGTERM},
        iterator::Signals,
    };
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else { return };
    std::thread::spawn(move || signals.forever().for_each(end));
}

#[cfg(not(unix))]
pub fn watch() {}

/// Ends the process: with 128 and the signal's number where a word was said, else by the signal.
#[cfg(unix)]
fn end(signal: i32) {
    chunkwise_runtime::whole::abandon();
    let word = WORD.lock().unwrap_or_else(PoisonError::into_inner).clone();
    crate::print::last_word(word.as_deref());
    if word.is_none() {
        // An error is answered by the exit below.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    signal_hook::low_level::exit(128 + signal);
}
