"""Golden bytes: every version ever written must decode for ever. The files are made once and never again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from forebay.cli.decode import decode_command
from forebay.wire import messages as m

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
