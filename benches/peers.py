#!/usr/bin/env python3
"""Times `chunkwise bench` beside what a user of a CPU could run instead, and says by what factor it is ahead.

    benches/peers.py [--chunkwise BINARY] [--variants gla,kda] [--T 512,2048] [--K 64,128] [--threads 1] [--mode decode]

All programs of one shape take turns in one run, in a new order each round, each pinned and in a process of its own; every
output is checked against a float64 recurrence before it is timed. The programs are those in benches/peers/: ONNX Runtime's
LinearAttention, the chunked form in PyTorch (as it is and compiled), JAX in chunks and in a scan over tokens, ggml's
operators; ours serves on the .attn programs there. `make bench` sets the Python packages up; what is absent is left out.

Into target/bench go results.jsonl, a line a program and shape; results.txt, the table; and a plot of time against T for
each variant, PNG and SVG. With --again the table and the plots are made of the lines that are there.

ggml takes part where PEERS_GGML names the folder of libggml-base.so and libggml-cpu.so, built from llama.cpp's sources by
    cmake -S ggml -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DGGML_NATIVE=ON -DGGML_OPENMP=OFF
    cmake --build build --target ggml-cpu        # PEERS_GGML=build/src
(of llama-cpp-python's source package, the folder is vendor/llama.cpp/ggml; it lacks ggml.pc.in and the folders tests and
examples with a CMakeLists.txt each: empty ones do).

With --harness, or PEERS_DIR, another program measures: bench_peers.py of that folder, with ours by its --external.
"""

import argparse
import itertools
import json
import math
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute() / "release/chunkwise"
VARIANTS = ["linear", "retnet", "ssd", "gla", "delta", "gated_delta", "kda"]
OURS = "chunkwise"
OWN = ["onnxruntime", "torch-chunks", "torch-compiled", "jax-chunks", "jax-scan", "ggml"]
# Those of bench_peers.py that keep products, states and sums in f32.
PEERS = {
    "prefill": ["torch-chunk", "torch-chunk-compiled", "torch-factored", "torch-factored-compiled", "jax-chunk",
                "jax-factored", "jax-scan", "onnxruntime", "ggml", "hf-torch"],
    "decode": ["torch-recurrent", "torch-recurrent-compiled", "jax-scan", "onnxruntime", "ggml"],
}
# Relative l2 errors of an output beyond which its time means nothing.
BOUND, BOUND_OF_PEERS = 1e-5, 1e-3


def arguments():
    words = lambda text: [word for word in text.split(",") if word]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunkwise", default=str(BUILT), help="the binary")
    parser.add_argument("--harness", metavar="FOLDER", default=os.environ.get("PEERS_DIR"), help="of bench_peers.py")
    parser.add_argument("--variants", type=words, default=VARIANTS, help="rwkv7 is there as well")
    parser.add_argument("--peers", type=words, help="default: all that compute in f32")
    parser.add_argument("--mode", choices=PEERS, default="prefill")
    parser.add_argument("--T", help="default: 512,2048; in decode the tokens that calls cycle through, 8")
    parser.add_argument("--K", default="64,128", help="V = K")
    parser.add_argument("--B", default="1")
    parser.add_argument("--H", default="8")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--form", default="auto")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--bench-flags", default="", help="more flags of chunkwise bench")
    parser.add_argument("--runs", type=int, default=25, help="undisturbed runs wanted of each program")
    parser.add_argument("--seconds", type=float, default=60, help="at most, for a shape")
    parser.add_argument("--peer-seconds", type=float, default=4, help="at most, for a program in it, after 3 runs")
    parser.add_argument("--keep-disturbed", action="store_true", help="with --harness, which drops them")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "target/bench")
    parser.add_argument("--append", action="store_true", help="keep the lines that are there")
    parser.add_argument("--again", action="store_true", help="table and plots of the lines that are there")
    given = parser.parse_args()
    given.T = given.T or ("8" if given.mode == "decode" else "512,2048")
    return given


# -- timing


def command(given, variant):
    """Our program, but for the tensors and the threads."""
    program = str(ROOT / "benches/peers" / f"{variant}.attn")
    carry = ["--carry"] if given.mode == "decode" else []
    return [os.path.abspath(given.chunkwise), "bench", program, "--serve", "--form", given.form, "--backend", given.backend,
            *carry, *shlex.split(given.bench_flags)]


def in_turns(given, variant):
    """The lines of one variant's shapes, as they come."""
    sys.path.insert(0, str(ROOT / "benches/peers"))
    import turns

    numbers = lambda text: [int(number) for number in text.split(",")]
    names = ("threads", "K", "T", "B", "H")
    limits = (given.runs, given.seconds, given.peer_seconds)
    with open(given.out / "stderr.log", "a") as log:
        for shape in itertools.product(*(numbers(getattr(given, name)) for name in names)):
            job = {"variant": variant, "mode": given.mode, **dict(zip(names, shape))}
            flags = ["--threads", str(job["threads"])]
            ours = lambda file: [*command(given, variant), *flags, "--inputs", str(file)]
            yield from turns.measure(job, given.peers or OWN, (OURS, ours), limits, log)


def copied(given):
    """bench_peers.py, in a copy: it keeps its compiler's cache beside itself."""
    source, copy = pathlib.Path(given.harness), given.out / "harness"
    if not (source / "bench_peers.py").is_file():
        sys.exit(f"no {source}/bench_peers.py: --harness and PEERS_DIR name its folder")
    for file in source.rglob("*.py"):
        to = copy / file.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())
    return copy / "bench_peers.py"


def by_harness(given, variant):
    """The same lines, by bench_peers.py. Ends the program where the run fails."""
    ours = f"{OURS}={shlex.join(command(given, variant))} --inputs {{input}} --threads {{threads}}"
    run = [sys.executable, str(copied(given)), "--variants", variant, "--mode", given.mode, "--T", given.T, "--K", given.K,
           "--B", given.B, "--H", given.H, "--threads", given.threads, "--runs", str(given.runs),
           "--peers", ",".join(given.peers or PEERS[given.mode]), "--seconds", str(given.seconds),
           "--peer-seconds", str(given.peer_seconds), "--log", str(given.out / "stderr.log"), "--external", ours]
    if given.keep_disturbed:
        run.append("--no-quiet")
    run = subprocess.Popen(run, stdout=subprocess.PIPE, text=True)
    for line in run.stdout:
        yield json.loads(line)
    if run.wait() != 0:
        sys.exit(f"the run of {variant} ended with {run.returncode}: see {given.out}/stderr.log")


def measure(given):
    if not os.access(given.chunkwise, os.X_OK):
        sys.exit(f"no {given.chunkwise}: cargo build --release -p chunkwise --features llvm, or --chunkwise BINARY")
    given.out.mkdir(parents=True, exist_ok=True)
    lines = by_harness if given.harness else in_turns
    with open(given.out / "results.jsonl", "a" if given.append else "w") as file:
        for variant in given.variants:
            for row in lines(given, variant):
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(told(row), file=sys.stderr, flush=True)


def told(row):
    time = f"{row['median_ms']:.3f} ms" if "median_ms" in row else row.get("skipped", "no time")
    error = f"off by {row['err_o']:.1e}" if "err_o" in row else ""
    shape = f"{row['variant']} {row['mode']} B={row['B']} T={row['T']} K={row['K']} x{row['threads']}"
    return f"{shape}  {row['peer']}: {time}  {error}"


# -- what the lines say


def entries(rows):
    """By shape, the rows of it by program: of those that are right and timed. And what is wrong with others."""
    found, wrong = {}, []
    for row in rows:
        key = tuple(row[part] for part in ("mode", "variant", "B", "H", "K", "T", "threads"))
        is_ours = row["peer"] == OURS
        error = max(row.get("err_o", 0.0), row.get("err_state", 0.0))
        if "skipped" in row and not is_ours:
            continue
        if "median_ms" not in row or not error <= (BOUND if is_ours else BOUND_OF_PEERS):
            wrong.append((is_ours, told(row)))
        else:
            found.setdefault(key, {})[row["peer"]] = row
    return found, wrong


def exact(name):
    return name != OURS and "bf16" not in name


def table(found):
    """A row a shape, and the ratio of the fastest f32 peer's median to ours."""
    head = ["mode", "variant", "B", "H", "K=V", "T", "thr", "ours ms", "p10", "peer", "peer ms", "p10", "ratio",
            "GF/s", "of sgemm", "next"]
    rows, ratios = [head], {}
    for key, programs in sorted(found.items()):
        peers = sorted((row for name, row in programs.items() if exact(name)), key=lambda row: row["median_ms"])
        mine = programs.get(OURS)
        if not mine or not peers:
            continue
        ratios[key] = peers[0]["median_ms"] / mine["median_ms"]
        ceiling = f"{mine['frac_sgemm']:.0%}" if "frac_sgemm" in mine else "-"
        after = f"{peers[1]['peer']} {peers[1]['median_ms']:.3f}" if len(peers) > 1 else "-"
        rows.append([*map(str, key), f"{mine['median_ms']:.3f}", f"{mine['p10_ms']:.3f}", peers[0]["peer"],
                     f"{peers[0]['median_ms']:.3f}", f"{peers[0]['p10_ms']:.3f}", f"{ratios[key]:.2f}",
                     f"{mine['gflops']:.1f}", ceiling, after])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows), ratios


def summary(ratios):
    """Geometric means of the ratios over the entries that the bounds are of, and the least ratio."""
    mean = lambda values: math.exp(sum(map(math.log, values)) / len(values))
    text = []
    for mode in PEERS:
        of_mode = {key: ratio for key, ratio in ratios.items() if key[0] == mode}
        groups = [(f"{mode}", of_mode)]
        if mode == "prefill":
            long = {key: ratio for key, ratio in of_mode.items() if key[4] >= 128 and key[5] >= 2048}
            groups.append(("prefill, K=V>=128 and T>=2048", long))
        for name, group in groups:
            if group:
                least = min(group, key=group.get)
                text.append(f"{name}: {len(group)} entries, geometric mean {mean(list(group.values())):.2f}, least "
                            f"{group[least]:.2f} ({least[1]} B={least[2]} K={least[4]} T={least[5]} x{least[6]})")
    return "\n".join(text)


def plots(found, folder):
    """Time against T for each variant; a panel for every size of heads and number of threads."""
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib: no plots", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = sorted({name for programs in found.values() for name in programs if name != OURS})
    colours = {name: f"C{place % 10}" for place, name in enumerate(names)} | {OURS: "black"}
    for variant in sorted({key[1] for key in found if key[0] == "prefill"}):
        of_variant = {key: programs for key, programs in found.items() if key[:2] == ("prefill", variant)}
        panels = sorted({(key[2], key[3], key[4], key[6]) for key in of_variant})
        figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False)
        for panel, ax in zip(panels, axes[0]):
            shapes = {key[5]: programs for key, programs in of_variant.items()
                      if (key[2], key[3], key[4], key[6]) == panel}
            for name in [OURS, *names]:
                line = sorted((t, programs[name]["median_ms"]) for t, programs in shapes.items() if name in programs)
                if line:
                    width = 2.5 if name == OURS else 1
                    ax.plot(*zip(*line), marker="o", label=name, color=colours[name], linewidth=width)
            title = "{} B={} H={} K=V={} x{}".format(variant, *panel)
            ax.set(xscale="log", yscale="log", xlabel="T", ylabel="ms", title=title)
            ax.set_xticks(sorted(shapes), [str(t) for t in sorted(shapes)], minor=False)
            ax.set_xticks([], minor=True)
            ax.grid(alpha=0.3)
        axes[0][-1].legend(fontsize="x-small", loc="upper left")
        figure.tight_layout()
        for ending in ("png", "svg"):
            figure.savefig(folder / f"{variant}.{ending}")
        pyplot.close(figure)


def main():
    given = arguments()
    if not given.again:
        measure(given)
    with open(given.out / "results.jsonl") as file:
        found, wrong = entries(map(json.loads, file))
    text, ratios = table(found)
    text = "\n".join([text, "", summary(ratios), *(f"left out: {what}" for _, what in wrong)])
    print(text)
    (given.out / "results.txt").write_text(text + "\n")
    plots(found, given.out)
    if any(is_ours for is_ours, _ in wrong):
        sys.exit("an output of ours is wrong, or was not timed")


if __name__ == "__main__":
    main()
