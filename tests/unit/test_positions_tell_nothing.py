"""Positions of sources are stored and sent as they are: no name in them is an identifier, and they still lead back."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import msgpack
import pytest

from forebay.clock import SystemClock
from forebay.config.sources import FileOptions
from forebay.redact import holds_identifier, redacted
from forebay.sources.file import FileSource
from forebay.sources.messages import msgpack_objects
from forebay.sources.tail import kept_name, known_name

MOBILE, OTHER = "13812345678", "13912345679"


def read(folder: Path, path: str, position: bytes | None = None, most: int = 10**9, **options):
    """Return ids that a source hands on, with the position behind them."""
    source = FileSource(FileOptions(path=Path(path), **options), folder, "s", {}, clock=SystemClock())
    rows, place = [], position

    def emit(chunk):
        nonlocal place
        for block in chunk.blocks:
            names = block.schema.names()
            field = "id" if "id" in names else "name"
            column = block.columns[names.index(field)]
            rows.extend(column.to_list(block.schema.fields[names.index(field)].type))
        place = chunk.position or place
        if len(rows) >= most:
            source.stop()
            return False
        return True

    thread = threading.Thread(target=source.run, args=(emit, position))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    return rows, place


def test_a_header_of_identifiers_is_read_again_and_not_kept(tmp_path):
    """A file without a header, read as if it had one: its first record names the columns."""
    path = tmp_path / "a.csv"
    path.write_text(f"id,{MOBILE},note\n1,2,x\n")
    rows, place = read(tmp_path, "a.csv")
    assert rows == [1]
    assert MOBILE.encode() not in place
    with path.open("a") as file:
        file.write("3,4,y\n")
    assert read(tmp_path, "a.csv", place)[0] == [3]


def test_a_key_of_an_identifier_is_not_kept_and_the_others_are(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": 1, MOBILE: 2, "deep": {f"电话{MOBILE}": "x", "plain": 1}}) + "\n")
    rows, place = read(tmp_path, "a.jsonl")
    assert rows == [1]
    assert MOBILE.encode() not in place
    assert b"plain" in place
    with path.open("a") as file:
        file.write(json.dumps({"id": 2, MOBILE: "text"}) + "\n")
    assert read(tmp_path, "a.jsonl", place)[0] == [2]


@pytest.mark.parametrize("names", [(f"{MOBILE}.jsonl", f"{OTHER}.jsonl"), ("a.jsonl", f"b-{OTHER}.jsonl")])
def test_files_that_are_named_by_identifiers_are_found_again(tmp_path, names):
    for number, name in enumerate(names):
        (tmp_path / name).write_text("".join(f'{{"id": {10 * number + n}}}\n' for n in range(3)))
    rows, place = read(tmp_path, "*.jsonl", format="jsonl")
    assert rows == [0, 1, 2, 10, 11, 12]
    assert OTHER.encode() not in place
    with (tmp_path / names[1]).open("a") as file:
        file.write('{"id": 13}\n')
    assert read(tmp_path, "*.jsonl", place, format="jsonl")[0] == [13], (
        "what was read before is not read again"
    )


def test_a_followed_file_that_is_named_by_an_identifier_is_found_again(tmp_path):
    path = tmp_path / f"{MOBILE}.jsonl"
    path.write_text('{"id": 1}\n{"id": 2}\n')
    rows, place = read(tmp_path, "*.jsonl", format="jsonl", follow=True, most=2)
    assert rows == [1, 2]
    assert MOBILE.encode() not in place
    with path.open("a") as file:
        file.write('{"id": 3}\n')
    assert read(tmp_path, "*.jsonl", place, format="jsonl", follow=True, most=1)[0] == [3]


@pytest.mark.parametrize("follow", [False, True])
def test_pictures_that_are_named_by_identifiers_are_taken_once(tmp_path, follow):
    for name in (MOBILE, OTHER):
        (tmp_path / f"{name}.jpg").write_bytes(b"\xff\xd8\xff" + name.encode())
    options = {"format": "images", "follow": follow} | ({"settle": 0} if follow else {})
    rows, place = read(tmp_path, ".", most=2, **options)
    assert rows == [f"{MOBILE}.jpg", f"{OTHER}.jpg"]
    assert MOBILE.encode() not in place
    assert OTHER.encode() not in place
    (tmp_path / "z.jpg").write_bytes(b"\xff\xd8\xff")
    assert read(tmp_path, ".", place, most=1, **options)[0] == ["z.jpg"]


def test_a_kept_name_is_the_name_or_leads_to_it(tmp_path):
    path = tmp_path / f"{MOBILE}.avi"
    path.touch()
    inode = os.stat(path).st_ino
    assert kept_name("clip.avi", 5) == "clip.avi"
    assert known_name("clip.avi", []) == "clip.avi"
    assert MOBILE not in kept_name(path.name, inode)
    assert known_name(kept_name(path.name, inode), [tmp_path / "gone", path]) == path.name
    assert known_name(kept_name(path.name, inode), []) == ""


@pytest.mark.parametrize(
    ("text", "class_"), [(MOBILE, "mobile"), ("粤L12345", "plate"), ("li@example.com", "email")]
)
def test_lines_of_a_log_lose_sure_identifiers_and_nothing_else(text, class_):
    line = "input rejected place=x-{}.csv:55 reason=line length=7"
    said = redacted(line.format(text))
    assert text not in said
    assert f"[{class_}]" in said
    assert said.endswith(":55 reason=line length=7")


@pytest.mark.parametrize(
    "line",
    [
        "connected broker=10.0.0.7:1883",
        "agent runs gateway=hz-water-017 sources=6",
        "a batch arrived damaged gateway=g seq=1795337500562989776",
        "time=2026-11-22T09:18:06.123456Z bytes=28217344",
    ],
)
def test_what_an_operator_needs_stays_in_the_log(line):
    assert redacted(line) == line


def test_bytes_that_hold_an_identifier_become_text_and_others_base64():
    (row,) = msgpack_objects(
        msgpack.packb({"a": MOBILE.encode(), "b": b"\x00\xff", "c": b"\xff" + MOBILE.encode()})
    )
    assert json.loads(row) == {"a": MOBILE, "b": "AP8=", "c": f"\ufffd{MOBILE}"}
    assert holds_identifier(b"\xff" + MOBILE.encode())
