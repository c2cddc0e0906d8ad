//! Threads that wait for work: small calls must not pay for starting one. Not here: what the work is.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

type Work = dyn Fn(usize) + Sync;

/// A borrowed closure whose lifetime the pool guards.
#[derive(Clone, Copy)]
struct Job(*const Work);

// SAFETY: the closure is Sync, and `run` keeps it alive until no thread has the job any more.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Threads that may still join the job.
    tickets: usize,
    panicked: bool,
    threads: usize,
    /// Threads that wait for `work`.
    asleep: usize,
    /// Whether the caller waits for `idle`.
    waiting: bool,
}

/// A cache line of its own (two, since processors fetch neighbours): threads look at it again and again.
#[derive(Default)]
#[repr(align(128))]
struct Apart<T>(T);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Jobs so far; changed under the lock, looked at without it.
    jobs: Apart<AtomicU64>,
    /// Threads at work on the job; changed under the lock, looked at without it.
    running: Apart<AtomicUsize>,
    work: Condvar,
    idle: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent whenever the lock is free.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> usize {
        self.running.0.load(Ordering::Acquire)
    }
}

/// The threads of one process. A process that was forked has none of its parent's threads, and its locks as they stood.
struct Pool {
    process: u32,
    shared: Arc<Shared>,
    turn: Mutex<()>,
    /// Of a process that was forked from this one, in memory of its own.
    forked: OnceLock<Box<Pool>>,
}

impl Pool {
    fn of(process: u32) -> Self {
        Self { process, shared: Arc::default(), turn: Mutex::default(), forked: OnceLock::new() }
    }

    /// That of this process.
    fn here() -> &'static Self {
        static FIRST: OnceLock<Pool> = OnceLock::new();
        let process = std::process::id();
        let mut pool = FIRST.get_or_init(|| Self::of(process));
        while pool.process != process {
            pool = pool.forked.get_or_init(|| Box::new(Self::of(process)));
        }
        pool
    }
}

/// Looks without the lock before a thread goes to sleep: some 50 microseconds. A call of few tokens finds the threads
/// of the one before still awake, and its end is not put off by a thread that has to be woken.
const LOOKS: u32 = 4000;

/// Whether `done` comes true while a thread stays awake for it.
fn soon(done: impl Fn() -> bool) -> bool {
    for _ in 0..LOOKS {
        if done() {
            return true;
        }
        std::hint::spin_loop();
    }
    done()
}

/// Calls `work(0)` here and up to `threads - 1` times more on other threads, each with a number of its own below
/// `threads`. `work` takes its share of the whole until nothing is left; some numbers may never be used: nobody waits
/// for a thread that has not begun.
pub(super) fn run<'w>(threads: usize, work: &'w (dyn Fn(usize) + Sync + 'w)) {
    if threads <= 1 {
        return work(0);
    }
    let Pool { shared: pool, turn, .. } = Pool::here();
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: only the lifetime changes. The job is taken back, and all threads have left it, before this call returns
    // or unwinds (`leave`), so no thread sees the closure after its end.
    let job = Job(unsafe {
        std::mem::transmute::<*const (dyn Fn(usize) + Sync + 'w), *const Work>(std::ptr::from_ref(work))
    });
    let mut state = pool.lock();
    while state.threads < threads - 1 && start(pool, state.threads) {
        state.threads += 1;
    }
    (state.job, state.tickets, state.panicked) = (Some(job), threads - 1, false);
    pool.jobs.0.fetch_add(1, Ordering::Release);
    let wanted = state.asleep.min(threads - 1);
    drop(state);
    // Waking is a call of the system: threads that are awake need none.
    (0..wanted).for_each(|_| pool.work.notify_one());
    let here = catch_unwind(AssertUnwindSafe(|| work(0)));
    let panicked = leave(pool);
    if let Err(panic) = here {
        resume_unwind(panic);
    }
    assert!(!panicked, "a worker thread panicked");
}

/// Takes the job back and waits for the threads at work on it.
fn leave(pool: &Shared) -> bool {
    let mut state = pool.lock();
    state.tickets = 0;
    if pool.running() > 0 {
        drop(state);
        soon(|| pool.running() == 0);
        state = pool.lock();
    }
    while pool.running() > 0 {
        state.waiting = true;
        state = pool.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.waiting = false;
    state.job = None;
    state.panicked
}

/// Starts one more thread; fewer threads than wished for still do all the work.
fn start(pool: &Arc<Shared>, number: usize) -> bool {
    let pool = Arc::clone(pool);
    thread::Builder::new().name(format!("chunkwise-{}", number + 1)).spawn(move || serve(&pool)).is_ok()
}

fn serve(pool: &Shared) {
    let mut seen = 0;
    loop {
        let awake = soon(|| pool.jobs.0.load(Ordering::Acquire) != seen);
        let mut state = pool.lock();
        if !awake {
            state.asleep += 1;
            while state.tickets == 0 {
                state = pool.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.asleep -= 1;
        }
        seen = pool.jobs.0.load(Ordering::Acquire);
        let (Some(job), number @ 1..) = (state.job, state.tickets) else { continue };
        state.tickets -= 1;
        pool.running.0.fetch_add(1, Ordering::Release);
        drop(state);
        // SAFETY: `running` counts this thread, so `run` has not returned and the closure is alive.
        let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*job.0)(number) }));
        let mut state = pool.lock();
        state.panicked |= done.is_err();
        let last = pool.running.0.fetch_sub(1, Ordering::Release) == 1;
        if last && state.waiting {
            pool.idle.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_work_is_done_once() {
        for threads in [1, 2, 5, 2] {
            for round in 0..200 {
                // Threads are met awake, and now and then asleep.
                if round % 64 == 63 {
                    thread::sleep(std::time::Duration::from_millis(2));
                }
                let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
                run(threads, &|number| {
                    assert!(number < threads);
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= round {
                            break;
                        }
                        sum.fetch_add(i, Ordering::Relaxed);
                    }
                });
                assert_eq!(sum.into_inner(), (0..round).sum::<usize>());
            }
        }
    }
}
