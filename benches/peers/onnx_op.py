"""ONNX Runtime's LinearAttention, a fused recurrence: all variants but rwkv7; linear with features and sums around it."""

import numpy as np

RULE = {"linear": "linear", "retnet": "gated", "ssd": "gated", "gla": "gated", "delta": "delta",
        "gated_delta": "gated_delta", "kda": "gated_delta"}


def on_a_line(x):
    """The same on a cache line: the operator is a third slower on a state that is not."""
    room = np.empty(x.size + 16, np.float32)
    start = (-room.ctypes.data % 64) // 4
    room[start:start + x.size] = x.ravel()
    return room[start:start + x.size].reshape(x.shape)


def model(variant, shape, widths):
    from onnx import TensorProto, helper

    B, T, H, K = shape
    of = lambda name, dims: helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
    node = helper.make_node
    linear = variant == "linear"
    nodes, constants = [], []
    operands = ["q", "k", "v", "start", "g" if "g" in widths else "", "beta" if "beta" in widths else ""]
    if linear:
        integers = lambda name, *n: helper.make_tensor(name, TensorProto.INT64, [len(n)], n)
        constants = [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]), integers("last", -1),
                     helper.make_tensor("time", TensorProto.INT64, [], [1]),
                     integers("apart", B, T, H, K), integers("together", B, T, H * K)]
        for name in "qk":
            nodes += [node("Elu", [name], [f"elu_{name}"]), node("Add", [f"elu_{name}", "one"], [f"phi_{name}"])]
        operands[:2] = ["phi_q", "phi_k"]
    while not operands[-1]:
        operands.pop()
    nodes.append(node("LinearAttention", operands, ["sum" if linear else "o", "S"], domain="com.microsoft", q_num_heads=H,
                      kv_num_heads=H, update_rule=RULE[variant], scale=1.0 if linear else K**-0.5))
    if linear:
        nodes += [node("CumSum", ["phi_k", "time"], ["z"]), node("Mul", ["phi_q", "z"], ["qz"]),
                  node("Reshape", ["qz", "apart"], ["qz_apart"]),
                  node("ReduceSum", ["qz_apart", "last"], ["weight"], keepdims=1),
                  node("Reshape", ["sum", "apart"], ["sum_apart"]), node("Div", ["sum_apart", "weight"], ["o_apart"]),
                  node("Reshape", ["o_apart", "together"], ["o"])]
    inputs = [of(name, [B, T, width]) for name, width in widths.items()] + [of("start", [B, H, K, K])]
    outputs = [of("o", [B, T, H * K]), of("S", [B, H, K, K])]
    graph = helper.make_graph(nodes, variant, inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def program(variant, tensors, threads, carry):
    if variant not in RULE or (carry and variant == "linear"):
        raise NotImplementedError(f"the operator has no {variant}")
    import onnxruntime

    B, T, H, K = tensors["q"].shape
    if "gamma" in tensors:
        gates = np.log(tensors["gamma"])
        tensors = {name: x for name, x in tensors.items() if name != "gamma"} | {"g": np.tile(gates, (B, T, 1))}
    length = 1 if carry else T
    flat = {name: x.reshape(B, T, -1) for name, x in tensors.items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model(variant, (B, length, H, K), {name: x.shape[-1] for name, x in flat.items()}), options,
        providers=["CPUExecutionProvider"])
    value = lambda x: onnxruntime.OrtValue.ortvalue_from_numpy(on_a_line(x))
    states = [value(np.zeros((B, H, K, K), np.float32)) for _ in range(2)]
    o = value(np.zeros((B, length, H * K), np.float32))
    bound = {}
    for t in range(0, T, length):
        fed = {name: value(x[:, t:t + length]) for name, x in flat.items()}
        for start in (0, 1):
            binding = session.io_binding()
            for name, x in {**fed, "start": states[start]}.items():
                binding.bind_ortvalue_input(name, x)
            binding.bind_ortvalue_output("o", o)
            binding.bind_ortvalue_output("S", states[1 - start])
            bound[t, start] = binding
    made = 0

    def call():
        nonlocal made
        session.run_with_iobinding(bound[made % T, made % 2] if carry else bound[0, 0])
        made += 1

    results = lambda: {"o": o.numpy().reshape(B, length, H, K), "S": states[made % 2 if carry else 1].numpy()}
    return call, results
