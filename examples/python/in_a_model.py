#!/usr/bin/env python3
"""Our kernels in a model of Hugging Face's transformers: what is replaced, that nothing changes, and how much faster it is.

    pip install torch transformers ./python
    examples/python/in_a_model.py [--tokens 512] [--new 20] [--threads 1]

The model is a Qwen3-Next with random weights and a few layers, so nothing is downloaded. On a machine without a GPU's
kernels, transformers run its gated delta rule and its convolutions in PyTorch.
"""

import argparse
import time

import torch
import transformers

import chunkwise.transformers

SIZES = dict(
    vocab_size=256, hidden_size=512, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2, head_dim=64,
    intermediate_size=1024, linear_num_key_heads=8, linear_num_value_heads=16, linear_key_head_dim=64,
    linear_value_head_dim=64, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=128,
    shared_expert_intermediate_size=128, eos_token_id=None, pad_token_id=0, bos_token_id=1,
)


def timed(function):
    """Its result, and the least seconds of three calls."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return result, min(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--new", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = transformers.Qwen3NextForCausalLM(transformers.Qwen3NextConfig(**SIZES)).eval()
    prompt = torch.randint(2, 256, (1, given.tokens))
    generate = lambda: model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=given.new, do_sample=False)

    with torch.no_grad():
        logits, prefill = timed(lambda: model(prompt).logits)
        tokens, whole = timed(generate)
        print(f"as it comes:  prompt {prefill * 1e3:7.1f} ms, and {given.new} tokens {whole * 1e3:7.1f} ms")

        patch = chunkwise.transformers.patch(model)
        model(prompt)  # compiles
        ours, ours_prefill = timed(lambda: model(prompt).logits)
        same, ours_whole = timed(generate)
        print(f"patched:      prompt {ours_prefill * 1e3:7.1f} ms, and {given.new} tokens {ours_whole * 1e3:7.1f} ms")
        print(patch)
        print(f"logits off by {(ours - logits).norm() / logits.norm():.1e}; the same tokens: {torch.equal(same, tokens)}")
        patch.undo()


if __name__ == "__main__":
    main()
