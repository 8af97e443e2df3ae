"""Golden bytes: every version ever written must decode for ever. The files are made once and never again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner

from forebay.cli.decode import decode_command
from forebay.errors import WireError
from forebay.wire import messages as m
from forebay.wire.envelope import MAX_POSITION_BYTES
from forebay.wire.packing import pack

DATA = Path(__file__).parent.parent / "data" / "wire"


def test_the_exported_batch_of_version_1_decodes_to_what_was_put_in():
    result = CliRunner().invoke(decode_command, [str(DATA / "batch-v1.fbb")])
    assert result.exception is None
    lines = [json.loads(line) for line in result.output.splitlines()]
    assert lines == json.loads((DATA / "batch-v1.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", json.loads((DATA / "messages-v1.json").read_text(encoding="utf-8")))
def test_each_message_of_version_1_decodes_and_encodes_to_the_same_bytes(entry):
    message = m.decode(bytes.fromhex(entry["hex"]))
    assert repr(message) == entry["is"]
    assert m.encode(message).hex() == entry["hex"]


@pytest.mark.parametrize(
    "entry", json.loads((DATA / "messages-v1-positions.json").read_text(encoding="utf-8"))
)
def test_each_message_about_positions_decodes_and_encodes_to_the_same_bytes(entry):
    message = m.decode(bytes.fromhex(entry["hex"]))
    assert repr(asdict(message)) == entry["is"]
    assert m.encode(message).hex() == entry["hex"]


def test_what_nobody_asks_for_is_written_as_older_releases_write_it():
    hello = m.Hello(1, "gw-1", "boot", "0.1.0", {7: ("normal", 3)}, "")
    asking = m.Hello(1, "gw-1", "boot", "0.1.0", {7: ("normal", 3)}, "", asks=True)
    assert len(m.encode(asking)) == len(m.encode(hello)) + 1
    assert m.decode(m.encode(hello)) == hello
    welcome = m.Welcome(1, "dc-1", "s", 64, 1 << 26, {7: 2}, {7: [(4, 5)]})
    assert m.decode(m.encode(welcome)) == welcome
    assert m.decode(m.encode(welcome)).positions is None


@pytest.mark.parametrize(
    "positions",
    [
        {f"o{n}": [1, 2, b""] for n in range(m.MAX_OWNERS + 1)},
        {"o" * (m.MAX_OWNER + 1): [1, 2, b""]},
        {"o": [1, 2, bytes(MAX_POSITION_BYTES + 1)]},
        {"o": [1, 2]},
        {"o": b""},
        {3: [1, 2, b""]},
        [],
    ],
)
def test_positions_beyond_the_limits_are_refused(positions):
    with pytest.raises(WireError):
        m.decode(pack([m.Kind.WELCOME, 1, "dc-1", "s", 64, 1 << 26, {}, {}, positions]))
    with pytest.raises(WireError):
        m.decode(pack([m.Kind.HELLO, 1, "gw-1", "boot", "0", {}, "", 1]))
