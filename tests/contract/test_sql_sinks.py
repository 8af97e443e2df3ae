"""What every SQL sink keeps, on each database: the same body over SQLite and a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from databases import new_schema
from senders import INTEGER, Sender, kinds, of
from world import NS, Center, FakeClock, Gateway

from forebay.blocks import Field, Type
from forebay.errors import ForebayError
from forebay.receive.caps import Limits
from forebay.receive.sql import SqlSink
from forebay.receive.sqlite import SqliteSink
from forebay.wire import messages as m
from forebay.wire.envelope import Exported

Open = Callable[[Limits], SqlSink]


@pytest.fixture(params=["sqlite", "postgres"])
def open_sink(request, tmp_path) -> Open:
    """A function that opens the same, at first empty, store each time."""
    if request.param == "sqlite":
        return partial(SqliteSink, tmp_path / "center.db")
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    from forebay.receive.postgres import Connecting, PostgresSink

    how = Connecting(request.getfixturevalue("postgres_uri"), new_schema())
    return partial(PostgresSink, how)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def center(tmp_path, clock, open_sink) -> Iterator[Center]:
    made = Center(tmp_path, clock, make_sink=open_sink)
    yield made
    made.sink.close()


def test_every_type_comes_back_as_it_was_sent(center):
    fields = (
        *(Field("f", Type.F64, unit="°C"), Field("i", Type.I64), Field("b", Type.BOOL)),
        *(Field("s", Type.STR), Field("y", Type.BYTES)),
    )
    values = [
        [1.5, None, float("inf"), -0.0],
        [2**63 - 1, -(2**63), None, 0],
        [True, False, None, True],
        ["水", "", None, 'a\t\\N"\n'],
        [b"\x00\xff", b"", None, b"\\x"],
    ]
    assert kinds(center, Sender().message(of(*fields), *values)) == ["Ack"]
    assert center.rows('SELECT f, i, b, s, y FROM pump ORDER BY "time"') == list(zip(*values, strict=True))
    assert center.rows("SELECT unit, type FROM columns WHERE field = 'f'") == [("°C", "f64")]
    batch = center.rows("SELECT gateway, epoch, seq, stream, lane, rows, readings FROM batches")
    assert batch == [("gw-1", 1, 1, "pump", "normal", 4, 15)]


def test_each_row_is_traced_to_the_model_that_gave_its_score(center):
    sender = Sender()
    for version, scores in (("1.0.0#aa", [0.1, 0.2]), ("1.1.0#bb", [0.3]), ("1.0.0#aa", [0.4])):
        field = Field("anomaly", Type.F64, model=f"sensor-anomaly@{version}")
        assert kinds(center, sender.message(of(INTEGER, field), [1] * len(scores), scores)) == ["Ack"]
    query = (
        "SELECT m.model, p.anomaly FROM pump p"
        " JOIN batches b ON b.gateway = p.gateway AND b.epoch = p.epoch AND b.seq = p.seq"
        " JOIN models m ON m.schema_id = b.schema_id AND m.field = 'anomaly' ORDER BY p.anomaly"
    )
    old, new = "sensor-anomaly@1.0.0#aa", "sensor-anomaly@1.1.0#bb"
    assert center.rows(query) == [(old, 0.1), (old, 0.2), (new, 0.3), (old, 0.4)]
    assert center.rows("SELECT count(*), min(stream) FROM models") == [(2, "pump")]


def test_names_that_only_quoting_can_hold_become_tables_and_columns(center):
    names = ('say "%s" ?', "time", "select")
    schema = of(*(Field(name, Type.I64) for name in names), stream='a"; DROP TABLE x; --%d?')
    sender = Sender()
    assert kinds(center, sender.message(schema, [1], [2], [3])) == ["Ack"]
    assert kinds(center, sender.message(schema, [4], [5], [6])) == ["Ack"]
    ((table,),) = center.rows('SELECT DISTINCT "table" FROM columns')
    ((column,),) = center.rows("SELECT \"column\" FROM columns WHERE field = 'time'")
    quoted = '"' + table.replace('"', '""') + '"'
    assert center.rows(f'SELECT "{column}", "select" FROM {quoted} ORDER BY 1') == [(2, 3), (5, 6)]


def test_long_names_stay_apart(center):
    long = "厂" * 40
    schema = of(Field(long + "一", Type.I64), Field(long + "二", Type.I64), stream=long + "甲")
    sender = Sender()
    assert kinds(center, sender.message(schema, [1], [2])) == ["Ack"]
    assert kinds(center, sender.message(of(INTEGER, stream=long + "乙"), [3])) == ["Ack"]
    tables = dict(center.rows('SELECT stream, "table" FROM columns'))
    assert len(set(tables.values())) == 2
    table = tables[long + "甲"]
    columns = dict(center.rows('SELECT field, "column" FROM columns WHERE stream = ?', long + "甲"))
    chosen = f'"{columns[long + "一"]}", "{columns[long + "二"]}"'
    assert center.rows(f'SELECT {chosen} FROM "{table}"') == [(1, 2)]
    assert center.rows(f'SELECT count(*) FROM "{table}_corrected"') == [(1,)]


def test_decimals_after_integers_share_the_column(center):
    sender, decimal = Sender(), of(Field("v", Type.F64))
    kinds(center, sender.message(of(INTEGER), [1, None]))
    assert kinds(center, sender.message(decimal, [2.5])) == ["Ack"]
    assert kinds(center, sender.message(of(INTEGER), [3])) == ["Ack"]
    assert center.rows('SELECT v FROM pump ORDER BY seq, "time"') == [(1,), (None,), (2.5,), (3,)]
    assert center.rows("SELECT count(*) FROM unplaced") == [(0,)]


def test_a_stream_of_another_unit_or_type_is_kept_whole(center):
    sender = Sender()
    kinds(center, sender.message(of(Field("v", Type.F64, unit="kPa")), [1.0]))
    assert kinds(center, sender.message(of(Field("v", Type.F64, unit="bar")), [2.0])) == ["Ack"]
    assert kinds(center, sender.message(of(Field("v", Type.STR)), ["x"])) == ["Ack"]
    assert center.rows("SELECT v FROM pump") == [(1.0,)]
    aside = center.rows("SELECT seq, reason, exported FROM unplaced ORDER BY seq")
    assert [(seq, reason.split()[0]) for seq, reason, _ in aside] == [(2, "unit"), (3, "type")]
    assert Exported.unpack(bytes(aside[0][2])).seq == 2


def test_text_that_no_column_can_hold_is_kept_whole_and_what_came_with_it_is_stored(center):
    sender, text = Sender(), of(Field("s", Type.STR))
    frames = [f for value in ("x", "a\x00b", "y") for f in sender.message(text, [value])]
    assert kinds(center, frames) == ["Ack"]
    stored = {value for (value,) in center.rows("SELECT s FROM pump")}
    aside = center.rows("SELECT seq FROM unplaced")
    assert {"x", "y"} <= stored
    assert len(stored) + len(aside) == 3  # SQLite takes it, PostgreSQL does not
    assert center.rows("SELECT mark FROM marks") == [(3,)]


def test_more_columns_than_a_row_can_hold_do_not_stop_the_receiver(center):
    wide = of(*(Field(f"c{i}", Type.F64) for i in range(1_000)))
    sender = Sender()
    assert kinds(center, sender.message(wide, *([[0.1]] * 1_000))) == ["Ack"]
    assert kinds(center, sender.message(of(INTEGER, stream="other"), [1])) == ["Ack"]
    assert center.rows("SELECT v FROM other") == [(1,)]
    if not center.rows("SELECT count(*) FROM unplaced")[0][0]:
        assert center.rows("SELECT c999 FROM pump") == [(0.1,)]


def test_the_same_batch_again_is_a_duplicate_and_another_under_its_number_a_conflict(center):
    sender = Sender()
    first = sender.message(of(INTEGER), [1])
    assert kinds(center, first) == ["Ack"]
    assert kinds(center, first) == ["Ack"]
    center.restart()
    assert kinds(center, first) == ["Ack"]
    assert kinds(center, sender.message(of(INTEGER), [2], seq=1)) == ["Conflict"]
    assert center.rows("SELECT v FROM pump") == [(1,)]


def test_a_gap_closes_numbers_and_tells_what_is_missing(center):
    kinds(center, Sender().message(of(INTEGER), [1, 2], seq=3))
    gap = m.Gap(1, 1, 4, "pump\x00", 8, 8, 10, 20, "evicted")
    assert kinds(center, [[m.encode(m.Gaps([gap]))]]) == ["GapsAck"]
    holes = center.rows("SELECT seq_from, seq_to, rows, readings FROM gaps ORDER BY seq_from")
    assert holes == [(1, 2, 6, 6), (4, 4, 0, 0)]
    assert center.rows("SELECT mark, above FROM marks") == [(4, "")]


def test_corrected_times_appear_once_the_clock_of_a_boot_is_synced(center):
    sender = Sender()
    kinds(center, sender.message(of(INTEGER), [1]))
    assert center.rows("SELECT corrected_time FROM pump_corrected") == [(None,)]
    sender.set_clock(105, 2, "synced")
    kinds(center, sender.message(of(INTEGER, Field("late", Type.I64)), [2], [3]))
    rows = center.rows('SELECT corrected_time - "time", late FROM pump_corrected ORDER BY v')
    assert rows == [(99 * NS, None), (0, 3)]


def test_a_whole_agent_delivers_through_it_and_its_checkpoints_are_verified(center, clock, tmp_path):
    gateway = Gateway(tmp_path, clock, checkpoint_s=60)
    try:
        for start in (0, 1_000, 2_000):
            gateway.store(*[[start + n, start + n + 500] for n in range(50)])
            gateway.drain(center)
            clock.advance(61)
    finally:
        gateway.close()
    assert center.rows("SELECT count(*), count(DISTINCT id) FROM pump") == [(300, 300)]
    assert {v for (v,) in center.rows("SELECT verdict FROM checkpoints")} <= {"ok"}


def test_too_many_streams_of_one_gateway_are_kept_whole(tmp_path, clock, open_sink):
    center = Center(tmp_path, clock, Limits(streams=2), open_sink)
    sender = Sender()
    try:
        for n in range(3):
            assert kinds(center, sender.message(of(INTEGER, stream=f"s{n}"), [n])) == ["Ack"]
        assert center.rows("SELECT stream FROM unplaced") == [("s2",)]
    finally:
        center.sink.close()


def test_a_store_that_a_newer_release_wrote_is_refused(open_sink):
    sink = open_sink(Limits())
    if sink._db.shared:
        sink._db.execute("UPDATE store SET value = '99' WHERE name = 'version'")
    else:
        sink._db.execute("PRAGMA user_version=99")
    sink.close()
    with pytest.raises(ForebayError, match="99"):
        open_sink(Limits())


# -- several receivers on one database ---------------------------------------------------------------------


@pytest.fixture
def two(tmp_path, clock, postgres_uri) -> Iterator[tuple[Center, Center]]:
    """Two receivers on one database."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    from forebay.receive.postgres import Connecting, PostgresSink

    how = partial(PostgresSink, Connecting(postgres_uri, new_schema()))
    pair = Center(tmp_path, clock, make_sink=how), Center(tmp_path, clock, make_sink=how)
    yield pair
    for center in pair:
        center.sink.close()


def test_two_receivers_on_one_database_are_one_store(two):
    a, b = two
    assert a.sink.store_id == b.sink.store_id
    sender = Sender()
    first = sender.message(of(INTEGER), [1])
    assert kinds(a, first) == ["Ack"]
    assert kinds(b, first) == ["Ack"]
    assert kinds(b, sender.message(of(INTEGER, Field("w", Type.F64)), [2], [0.5])) == ["Ack"]
    assert kinds(a, sender.message(of(Field("W", Type.F64), Field("x", Type.STR)), [1.5], ["t"])) == ["Ack"]
    rows = a.rows("SELECT v, w, x FROM pump ORDER BY seq")
    assert rows == [(1, None, None), (2, 0.5, None), (None, 1.5, "t")]
    assert a.rows("SELECT mark, above FROM marks") == [(3, "")]


def test_batches_sent_to_both_receivers_at_once_are_stored_once(two):
    sender = Sender()
    everything = [sender.message(of(INTEGER, stream=f"s{n % 3}"), [n]) for n in range(120)]
    said: list[str] = []

    def deliver(center: Center, frames: list[list[list[bytes]]]) -> None:
        for one in frames:
            said.extend(kinds(center, one))

    threads = [
        threading.Thread(target=deliver, args=(two[0], everything)),
        threading.Thread(target=deliver, args=(two[1], everything[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == ["Ack"] * 240
    assert two[0].rows("SELECT count(*), sum(rows) FROM batches") == [(120, 120)]
    assert sum(two[0].rows(f"SELECT count(*) FROM s{n}")[0][0] for n in range(3)) == 120
    assert two[0].rows("SELECT mark, above FROM marks") == [(120, "")]


def test_a_connection_that_breaks_costs_a_later_answer_and_nothing_else(two):
    a, b = two
    message = Sender().message(of(INTEGER), [1])

    def cut() -> None:
        pid = a.sink._db._connection.info.backend_pid
        b.sink._db.execute("SELECT pg_terminate_backend(?, 10000)", (pid,))

    cut()
    assert kinds(a, message) == ["RetryLater"]
    assert kinds(a, message) == ["Ack"]
    assert a.rows("SELECT v FROM pump") == [(1,)]
    cut()
    hello = [[m.encode(m.Hello(m.PROTOCOL, "gw-1", "boot", "0", {1: ("normal", 2)}, ""))]]
    assert kinds(a, hello) == []  # no answer: the agent asks again
    assert kinds(a, hello) == ["Welcome"]
