"""Pictures that come as text: nobody looked at them, so they do not pass."""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.mask import Guard, Masker, load_policy

BASE = load_policy("base", Path())
BODY = np.random.default_rng(0).bytes(400)
PICTURES = {
    "jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF" + BODY,
    "exif": b"\xff\xd8\xff\xe1\x00\x10Exif" + BODY,
    "raw jpeg": b"\xff\xd8\xff\xdb" + BODY,
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + BODY,
    "gif": b"GIF89a" + BODY,
    "webp": b"RIFF\x90\x01\0\0WEBPVP8 " + BODY,
    "bmp": b"BM\x90\x01\0\0\0\0\0\0\x36\0\0\0" + BODY,
    "tiff": b"II*\0\x08\0\0\0" + BODY,
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0" + BODY,
    "mp4": b"\0\0\0\x20ftypisom\0\0\0\0" + BODY,
}
WAYS = {
    "base64": base64.b64encode,
    "for URLs": base64.urlsafe_b64encode,
    "in lines": base64.encodebytes,
    "PEM": lambda data: b"\r\n".join(
        base64.b64encode(data)[at : at + 64] for at in range(0, 4 * len(data) // 3, 64)
    ),
    "data URI": lambda data: b'<img src="data:image/jpeg;base64,' + base64.b64encode(data) + b'">',
    "JSON": lambda data: json.dumps({"id": 7, "face": base64.b64encode(data).decode()}).encode(),
    "slashes escaped": lambda data: b'{"a":"' + base64.b64encode(data).replace(b"/", rb"\/") + b'"}',
    "form": lambda data: b"id=7&face=" + quote(base64.b64encode(data), safe="").encode(),
    "hex": binascii.hexlify,
    "HEX": lambda data: b"0x" + binascii.hexlify(data).upper(),
}


def block(cells, type_=Type.STR):
    return Block(
        Schema("gate", (Field("face", type_),)), np.zeros(len(cells), np.int64), (Column.of(type_, cells),)
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_in_text_becomes_null(kind, way):
    text = WAYS[way](PICTURES[kind]).decode()
    out = Masker(BASE).apply(block(["ok", text, None]))
    assert out.columns[0].to_list(Type.STR) == ["ok", None, None]
    assert out.columns[0].quality.tolist()[1] == q.GUARDED
    assert out.hits == {"image:undeclared": 1}


@pytest.mark.parametrize("type_", [Type.STR, Type.BYTES])
def test_a_picture_in_text_that_got_past_masking_is_stopped(type_):
    text = base64.b64encode(PICTURES["jpeg"])
    column = Column.of(type_, [text.decode() if type_ is Type.STR else text]).marked(BASE.hash)
    out = Guard(BASE).check(Block(block([], type_).schema, np.zeros(1, np.int64), (column,)))
    assert out.columns[0].to_list(type_) == [None]
    assert out.columns[0].quality.tolist() == [q.LEAK]
    assert out.hits == {"leak:image": 1}


def test_bytes_that_hold_a_picture_are_stopped_as_they_are_and_encoded():
    cells = [PICTURES["png"], base64.b64encode(PICTURES["jpeg"]), b"\0\1\2"]
    out = Masker(BASE).apply(block(cells, Type.BYTES))
    assert out.columns[0].to_list(Type.BYTES) == [None, None, b"\0\1\2"]
    assert out.hits == {"image:undeclared": 2}


@pytest.mark.parametrize(
    "text",
    [
        "GET /9j/4AAQSkZJRg/overview HTTP/1.1 " + "and more words of a line of a log " * 5,
        "BM and RIFF and GIF89a are how pictures begin, " * 5,
        base64.b64encode(BODY).decode(),  # a payload
        binascii.hexlify(BODY).decode(),
        "https://example.org/" + "a" * 200,
        "data:image/png is a type of " + "a" * 200,
        "x" * 70 + base64.b64encode(PICTURES["jpeg"]).decode()[:80],  # not where an encoding begins
        "流量计三号通道读数正常，阀门已关。" * 12,
    ],
)
def test_other_long_text_passes(text):
    out = Masker(BASE).apply(block([text]))
    assert out.columns[0].to_list(Type.STR) == [text]
    assert Guard(BASE).check(out).columns[0].to_list(Type.STR) == [text]


def test_a_policy_that_covers_nothing_in_pictures_lets_them_pass(tmp_path):
    (tmp_path / "p.yaml").write_text(
        "name: p\nversion: 1\nextends: base\nimages: {face: pass, plate: pass}\n", encoding="utf-8"
    )
    policy = load_policy("p.yaml", tmp_path)
    text = WAYS["data URI"](PICTURES["jpeg"]).decode()
    out = Guard(policy).check(Masker(policy).apply(block([text])))
    assert out.columns[0].to_list(Type.STR) == [text]
