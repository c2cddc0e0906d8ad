#!/usr/bin/env python3
"""Times what layers of transformers' models do beside their projections, as they come and with our kernels.

    benches/models.py [--threads 1,2] [--rounds 9] [--T 2048]

The layers have the sizes of Qwen3-Next-80B-A3B and of Mamba-2 2.7B, with random weights. `rule` is the recurrence and
`mixing` that and the causal convolution: the functions of the layer that are replaced, called again and again on the tensors
that it gives them. `in the layer` is the same as they run there, from memory that the projections have used meanwhile, and
`whole layer` has those too. Theirs and ours take turns, outputs are compared first, and a line tells the median of the
ratios. Needs torch, transformers and chunkwise (`pip install torch transformers ./python`).
"""

import argparse
import statistics
import time

import torch
import transformers

import chunkwise.transformers
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

QWEN = dict(hidden_size=2048, linear_num_value_heads=32, linear_num_key_heads=16, linear_key_head_dim=128,
            linear_value_head_dim=128, num_hidden_layers=4)
MAMBA = dict(hidden_size=2560, num_heads=80, head_dim=64, state_size=128, n_groups=1, num_hidden_layers=1)
LAYERS = {
    "Qwen3-Next": lambda: Qwen3NextGatedDeltaNet(transformers.Qwen3NextConfig(**QWEN), 0),
    "Mamba-2": lambda: Mamba2Mixer(transformers.Mamba2Config(**MAMBA), 0),
}
CONFIGS = {"Qwen3-Next": transformers.Qwen3NextConfig(**QWEN), "Mamba-2": transformers.Mamba2Config(**MAMBA)}


class Mixing:
    """Seconds that a layer spends in the functions of the table, by wrapping those that its methods see."""

    def __init__(self, layer):
        self.seconds, self.calls = 0.0, {}
        chunkwise.transformers.patch(layer)
        self.layer, self.ours = layer, True
        function = layer.forward.__func__
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        for name in list(function.__globals__):
            if name in chunkwise.transformers.FUNCTIONS:
                function.__globals__[name] = self.timed(function.__globals__[name])

    def timed(self, replaced):
        def call(*given, **named):
            function = replaced if self.ours else replaced.__wrapped__
            self.calls[self.ours, replaced.__name__] = (function, given, named)
            start = time.perf_counter()
            results = function(*given, **named)
            self.seconds += time.perf_counter() - start
            return results

        return call

    def run(self, ours, *given):
        """Seconds in the functions, and of the whole layer; and its output."""
        self.ours, self.seconds = ours, 0.0
        start = time.perf_counter()
        output = self.layer(*given)
        return self.seconds, time.perf_counter() - start, output



def relative(got, wanted):
    return ((got - wanted).norm() / wanted.norm()).item()


def cache_of(name, whose, prompt):
    mixing, ours = whose
    cache = transformers.DynamicCache(config=CONFIGS[name])
    mixing.run(ours, prompt, cache)
    return cache


def alone(calls, rounds):
    """Pairs of seconds, theirs and ours, of calls that are given as (function, tensors, names)."""
    pairs, repeats = [], 1 if rounds < 20 else 20
    for _ in range(rounds):
        pair = []
        for side in calls:
            # Threads of the other side look for work for a while.
            time.sleep(0.03)
            start = time.perf_counter()
            for _ in range(repeats):
                for function, given, named in side:
                    function(*given, **named)
            pair.append((time.perf_counter() - start) / repeats)
        pairs.append(pair)
    return pairs


def measure(name, mixing, tokens, rounds):
    hidden = torch.randn(1, tokens, CONFIGS[name].hidden_size)
    caches = [None, None]
    if tokens == 1:
        # Both start from one prompt, and each goes on in a cache of its own.
        rounds, prompt = 20 * rounds, torch.randn(1, 64, hidden.shape[-1])
        caches = [cache_of(name, (mixing, ours), prompt) for ours in (False, True)]
    mixing.calls = {}
    error = relative(mixing.run(True, hidden, caches[1])[2], mixing.run(False, hidden, caches[0])[2])
    assert error < 1e-5, f"{name}: off by {error}"
    calls = [{name: call for (whose, name), call in mixing.calls.items() if whose == ours} for ours in (False, True)]
    rule = [[call for name, call in side.items() if "conv" not in name] for side in calls]
    times = [[mixing.run(ours, hidden, caches[ours])[:2] for ours in (False, True)] for _ in range(rounds)]
    rows = {
        "rule": alone(rule, rounds),
        "mixing": alone([side.values() for side in calls], rounds),
        "in the layer": [[side[0] for side in pair] for pair in times],
        "whole layer": [[side[1] for side in pair] for pair in times],
    }
    for what, pairs in rows.items():
        theirs, ours = (statistics.median(side) * 1e3 for side in zip(*pairs))
        ratio = statistics.median(a / b for a, b in pairs)
        label = f"{name:10}  {'decode' if tokens == 1 else f'T = {tokens}':8}  {what:12}  {torch.get_num_threads()} threads"
        print(f"{label}  {theirs:9.2f} ms  {ours:8.2f} ms  {ratio:5.1f} x  off by {error:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--T", type=int, default=2048)
    parser.add_argument("--layers", default=",".join(LAYERS))
    given = parser.parse_args()
    print("layer       sizes     what                           theirs         ours    ratio")
    torch.manual_seed(0)
    with torch.no_grad():
        for threads in map(int, given.threads.split(",")):
            torch.set_num_threads(threads)
            for name in given.layers.split(","):
                mixing = Mixing(LAYERS[name]().eval())
                for tokens in (given.T, 1):
                    measure(name, mixing, tokens, given.rounds)


if __name__ == "__main__":
    main()
