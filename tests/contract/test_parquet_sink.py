"""The Parquet sink: what was acknowledged stands in exactly one file, whatever fails between."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from senders import INTEGER, Sender, kinds, of
from world import NS, Center, FakeClock

from forebay.blocks import Field, Type
from forebay.receive.caps import Limits

pa = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
dataset = pytest.importorskip("pyarrow.dataset")

from forebay.receive import parquet  # noqa: E402
from forebay.receive.parquet import ParquetSink, Rolling  # noqa: E402

DAY_S = 86_400


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def open_center(tmp_path, clock) -> Callable[..., Center]:
    opened: list[Center] = []

    def make(limits: Limits, rolling: Rolling) -> ParquetSink:
        return ParquetSink(tmp_path / "lake", rolling, clock, limits)

    def start(rows_per_file: int = 1_000, max_age_s: int = 60, max_waiting: int = 1 << 30) -> Center:
        rolling = Rolling(rows_per_file, max_age_s * NS, max_waiting)
        opened.append(Center(tmp_path, clock, make_sink=partial(make, rolling=rolling)))
        return opened[-1]

    yield start
    for center in opened:
        center.sink._db.close()  # again, perhaps


def files(folder: Path) -> list[Path]:
    return sorted((folder / "lake").rglob("*.parquet"))


def values(folder: Path, name: str = "v", stream: str = "pump") -> list[Any]:
    """Return a column of all files of a stream, read as any platform would."""
    table = dataset.dataset(folder / "lake" / stream, partitioning="hive").to_table()
    return sorted(table.column(name).to_pylist(), key=lambda v: (v is None, v))


def later(center: Center, clock: FakeClock, seconds: float) -> None:
    center.sink.turn()
    clock.advance(seconds)
    center.sink.turn()


def test_rows_stand_in_a_file_once_they_are_old_enough(open_center, clock, tmp_path):
    center = open_center()
    assert kinds(center, Sender().message(of(INTEGER), [1, 2, None])) == ["Ack"]
    later(center, clock, 59)
    assert files(tmp_path) == []
    later(center, clock, 2)
    assert values(tmp_path) == [1, 2, None]
    (path,) = files(tmp_path)
    assert path.parent.name == "date=1970-01-01"
    later(center, clock, 120)
    assert files(tmp_path) == [path]


def test_every_type_unit_and_quality_come_back(open_center, tmp_path):
    center = open_center()
    fields = (
        *(Field("f", Type.F64, unit="°C"), Field("b", Type.BOOL), Field("s", Type.STR)),
        *(Field("y", Type.BYTES), Field("time", Type.I64)),
    )
    cells = ([1.5, None], [True, False], ["水", ""], [b"\x00", None], [7, 8])
    kinds(center, Sender().message(of(*fields), *cells))
    center.sink.close()
    table = dataset.dataset(files(tmp_path)[0]).to_table()
    assert table.schema.field("time").type == pa.timestamp("ns", tz="UTC")
    assert table.schema.field("f").metadata == {b"unit": "°C".encode()}
    rows = table.select(["f", "b", "s", "y", "time_2", "gateway", "seq"]).to_pylist()
    assert [tuple(r.values()) for r in rows] == [
        (1.5, True, "水", b"\x00", 7, "gw-1", 1),
        (None, False, "", None, 8, "gw-1", 1),
    ]
    assert table.column("quality").to_pylist() == ["good", "bad"]


def test_a_full_file_does_not_wait_and_holds_no_more_than_it_should(open_center, clock, tmp_path):
    center, sender = open_center(rows_per_file=1_000), Sender()
    for n in range(5):
        kinds(center, sender.message(of(INTEGER), list(range(n * 400, n * 400 + 400))))
    center.sink.turn()
    sizes = [dataset.dataset(path).count_rows() for path in files(tmp_path)]
    assert sizes == [800]
    clock.advance(2)
    center.sink.turn()
    assert [dataset.dataset(path).count_rows() for path in files(tmp_path)] == [800, 800]
    center.sink.close()
    assert values(tmp_path) == list(range(2_000))


def test_days_streams_and_schemas_have_files_of_their_own(open_center, tmp_path):
    center, sender = open_center(), Sender()
    kinds(center, sender.message(of(INTEGER, stream="a/../b"), [1]))
    kinds(center, sender.message(of(INTEGER), [2]))
    kinds(center, sender.message(of(INTEGER, Field("w", Type.F64)), [3], [0.5]))
    kinds(center, sender.message(of(INTEGER), [4], start=-DAY_S * NS))
    center.sink.close()
    names = [path.relative_to(tmp_path / "lake").parts[:2] for path in files(tmp_path)]
    assert sorted(names) == [
        ("a%2F..%2Fb", "date=1970-01-01"),
        ("pump", "date=1969-12-31"),
        ("pump", "date=1970-01-01"),
        ("pump", "date=1970-01-01"),
    ]
    assert values(tmp_path) == [2, 3, 4]


def test_a_stream_of_another_unit_is_kept_whole_and_not_mixed_in(open_center, tmp_path):
    center, sender = open_center(), Sender()
    kinds(center, sender.message(of(Field("v", Type.F64, unit="kPa")), [1.0]))
    assert kinds(center, sender.message(of(Field("v", Type.F64, unit="bar")), [2.0])) == ["Ack"]
    assert center.rows("SELECT seq FROM unplaced") == [(2,)]
    center.sink.close()
    assert values(tmp_path) == [1.0]


@pytest.mark.parametrize("when", ["before it is written", "before it has its name", "after it has its name"])
def test_a_crash_while_a_file_is_written_leads_to_the_same_file(
    open_center, clock, tmp_path, monkeypatch, when
):
    center, sender = open_center(), Sender()
    kinds(center, sender.message(of(INTEGER), [1, 2]))

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if when == "before it is written":
            patch.setattr(parquet, "_table", die)
        elif when == "before it has its name":
            patch.setattr(Path, "replace", die)
        else:
            patch.setattr(center.sink._db, "executemany", die)
        with pytest.raises(Killed):
            later(center, clock, 61)
    center.sink._db.close()  # a kill writes nothing more
    center = open_center()
    kinds(center, sender.message(of(INTEGER), [3]))  # came before the file was written again
    later(center, clock, 61)
    assert values(tmp_path) == [1, 2, 3]
    assert kinds(center, sender.message(of(INTEGER), [9], seq=1)) == ["Conflict"]


def test_while_the_disk_is_full_rows_wait_and_agents_are_asked_to_keep_theirs(
    open_center, clock, tmp_path, monkeypatch, caplog
):
    center, sender = open_center(max_waiting=20_000), Sender()
    noise = np.random.default_rng(1).integers(0, 2**62, (40, 100)).tolist()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    said = []
    with monkeypatch.context() as patch:
        patch.setattr(parquet.pq, "write_table", full)
        for row in noise:
            said += kinds(center, sender.message(of(INTEGER), row))
            later(center, clock, 61)
    assert said.count("Ack") > 10
    assert said[-1] == "RetryLater"
    assert "No space left" in caplog.text
    later(center, clock, 61)
    center.sink.close()
    assert len(values(tmp_path)) == said.count("Ack") * 100
