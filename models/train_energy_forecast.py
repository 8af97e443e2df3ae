"""Train the bundle `energy-forecast`, measure it on a year it has not seen, write model.onnx and metrics.json.

The model gets the window of forebay_core.series and says which step the newest reading should have been, from the
23 steps before it; the newest step itself is cut off inside the graph. What the reading is beyond that is the
residual.

    OMP_NUM_THREADS=1 /tmp/train/bin/python models/train_energy_forecast.py     (environment: see below)
    /tmp/train/bin/python models/seal.py models/energy-forecast --golden

Environment and data: as in train_sensor_anomaly.py; only the field P_avg, active power, kW, 10-minute means.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from train_sensor_anomaly import HERE, WARM, WINDOW, Network, Series, between, recording, windows

from forebay_core import series as kernel

CLIP = 12.0  # steps beyond are as large as this one
PAST = WINDOW - 1
STEP = 4  # column of `track`: mean size of a step, see _series.pyx


def matrix() -> Any:
    """Return (PAST, PAST): steps to how far below the last reading the series was, damped with the distance."""
    lags = np.arange(PAST, 0, -1)
    return np.tril(np.ones((PAST, PAST))) / np.sqrt(lags)


def features(x: Any) -> Any:
    """Return (n, 2 * PAST): the steps before the newest, and the paths they make."""
    past = np.clip(x[:, :PAST].astype(np.float64), -CLIP, CLIP)
    return np.concatenate([np.arcsinh(past), np.arcsinh(past @ matrix())], axis=1)


def demand(seed: int, count: int, length: int) -> list[Series]:
    """Return synthetic demand: a day of 48 to 288 readings with harmonics, a weekend, noise that lingers."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        t = np.arange(length) / rng.uniform(48, 288)
        v = sum(rng.normal(0, 1 / k) * np.sin(2 * np.pi * (k * t + rng.uniform())) for k in (1, 2, 3, 4))
        v = v * np.where(t % 7 < 5, 1.0, rng.uniform(0.5, 0.9))
        noise, keep, lingering = rng.normal(0, 1, length), rng.uniform(0.0, 0.9), np.zeros(length)
        for k in range(1, length):
            lingering[k] = keep * lingering[k - 1] + noise[k]
        v = v / v.std() + lingering / lingering.std() * 10 ** rng.uniform(-2, -0.7)
        stamps = np.arange(length, dtype=np.int64) * 600_000_000_000
        out.append(Series(f"demand{i}", stamps, np.round(500 + 100 * v, 1)))
    return out


def scales(series: list[Series]) -> Any:
    """Return the mean size of a step at each reading, in kW: what the model's numbers are multiples of."""
    out = []
    for s in series:
        ring, stamp = np.zeros((1, WINDOW), np.float32), np.zeros(1, np.int64)
        track = np.zeros((1, kernel.TRACK_WIDTH))
        zero, ready, one = np.zeros(1, np.int32), np.zeros(1, np.uint8), np.zeros((1, WINDOW + 2), np.float32)
        for i in range(len(s.values)):
            kernel.windows(
                s.values[i : i + 1], s.time[i : i + 1], zero, ring, stamp, track, 2000.0, one, ready
            )
            out.append(track[0, STEP])
    return np.array(out)


def export(net: Network, mean: Any, scale: Any, path: Path) -> None:
    """Write the features, the normalisation and the network as one ONNX graph, float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inits, nodes = [], []

    def const(name: str, value: Any, dtype: Any = np.float32) -> str:
        inits.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def node(op: str, *inputs: str, **attributes: Any) -> str:
        out = f"{op.lower()}{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    cut = [const(f"cut{k}", [v], np.int64) for k, v in enumerate((0, PAST, 1))]
    past = node("Clip", node("Slice", "window", *cut), const("low", -CLIP), const("high", CLIP))
    paths = node("Asinh", node("MatMul", past, const("paths", matrix())))
    h = node("Concat", node("Asinh", past), paths, axis=1)
    h = node("Div", node("Sub", h, const("mean", mean)), const("scale", scale))
    for k in range(net.layers):
        h = node("Gemm", h, const(f"w{k}", net.parameters[k]), const(f"b{k}", net.parameters[net.layers + k]))
        h = node("Tanh", h) if k < net.layers - 1 else h
    nodes.append(helper.make_node("Squeeze", [h, const("axis", [1], np.int64)], ["expected"]))
    graph = helper.make_graph(
        nodes,
        "energy-forecast",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", WINDOW + 2])],
        [helper.make_tensor_value_info("expected", TensorProto.FLOAT, ["n"])],
        inits,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="forebay")
    model.ir_version = 8
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def errors(expected: Any, x: Any, unit: Any, rows: Any) -> dict[str, float]:
    """Return the mean absolute and the root mean square error in kW."""
    miss = ((x[:, PAST].astype(np.float64) - expected) * unit)[rows]
    return {"MAE": round(float(np.abs(miss).mean()), 2), "RMSE": round(float(np.sqrt((miss**2).mean())), 2)}


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "forebay-train")
    parser.add_argument("--out", type=Path, default=HERE / "energy-forecast")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    data = [d for d in recording(options.cache) if d[1] == "P_avg"]
    # The recording alone teaches that hardly anything can be foreseen.
    own = between([d for d in data if d[0] != "R80790"], "2014-03-01", "2015-01-01") + demand(5, 10, 6000)
    x, ready, _, _ = windows(own)
    x = x[ready]
    f, y = features(x), np.clip(x[:, PAST : PAST + 1].astype(np.float64), -CLIP, CLIP)
    mean, scale = f.mean(0), f.std(0) + 1e-3
    net = Network([f.shape[1], 32, 16, 1], 0).fit((f - mean) / scale, y, logistic=False, epochs=20)
    export(net, mean, scale, options.out / "model.onnx")

    test = between(data, "2015-01-01", "2016-01-01")
    x, ready, numbers, _ = windows(test)
    unit = scales(test)
    warm = np.concatenate([np.arange(len(s.values)) >= WARM for s in test])
    rows = ready & warm
    unseen = rows & np.array([s.name.startswith("R80790") for s in test])[numbers]
    back = -np.cumsum(x[:, PAST - 1 :: -1].astype(np.float64), axis=1)  # readings 2, 3, ... ago from the last
    average = np.concatenate([np.zeros((len(x), 1)), back[:, :5]], axis=1).mean(1)
    line, *_ = np.linalg.lstsq(f, y[:, 0], rcond=None)
    found = net((features(x) - mean) / scale)[:, 0]
    made = demand(6, 10, 6000)
    mx, mready, _, _ = windows(made)
    one = np.ones(len(mx))
    foreseen = net((features(mx) - mean) / scale)[:, 0]
    result = {
        "energy-forecast": errors(found, x, unit, rows),
        "energy-forecast, unseen turbine": errors(found, x, unit, unseen),
        "the last reading again": errors(np.zeros(len(x)), x, unit, rows),
        "the last reading again, unseen turbine": errors(np.zeros(len(x)), x, unit, unseen),
        "mean of the last 6 readings": errors(average, x, unit, rows),
        "linear regression on the same features": errors(features(x) @ line, x, unit, rows),
        "energy-forecast, synthetic demand, mean steps": errors(foreseen, mx, one, mready),
        "the last reading again, synthetic demand, mean steps": errors(np.zeros(len(mx)), mx, one, mready),
        "readings": {"training": len(y), "test": int(rows.sum())},
    }
    (options.out / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
