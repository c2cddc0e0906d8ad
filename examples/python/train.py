#!/usr/bin/env python3
"""A byte-level language model of two layers, trained with a variant of your choice as what mixes its tokens.

    pip install torch tqdm matplotlib ./python
    examples/python/train.py [--variant @gated_deltanet | mine.attn] [--steps 200] [--compare] [--plot loss.png]

The text is this project's own pages, README.md and docs/ (MIT or Apache-2.0); --text takes another. --compare trains the
same model from the same weights on the same batches with the recurrence as a loop in PyTorch (loops.py), and says how the
losses differ and how much faster a step is. A minute or two on one core.
"""

import argparse
import re
import time
from pathlib import Path

import loops
import torch
from torch import nn
from torch.nn.functional import cross_entropy, logsigmoid, softplus
from tqdm import tqdm

import chunkwise

ROOT = Path(__file__).parents[2]
# What brings a projection to the values that `check draw(..)` says an input has.
RANGES = {"logdecay": logsigmoid, "sigmoid": torch.sigmoid, "softplus": softplus}


class Mixer(nn.Module):
    """The variant between projections: one for every input `[B,T,..]`, and one of its output."""

    def __init__(self, variant, width, sizes, call):
        super().__init__()
        self.call, self.ranges = call, {}
        drawn = dict(re.findall(r"(\w+) = (\w+)", "".join(re.findall(r"check\s+draw\((.*)\)", variant.source))))
        shapes = variant.draw(B=1, T=1, **sizes)
        for name, _, dtype, shape in variant.inputs:
            if shape[:2] != ("B", "T") or dtype != "float32":
                raise SystemExit(f"input `{name}` is {dtype} [{','.join(shape)}]: this model makes float32 [B,T,..]")
            self.ranges[name] = (shapes[name].shape[2:], RANGES.get(drawn.get(name)))
        [output] = variant.outputs
        last = variant(*map(torch.from_numpy, shapes.values()))
        self.project = nn.ModuleDict({name: nn.Linear(width, shapes[name][0, 0].size) for name in self.ranges})
        self.back = nn.Linear(last[0, 0].numel(), width)
        self.params = variant.module(**sizes) if variant.params else nn.Module()

    def forward(self, x):
        given = {}
        for name, (own, to_range) in self.ranges.items():
            projected = self.project[name](x).reshape(*x.shape[:2], *own)
            given[name] = projected if to_range is None else to_range(projected)
        return self.back(self.call(**given, **dict(self.params.named_parameters())).flatten(2))


class Model(nn.Module):
    """Bytes in, logits of the next byte out."""

    def __init__(self, variant, given, call):
        super().__init__()
        width = given.width
        self.embed, self.head = nn.Embedding(256, width), nn.Linear(width, 256)
        self.mixers = nn.ModuleList(Mixer(variant, width, given.dims, call) for _ in range(2))
        self.feeds = nn.ModuleList(
            nn.Sequential(nn.RMSNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(3))

    def forward(self, tokens):
        x = self.embed(tokens)
        for norm, mixer, feed in zip(self.norms, self.mixers, self.feeds):
            x = x + mixer(norm(x))
            x = x + feed(x)
        return self.head(self.norms[2](x))


def train(variant, text, given, call, told):
    """The loss of every step, and the median seconds of a step behind the first, which compiles."""
    torch.manual_seed(given.seed)
    model = Model(variant, given, call)
    optimizer = torch.optim.AdamW(model.parameters(), lr=given.rate)
    draw = torch.Generator().manual_seed(given.seed)
    losses, times = [], []
    for _ in (bar := tqdm(range(given.steps), desc=told)):
        start = time.perf_counter()
        places = torch.randint(len(text) - given.tokens - 1, (given.batch, 1), generator=draw)
        window = text[places + torch.arange(given.tokens + 1)]
        loss = cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    return losses, sorted(times[1:] or times)[len(times[1:]) // 2]


def plot(curves, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    for (told, losses), style in zip(curves.items(), ("-", "--")):
        axes.plot(range(1, len(losses) + 1), losses, style, label=told)
    axes.set(xlabel="step", ylabel="loss, nats a byte")
    axes.legend()
    figure.savefig(path)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="@gated_deltanet", help="an .attn file, or @NAME of an example")
    parser.add_argument("--text", type=Path, nargs="*", default=[ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
    for name, default in (("steps", 200), ("tokens", 128), ("batch", 8), ("width", 128), ("threads", 1), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--dim", action="append", default=[], metavar="AXIS=SIZE", help="H=4, G=1, R=4; any other 32")
    parser.add_argument("--compare", action="store_true", help="train on the loop of loops.py too")
    parser.add_argument("--plot", type=Path, help="draw the losses as a PNG")
    return parser.parse_args()


def main():
    given = parsed()
    torch.set_num_threads(given.threads)
    variant = chunkwise.compile(given.variant)
    usual = {"H": 4, "G": 1, "R": 4} | {axis: int(size) for axis, size in (one.split("=") for one in given.dim)}
    axes = [axis for axis, value in variant.axes.items() if value is None and axis not in ("B", "T")]
    given.dims = {axis: usual.get(axis, 32) for axis in axes}
    text = torch.tensor(list(b"".join(path.read_bytes() for path in given.text)))
    curves, seconds = {}, {}
    calls = {"chunkwise": variant}
    if given.compare:
        if not hasattr(loops, variant.name):
            raise SystemExit(f"loops.py has no loop of `{variant.name}`")
        calls["torch loop"] = getattr(loops, variant.name)
    for told, call in calls.items():
        curves[told], seconds[told] = train(variant, text, given, call, f"{variant.name}, {told}")
        first, last, step = curves[told][0], curves[told][-1], seconds[told] * 1e3
        print(f"{told}: loss {first:.4f} at first, {last:.4f} after {given.steps} steps, {step:.1f} ms a step")
    if given.compare:
        ours, theirs = curves.values()
        apart = max(abs(a - b) / b for a, b in zip(ours, theirs))
        ratio = seconds["torch loop"] / seconds["chunkwise"]
        print(f"the losses differ by {100 * apart:.3f} % at most; a step is {ratio:.1f} times as fast")
    if given.plot:
        plot(curves, given.plot)


if __name__ == "__main__":
    main()
