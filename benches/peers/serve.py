"""A program to compare with, as `chunkwise bench --serve` is: `serve.py PEER VARIANT IN.safetensors THREADS [--carry]`.

Prints `ready`, or why not; answers `run N` by the times of N calls in ns, after one that is not timed, and `dump PATH` by
`ok` and the last call's o and S in a file. It ends where stdin ends."""

import functools
import sys
import time


def program(peer, variant, tensors, threads, carry):
    if peer == "sgemm":
        import torch_chunks
        return torch_chunks.sgemm(threads)
    if peer.startswith("torch"):
        import torch_chunks
        made = functools.partial(torch_chunks.program, compiled=peer == "torch-compiled")
    elif peer.startswith("jax"):
        import jax_scan
        made = functools.partial(jax_scan.program, chunked=peer == "jax-chunks")
    else:
        made = __import__({"onnxruntime": "onnx_op", "ggml": "ggml_op"}[peer]).program
    return made(variant, tensors, threads, carry)


def main():
    from safetensors.numpy import load_file, save_file
    import numpy

    peer, variant, path, threads = sys.argv[1:5]
    try:
        call, results = program(peer, variant, load_file(path), int(threads), "--carry" in sys.argv[5:])
    except (ImportError, OSError, AttributeError, NotImplementedError) as why:
        print(" ".join(str(why).split()) or type(why).__name__, flush=True)
        return
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "dump":
            save_file({name: numpy.ascontiguousarray(x, numpy.float32) for name, x in results().items()}, rest)
            print("ok", flush=True)
            continue
        call()
        times = []
        for _ in range(int(rest)):
            start = time.perf_counter_ns()
            call()
            times.append(time.perf_counter_ns() - start)
        print(*times, flush=True)


if __name__ == "__main__":
    main()
