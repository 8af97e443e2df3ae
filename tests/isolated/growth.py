"""Call kernels, decoders and parsers many times, good input and bad, and print what stays behind.

Run by test_growth.py in a fresh interpreter, so that nothing else allocates. Prints a JSON object: for each
operation the Python memory blocks and the bytes of resident memory that CALLS calls left, after a warm-up.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz_targets
import numpy as np

from forebay_core import (
    alarm,
    cells,
    codec,
    filters,
    grouping,
    hampel,
    image,
    records,
    resampling,
    rows,
    series,
    signal,
    spectra,
    splice,
    text,
    text_tables,
    tumbling,
    windows,
)

CORPUS = Path(fuzz_targets.__file__).parent / "corpus"
CALLS = 400
WARM = 100
N = 2_048  # samples: an array of them that is not given back shows (16 KiB a call)

RNG = np.random.default_rng(1)
X, T = np.cumsum(RNG.normal(size=N)).round(2), np.arange(N, dtype=np.int64) * 10**6
NO8, NO32, NO64 = np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int64)
STARTS = np.arange(0, N - 256, 64, dtype=np.int64)
KEYS = RNG.integers(97, 99, 4 * N).astype(np.uint8)
OFFSETS = np.arange(0, 4 * N + 1, 4, dtype=np.int64)
GROUPS = (np.arange(N) % 7).astype(np.int32)


def f64(n: int = N) -> Any:
    return np.zeros(n)


def i64(n: int = N) -> Any:
    return np.zeros(n, np.int64)


def u8(n: int = N) -> Any:
    return np.zeros(n, np.uint8)


def kernels() -> Iterator[tuple[str, Callable[..., Any], tuple[Any, ...]]]:
    """Yield name, kernel and arguments; the last array argument is what `refused` spoils."""
    one = f64(1), i64(1), u8(1)
    yield "smooth", filters.smooth, (X, NO8, T, NO32, 1e7, *one, f64())
    yield "gaps", filters.gaps, (T, NO32, 10, 10, 10, i64(1), u8(1), i64(), np.zeros(N, np.int32))
    yield "crossings", filters.crossings, (X, STARTS, STARTS + 256, f64(len(STARTS)), 0.1, i64(len(STARTS)))
    yield "goertzel", spectra.goertzel, (X.reshape(8, -1), np.full((8, 3), 0.1), np.zeros((8, 3)))
    spectrum = np.fft.rfft(X.reshape(8, -1)).view(np.float64)
    bins = np.zeros((8, 2), np.int64)
    yield "band_energies", spectra.band_energies, (spectrum, N // 8, bins, bins + 9, np.zeros((8, 2)))
    yield "moments", windows.moments, (X, STARTS, STARTS + 256, np.zeros((len(STARTS), 14)))
    percents = np.array([5.0, 50.0])
    yield "percentiles", windows.percentiles, (X, STARTS, STARTS + 256, percents, np.zeros((len(STARTS), 2)))
    yield "panes", windows.panes, (T, NO32, 10**8, 1, 99, i64(1), i64(1), i64(), u8())
    settled, points = (i64(1), i64(1), i64(1)), (i64(), np.zeros((1, N)), np.zeros((1, N), np.uint8))
    yield (
        "advance",
        resampling.advance,
        (T, X[None], np.zeros((1, N), np.uint8), np.array([0, N]), u8(1), 10**6, 10**7, 0, *settled, *points),
    )
    window_state = i64(1), i64(1)
    yield (
        "tumble",
        tumbling.tumble,
        (T, NO32, 10**8, 1, 99, *window_state, u8(), i64(), np.zeros(N, np.int32)),
    )
    kept = np.zeros((1, 1, tumbling.ACCUMULATED))
    yield "accumulate", tumbling.accumulate, (
        X[None], np.zeros((1, N), np.uint8), NO32, u8(), kept, np.zeros((1, 0, 14)),
    )  # fmt: skip
    yield "deadband", signal.deadband, (X, NO8, T, NO32, 0.1, 0.0, -1, *one, u8())
    state = f64(1), i64(1), f64(1), i64(1), u8(1)
    yield "validate", signal.validate, (X, NO8, T, NO32, -1.0, 1.0, 5.0, 10**9, *state, u8())
    yield "scale", signal.scale, (X, NO8, 2.0, 1.0, 3.0, f64())
    bounds = np.array([0, N])
    for window in (7, 21):
        history = np.zeros((1, window - 1)), i64(1)
        yield f"hampel {window}", hampel.hampel, (
            X, NO8, NO64, bounds, i64(1), window, 3.0, 0.0, *history, u8(), f64(),
        )  # fmt: skip
    yield "carry", alarm.carry, (X, NO8, NO32, f64(1), u8(1), f64(), u8())
    minus = np.zeros(N, np.int8)
    yield "latch", alarm.latch, (minus, minus, T, NO32, 1, 1, u8(1), u8(1), i64(1), np.zeros(N, np.int8))
    track = np.zeros((7, series.TRACK_WIDTH))
    ring = np.zeros((7, 16), np.float32)
    yield "windows of series", series.windows, (
        X, T, GROUPS, ring, i64(7), track, 99.0, np.zeros((N, 18), np.float32), u8(),
    )  # fmt: skip
    yield "surprise", series.surprise, (np.ones(N, np.float32), GROUPS, track, 99.0, 9.0, f64())
    yield "factorize", grouping.factorize, (KEYS, OFFSETS)
    yield "group_rows", grouping.group_rows, (GROUPS, 7)
    numbers = (X * 100).round().astype(np.int64)
    yield "encode_ints", codec.encode_ints, (numbers, GROUPS, 7)
    yield "decode_ints", codec.decode_ints, (codec.encode_ints(numbers, GROUPS, 7), 0, i64(), GROUPS, 7)
    yield "to_decimal", codec.to_decimal, (X, i64(), i64())
    yield "gather", cells.gather, (KEYS, OFFSETS, np.zeros(N, np.int64), 1 << 20)
    yield "scan", text.scan, (KEYS, OFFSETS, text_tables.ALL_CLASSES, 0)
    yield "splice", splice.splice, (
        KEYS, OFFSETS, np.array([[1, 0, 2]]), np.zeros(1, np.uint8), np.ones(1, np.int64),
        np.full((256, 4), splice.REMOVE), NO8, i64(1),
    )  # fmt: skip
    frame, channels = np.zeros((24, 32, 3), np.uint8), np.ones(3, np.float32)
    yield "fit", image.fit, (
        frame, np.zeros(3 * 32 * 32, np.float32), 32, 32, 0, 0, 24, 32, channels, channels, True, True, 0.0,
    )  # fmt: skip
    yield "split_lines", records.split_lines, (b"{}\n" * 600, 0, True, np.zeros((N, 4), np.int64))


def good() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield what should work."""
    for name, kernel, given in kernels():
        yield name, lambda kernel=kernel, given=given: kernel(*given)  # type: ignore[misc]
    yield "RowParser", lambda: rows.RowParser(64, 4096, 256).take()


def refused() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the same with an array too short, and with an argument of another type."""
    for name, kernel, given in kernels():
        last = max(i for i, value in enumerate(given) if isinstance(value, np.ndarray))
        short = (*given[:last], given[last][:0], *given[last + 1 :])
        for why, wrong in (("short", short), ("type", (*given[:-1], object()))):
            yield f"{name}, {why}", lambda kernel=kernel, wrong=wrong: _caught(kernel, wrong)  # type: ignore[misc]


def _caught(kernel: Callable[..., Any], given: tuple[Any, ...]) -> None:
    with contextlib.suppress(ValueError, TypeError):
        kernel(*given)


def corpus() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each fuzz target over some of its corpus, whole and cut: values and errors in turn."""
    for name, target in fuzz_targets.TARGETS.items():
        kept = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
        inputs = [data for data in kept if len(data) < 1_000][:6]
        inputs += [data[: len(data) // 2] for data in inputs]
        turn = iter(range(10**9))
        yield (
            f"corpus {name}",
            lambda target=target, inputs=inputs, turn=turn: target(  # type: ignore[misc]
                inputs[next(turn) % len(inputs)]
            ),
        )


def planted() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield two leaks that must be found."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    held: list[Any] = []
    yield "planted memory", lambda: ctypes.memset(libc.malloc(8 * N), 1, 8 * N)
    yield "planted objects", lambda: held.append(object())


def resident() -> int:
    """Return the process's resident bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def left_behind(operation: Callable[[], Any]) -> tuple[int, int]:
    """Return blocks and bytes that CALLS calls leave; of three rounds the least: caches fill once."""
    least: tuple[int, int] | None = None
    for _ in range(WARM):
        operation()
    for _ in range(3):
        gc.collect()
        blocks, size = sys.getallocatedblocks(), resident()
        for _ in range(CALLS):
            operation()
        gc.collect()
        found = sys.getallocatedblocks() - blocks, resident() - size
        least = found if least is None else (min(least[0], found[0]), min(least[1], found[1]))
        if least[0] < CALLS // 10 and least[1] < CALLS * 8 * N // 4:
            break
    assert least is not None
    return least


def main() -> None:
    found = {}
    for group in (good, refused, corpus, planted):
        for name, operation in group():
            found[name] = left_behind(operation)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
