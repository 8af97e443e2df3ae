"""How fast a model runs here, and how much memory it takes."""

from __future__ import annotations

import platform
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from forebay.errors import ModelError
from forebay.infer.bundle import Bundle, golden_input, open_session
from forebay.infer.session import Session, SessionOptions, SessionPool

# The smallest graph that runs: y = Identity(x), float32 [1], opset 17. The first session of a process takes 9 MiB
# for the runtime itself, whatever the model.
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a080801"
    "12040a02080142040a001011"
)


def measure(bundle: Bundle, runs: int, rows: int = 0, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return latencies and CPU time of a run in ms, and resident memory in MiB.

    Parameters
    ----------
    runs : how many
    rows : of one run, the golden ones again and again; 0: as many as are golden
    size : width and height of pictures, the golden pixels again and again; None: those of the golden ones

    Raises
    ------
    ModelError
        The model takes another number of rows, or another size, only.
    """
    warm = Session(_IDENTITY, SessionOptions(), place="")  # the runtime's own memory is not the model's
    warm.run({"x": np.zeros(1, np.float32)}, ("y",))
    before = _rss_mib()
    session = open_session(bundle, SessionPool(), SessionOptions())
    inputs, names = golden_input(bundle), tuple(t.name for t in bundle.manifest.outputs)
    if rows:
        inputs = _of_rows(bundle, inputs, rows)
    if size:
        inputs = _of_size(bundle, inputs, *size)
    taken, spent = [], time.process_time_ns()
    for _ in range(runs):
        begun = time.perf_counter_ns()
        session.run(inputs, names)
        taken.append((time.perf_counter_ns() - begun) / 1e6)
    spent = time.process_time_ns() - spent
    taken.sort()
    after = _rss_mib()
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )  # lags behind: the kernel counts in batches
    return {
        "model": bundle.model,
        "runs": runs,
        "inputs": {name: list(value.shape) for name, value in inputs.items()},
        "rows": int(next(iter(inputs.values())).shape[0]),
        "p50_ms": float(f"{taken[len(taken) // 2]:.3g}"),
        "p99_ms": float(f"{taken[min(len(taken) - 1, len(taken) * 99 // 100)]:.3g}"),
        "cpu_ms": float(f"{spent / runs / 1e6:.3g}"),
        "rss_mib": round(after, 1),
        "model_mib": round(max(0.0, after - before), 1),
        "peak_mib": round(max(peak, after), 1),
        "providers": list(session.providers),
        "machine": platform.machine(),
    }


def _of_rows(bundle: Bundle, inputs: dict[str, Any], rows: int) -> dict[str, Any]:
    fixed = [t.name for t in bundle.manifest.inputs if isinstance(t.shape[0], int) and t.shape[0] != rows]
    if fixed:
        raise ModelError(
            f"input `{fixed[0]}` takes no {rows} rows: its first size is fixed", place=bundle.place
        )
    return {name: np.resize(value, (rows, *value.shape[1:])) for name, value in inputs.items()}


def _of_size(bundle: Bundle, inputs: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    sizes = {"w": width, "h": height}  # the names by which manifests leave them open
    shapes = {t.name: t.shape for t in bundle.manifest.inputs}
    if not any(dim in sizes for shape in shapes.values() for dim in shape):
        raise ModelError("takes no pictures of another size: its input is fixed", place=bundle.place)
    return {
        name: np.resize(
            value, [sizes.get(str(dim), n) for dim, n in zip(shapes[name], value.shape, strict=True)]
        )
        for name, value in inputs.items()
    }


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20
