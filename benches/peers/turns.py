"""Programs that take turns: each in a process of its own on the same CPUs, in a new order each round, so that what else the
machine does meets all alike. A program is checked against the recurrence before it is timed."""

import contextlib
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TURN_MS = 150


class Program:
    def __init__(self, name, command, threads, log):
        self.name, self.samples, self.turn = name, [], 1
        many = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")}
        env = {**os.environ, **many, "JAX_PLATFORMS": "cpu"}
        if threads == 1:
            env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        cpus = sorted(os.sched_getaffinity(0))[:threads]

        def settle():
            os.sched_setaffinity(0, cpus)
            if os.geteuid() == 0:
                # Linux may weigh sessions before processes: each has one of its own, raised as well.
                os.nice(-15)
                os.setsid()
                with contextlib.suppress(OSError):
                    pathlib.Path("/proc/self/autogroup").write_text("-15")

        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                        env=env, preexec_fn=settle)

    def line(self):
        return self.process.stdout.readline().strip() or f"ended with {self.process.wait()}"

    def ask(self, question):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(question + "\n")
            self.process.stdin.flush()
        return self.line()

    def run(self, count):
        """Times of so many calls, in ms."""
        answer = self.ask(f"run {count}")
        try:
            return [int(nanoseconds) / 1e6 for nanoseconds in answer.split()]
        except ValueError:
            raise RuntimeError(answer) from None

    def take_turn(self):
        times = self.run(self.turn)
        self.samples += times
        self.turn = min(2000, max(1, round(TURN_MS / max(statistics.median(times), 1e-3))))

    def end(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def off(program, folder, calls, want):
    """By how much, relative and in the l2 norm, the outputs and the state are off after so many calls."""
    import numpy
    from safetensors.numpy import load_file

    program.run(calls - 1)
    path = folder / f"{program.name}.safetensors"
    answer = program.ask(f"dump {path}")
    if answer != "ok":
        raise RuntimeError(answer)
    got = load_file(path)
    norm = lambda x: float(numpy.linalg.norm(x))
    return {f"err_{part}": norm(got[name] - of) / norm(of) for name, part, of in zip("oS", ("o", "state"), want)}


def measure(job, peers, ours, limits, log):
    """A line a program for one shape. `ours`: a name and a function from the file of tensors to a command; `limits`: runs
    wanted of each program, seconds in all, seconds for a program after three runs."""
    import recurrence
    from safetensors.numpy import save_file

    runs, seconds, seconds_each = limits
    variant, threads, carry = job["variant"], job["threads"], job["mode"] == "decode"
    shape = (job["B"], job["T"], job["H"], job["K"])
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        tensors = recurrence.tensors(variant, *shape)
        file = folder / "in.safetensors"
        save_file(tensors, file)
        serve = lambda name: [sys.executable, str(HERE / "serve.py"), name, variant, str(file), str(threads),
                              *["--carry"] * carry]
        started = [Program(name, serve(name), threads, log) for name in [*peers, "sgemm"]]
        started.append(Program(ours[0], ours[1](file), threads, log))
        programs, errors = [], {}
        o, S = recurrence.expected(variant, tensors)
        for program in started:
            why = program.line()
            try:
                if why == "ready" and program.name != "sgemm":
                    errors[program.name] = off(program, folder, job["T"] if carry else 2, (o[:, -1:] if carry else o, S))
            except RuntimeError as failed:
                why = str(failed)
            if why == "ready":
                programs.append(program)
            else:
                yield {"peer": program.name, **job, "skipped": why}
                program.end()
        for program in programs:
            program.take_turn()
            program.samples.clear()
        end = time.monotonic() + seconds
        spent = lambda program: sum(program.samples) / 1e3
        wanting = lambda program: len(program.samples) < runs and (spent(program) < seconds_each or len(program.samples) < 3)
        while time.monotonic() < end and (turn := [program for program in programs if wanting(program)]):
            random.shuffle(turn)
            for program in turn:
                program.take_turn()
        for program in programs:
            program.end()
    yield from lines(job, programs, errors, recurrence.flops(variant, *(shape if not carry else (shape[0], 1, *shape[2:]))))


def lines(job, programs, errors, flops):
    ceiling = next((2 * 2048**3 / statistics.median(program.samples) / 1e6
                    for program in programs if program.name == "sgemm" and program.samples), None)
    for program in programs:
        if program.name == "sgemm" or not program.samples:
            continue
        times = sorted(program.samples)
        median = statistics.median(times)
        rate = flops / median / 1e6
        row = {"peer": program.name, **job, **errors[program.name], "n": len(times), "median_ms": round(median, 5),
               "p10_ms": round(times[len(times) // 10], 5), "p90_ms": round(times[len(times) * 9 // 10], 5),
               "gflops": round(rate, 2)}
        yield row | ({"sgemm_gflops": round(ceiling, 1), "frac_sgemm": round(rate / ceiling, 4)} if ceiling else {})
