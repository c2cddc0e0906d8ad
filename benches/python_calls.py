"""What a call from Python costs beside the kernel, which takes next to nothing at these sizes: the median and the least of many repeats, in microseconds.

Needs the package, NumPy and PyTorch: `make python`, then `target/python-venv-torch/bin/python benches/python_calls.py`.
"""

import statistics
import time
import timeit

start = time.perf_counter()
import chunkwise

imported = time.perf_counter() - start

import torch

torch.set_num_threads(1)
gdn = chunkwise.compile("@gated_deltanet", threads=1)
arrays = gdn.draw(B=1, T=1, H=1, K=4, V=4)
tensors = {name: torch.from_numpy(x) for name, x in arrays.items()}
decode = gdn.session(B=1, H=1, K=4, V=4)
q, k, v, g, beta = tensors.values()
a, b, c, d, e = arrays.values()
graph = torch.compile(lambda *given: gdn(*given), fullgraph=True)

calls = {
    "numpy": lambda: gdn(a, b, c, d, e),
    "torch, eager": lambda: gdn(q, k, v, g, beta),
    "torch, eager, with the final state": lambda: gdn(q, k, v, g, beta, output_final_state=True),
    "torch, fullgraph": lambda: graph(q, k, v, g, beta),
    "session.step, numpy": lambda: decode.step(a, b, c, d, e),
    "session.step, torch": lambda: decode.step(q, k, v, g, beta),
    "q + k, for scale": lambda: q + k,
}

print(f"import chunkwise: {1e3 * imported:.1f} ms")
print(f"{'a call of 1 token, K = V = 4':36} {'median':>8} {'least':>8}")
for name, call in calls.items():
    call()
    times = [1e6 * of / 50 for of in timeit.repeat(call, number=50, repeat=200)]
    print(f"{name:36} {statistics.median(times):8.1f} {min(times):8.1f}")
