"""ggml's fused recurrences (llama.cpp), by ctypes, from the libraries in the folder PEERS_GGML.

What an operator takes that no tensor holds (exp(g); for ssd the dt whose softplus is -g, and v / dt) is made before it is
timed."""

import ctypes
import os

import numpy as np

F32, I32 = 0, 26
# Operands in order, the state among them; a number or a flag after them.
OPERATORS = {
    "gla": ("ggml_gated_linear_attn", "k v q g S"), "ssd": ("ggml_ssm_scan", "S v dt A k q ids"),
    "gated_delta": ("ggml_gated_delta_net", "q k v g beta S"), "kda": ("ggml_gated_delta_net", "q k v g beta S"),
    "rwkv7": ("ggml_rwkv_wkv7", "q g k v a b S"),
}
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64


class Room(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("memory", POINTER), ("without", ctypes.c_bool)]


def library():
    folder = os.environ.get("PEERS_GGML")
    if not folder:
        raise NotImplementedError("PEERS_GGML names no folder")
    base, cpu = (ctypes.CDLL(os.path.join(folder, f"libggml-{part}.so"), ctypes.RTLD_GLOBAL) for part in ("base", "cpu"))
    pointers = {"ggml_init": [Room], "ggml_new_tensor_4d": [POINTER, ctypes.c_int, *[LONG] * 4], "ggml_get_data": [POINTER],
                "ggml_new_graph": [POINTER], "ggml_view_1d": [POINTER, POINTER, LONG, ctypes.c_size_t],
                "ggml_cpy": [POINTER] * 3, "ggml_gated_linear_attn": [POINTER] * 6 + [ctypes.c_float],
                "ggml_ssm_scan": [POINTER] * 8 + [LONG], "ggml_gated_delta_net": [POINTER] * 7 + [LONG],
                "ggml_rwkv_wkv7": [POINTER] * 8}
    for name, takes in pointers.items():
        function = getattr(base, name)
        function.restype, function.argtypes = POINTER, takes
    base.ggml_build_forward_expand.argtypes = base.ggml_backend_graph_compute.argtypes = [POINTER, POINTER]
    base.ggml_build_forward_expand.restype = None
    cpu.ggml_backend_cpu_init.restype = POINTER
    cpu.ggml_backend_cpu_set_n_threads.argtypes = [POINTER, ctypes.c_int]
    return base, cpu


def operands(variant, tensors):
    """The operator's operands as [B,T,..], but for the state and what is the same for all tokens."""
    x = dict(tensors)
    if variant in ("gla", "rwkv7"):
        x["g"] = np.exp(x["g"])
    elif variant == "ssd":
        steps = -x.pop("g").astype(np.float64)
        x |= {"v": x["v"] / steps[..., None], "dt": np.log(np.expm1(steps)), "q": x["q"] * x["q"].shape[-1] ** -0.5}
    elif variant == "gated_delta":
        x["g"] = x["g"][..., None]
    if "beta" in x:
        x["beta"] = x["beta"][..., None]
    return x


def program(variant, tensors, threads, carry):
    if variant not in OPERATORS:
        raise NotImplementedError(f"there is no operator for {variant}")
    ggml, cpu = library()
    B, T, H, K = tensors["q"].shape
    length = 1 if carry else T
    backend = cpu.ggml_backend_cpu_init()
    cpu.ggml_backend_cpu_set_n_threads(backend, threads)
    context = ggml.ggml_init(Room(4 * B * H * K * (8 * length + 6 * K) + (64 << 20), None, False))

    def seen(tensor, count, of=ctypes.c_float):
        at = ctypes.cast(ggml.ggml_get_data(tensor), ctypes.POINTER(of))
        return np.ctypeslib.as_array(at, (count,))

    def tensor(extents, kind=F32):
        made = ggml.ggml_new_tensor_4d(context, kind, *extents, *[1] * (4 - len(extents)))
        return made, seen(made, int(np.prod(extents)), ctypes.c_int32 if kind == I32 else ctypes.c_float)

    x = operands(variant, tensors)
    # The innermost extent comes first; some operators count sequences and tokens in one.
    flat = variant in ("gla", "rwkv7")
    shape = lambda own: (*reversed(own), H, B * length) if flat else (*reversed(own), H, length, B)
    state = (K * K * H, B) if flat else (K, K, H, B)
    given = {name: tensor(shape(y.shape[3:])) for name, y in x.items()}
    given |= {"S": tensor(state), "A": tensor((1, H)), "ids": tensor((B,), I32)}
    given["S"][1][:], given["A"][1][:], given["ids"][1][:] = 0, -1, np.arange(B)
    name, order = OPERATORS[variant]
    last = {"gla": [K**-0.5], "rwkv7": []}.get(variant, [1])
    result = getattr(ggml, name)(context, *(given[operand][0] for operand in order.split()), *last)
    outputs, states = B * length * H * K, B * H * K * K
    wanted = result
    if carry:
        new = ggml.ggml_view_1d(context, result, states, 4 * outputs)
        wanted = ggml.ggml_cpy(context, new, ggml.ggml_view_1d(context, given["S"][0], states, 0))
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, wanted)
    part = lambda y, t: np.ascontiguousarray(y[:, t:t + length], np.float32).ravel()
    fed = [{operand: part(y, t) for operand, y in x.items()} for t in range(0, T, length)]
    made = 0

    def call():
        nonlocal made
        if carry or made == 0:
            for operand, values in fed[made % len(fed)].items():
                given[operand][1][:] = values
        ggml.ggml_backend_graph_compute(backend, graph)
        made += 1

    def results():
        found = seen(result, outputs + states).copy()
        S = found[outputs:].reshape(B, H, K, K)
        return {"o": found[:outputs].reshape(B, length, H, K), "S": S if variant == "gla" else S.swapaxes(-1, -2)}

    return call, results
