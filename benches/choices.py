#!/usr/bin/env python3
"""How far `--form auto` is from the best of all forms and chunk lengths: a line for each program and size, then the worst.

    python3 benches/choices.py [--chunkwise PATH] [--backend llvm] [--tokens 1,8,64,512,2048] [--widths 64,128] FILE.attn..

Every plan is timed in turns over several rounds and counts with its least median, so that what else the machine does
weighs on all alike. A choice within 10 % of the best is what the cost model is held to.
"""

import argparse
import json
import subprocess
import sys

CHUNKS = "8,16,32,64,128"


def bench(command, flags):
    """The entries that `chunkwise bench --json` prints."""
    done = subprocess.run([command, "bench", *flags, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command} bench {' '.join(flags)}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(arguments, file, width, tokens):
    sizes = ["--batch", "1", "--heads", str(arguments.heads), "--dim", f"K={width}", "--dim", f"V={width}"]
    common = [file, "--backend", arguments.backend, "--threads", str(arguments.threads), "--tokens", str(tokens), *sizes]
    least = {}
    for _ in range(arguments.rounds):
        entries = bench(arguments.chunkwise, [*common, "--form", "recurrent,chunked", "--chunk", CHUNKS])
        for entry in entries:
            plan = (entry["form"], entry["schedule"], entry["chunk"] if entry["form"] == "chunked" else 0)
            least[plan] = min(least.get(plan, float("inf")), entry["median_ms"])
    [chosen] = bench(arguments.chunkwise, [*common, "--form", "auto"])
    plan = (chosen["form"], chosen["schedule"], chosen["chunk"] if chosen["form"] == "chunked" else 0)
    taken = min(least.get(plan, float("inf")), chosen["median_ms"])
    best = min(least, key=least.get)
    return plan, taken, best, least[best]


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
    arguments = parser.parse_args()
    worst = 0.0
    print("program K T: chosen ms, best ms, chosen / best")
    for file in arguments.files:
        for width in map(int, arguments.widths.split(",")):
            for tokens in map(int, arguments.tokens.split(",")):
                plan, taken, best, least = compare(arguments, file, width, tokens)
                ratio = taken / min(least, taken)
                worst = max(worst, ratio)
                name = lambda plan: plan[0] + (f" C={plan[2]}" if plan[2] else "")
                mark = "  <-- beyond 10 %" if ratio > 1.1 else ""
                print(f"{file} {width} {tokens}: {name(plan)} {taken:.4f}, {name(best)} {least:.4f}, {ratio:.3f}{mark}", flush=True)
    print(f"worst: {worst:.3f}")


if __name__ == "__main__":
    main()
