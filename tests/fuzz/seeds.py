"""Write the seeds of the corpus: golden files, and generated text and rows. No file is anybody's data.

    python tests/fuzz/seeds.py

What a fuzz run found beyond these is kept beside them under the hash of its bytes.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "agent"), str(ROOT / "core_ext")]

import msgpack  # noqa: E402
import numpy as np  # noqa: E402
from fuzz_targets import DATA, SCHEMAS  # noqa: E402

from forebay.blocks import Block, Column, Schema, Type  # noqa: E402
from forebay.wire.columns import encode_columns  # noqa: E402
from forebay.wire.envelope import Exported  # noqa: E402

_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def resident_id(rng: random.Random) -> str:
    """Return a made-up 18-digit number with its check digit (GB 11643)."""
    body = f"110105{rng.randint(1950, 2005)}{rng.randint(1, 12):02}{rng.randint(1, 28):02}{rng.randint(0, 999):03}"
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, _WEIGHTS, strict=True)) % 11]


def luhn(body: str) -> str:
    """Return digits with their Luhn check digit."""
    digits = [int(d) * (2 if i % 2 == 0 else 1) for i, d in enumerate(reversed(body))]
    return body + str(-sum(d // 10 + d % 10 for d in digits) % 10)


def texts(rng: random.Random) -> dict[str, bytes]:
    """Return text with made-up identifiers of each kind, in the ways they are written."""
    number, card = resident_id(rng), luhn("622202" + "".join(str(rng.randint(0, 9)) for _ in range(12)))
    mobile = f"139{rng.randint(0, 99999999):08}"
    wide = str.maketrans("0123456789X", "０１２３４５６７８９Ｘ")
    return {
        "id": f"身份证{number}，请核对\n{number.translate(wide)}\n{number[:6]} {number[6:14]} {number[14:]}".encode(),
        "numbers": f"+86 {mobile[:3]}-{mobile[3:7]}-{mobile[7:]} 电话 010-66550123\n{card}".encode(),
        "net": b"10.1.2.3 fe80::1:2 00:1a:2b:3c:4d:5e a.b-c@example.com.cn 39.9042,116.4074",
        "plates": "京A12345 粤BD12345 LSVAA4182E2123456 护照E12345678".encode(),
        "broken": b"\xff\xfe\xe4\xba 1101051949\x001231002X \xf0\x9f\x98\x80" + mobile.encode(),
    }


def block(schema: Schema, rng: np.random.Generator, rows: int) -> Block:
    """Return a small block with nulls and codes."""
    made = []
    for field in schema.fields:
        values: list[object] = {
            Type.F64: np.round(rng.normal(20, 1, rows), 2).tolist(),
            Type.I64: rng.integers(-(2**40), 2**40, rows).tolist(),
            Type.BOOL: (rng.integers(0, 2, rows) > 0).tolist(),
            Type.STR: rng.choice(["a", "泵", "pump-1"], rows).tolist(),
            Type.BYTES: [rng.bytes(int(n)) for n in rng.integers(0, 9, rows)],
        }[field.type]
        codes = rng.choice([0, 0, 0, 4, 65, 129], rows).astype(np.uint8)
        cells = [None if code >= 128 else value for value, code in zip(values, codes.tolist(), strict=True)]
        made.append(Column.of(field.type, cells, codes))
    return Block(schema, np.cumsum(rng.integers(0, 2 * 10**9, rows)), tuple(made))


def seeds() -> dict[str, dict[str, bytes]]:
    """Return name and bytes of each seed, by target."""
    rng, numbers = random.Random(3), np.random.default_rng(3)
    golden = (DATA / "batch-v1.fbb").read_bytes()
    out: dict[str, dict[str, bytes]] = {
        "export": {"golden": golden},
        "batch": {"golden": Exported.unpack(golden).data},
        "messages": {
            f"golden-{i}": bytes.fromhex(entry["hex"])
            for i, entry in enumerate(json.loads((DATA / "messages-v1.json").read_text(encoding="utf-8")))
        },
        "scan": texts(rng),
        "json_lines": {
            "rows": b'\x01\x80{"ts":"2026-03-04T05:06:07Z","dev":"a","t":21.5,"ok":true,"n":null}\n'
            b'{"ts":"2026-03-04T05:06:08.5+08:00","dev":"b","t":-1e3,"in":{"x":1,"y":[1,2]}}\r\n\n{"t":"\\ud83d\\ude00"}',
            "numbers": b'\x02\x40{"ts":1700000000123,"i":9223372036854775807,"j":9223372036854775808,"f":1e400,'
            b'"g":-0.0,"h":4.9e-324}\n{"ts":1,"i":1.5}\n{bad\n[1]\n',
        },
        "json_message": {
            "array": b'[{"t":1},{"t":2.5,"s":"x"},3,{"t":[{}]}]',
            "object": b'{"a":{"b":{"c":1}},"a.b.c":2,"A":3}',
        },
        "csv": {
            "rows": b"\x01\x80ts,dev,t,note\n2026-03-04T05:06:07Z,a,21.5,\"x, \"\"y\"\"\n\"\n"
            b"2026-03-04 05:06:08Z,b,,-\r\n",
            "types": b"\x00\x30a,b,a,\n1,true,null,x\n2.5,false,n/a,\xff\n9223372036854775808,no,--,\n1,2\n",
        },
        "broker": {
            "json": b'\x00[{"t":1.5,"topic":"x"},{"t":2}]',
            "csv": b'\x011.5,"a ""b"""\n,x\r\n\n',
            "raw": b"\x02-12.5e3",
            "msgpack": b"\x03" + msgpack.packb([{"t": 1.5, "b": b"\x00", "l": [1, {"x": None}]}, {"t": 2**63}]),
        },
        "config": {
            f"sample-{path.stem}": path.read_bytes() for path in sorted((ROOT / "config").glob("*.yaml"))
        },
        "columns": {},
    }  # fmt: skip
    out["config"]["odd"] = (
        b"a: &x [1, 2]\nb: *x\nsources: {p: {type: file, path: 'a', time: {field: ts}}}\n? {c: 1}\n: 0x1f"
    )
    for number, schema in enumerate(SCHEMAS):
        for rows in (0, 1, 40):
            payload = encode_columns(block(schema, numbers, rows), level=3, compress=rows != 40)
            out["columns"][f"schema-{number}-rows-{rows}"] = bytes([number]) + payload
    return out


if __name__ == "__main__":
    for target, files in seeds().items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
