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
    time::{Duration, Instant},
};

use chunkwise_compiler::bind::Sizes;
use chunkwise_dsl::typed::Variant;
use chunkwise_runtime::{Engine, Outputs, Plan, Request, Session, Tensors, View, choose::Wish, inputs};
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
    #[arg(long, value_name = "IN.safetensors", requires = "serve", conflicts_with_all = ["tokens", "batch", "heads", "seed"])]
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
    /// Those given.
    initial: Tensors,
    calls: Calls,
}

/// What the calls take.
enum Calls {
    /// All tokens, each time.
    Whole(Tensors),
    /// One token each: of every token the tensors, the session that takes them, and how many calls it has made.
    Carried { tokens: Vec<Tensors>, session: Box<Session>, made: usize },
}

/// Serves until stdin ends.
pub(super) fn run(arguments: &Arguments, path: &Path) -> Result<(), Failure> {
    if arguments.which.file == Path::new("-") {
        return Err(Failure::wrong("--serve takes its requests from standard input: the program cannot be `-` then"));
    }
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
        program::with_one(&arguments.which, shared, |variant| Self::of(variant, wish, (arguments, path)))
    }

    fn of(variant: &Variant, wish: Wish, (arguments, path): (&Arguments, &Path)) -> Result<Self, Failure> {
        let shared = &arguments.shared;
        let inputs = inputs::load(variant, path, &shared.dims).map_err(Failure::Wrong)?;
        let sizes = if arguments.served.carry { of_a_token(variant, &inputs)? } else { inputs.sizes.clone() };
        let mut engine = shared.engine()?;
        let choice = settled(&mut engine, variant, &sizes, (shared, wish))?;
        say(&choice);
        engine.prepare(variant, &sizes, choice.plan)?;
        let threads = shared.threads();
        let calls = match (arguments.served.carry, variant.token.and_then(|token| inputs.sizes.get(token))) {
            (true, Some(count)) => {
                let mut session = Box::new(engine.session(variant, &sizes, choice.plan, threads)?);
                session.set_states(&inputs.initial)?;
                Calls::Carried { tokens: (0..count).map(|t| inputs.token(variant, t)).collect(), session, made: 0 }
            }
            _ => Calls::Whole(inputs.tensors),
        };
        Ok(Self { engine, variant: variant.clone(), plan: choice.plan, threads, sizes, initial: inputs.initial, calls })
    }

    fn answer(&mut self, line: &str) -> Result<String, String> {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match (word, rest.trim()) {
            ("run", count) => {
                let count = count.parse().map_err(|_| format!("`{line}`: expected run N, N a number of calls"))?;
                let times = self.time(count).map_err(|failure| failure.line())?;
                let times = times.iter().skip(1).map(|time| time.as_nanos().to_string());
                Ok(times.collect::<Vec<_>>().join(" "))
            }
            ("dump", path) if !path.is_empty() => {
                let outputs = self.outputs().map_err(|failure| failure.line())?;
                write(outputs, Path::new(path)).map_err(|failure| failure.line())?;
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
            Calls::Carried { tokens, session, made } => {
                let mut times = Vec::with_capacity(count + 1);
                for _ in 0..=count {
                    let clock = Instant::now();
                    session.step(&tokens[*made % tokens.len()])?;
                    times.push(clock.elapsed());
                    *made += 1;
                }
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
            Calls::Carried { made: 0, .. } => Err(Failure::wrong("no call has been made: say run N first")),
            Calls::Carried { session, .. } => {
                let owned = |(name, view): (&str, View<'_>)| (name.to_string(), view.to_tensor());
                let (outputs, states) = (session.outputs().map(owned).collect(), session.states().map(owned).collect());
                Ok(Outputs { outputs, states, kernel_time: Duration::ZERO })
            }
        }
    }
}

/// The sizes of a call on one token of the tensors.
fn of_a_token(variant: &Variant, inputs: &inputs::Inputs) -> Result<Sizes, Failure> {
    let none = || Failure::wrong("--carry needs a token in the tensors, to make a call on");
    let token = variant.token.ok_or_else(none)?;
    inputs.sizes.get(token).filter(|count| *count > 0).ok_or_else(none)?;
    let mut sizes = inputs.sizes.clone();
    sizes.set(token, 1);
    Ok(sizes)
}
