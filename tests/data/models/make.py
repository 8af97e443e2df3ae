"""Write the graphs that tests of bad models use. Run in the training environment (it has `onnx`).

hang.onnx: (n, 26) -> (n,), a Loop of 2^62 rounds: it never ends, and is a valid graph.
slow_if_asked.onnx: the same, but the number of rounds is the first number of the input; its output is 0.
stuck_fails.onnx, stuck_slow.onnx, stuck_hangs.onnx, stuck_drifts.onnx: `sensor-anomaly` to the bit, until a window
comes in which no value changed: then the run fails, takes 50,000 or 2^62 rounds of a Loop more, or answers 50 more.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, checker, helper, load, numpy_helper

HERE = Path(__file__).parent


def rounds() -> GraphProto:
    """Return the body of a Loop that goes on and changes nothing."""
    return helper.make_graph(
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


def graph(name: str, rounds_of_input: bool) -> ModelProto:
    """Return a model whose Loop runs so many rounds."""
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
        helper.make_node("Loop", [trips, "yes", "zero"], ["looped"], body=rounds()),
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


def turning(turn: str) -> ModelProto:
    """Return `sensor-anomaly` that `turn`s when a window without a change comes."""
    model = load(HERE.parents[2] / "models" / "sensor-anomaly" / "model.onnx")
    plain = model.graph
    for node in plain.node:
        node.output[:] = ["plain" if name == "error" else name for name in node.output]
    values: dict[str, np.ndarray] = {
        "t.from": np.array([0], np.int64),
        "t.to": np.array([24], np.int64),
        "t.axis": np.array([1], np.int64),
        "t.none": np.array([0], np.float32),
        "one": np.array([1], np.float32),
        "t.yes": np.array(True),
        "t.amount": np.array([50], np.float32)
        if turn == "drifts"
        else np.array(2**62 if turn == "hangs" else 50_000, np.int64),
    }
    plain.initializer.extend(numpy_helper.from_array(v, k) for k, v in values.items())
    nodes = [
        helper.make_node("Slice", ["window", "t.from", "t.to", "t.axis"], ["t.steps"]),
        helper.make_node("Abs", ["t.steps"], ["t.sizes"]),
        helper.make_node("ReduceMax", ["t.sizes"], ["t.largest"], axes=[1], keepdims=0),
        helper.make_node("LessOrEqual", ["t.largest", "t.none"], ["t.stuck"]),
    ]
    if turn == "drifts":
        nodes += [
            helper.make_node("Cast", ["t.stuck"], ["t.is_stuck"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["t.is_stuck", "t.amount"], ["t.more"]),
        ]
    else:
        nodes += [
            helper.make_node("Cast", ["t.stuck"], ["t.is_stuck"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["t.is_stuck"], ["t.any_stuck"], keepdims=0),
            helper.make_node("Mul", ["t.any_stuck", "t.amount"], ["t.times"]),
            helper.make_node("Gather", ["t.none", "t.times"], ["t.more"])  # beyond its end: fails
            if turn == "fails"
            else helper.make_node("Loop", ["t.times", "t.yes", "t.none"], ["t.more"], body=rounds()),
        ]
    plain.node.extend([*nodes, helper.make_node("Add", ["plain", "t.more"], ["error"])])
    checker.check_model(model)
    return model


for turn in ("fails", "slow", "hangs", "drifts"):
    (HERE / f"stuck_{turn}.onnx").write_bytes(turning(turn).SerializeToString())
for name, asked in (("hang", False), ("slow_if_asked", True)):
    (HERE / f"{name}.onnx").write_bytes(graph(name, asked).SerializeToString())
