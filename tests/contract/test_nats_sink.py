"""The NATS sink over a real server: a batch is acknowledged when JetStream has it, and it has it once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from databases import NatsServer
from senders import INTEGER, Sender, kinds, of
from world import Center, FakeClock

from forebay.blocks import Field, Type
from forebay.errors import ForebayError
from forebay.receive.caps import Limits
from forebay.wire.envelope import Exported

pytest.importorskip("nats", reason="needs the extra `nats`")

from forebay.receive.nats import NatsSink
from forebay.receive.nats_publisher import NatsOptions


@pytest.fixture
def server(tmp_path) -> Iterator[NatsServer]:
    made = NatsServer(tmp_path / "jetstream")
    yield made
    made.crash()


@pytest.fixture
def open_center(tmp_path, server) -> Iterator[Callable[..., Center]]:
    opened: list[Center] = []

    def make(limits: Limits, options: NatsOptions, form: str, ledger: str) -> NatsSink:
        return NatsSink(tmp_path / ledger, options, form, limits)

    def start(form: str = "batch", ledger: str = "ledger.db", **options: object) -> Center:
        how = {"duplicates_s": 3600.0, "timeout_s": 5.0} | options
        made = NatsOptions((server.url,), "FOREBAY", "forebay", **how)
        opened.append(
            Center(tmp_path, FakeClock(), make_sink=partial(make, options=made, form=form, ledger=ledger))
        )
        return opened[-1]

    yield start
    for center in opened:
        center.sink.close()


def test_a_batch_is_a_message_that_stands_alone(server, open_center):
    center = open_center()
    assert kinds(center, Sender().message(of(INTEGER, stream="a b.c>"), [1, 2])) == ["Ack"]
    (message,) = server.messages()
    assert message.subject == "forebay.gw-1.a_b_c_"
    assert Exported.unpack(message.data).seq == 1
    assert message.headers["Nats-Msg-Id"] == "gw-1/1/1"
    assert message.headers["Forebay-Rows"] == "2"
    assert center.rows("SELECT stream, rows FROM batches") == [("a b.c>", 2)]


def test_rows_as_json_lines(server, open_center):
    center = open_center("json")
    schema = of(Field("f", Type.F64), Field("s", Type.STR))
    kinds(center, Sender().message(schema, [1.5, None], ["水", "x"]))
    (message,) = server.messages()
    assert [json.loads(line) for line in message.data.decode().splitlines()] == [
        {"time": 0, "f": 1.5, "s": "水"},
        {"time": 1, "s": "x", "quality": {"f": "bad(null)"}},
    ]


def test_many_batches_in_one_transaction_are_all_acknowledged(server, open_center):
    center, sender = open_center(), Sender()
    frames = [frame for n in range(600) for frame in sender.message(of(INTEGER), [n])]
    said = kinds(center, frames)
    assert set(said) == {"Ack"}
    assert center.rows("SELECT mark FROM marks") == [(600,)]
    assert len({m.headers["Nats-Msg-Id"] for m in server.messages()}) == 600


def test_what_jetstream_has_and_the_ledger_forgot_is_not_there_twice(server, open_center, monkeypatch):
    center, sender = open_center(), Sender()
    message = sender.message(of(INTEGER), [1])
    with monkeypatch.context() as patch:
        patch.setattr(center.sink._db, "executemany", _fail)  # after publishing, before the commit
        assert kinds(center, message) == ["RetryLater"]
    assert center.rows("SELECT count(*) FROM batches") == [(0,)]
    assert kinds(center, message) == ["Ack"]
    assert len(server.messages()) == 1


def _fail(*_: object) -> None:
    raise ForebayError("the disk is gone", retryable=True)


def test_without_the_server_agents_keep_their_data_and_it_goes_on_by_itself(server, open_center):
    center, sender = open_center(timeout_s=1.0), Sender()
    assert kinds(center, sender.message(of(INTEGER), [1])) == ["Ack"]
    server.crash()
    message = sender.message(of(INTEGER), [2])
    assert kinds(center, message) == ["RetryLater"]
    assert kinds(center, message) == ["RetryLater"]
    server.start()
    for _ in range(60):
        if kinds(center, message) == ["Ack"]:
            break
    else:
        raise AssertionError("never acknowledged")
    assert [m.headers["Forebay-Seq"] for m in server.messages()] == ["1", "2"]


def test_a_batch_that_the_server_would_not_take_is_kept_whole(server, open_center):
    center, sender = open_center(), Sender()
    big = [bytes(range(256)) * 4096, b"x"]  # compresses well: said in JSON it does not
    good = sender.message(of(INTEGER), [1])
    center.sink._form = "json"
    said = kinds(center, [*good, *sender.message(of(Field("y", Type.BYTES), stream="wide"), big)])
    assert said == ["Ack"]
    assert center.rows("SELECT stream FROM unplaced") == [("wide",)]
    assert [m.headers["Forebay-Seq"] for m in server.messages()] == ["1"]


def test_a_server_that_is_not_there_is_an_error_without_what_was_secret(tmp_path):
    how = NatsOptions(
        ("nats://127.0.0.1:9",), "S", "s", duplicates_s=60, timeout_s=1.0, user="me", password="hush"
    )
    with pytest.raises(ForebayError, match=r"127\.0\.0\.1:9") as caught:
        NatsSink(tmp_path / "ledger.db", how, "batch")
    assert "hush" not in str(caught.value) + repr(how)
