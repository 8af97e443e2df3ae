"""The file source: finite and followed, through restarts, renames, truncation and bad input."""

from __future__ import annotations

import json
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from forebay import quality as q
from forebay.blocks import MAX_BYTES_BYTES
from forebay.config.fields import FieldOptions
from forebay.config.sources import SOURCE_OPTIONS, FileOptions
from forebay.errors import InputError
from forebay.sources.file import LEAVE_POLLS, FileSource
from forebay.stages import Chunk

JPEG = b"\xff\xd8\xff\xe0" + bytes(40)


class StillClock:
    def wall_ns(self) -> int:
        return 2_000_000_000 * 10**9

    def monotonic_ns(self) -> int:
        return 0


class Taken:
    """Keeps what a source emits; stops it after `limit` chunks."""

    def __init__(self, limit: int = 10**9) -> None:
        self.chunks: list[Chunk] = []
        self.limit = limit

    def __call__(self, chunk: Chunk) -> bool:
        self.chunks.append(chunk)
        return len(self.chunks) < self.limit

    @property
    def position(self) -> bytes | None:
        return self.chunks[-1].position if self.chunks else None

    def rows(self) -> list[dict[str, Any]]:
        out = []
        for block in (b for c in self.chunks for b in c.blocks):
            lists = [c.to_list(f.type) for f, c in zip(block.schema.fields, block.columns, strict=True)]
            for cells in zip(block.time.tolist(), *lists, strict=True):
                row = dict(zip(("time", *block.schema.names()), cells, strict=True))
                out.append({k: v for k, v in row.items() if v is not None})
        return out

    def values(self, name: str = "v") -> list[Any]:
        return [row.get(name) for row in self.rows()]

    def counts(self) -> Counter[str]:
        return sum((c.rejected_counts for c in self.chunks), start=Counter())


def source(
    tmp_path: Path, path: str, wait: Callable[[float], bool] | None = None, **options: Any
) -> FileSource:
    fields = options.pop("fields", None)
    return FileSource(
        FileOptions.model_validate({"path": path, **options}),
        tmp_path,
        "s",
        fields,
        clock=StillClock(),
        wait=wait,
    )


def read(
    tmp_path: Path, path: str, position: bytes | None = None, limit: int = 10**9, **options: Any
) -> Taken:
    taken = Taken(limit)
    source(tmp_path, path, **options).run(taken, position)
    return taken


def follow(
    tmp_path: Path, steps: list[Callable[[], Any]], position: bytes | None = None, **options: Any
) -> Taken:
    """Follow a.jsonl; at each pause do the next step, then stop."""
    script: Iterator[Callable[[], Any]] = iter(steps)

    def wait(_: float) -> bool:
        step = next(script, None)
        if step is None:
            return True
        step()
        return False

    taken = Taken()
    source(tmp_path, options.pop("path", "a.jsonl"), wait, follow=True, **options).run(taken, position)
    return taken


def add_text(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def append(path: Path, *values: Any) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps({"v": value}) + "\n" for value in values)


# -- finite ------------------------------------------------------------------------------------------------


def test_blocks_carry_the_position_and_the_last_line_needs_no_line_end(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ts,v\n2024-05-01T08:00:00Z,1\n2024-05-01T08:00:01Z,2")
    taken = read(tmp_path, "a.csv", time={"field": "ts"})
    assert taken.values() == [1, 2]
    assert all(chunk.position and chunk.nbytes for chunk in taken.chunks)
    assert read(tmp_path, "a.csv", taken.position, time={"field": "ts"}).chunks == []


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_reading_with_a_restart_after_every_chunk_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    lines = ["k,v,w" if name == "a.csv" else "not json"]
    for i in range(9000):
        v = "" if i % 7 == 0 else (f"{i}.5" if i > 2500 else str(i))
        w = f"text {i}" if i > 4000 and i % 3 == 0 else str(2**53 + i)
        if name == "a.csv":
            lines.append(f'd{i % 3},{v},"{w}"' if i % 100 else "broken")
        else:
            w = json.dumps(w) if w.startswith("t") else w
            lines.append(f'{{"k":"d{i % 3}","v":{v or "null"},"w":{w}}}' if i % 100 else '{"k":')
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    whole = read(tmp_path, name)
    rows: list[Any] = []
    counts: Counter[str] = Counter()
    position, restarts = None, 0
    while True:
        part = read(tmp_path, name, position, limit=1)
        if not part.chunks:
            break
        rows += part.rows()
        counts += part.counts()
        position, restarts = part.position, restarts + 1
    assert restarts > 8
    assert rows == whole.rows()
    assert counts == whole.counts()
    assert counts["line"] >= 90


def test_a_pattern_reads_its_files_by_name_and_goes_on_in_the_right_one(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("w,v\nx,3\ny,4\n")
    (tmp_path / "a.csv").write_text("v,w\n1,x\n2,y\n")
    (tmp_path / "c.csv").write_text("v\n5\n")
    assert read(tmp_path, "*.csv").values() == [1, 2, 3, 4, 5]
    first = read(tmp_path, "*.csv", limit=1)
    assert first.values() == [1, 2]
    assert read(tmp_path, "*.csv", first.position).values() == [3, 4, 5]


def test_a_missing_file_is_a_named_error_that_a_later_try_may_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file") as caught:
        read(tmp_path, "nowhere.csv")
    assert caught.value.retryable
    assert "nowhere.csv" in caught.value.place


@pytest.mark.parametrize("position", [b"", b"\xc1", b"\x93\x07\xc4\x00\x90", b"\x93\x01\xc4\x00\x91\x90"])
def test_a_damaged_position_is_a_named_error(tmp_path: Path, position: bytes) -> None:
    (tmp_path / "a.csv").write_text("v\n1\n")
    with pytest.raises(InputError, match=r"position|state"):
        read(tmp_path, "a.csv", position)


def test_a_file_cut_off_in_the_middle_of_a_line_loses_that_line_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,v\nx,1\ny,2\nz")
    taken = read(tmp_path, "a.csv")
    assert taken.values() == [1, 2]
    assert taken.counts() == {"line": 1}
    (tmp_path / "a.jsonl").write_text('{"v":1}\n{"v":2')
    taken = read(tmp_path, "a.jsonl")
    assert taken.values() == [1]
    assert [r.place for c in taken.chunks for r in c.rejected] == ["a.jsonl:2"]


def test_a_file_that_shrank_since_the_restart_is_read_from_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    append(path, 1, 2, 3)
    position = read(tmp_path, "a.jsonl").position
    path.write_text('{"v":9}\n')
    assert read(tmp_path, "a.jsonl", position).values() == [9]
    assert "from its start" in caplog.text


def test_a_line_of_200_mb_costs_bounded_memory_and_one_count(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"v":1}\n')
        file.seek(200 * 1024 * 1024, os.SEEK_CUR)  # a hole: zeros that take no disk
        file.write(b'\n{"v":2}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = read(tmp_path, "a.jsonl")
    assert taken.values() == [1, 2]
    assert taken.counts() == {"size": 1}
    (rejected,) = [r for c in taken.chunks for r in c.rejected]
    assert (rejected.place, rejected.length) == ("a.jsonl:2", 200 * 1024 * 1024)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB


def test_declared_fields_reach_the_schema(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ts,v\n1700000000,1.239\n")
    taken = read(
        tmp_path, "a.csv", time={"field": "ts", "unit": "s"}, fields={"v": FieldOptions(decimals=2, unit="K")}
    )
    assert taken.values() == [1.24]
    assert taken.chunks[0].blocks[0].schema.fields[0].unit == "K"


# -- followed ----------------------------------------------------------------------------------------------


def test_following_waits_for_the_file_and_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def half() -> None:
        path.write_text('{"v":1}\n{"v"')

    taken = follow(tmp_path, [half, lambda: add_text(path, ":2}\n"), lambda: append(path, 3)])
    assert taken.values() == [1, 2, 3]
    assert taken.counts() == {}


def test_a_renamed_file_is_read_to_its_end_before_it_is_left(tmp_path: Path) -> None:
    path, old = tmp_path / "a.jsonl", tmp_path / "a.jsonl.1"
    append(path, 1)

    def rotate() -> None:
        append(path, 2)
        path.rename(old)
        append(path, 4)

    steps = [rotate, lambda: append(old, 3), lambda: append(path, 5)]
    taken = follow(tmp_path, [*steps, *[lambda: None] * (LEAVE_POLLS + 2), lambda: append(path, 6)])
    assert sorted(taken.values()) == [1, 2, 3, 4, 5, 6]
    assert taken.values()[:2] == [1, 2]
    # the old one is forgotten once it was quiet for long enough
    assert b"a.jsonl.1" not in (taken.position or b"")


def test_a_rename_while_nobody_looked_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append(path, 1)
    position = follow(tmp_path, []).position
    append(path, 2)
    path.rename(tmp_path / "a.jsonl.2")
    append(path, 3)
    path.rename(tmp_path / "a.jsonl.1")
    os.utime(tmp_path / "a.jsonl.2", (1, 1))
    append(path, 4)
    assert follow(tmp_path, [], position).values() == [2, 3, 4]


def test_a_truncated_file_is_a_new_generation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    append(path, 1, 2)

    def truncate() -> None:
        path.write_text("")
        append(path, 3)

    assert follow(tmp_path, [truncate, lambda: append(path, 4)]).values() == [1, 2, 3, 4]
    assert "truncated" in caplog.text


def test_a_file_written_anew_in_place_is_noticed_even_if_it_is_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append(path, 1)

    def rewrite() -> None:
        path.write_text("")
        append(path, 7, 8, 9)
        os.utime(path, (5, 5))

    assert follow(tmp_path, [rewrite]).values() == [1, 7, 8, 9]


def test_a_followed_csv_reads_the_header_of_each_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("v,w\n1,x\n")

    def rotate() -> None:
        path.rename(tmp_path / "old")
        path.write_text("w,v\ny,2\n")

    taken = follow(tmp_path, [rotate, lambda: add_text(path, "z,3\n")], path="a.csv")
    assert taken.values() == [1, 2, 3]
    add_text(path, "q,4\n")
    assert follow(tmp_path, [], taken.position, path="a.csv").rows()[0]["w"] == "q"


def test_followed_files_of_a_pattern_grow_side_by_side(tmp_path: Path) -> None:
    one, two = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    append(one, 1)
    append(two, 2)
    taken = follow(tmp_path, [lambda: append(one, 3), lambda: append(two, 4)], path="*.jsonl")
    assert taken.values() == [1, 2, 3, 4]
    append(one, 5)
    assert follow(tmp_path, [], taken.position, path="*.jsonl").values() == [5]


def test_stop_ends_a_followed_source(tmp_path: Path) -> None:
    append(tmp_path / "a.jsonl", 1)
    running = source(tmp_path, "a.jsonl", follow=True)
    taken = Taken()

    def emit(chunk: Chunk) -> bool:
        running.stop()
        return taken(chunk)

    running.run(emit, None)
    assert taken.values() == [1]


# -- images and video --------------------------------------------------------------------------------------


def test_a_folder_of_images_gives_a_row_each_and_goes_on_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(JPEG)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
    (tmp_path / "c.jpg").write_bytes(b"not an image")
    (tmp_path / "d.bmp").write_bytes(b"BM" + bytes(MAX_BYTES_BYTES))
    (tmp_path / "notes.md").write_text("-")
    os.utime(tmp_path / "b.jpg", (7, 7))
    taken = read(tmp_path, ".", format="images")
    (block,) = [b for c in taken.chunks for b in c.blocks]
    assert block.column("name").to_list(block.schema.fields[0].type) == ["a.png", "b.jpg", "d.bmp"]
    assert block.column("image").cell_bytes(1) == JPEG
    assert block.column("image").quality is not None
    assert block.column("image").quality.tolist() == [0, 0, q.SIZE]
    assert block.time[1] == 7 * 10**9
    assert block.schema.fields[1].media == "image"
    assert taken.counts() == {"image": 1, "size": 1}
    (tmp_path / "e.jpg").write_bytes(JPEG)
    again = read(tmp_path, ".", taken.position, format="images")
    assert again.values("name") == ["e.jpg"]


def test_a_followed_folder_takes_each_image_once_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "m.jpg").write_bytes(JPEG)
    taken = follow(tmp_path, [lambda: (tmp_path / "b.jpg").write_bytes(JPEG)], path=".", format="images")
    assert taken.values("name") == ["m.jpg", "b.jpg"]
    (tmp_path / "a.jpg").write_bytes(JPEG)
    again = follow(tmp_path, [], taken.position, path=".", format="images")
    assert again.values("name") == ["a.jpg"]


def make_video(path: Path, frames: int) -> None:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for i in range(frames):
        writer.write(np.full((48, 64, 3), i * 8, np.uint8))
    writer.release()


def test_a_video_gives_decoded_frames_with_their_times_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    make_video(tmp_path / "a.avi", 8)
    options = {"every": 3, "start": "2024-05-01T00:00:00Z"}
    taken = read(tmp_path, "a.avi", **options)
    blocks = [b for c in taken.chunks for b in c.blocks]
    assert [b.columns[0].values.tolist() for b in blocks] == [[0], [3], [6]]
    start = 1714521600 * 10**9
    assert [int(b.time[0]) - start for b in blocks] == [0, 300_000_000, 600_000_000]
    (frame,) = blocks[1].columns[1].frames or []
    assert frame is not None
    assert frame.shape == (48, 64, 3)
    assert abs(int(frame.mean()) - 24) < 6
    assert blocks[1].columns[1].values.size == 0
    rest = read(tmp_path, "a.avi", taken.chunks[0].position, **options)
    assert [c.blocks[0].columns[0].values.tolist() for c in rest.chunks] == [[3], [6]]
    assert taken.counts() == {}


def test_a_video_that_ends_in_mid_frame_is_counted_and_ends_cleanly(tmp_path: Path) -> None:
    make_video(tmp_path / "a.avi", 30)
    data = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(data[: len(data) // 2])
    taken = read(tmp_path, "a.avi")
    assert taken.counts() == {"image": 1}
    assert 0 < len([c for c in taken.chunks if c.blocks]) < 30
    (tmp_path / "b.avi").write_bytes(b"nothing")
    assert read(tmp_path, "b.avi").counts() == {"image": 1}


# -- the end of what is there ------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["a.jsonl", "*.jsonl"])
def test_a_position_at_the_end_hands_on_only_what_comes_later(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / "a.jsonl"
    append(path, *range(5))
    append(tmp_path / "b.jsonl", 100)
    position = source(tmp_path, pattern, follow=True).at_end()
    add_text(path, '{"v": 5')  # half a line at that moment
    taken = follow(tmp_path, [lambda: add_text(path, "}\n"), lambda: append(path, 6)], position, path=pattern)
    assert taken.values() == [5, 6]


def test_a_position_at_the_end_of_a_finite_csv_leaves_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("v\n1\n2\n")
    position = source(tmp_path, "a.csv").at_end()
    assert read(tmp_path, "a.csv", position).values() == []
    add_text(tmp_path / "a.csv", "3\n")
    assert read(tmp_path, "a.csv", position).values() == [3]


# -- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "a.xyz"}, "add `format"),
        ({"path": "a.csv", "delimiter": ";;"}, "one ASCII character"),
        ({"path": "a.csv", "time": {"field": "t", "zone": "Mars/Olympus"}}, "time zone"),
        ({"path": "a.csv", "time": {"field": "t", "unit": "s", "zone": "UTC"}}, "one of them"),
        ({"path": "a.jsonl", "columns": ["a"]}, "are for CSV"),
        ({"path": "a.csv", "every": 2}, "for videos"),
        ({"path": "a.mp4", "follow": True}, "does not go with a video"),
        ({"path": "a.mp4", "start": "yesterday"}, "with its zone"),
        ({"path": "a.mp4", "start": "end"}, "when the recording starts"),
        ({"path": "a.csv", "start": "2024-05-01T08:00:00Z"}, "`beginning` or `end`"),
        ({"path": "shots", "start": "end"}, "does not go with images"),
        ({"path": "a.mp4", "time": {"field": "t"}}, "does not go with video"),
        ({"path": "a.csv", "max_line": "1B"}, "1024"),
        ({"path": "a.csv", "flow": True}, "Extra inputs"),
    ],
)
def test_options_that_cannot_work_are_refused_with_a_hint(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        SOURCE_OPTIONS["file"].model_validate(options)


def test_formats_and_delimiters_are_guessed_from_the_suffix() -> None:
    guesses = {"a.CSV": "csv", "a.tsv": "csv", "x.ndjson": "jsonl", "shots": "images", "v.mp4": "video"}
    for path, kind in guesses.items():
        assert FileOptions.model_validate({"path": path}).actual_format == kind
    assert FileOptions.model_validate({"path": "a.tsv"}).actual_delimiter == "\t"
    assert FileOptions.model_validate({"path": "a.csv", "delimiter": "tab"}).actual_delimiter == "\t"


def test_field_options_fit_together() -> None:
    assert FieldOptions(unit="K").known_type == "f64"
    assert FieldOptions(description="x").known_type is None
    with pytest.raises(ValidationError, match="decimals"):
        FieldOptions.model_validate({"type": "str", "decimals": 1})
    with pytest.raises(ValidationError, match="bytes"):
        FieldOptions.model_validate({"media": "image"})
