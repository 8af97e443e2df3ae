"""The reference series of DESIGN.md section 8: what size and speed figures are measured on.

50 devices round-robin, 1 Hz each with +-5 ms jitter (one event every 20 ms). Five readings an event:
`t`, `h`, `p` are random walks per device, `vib` is log-normal noise around a level of the device, `st` a
state that changes once in 1,000. Beside them `ts` (ms since 1970), `dev` and `seq`. Seeded: the same rows
on every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forebay.blocks import Block, Column, Field, Schema, Type

DEVICES = 50
READINGS = 5  # a row: t, h, p, vib, st
START_MS = 1_760_000_000_000

SCHEMA = Schema(
    stream="reference",
    fields=(
        Field("dev", Type.STR),
        Field("seq", Type.I64),
        Field("t", Type.F64, unit="°C"),
        Field("h", Type.F64, unit="%"),
        Field("p", Type.I64, unit="Pa"),
        Field("vib", Type.F64, unit="m/s²"),
        Field("st", Type.I64),
    ),
    key="dev",
)


@dataclass(frozen=True)
class Series:
    """Columns of the series, one entry an event.

    Attributes
    ----------
    ts_ms : int64, ms since 1970
    device : int64, 0..49
    t, h, vib : float64, rounded to 0.01, 0.1 and 0.0001
    p, st, seq : int64
    """

    ts_ms: npt.NDArray[np.int64]
    device: npt.NDArray[np.int64]
    seq: npt.NDArray[np.int64]
    t: npt.NDArray[np.float64]
    h: npt.NDArray[np.float64]
    p: npt.NDArray[np.int64]
    vib: npt.NDArray[np.float64]
    st: npt.NDArray[np.int64]


def device_name(device: int) -> str:
    """Return the name that `dev` has for a device number."""
    return f"plant3/line2/pump-{device:04d}"


def generate(events: int, seed: int = 20_240_601) -> Series:
    """Make the first `events` events of the series for `seed`."""
    rng = np.random.default_rng(seed)
    rounds = -(-events // DEVICES)

    def walk(level: float, spread: float, sigma: float) -> npt.NDArray[np.float64]:
        start = rng.normal(level, spread, DEVICES)
        return start + np.cumsum(rng.normal(0.0, sigma, (rounds, DEVICES)), axis=0)

    t = walk(25.0, 4.0, 0.02)
    h = walk(55.0, 8.0, 0.05)
    p = walk(101_325.0, 300.0, 2.0)
    vib = rng.uniform(0.02, 0.03, DEVICES) * np.exp(rng.normal(0.0, 0.15, (rounds, DEVICES)))
    changes = rng.random((rounds, DEVICES)) < 1e-3
    st = (rng.integers(0, 4, DEVICES) + np.cumsum(changes, axis=0)) % 4
    index = np.arange(rounds * DEVICES, dtype=np.int64)
    jitter = rng.integers(-5, 6, len(index))

    def flat(values: npt.NDArray[np.float64], decimals: int) -> npt.NDArray[np.float64]:
        return np.round(values.ravel()[:events], decimals)

    return Series(
        ts_ms=(START_MS + index * (1000 // DEVICES) + jitter)[:events],
        device=(index % DEVICES)[:events],
        seq=index[:events],
        t=flat(t, 2),
        h=flat(h, 1),
        p=np.rint(p.ravel()[:events]).astype(np.int64),
        vib=flat(vib, 4),
        st=st.ravel()[:events].astype(np.int64),
    )


def ndjson(series: Series) -> bytes:
    """Return the series as JSON lines, about 113 bytes an event."""
    rows = zip(
        series.ts_ms.tolist(),
        series.device.tolist(),
        series.seq.tolist(),
        series.t.tolist(),
        series.h.tolist(),
        series.p.tolist(),
        series.vib.tolist(),
        series.st.tolist(),
        strict=True,
    )
    return b"".join(
        b'{"ts":%d,"dev":"%s","seq":%d,"t":%.2f,"h":%.1f,"p":%d,"vib":%.4f,"st":%d}\n'
        % (ts, device_name(device).encode(), seq, t, h, p, vib, st)
        for ts, device, seq, t, h, p, vib, st in rows
    )


def blocks(series: Series, rows: int) -> Iterator[Block]:
    """Yield the series as blocks of `rows` rows (the last may be shorter)."""
    names = [device_name(device).encode() for device in range(DEVICES)]
    for first in range(0, len(series.seq), rows):
        part = slice(first, first + rows)
        cells = [names[device] for device in series.device[part].tolist()]
        offsets = np.zeros(len(cells) + 1, dtype=np.int64)
        np.cumsum([len(cell) for cell in cells], out=offsets[1:])
        columns = (
            Column(np.frombuffer(b"".join(cells), dtype=np.uint8), offsets),
            Column(series.seq[part]),
            Column(series.t[part]),
            Column(series.h[part]),
            Column(series.p[part]),
            Column(series.vib[part]),
            Column(series.st[part]),
        )
        yield Block(SCHEMA, series.ts_ms[part] * 1_000_000, columns)


def order0_entropy(values: npt.NDArray[np.int64]) -> float:
    """Return the order-0 entropy of integers in bits a value."""
    counts = np.unique(values, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())


def entropy_per_reading(series: Series) -> float:
    """Return the order-0 entropy of time's and the fields' deltas (per device), in bytes a reading."""
    fields = (
        series.ts_ms,
        np.rint(series.t * 100).astype(np.int64),
        np.rint(series.h * 10).astype(np.int64),
        series.p,
        np.rint(series.vib * 10_000).astype(np.int64),
        series.st,
    )
    bits = order0_entropy(np.diff(fields[0]))
    for values in fields[1:]:
        bits += order0_entropy(values[DEVICES:] - values[:-DEVICES])
    return bits / 8 / READINGS
