"""Bytes a reading of the reference series and three real ones: our wire beside public codecs, to the last bit."""

from __future__ import annotations

import csv
import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import reference_series, wire
from benchmarks.gateway_site import ROOT
from benchmarks.model import Effort, Figure, cpu_seconds
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.wire.columns import decode_columns, encode_columns

PEERS_ENV = ROOT / ".cache" / "peers-env"
_ROWS = 1_000
_EVENTS = 20_000
_TYPES = {"f": Type.F64, "i": Type.I64}


class PeersAbsent(Exception):
    """There is no peers environment; the message says what to do."""


def peers_python() -> str:
    """Return the interpreter of the peers environment. Raises PeersAbsent."""
    python = PEERS_ENV / "bin" / "python"
    if not python.exists() or (PEERS_ENV / ".unfinished").exists():
        raise PeersAbsent("the peers are not installed: make bench-peers")
    return str(python)


def run_peers(script: str, folder: Path) -> dict[str, Any]:
    """Run a script of benchmarks/peers with a folder; return what it prints. Raises PeersAbsent."""
    command = [peers_python(), str(ROOT / "benchmarks" / "peers" / script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{script} ended with {done.returncode}: {done.stderr[-2000:]}"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass
class Series:
    """Columns of one series, rows as they came.

    `key` are codes of `names` where there are several devices. `readings` is the number a row stands for.
    """

    name: str
    what: str
    time: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[Any]]
    readings: int
    key: npt.NDArray[np.int64] | None = None
    names: list[str] = field(default_factory=list)

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield the series as blocks."""
        fields = [Field(n, _TYPES[c.dtype.kind]) for n, c in self.columns.items()]
        keyed = [Field("dev", Type.STR)] if self.key is not None else []
        schema = Schema(self.name, (*keyed, *fields), key="dev" if keyed else "")
        for first in range(0, len(self.time), rows):
            part = slice(first, first + rows)
            columns = [Column(c[part]) for c in self.columns.values()]
            if self.key is not None:
                columns.insert(0, Column.of(Type.STR, [self.names[c] for c in self.key[part].tolist()]))
            yield Block(schema, self.time[part], tuple(columns))

    def save(self, folder: Path) -> None:
        """Write the series for the peers."""
        held: dict[str, npt.NDArray[Any]] = {"time": self.time, **self.columns}
        if self.key is not None:
            held |= {"key": self.key, "names": np.array(self.names)}
        np.savez(folder / f"{self.name}.npz", **held)  # type: ignore[arg-type]


def reference() -> Series:
    """Return the reference series."""
    s = reference_series.generate(_EVENTS)
    columns = {"seq": s.seq, "t": s.t, "h": s.h, "p": s.p, "vib": s.vib, "st": s.st}
    names = [reference_series.device_name(d) for d in range(reference_series.DEVICES)]
    what = "the reference series: 50 devices, 5 readings a row"
    return Series("reference", what, s.ts_ms * 1_000_000, columns, reference_series.READINGS, s.device, names)


def wind() -> Series:
    """Return the recording of four wind turbines that is shipped in config/demo (ENGIE, Open License 2.0)."""
    with (ROOT / "config" / "demo" / "la-haute-borne-2014-01-02.csv").open() as file:
        header, *every = csv.reader(file)
    rows = _complete(every)
    names = sorted({row[1] for row in rows})
    columns = {n: np.array([float(r[k]) for r in rows]) for k, n in enumerate(header) if k > 1}
    key = np.array([names.index(row[1]) for row in rows])
    time = np.array([_ns(datetime.fromisoformat(row[0])) for row in rows])
    what = "La Haute Borne: four wind turbines, 10 minutes, complete rows, 7 readings a row"
    return Series("la-haute-borne", what, time, columns, len(columns), key, names)


def water() -> Series:
    """Return river's WaterFlow (BSD-3-Clause): flow of a main in Treviso, hourly. Raises PeersAbsent."""
    rows = _installed("river/datasets/water-flow.csv")
    time = np.array([_ns(datetime.fromisoformat(row[0])) for row in rows])
    what = "WaterFlow (river): flow in a water main, hourly, 1 reading a row"
    return Series("water-flow", what, time, {"flow": np.array([float(row[1]) for row in rows])}, 1)


def weather() -> Series:
    """Return pvanalytics' RMIS weather (MIT): 12 instruments of a weather station, 5 minutes. Raises PeersAbsent."""
    rows = _installed("pvanalytics/data/rmis_weather_data.csv")
    time = np.array([_ns(datetime.strptime(row[0] + "+0000", "%m/%d/%Y %H:%M%z")) for row in rows])
    columns = {f"c{k}": np.array([float(row[k]) for row in rows]) for k in range(1, len(rows[0]))}
    what = "RMIS weather (pvanalytics): 12 instruments, 5 minutes, 7 significant digits, 12 readings a row"
    return Series("rmis-weather", what, time, columns, len(columns))


def _ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000


def _installed(path: str) -> list[list[str]]:
    peers_python()
    found = next(PEERS_ENV.glob(f"lib/python*/site-packages/{path}"), None)
    assert found is not None, f"{path} is not in the peers environment"
    with found.open() as file:
        return _complete(list(csv.reader(file))[1:])


def _complete(rows: list[list[str]]) -> list[list[str]]:
    """Return the rows without a missing cell: plain columns, which is what every codec here takes."""
    return [row for row in rows if all(row)]


def special() -> list[Series]:
    """Return series of values that codecs stumble on: NaN payloads, -0.0, infinities, denormals, int64's ends."""
    rng = np.random.default_rng(41)
    bits = np.array([0x7FF8_0000_0000_0000, 0x7FF0_0000_0000_0001, 0xFFF8_0000_DEAD_BEEF, 0x7FFF_FFFF_FFFF_FFFF,
                     0x8000_0000_0000_0000, 0, 0x7FF0_0000_0000_0000, 0xFFF0_0000_0000_0000, 1,
                     0x8000_0000_0000_0001, 0x000F_FFFF_FFFF_FFFF, 0x7FEF_FFFF_FFFF_FFFF, 0x3FF0_0000_0000_0001],
                    dtype=np.uint64)  # fmt: skip
    floats = bits.view(np.float64)
    mixed = np.where(
        rng.random(_ROWS) < 0.3, rng.choice(floats, _ROWS), np.round(rng.normal(20, 5, _ROWS), 2)
    )
    ends = np.array([-(2**63), 2**63 - 1, 0, -1, 1], dtype=np.int64)
    ints = np.where(rng.random(_ROWS) < 0.5, rng.choice(ends, _ROWS), rng.integers(-100, 100, _ROWS))
    time = np.arange(_ROWS, dtype=np.int64)
    jumps = rng.integers(-(2**63), 2**63 - 1, _ROWS, dtype=np.int64)
    columns = {"mixed": mixed, "cycle": np.resize(floats, _ROWS), "ends": np.resize(ends, _ROWS), "ints": ints,
               "jumps": jumps}  # fmt: skip
    return [Series("special-values", "special values", time, columns, len(columns))]


def is_lossless(series: Series) -> bool:
    """Return whether every value comes back to the last bit, times included."""
    for block in series.blocks(_ROWS):
        payload = encode_columns(block, level=1)
        back = decode_columns(payload, block.schema, max_rows=_ROWS, max_bytes=1 << 24)
        if back.time.tobytes() != block.time.tobytes():
            return False
        for f, a, b in zip(block.schema.fields, block.columns, back.columns, strict=True):
            if f.type is Type.STR and a.to_list(f.type) != b.to_list(f.type):
                return False
            if f.type is not Type.STR and a.values.tobytes() != b.values.tobytes():
                return False
    return True


def compression(_effort: Effort) -> list[Figure]:
    """Measure our wire, and the peers where their environment is installed."""
    found, notes = [reference(), wind()], ""
    try:
        found += [water(), weather()]
    except PeersAbsent as reason:
        notes = str(reason)
    for series in [*found, *special()]:
        assert is_lossless(series), f"{series.name} did not come back to the last bit"
    peers: dict[str, Any] = {}
    if not notes:
        with tempfile.TemporaryDirectory() as folder:
            for series in [*found, *special()]:
                series.save(Path(folder))
            peers = run_peers("compress.py", Path(folder))["series"]
    else:
        print(f"compression: WITHOUT PEERS: {notes}")
    return [figure for series in found for figure in _figures(series, peers.get(series.name), notes)]


def _figures(series: Series, peers: dict[str, Any] | None, notes: str) -> list[Figure]:
    readings = len(series.time) * series.readings
    size = wire.size_per_reading(series.blocks(_ROWS), series.readings)
    (block, *_) = series.blocks(_ROWS)
    cpu = cpu_seconds(lambda: encode_columns(block, level=1), 0.2) * 1e6
    sizes = {name: total / readings for name, total in peers["sizes"].items()} if peers else {}
    theirs = {"pcodec": peers["pcodec_cpu_s_a_block"] * 1e6} if peers else {}
    return [
        Figure(f"size-{series.name}", series.what, size, "B/reading", None, sizes, notes),
        Figure(
            f"encode-{series.name}",
            f"to encode 1,000 rows of it ({series.name})",
            cpu,
            "us/block",
            None,
            theirs,
        ),
    ]
