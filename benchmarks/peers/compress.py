"""Sizes of series under public codecs. Runs in the peers environment, without Forebay: `compress.py FOLDER`.

Each FOLDER/NAME.npz holds `time` (int64 ns), columns, and for series with devices `key` (codes) with `names`.
Prints one JSON object: sizes in bytes by series and codec, each decoded again and compared to the last bit,
and CPU seconds.
"""

import gzip
import io
import json
import sys
import time
from pathlib import Path

import msgpack
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from pcodec import ChunkConfig, standalone

ROWS = 1_000


class Series:
    def __init__(self, path: Path) -> None:
        held = np.load(path, allow_pickle=False)
        self.columns = {name: held[name] for name in held.files if name not in ("key", "names")}
        self.key = held["key"] if "key" in held.files else None
        self.names = [str(n) for n in held["names"]] if "names" in held.files else []

    def blocks(self, rows):
        count = len(self.columns["time"])
        for first in range(0, count, rows):
            part = slice(first, first + rows)
            yield {n: c[part] for n, c in self.columns.items()}, None if self.key is None else self.key[part]


def same_bits(a, b):
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def rows_of(columns, key, names):
    cells = [c.tolist() for c in columns.values()]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]
    if key is not None:
        for row, code in zip(rows, key.tolist(), strict=True):
            row["dev"] = names[code]
    return rows


def check_rows(rows, columns):
    for name, column in columns.items():
        assert same_bits(np.array([row[name] for row in rows], dtype=column.dtype), column), name


def json_gzip(columns, key, names):
    data = gzip.compress(json.dumps(rows_of(columns, key, names)).encode(), 6)
    check_rows(json.loads(gzip.decompress(data)), columns)
    return len(data)


def msgpack_zstd(columns, key, names):
    data = zstandard.ZstdCompressor(level=3).compress(msgpack.packb(rows_of(columns, key, names)))
    check_rows(msgpack.unpackb(zstandard.ZstdDecompressor().decompress(data)), columns)
    return len(data)


def parquet(columns, key, names):
    arrays = {name: pa.array(column) for name, column in columns.items()}
    if key is not None:
        arrays["dev"] = pa.DictionaryArray.from_arrays(pa.array(key.astype(np.int32)), pa.array(names))
    sink = io.BytesIO()
    pq.write_table(pa.table(arrays), sink, compression="zstd")
    back = pq.read_table(io.BytesIO(sink.getvalue()))
    for name, column in columns.items():
        assert same_bits(back[name].to_numpy().astype(column.dtype), column), name
    return len(sink.getvalue())


def pcodec_columns(columns):
    pieces = {name: standalone.simple_compress(column, ChunkConfig()) for name, column in columns.items()}
    for name, piece in pieces.items():
        assert same_bits(standalone.simple_decompress(piece), columns[name]), name
    return sum(map(len, pieces.values()))


def pcodec_as_it_came(columns, key, names):
    return pcodec_columns(with_codes(columns, key)) + names_size(key, names)


def pcodec_by_device(columns, key, names):
    """Rows of a device together. The codes stay in the order of arrival, so the order can be had back."""
    if key is None:
        return pcodec_as_it_came(columns, key, names)
    order = np.argsort(key, kind="stable")
    sorted_columns = {name: np.ascontiguousarray(column[order]) for name, column in columns.items()}
    return pcodec_columns(sorted_columns) + pcodec_columns(with_codes({}, key)) + names_size(key, names)


def with_codes(columns, key):
    return columns if key is None else columns | {"dev": key.astype(np.uint16)}


def names_size(key, names):
    if key is None:
        return 0
    return len(
        zstandard.ZstdCompressor(level=3).compress("\n".join(names[c] for c in np.unique(key)).encode())
    )


CODECS = {
    "JSON + gzip 6": json_gzip,
    "msgpack rows + zstd 3": msgpack_zstd,
    "Parquet + zstd": parquet,
    "pcodec, rows as they came": pcodec_as_it_came,
    "pcodec, rows of a device together": pcodec_by_device,
}


def main():
    folder = Path(sys.argv[1])
    out = {"series": {}, "special": {}, "versions": {"pyarrow": pa.__version__}}
    for path in sorted(folder.glob("*.npz")):
        series = Series(path)
        if path.stem.startswith("special"):
            out["special"][path.stem] = pcodec_columns(series.columns)
            continue
        sizes = {}
        for name, codec in CODECS.items():
            sizes[name] = sum(codec(columns, key, series.names) for columns, key in series.blocks(ROWS))
            if name.startswith(("Parquet", "pcodec")):
                sizes[f"{name}, whole series in one"] = codec(series.columns, series.key, series.names)
        columns, key = next(series.blocks(ROWS))
        begin, turns = time.process_time(), 0
        columns = with_codes(columns, key)
        while time.process_time() - begin < 0.2:
            for column in columns.values():
                standalone.simple_compress(column, ChunkConfig())
            turns += 1
        cpu = (time.process_time() - begin) / turns
        out["series"][path.stem] = {"sizes": sizes, "pcodec_cpu_s_a_block": cpu}
    print(json.dumps(out))


main()
