//! `chunkwise bench --serve`: one plan on the tensors of a file, timed as an outside harness says, so that it can take
//! turns with other programs. Prints `ready`; then, for a line on stdin,
//!
//! - `run N` makes one untimed and N timed calls and prints the N times in ns on one line;
//! - `dump PATH` writes the outputs and final states as safetensors and prints `ok`;
//! - anything else is answered by `error: ...`, as is a line that fails.
//!
//! It ends where stdin ends. With `--carry` a call takes one token, call i the token i modulo T of the tensors, and starts
//! from the states that the call before left; `dump` then writes what the last call gave.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    time::Duration,
};

use chunkwise_compiler::bind::Sizes;
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{Engine, Outputs, Plan, Request, Tensors, inputs};
use clap::Args;

use super::Arguments;
use crate::{
    failure::Failure,
    print, program,
    run::{say, settled, write},
};

#[derive(Args)]
pub(super) struct Flags {
    /// The input tensors, and initial states, to time on
    #[arg(long, value_name = "IN.safetensors", requires = "serve")]
    inputs: Option<PathBuf>,
    /// Answer `run N` and `dump PATH` on stdin
    #[arg(long, requires = "inputs")]
    serve: bool,
    /// One token a call, states carried from call to call
    #[arg(long, requires = "serve")]
    carry: bool,
}

impl Flags {
    /// The tensors to serve, if that is asked for.
    pub(super) fn inputs(&self) -> Option<&Path> {
        self.inputs.as_deref()
    }
}

/// What all calls share.
struct Server {
    engine: Engine,
    variant: Variant,
    plan: Plan,
    threads: usize,
    /// Of one call.
    sizes: Sizes,
    /// Those given; of the next call, where states are carried.
    initial: Tensors,
    calls: Calls,
}

/// What the calls take.
enum Calls {
    /// All tokens, each time.
    Whole(Tensors),
    /// One token each: of every token the tensors, the token of the next call, and what the last call gave.
    Carried { tokens: Vec<Tensors>, next: usize, last: Option<Outputs> },
}

/// Serves until stdin ends.
pub(super) fn run(arguments: &Arguments, path: &Path) -> Result<(), Failure> {
    let mut server = Server::new(arguments, path)?;
    print::line("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))?;
        match server.answer(line.trim()) {
            Ok(answer) => print::line(&answer)?,
            Err(why) => print::line(&format!("error: {why}"))?,
        }
    }
    Ok(())
}

impl Server {
    fn new(arguments: &Arguments, path: &Path) -> Result<Self, Failure> {
        let shared = &arguments.shared;
        let wish = shared.wish()?;
        let variant = program::load_one(&arguments.which, shared)?;
        let inputs = inputs::load(&variant, path, &shared.dims).map_err(Failure::Wrong)?;
        let (sizes, calls) = if arguments.served.carry {
            carried(&variant, &inputs)?
        } else {
            (inputs.sizes, Calls::Whole(inputs.tensors))
        };
        let mut engine = shared.engine()?;
        let choice = settled(&mut engine, &variant, &sizes, (shared, wish))?;
        say(&choice, shared.verbose);
        engine.prepare(&variant, &sizes, choice.plan)?;
        let threads = shared.threads();
        Ok(Self { engine, variant, plan: choice.plan, threads, sizes, initial: inputs.initial, calls })
    }

    fn answer(&mut self, line: &str) -> Result<String, String> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("run", count) => {
                let count = count.parse().map_err(|_| format!("`{line}`: expected run N, N a number of calls"))?;
                let times = self.time(count).map_err(said)?;
                let times = times.iter().skip(1).map(|time| time.as_nanos().to_string());
                Ok(times.collect::<Vec<_>>().join(" "))
            }
            ("dump", path) if !path.is_empty() => {
                let outputs = self.outputs().map_err(said)?;
                write(outputs, Path::new(path)).map_err(said)?;
                Ok("ok".into())
            }
            _ => Err(format!("`{line}`: expected run N or dump PATH")),
        }
    }

    /// The times of one call more than asked for.
    fn time(&mut self, count: usize) -> Result<Vec<Duration>, Failure> {
        let Self { engine, variant, plan, threads, sizes, initial, calls } = self;
        let request = |inputs| Request { variant, sizes, inputs, initial, threads: *threads };
        match calls {
            Calls::Whole(inputs) => Ok(engine.time(request(inputs), *plan, &|times| times.len() > count)?),
            Calls::Carried { tokens, next, last } => {
                let steps: Vec<&Tensors> = tokens.iter().cycle().skip(*next).take(count.saturating_add(1)).collect();
                let Some((times, outputs)) = engine.carry(request(&tokens[*next]), *plan, &steps)? else {
                    return Ok(Vec::new());
                };
                *next = (*next + steps.len()) % tokens.len();
                *initial = outputs.states.iter().cloned().collect();
                *last = Some(outputs);
                Ok(times)
            }
        }
    }

    /// Of a call on all tokens, or of the last call of those in a row.
    fn outputs(&mut self) -> Result<Outputs, Failure> {
        let Self { engine, variant, plan, threads, sizes, initial, calls } = self;
        match calls {
            Calls::Whole(inputs) => {
                Ok(engine.run(Request { variant, sizes, inputs, initial, threads: *threads }, *plan)?)
            }
            Calls::Carried { last, .. } => {
                last.clone().ok_or_else(|| Failure::wrong("no call has been made: say run N first"))
            }
        }
    }
}

/// The sizes of a call on one token, and the tensors token by token.
fn carried(variant: &Variant, inputs: &inputs::Inputs) -> Result<(Sizes, Calls), Failure> {
    let none = || Failure::wrong("--carry needs a token in the tensors, to make a call on");
    let token = variant.token.ok_or_else(none)?;
    let count = inputs.sizes.get(token).filter(|count| *count > 0).ok_or_else(none)?;
    let mut sizes = inputs.sizes.clone();
    sizes.set(token, 1);
    let tokens = (0..count).map(|t| inputs.token(variant, t)).collect();
    Ok((sizes, Calls::Carried { tokens, next: 0, last: None }))
}

/// A failure in one line.
fn said(failure: Failure) -> String {
    match failure {
        Failure::Wrong(messages) => messages.join("; "),
        Failure::Diagnosed(text) | Failure::Failed(text) | Failure::DidNotHold(text) => text.replace('\n', " "),
        Failure::ReaderGone => "nobody reads".into(),
    }
}
