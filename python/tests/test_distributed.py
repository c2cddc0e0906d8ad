"""Four processes that hold a stretch each, against one that holds all tokens; what they send does not grow with the tokens."""

import socket

import pytest

import chunkwise

torch = pytest.importorskip("torch")
if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

PROCESSES = 4
# No stretch is as long as another, one is empty, and none ends where a chunk does.
LENGTHS = {151: [37, 0, 64, 50], 31: [10, 3, 7, 11]}

WINDOW = """variant window { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; local window(25);
  let p[i,j] = softmax[j](q[i]' * k[j] / sqrt(K)); output o[i] = sum[j](p[i,j] * v[j]); }"""
BOTH_SIDES = WINDOW.replace("window(25)", "window(25, 9)").replace("local", "order full; local")
COUPLED = """variant coupled { axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; state z : [K] = 0, S : [K,V] = 0;
  update z additive(k); let w[t] = sigmoid(z[t]' * q[t]); update S[t] = S[t-1] + w[t] * k[t] * v[t]';
  output o[t] = S[t]' * q[t]; }"""
CASES = {
    "linear_attention": "a scan of decays and states",
    "retnet": "a scan of decays and states",
    "mamba2": "a scan of decays and states",
    "gla": "a scan of decays and states",
    "mamba_s6": "a scan of decays and states",
    COUPLED: "states from rank to rank",
    "gated_deltanet": "states from rank to rank",
    "rwkv7": "states from rank to rank",
    "window_linear": "a halo of 24 tokens before",
    WINDOW: "a halo of 25 tokens before",
    BOTH_SIDES: "a halo of 25 tokens before and 9 behind",
}
SIZES = {"mamba2": dict(B=2, N=4, G=1, R=2, V=3), "mamba_s6": dict(B=2, D=6, N=4)}


def compiled(source):
    return chunkwise.compile(source if "{" in source else f"@{source}", threads=1)


def inputs_of(source, tokens):
    sizes = SIZES.get(source, dict(B=2, H=3, K=4, V=5))
    return compiled(source).draw(T=tokens, like=torch.empty(0), **sizes)


def stretch(variant, inputs, start, end):
    at = {one.name: list(one.shape).index("T") for one in variant.inputs if "T" in one.shape}
    return {name: x.narrow(at[name], start, end - start) if name in at else x for name, x in inputs.items()}


def start_of(states):
    """States to begin with, the same in all processes."""
    made = [torch.randn(state.shape, generator=torch.Generator().manual_seed(1)) for state in states]
    return made[0] if len(made) == 1 else tuple(made)


def work(rank, port, results):
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=PROCESSES)
    from chunkwise import distributed

    for source, how in CASES.items():
        variant = compiled(source)
        sent = []
        for tokens, lengths in LENGTHS.items():
            inputs = inputs_of(source, tokens)
            own = stretch(variant, inputs, sum(lengths[:rank]), sum(lengths[: rank + 1]))
            if "halo" in how:
                o, last = distributed.run(variant, **own), ()
            else:
                _, shapes = variant(**inputs, output_final_state=True)
                states = start_of(shapes if isinstance(shapes, tuple) else (shapes,))
                o, last = distributed.run(variant, **own, initial_state=states, output_final_state=True)
            assert distributed.run.traffic.how == how, (source, distributed.run.traffic)
            sent.append(distributed.run.traffic.bytes)
            last = tuple(last) if isinstance(last, tuple) else (last,)
            # Numbers by value: a tensor's memory goes with its process.
            results.put((rank, source, tokens, o.numpy(), [one.numpy() for one in last]))
        results.put((rank, source, "sent", sent, ()))
    with pytest.raises(chunkwise.Unsupported, match="it convolves along tokens"):
        convolved = compiled("variant f { axes B, T, K, N; input x : [B,T,K]; param w : [K,N]; output y = conv1d(x, w); }")
        distributed.run(convolved, torch.zeros(1, 2, 3), torch.zeros(3, 2))
    with pytest.raises(chunkwise.Unsupported, match="it reads a token's place"):
        distributed.run(compiled("flow_attention_causal"), *[torch.zeros(1, 2, 1, 3)] * 3)
    with pytest.raises(chunkwise.Unsupported, match="its order is not causal"):
        distributed.run(compiled("scaled_dot_product"), *[torch.zeros(1, 2, 1, 3)] * 3)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_it_is_as_in_one_process():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    results = context.Queue()
    processes = [context.Process(target=work, args=(rank, port, results)) for rank in range(PROCESSES)]
    [process.start() for process in processes]
    expected = PROCESSES * len(CASES) * (len(LENGTHS) + 1)
    found = {}
    try:
        for _ in range(expected):
            rank, source, tokens, o, last = results.get(timeout=60)
            found[rank, source, tokens] = o, last if tokens == "sent" else [torch.from_numpy(one) for one in last]
    finally:
        [process.join(60) for process in processes]
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    for source, how in CASES.items():
        variant = compiled(source)
        for tokens in LENGTHS:
            inputs = inputs_of(source, tokens)
            o = torch.cat([torch.from_numpy(found[rank, source, tokens][0]) for rank in range(PROCESSES)], 1)
            if "halo" in how:
                wanted, ends = variant(**inputs), ()
            else:
                _, shapes = variant(**inputs, output_final_state=True)
                states = start_of(shapes if isinstance(shapes, tuple) else (shapes,))
                wanted, ends = variant(**inputs, initial_state=states, output_final_state=True)
            assert (o - wanted).norm() <= 1e-5 * wanted.norm(), (source, tokens)
            for end, *of_ranks in zip(
                ends if isinstance(ends, tuple) else (ends,), *(found[rank, source, tokens][1] for rank in range(PROCESSES))
            ):
                assert all((one - end).norm() <= 1e-5 * end.norm() for one in of_ranks), (source, tokens)
        sent = [found[rank, source, "sent"][0] for rank in range(PROCESSES)]
        if "halo" not in how:
            assert all(long == short for long, short in sent), (source, sent)
        assert sum(long for long, _ in sent) > 0
