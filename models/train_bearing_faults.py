"""Train the bundle `bearing-faults` on SYNTHETIC vibration (bearings.py), measure it, write model and metrics.

The graph takes raw samples: three band-pass filters, envelope, envelope spectrum from 12 to 340 Hz, the strongest of
the bands at each frequency, and the bands' peakedness; behind that a small network. So a gateway runs one file and
no signal processing of its own.

    /tmp/train/bin/python models/train_bearing_faults.py        (environment: see train_sensor_anomaly.py)
    forebay models seal models/bearing-faults --golden
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from bearings import LABELS, ORDERS, RATE_HZ, SAMPLES, windows

HERE = Path(__file__).parent
BANDS_HZ = ((1000.0, 2500.0), (2500.0, 4000.0), (4000.0, 5500.0))
TAPS, POOL = 65, 8
LINES_HZ = np.arange(12.0, 340.0, 2.0)
TINY = 1e-9


def filters() -> Any:
    """Return (bands, 1, TAPS) band-pass filters: windowed sinc."""
    n = np.arange(TAPS) - TAPS // 2
    out = []
    for low, high in BANDS_HZ:
        parts = [2 * f / RATE_HZ * np.sinc(2 * f / RATE_HZ * n) for f in (high, low)]
        out.append((parts[0] - parts[1]) * np.hamming(TAPS))
    return np.stack(out)[:, None, :]


def waves() -> tuple[Any, Any]:
    """Return cosines and sines (envelope samples, lines), under a Hann window."""
    count = (SAMPLES - TAPS + 1) // POOL
    t = (np.arange(count) * POOL) / RATE_HZ
    angle = 2 * np.pi * t[:, None] * LINES_HZ
    hann = np.hanning(count)[:, None]
    return np.cos(angle) * hann, np.sin(angle) * hann


class Graph:
    """Builds the ONNX graph; the same graph without its network gives the features to train on."""

    def __init__(self) -> None:
        from onnx import helper

        self.helper, self.inits, self.nodes = helper, [], []
        axis = self.const("last", [1], np.int64)
        x = self.node("Sub", "samples", self.node("ReduceMean", "samples", axes=[1], keepdims=1))
        size = self.node("Sqrt", self.node("ReduceMean", self.node("Mul", x, x), axes=[1], keepdims=1))
        x = self.node("Div", x, self.node("Add", size, self.const("tiny", TINY)))
        bands = self.node("Conv", self.node("Unsqueeze", x, axis), self.const("filters", filters()))
        envelope = self.node("AveragePool", self.node("Abs", bands), kernel_shape=[POOL], strides=[POOL])
        envelope = self.node("Sub", envelope, self.node("ReduceMean", envelope, axes=[2], keepdims=1))
        power = self.node("Add", *(self._line(envelope, k, w) for k, w in zip("cs", waves(), strict=True)))
        level = self.node("Add", self.node("ReduceMean", power, axes=[2], keepdims=1), "tiny")
        spectrum = self.node("ReduceMax", self.node("Div", power, level), axes=[1], keepdims=0)
        square = self.node("Mul", bands, bands)
        fourth = self.node("ReduceMean", self.node("Mul", square, square), axes=[2], keepdims=0)
        second = self.node("ReduceMean", square, axes=[2], keepdims=0)
        peaked = self.node("Div", fourth, self.node("Add", self.node("Mul", second, second), "tiny"))
        both = self.node("Concat", spectrum, peaked, axis=1)
        self.features = self.node("Log", self.node("Add", both, self.const("floor", 0.05)))

    def _line(self, envelope: str, name: str, wave: Any) -> str:
        found = self.node("MatMul", envelope, self.const(f"wave_{name}", wave))
        return self.node("Mul", found, found)

    def const(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        from onnx import numpy_helper

        self.inits.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        out = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def model(self, output: str, name: str, width: int) -> bytes:
        """Return the graph up to `output`, called `name`."""
        import onnx
        from onnx import TensorProto

        nodes = [*self.nodes, self.helper.make_node("Identity", [output], [name])]
        value = self.helper.make_tensor_value_info
        graph = self.helper.make_graph(
            nodes,
            "bearing-faults",
            [value("samples", TensorProto.FLOAT, ["n", SAMPLES])],
            [value(name, TensorProto.FLOAT, ["n", width])],
            self.inits,
        )
        made = self.helper.make_model(
            graph, opset_imports=[self.helper.make_opsetid("", 17)], producer_name="forebay"
        )
        made.ir_version = 8
        onnx.checker.check_model(made)
        out: bytes = made.SerializeToString()
        return out


def run(model: bytes, x: Any) -> Any:
    """Return the output for all windows."""
    import onnxruntime as ort

    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"samples": x[i : i + 256]})[0] for i in range(0, len(x), 256)])


def shape_features(x: Any) -> Any:
    """Return rms, kurtosis and crest factor: the usual alarm values, scale and all."""
    x = x - x.mean(1, keepdims=True)
    rms = np.sqrt((x**2).mean(1))
    return np.stack([np.log(rms), (x**4).mean(1) / rms**4, np.abs(x).max(1) / rms], axis=1)


def rule(x: Any, threshold: float = 0.0) -> tuple[Any, Any]:
    """Return the strongest of the three lines at the nominal speed, as its place and its size, broadband envelope."""
    envelope = np.abs(x - x.mean(1, keepdims=True))
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean(1, keepdims=True), axis=1))
    frequency = np.fft.rfftfreq(SAMPLES, 1 / RATE_HZ)
    level = spectrum[:, (frequency > 12) & (frequency < 340)].mean(1)
    near = [np.abs(frequency - order * 1750 / 60) < 0.03 * order * 1750 / 60 for order in ORDERS]
    peaks = np.stack([spectrum[:, n].max(1) / level for n in near], axis=1)
    return peaks.argmax(1) + 1, peaks.max(1)


def scores(found: Any, label: Any) -> dict[str, float]:
    """Return accuracy and the mean F1 of the classes."""
    f1 = []
    for k in range(len(LABELS)):
        hit = ((found == k) & (label == k)).sum()
        f1.append(2 * hit / max(1, (found == k).sum() + (label == k).sum()))
    return {"accuracy": round(float((found == label).mean()), 3), "macro F1": round(float(np.mean(f1)), 3)}


def main() -> None:
    """Train, measure, write."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "bearing-faults")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    (x, y), (tx, ty) = windows(1, 6000), windows(2, 2000)
    graph = Graph()
    width = len(LINES_HZ) + len(BANDS_HZ)
    feature_model = graph.model(graph.features, "features", width)
    f = run(feature_model, x)
    scaler = StandardScaler().fit(f)
    net = MLPClassifier((32,), alpha=3.0, max_iter=40, random_state=0).fit(scaler.transform(f), y)
    h = graph.node(
        "Div",
        graph.node("Sub", graph.features, graph.const("mean", scaler.mean_)),
        graph.const("sd", scaler.scale_),
    )
    for k, (w, b) in enumerate(zip(net.coefs_, net.intercepts_, strict=True)):
        h = graph.node("Gemm", h, graph.const(f"w{k}", w), graph.const(f"b{k}", b))
        h = graph.node("Relu", h) if k == 0 else h
    model = graph.model(graph.node("Softmax", h, axis=1), "probability", len(LABELS))
    (options.out / "model.onnx").write_bytes(model)

    found = run(model, tx).argmax(1)
    simple = LogisticRegression(max_iter=1000).fit(shape_features(x), y)
    own_class, own_size = rule(x)
    cuts = np.quantile(own_size, np.linspace(0.02, 0.98, 97))
    cut = max(cuts, key=lambda c: float((np.where(own_size > c, own_class, 0) == y).mean()))
    best, size = rule(tx)
    result: dict[str, Any] = {
        "bearing-faults": scores(found, ty),
        "rms, kurtosis, crest factor and logistic regression": scores(simple.predict(shape_features(tx)), ty),
        "strongest envelope line at the nominal speed": scores(np.where(size > cut, best, 0), ty),
        "confusion (rows: true, columns: found)": [
            [int(((ty == a) & (found == b)).sum()) for b in range(len(LABELS))] for a in range(len(LABELS))
        ],
        "outside of what it was trained on": {},
    }
    for name, other in {
        "blows 3 to 8 dB above the noise": {"snr": (3.0, 8.0)},
        "blows 12 to 18 dB below the noise": {"snr": (-18.0, -12.0)},
        "1600 to 1700 rpm": {"rpm": (1600.0, 1700.0)},
        "1000 to 1100 rpm": {"rpm": (1000.0, 1100.0)},
    }.items():
        ox, oy = windows(3, 1000, **other)  # type: ignore[arg-type]
        result["outside of what it was trained on"][name] = scores(run(model, ox).argmax(1), oy)
    (options.out / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
