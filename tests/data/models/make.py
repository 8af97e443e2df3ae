"""Write the graphs that tests of bad models use. Run in the training environment (it has `onnx`).

hang.onnx: (n, 26) -> (n,), a Loop of 2^62 rounds: it never ends, and is a valid graph.
slow_if_asked.onnx: the same, but the number of rounds is the first number of the input; its output is 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

HERE = Path(__file__).parent


def graph(name: str, rounds_of_input: bool) -> ModelProto:
    """Return a model whose Loop runs so many rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Mul", ["x_in", "one"], ["x_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_in", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, [1]),
        ],
    )
    values: dict[str, np.ndarray] = {
        "one": np.array([1], np.float32),
        "zero": np.array([0], np.float32),
        "axis": np.array([1], np.int64),
        "first": np.array([0, 0], np.int64),
        "yes": np.array(True),
        "most": np.array(2**62, np.int64),
    }
    inits = [numpy_helper.from_array(v, k) for k, v in values.items()]
    nodes = []
    trips = "most"
    if rounds_of_input:
        nodes += [
            helper.make_node("GatherND", ["window", "first"], ["asked"]),
            helper.make_node("Cast", ["asked"], ["trips"], to=TensorProto.INT64),
        ]
        trips = "trips"
    nodes += [
        helper.make_node("Loop", [trips, "yes", "zero"], ["looped"], body=body),
        helper.make_node("ReduceSum", ["window", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "looped"], ["error"]),
    ]
    made = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", 26])],
        [helper.make_tensor_value_info("error", TensorProto.FLOAT, ["n"])],
        inits,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], producer_name="forebay")
    model.ir_version = 8
    checker.check_model(model)
    return model


for name, asked in (("hang", False), ("slow_if_asked", True)):
    (HERE / f"{name}.onnx").write_bytes(graph(name, asked).SerializeToString())
