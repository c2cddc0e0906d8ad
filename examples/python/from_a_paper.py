#!/usr/bin/env python3
"""A variant from its paper to numbers, step by step: stated, checked, verified, run, timed, plotted.

    pip install ./python numpy matplotlib
    examples/python/from_a_paper.py [--tokens 256,512,1024,2048] [--plot scaling.png]

The paper is "Gated Delta Networks" (Yang, Kautz, Hatamizadeh 2024, arXiv:2412.06464). Its equation (10) says what a head's
state is after token t:

    S_t = S_{t-1} (a_t (I - b_t k_t k_t')) + b_t v_t k_t'        o_t = S_t q_t

The paper writes states as values by keys; here they are keys by values, so everything is transposed.
"""

import argparse

import numpy as np

import chunkwise

# The equation, as it is written. Nothing says how to compute it.
SOURCE = """
variant gated_delta_net {
  axes    B, T, H, K, V;
  input   q, k : [B,T,H,K], v : [B,T,H,V], g, beta : [B,T,H];
  feature unit(x) = l2norm(x) on q, k;
  order   causal;
  state   S : [K,V] = 0;
  let     a[t] = exp(g[t]);
  update  S[t] = a[t] * (eye(K) - beta[t] * k[t] * k[t]') * S[t-1] + beta[t] * k[t] * v[t]';
  output  o[t] = S[t]' * q[t] / sqrt(K);
  check   draw(g = logdecay, beta = sigmoid);
}
"""


def by_hand(q, k, v, g, beta):
    """The same in NumPy, token by token, in f64: what a reader of the paper would write first."""
    q, k, v, g, beta = (x.astype(np.float64) for x in (q, k, v, g, beta))
    unit = lambda x: x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6)
    q, k = unit(q), unit(k)
    batch, tokens, heads, keys = k.shape
    S, outputs = np.zeros((batch, heads, keys, v.shape[-1])), []
    for t in range(tokens):
        S = S * np.exp(g[:, t])[..., None, None]
        missing = v[:, t] - np.einsum("bhkv,bhk->bhv", S, k[:, t])
        S = S + np.einsum("bhk,bhv->bhkv", k[:, t], beta[:, t][..., None] * missing)
        outputs.append(np.einsum("bhkv,bhk->bhv", S, q[:, t]) / np.sqrt(keys))
    return np.stack(outputs, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="256,512,1024,2048")
    parser.add_argument("--plot", help="where the plot goes: PNG, SVG or PDF")
    given = parser.parse_args()
    tokens = [int(n) for n in given.tokens.split(",")]

    print("== What the compiler finds in the equation")
    gdn = chunkwise.compile(SOURCE)
    print(gdn)

    print("\n== Every form against the f64 reference")
    print(gdn.verify(tokens=[1, 64, 130]))

    print("\n== And against the loop above")
    inputs = gdn.draw(B=1, T=100, H=2, K=16, V=16)
    print(f"off by at most {np.abs(gdn(**inputs) - by_hand(**inputs)).max():.1e}")

    print("\n== A prompt, then token by token from its state")
    _, state = gdn(**inputs, output_final_state=True)
    decode = gdn.session(B=1, H=2, K=16, V=16)
    decode.set_states(state)
    print(decode.step(**gdn.draw(B=1, T=1, H=2, K=16, V=16, seed=1)).shape)

    print("\n== What is taken, and why")
    print(gdn.choice(B=1, T=max(tokens), H=8, K=64, V=64))

    print("\n== Times, 8 heads, K = V = 64, one thread")
    one = chunkwise.compile(SOURCE, threads=1)
    forms = {form: one.bench(form=form, tokens=tokens, B=1, H=8, K=64, V=64) for form in ("recurrent", "chunked")}
    for report in forms.values():
        print(report)

    if given.plot:
        plot(forms, given.plot)
        print(f"\nThe plot is in {given.plot}")


def plot(forms, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for form, report in forms.items():
        axes.plot([row["tokens"] for row in report], [row["median_ms"] for row in report], marker="o", label=form)
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="ms", title="Gated DeltaNet, 8 heads, K = V = 64")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
