#!/usr/bin/env python3
"""How far `--form auto` is from the best of all forms and chunk lengths, and from what it takes by the built-in rates: a
line for each program and size, then the worst.

    python3 benches/choices.py [--chunkwise PATH] [--backend llvm] [--tokens 1,8,64,512,2048] [--widths 64,128] FILE.attn..

Every plan is timed in turns over several rounds and counts with its least median, so that what else the machine does
weighs on all alike. A choice within 10 % of the best, and no more than 5 % slower than by the built-in rates, is what the
cost model is held to. A minute and more a program and width: `--rounds 1 --chunks 16,32 --tokens 512` takes seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile


def bench(command, flags, **environment):
    """The entries that `chunkwise bench --json` prints."""
    environment = {**os.environ, **environment}
    done = subprocess.run([command, "bench", *flags, "--json"], capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{command} bench {' '.join(flags)}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(arguments, file, width, tokens):
    sizes = ["--batch", "1", "--heads", str(arguments.heads), "--dim", f"K={width}", "--dim", f"V={width}"]
    common = [file, "--backend", arguments.backend, "--threads", str(arguments.threads), "--tokens", str(tokens), *sizes]
    least = {}
    for _ in range(arguments.rounds):
        entries = bench(arguments.chunkwise, [*common, "--form", "recurrent,chunked", "--chunk", arguments.chunks])
        for entry in entries:
            plan = (entry["form"], entry["schedule"], entry["chunk"] if entry["form"] == "chunked" else 0)
            least[plan] = min(least.get(plan, float("inf")), entry["median_ms"])
    def chosen(**environment):
        [entry] = bench(arguments.chunkwise, [*common, "--form", "auto"], **environment)
        plan = (entry["form"], entry["schedule"], entry["chunk"] if entry["form"] == "chunked" else 0)
        return plan, min(least.get(plan, float("inf")), entry["median_ms"])

    plan, taken = chosen()
    with tempfile.TemporaryDirectory() as empty:
        _, built_in = chosen(HOME=empty, XDG_CACHE_HOME=empty)
    best = min(least, key=least.get)
    return plan, taken, best, least[best], taken / built_in


def main():
    parser = argparse.ArgumentParser(description="Compare --form auto with every form and chunk length.")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--chunkwise", default="chunkwise")
    parser.add_argument("--backend", default="llvm")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", default="1,8,64,512,2048")
    parser.add_argument("--widths", default="64,128")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--chunks", default="8,16,32,64,128")
    arguments = parser.parse_args()
    worst, slower = 0.0, 0.0
    print("program K T: chosen ms, best ms, chosen / best, chosen / chosen by the built-in rates")
    for file in arguments.files:
        for width in map(int, arguments.widths.split(",")):
            for tokens in map(int, arguments.tokens.split(",")):
                plan, taken, best, least, against = compare(arguments, file, width, tokens)
                ratio = taken / min(least, taken)
                worst, slower = max(worst, ratio), max(slower, against)
                name = lambda plan: plan[0] + (f" C={plan[2]}" if plan[2] else "")
                mark = "  <-- beyond 10 %" if ratio > 1.1 else ""
                mark += "  <-- beyond 5 %" if against > 1.05 else ""
                told = f"{name(plan)} {taken:.4f}, {name(best)} {least:.4f}, {ratio:.3f}, {against:.3f}"
                print(f"{file} {width} {tokens}: {told}{mark}", flush=True)
    print(f"worst: {worst:.3f}, {slower:.3f}")


if __name__ == "__main__":
    main()
