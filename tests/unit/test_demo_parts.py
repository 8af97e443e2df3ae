"""Parts of the demo: generated records, the search, the working folder, the progress line."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from forebay.config.loader import load_agent, load_receiver
from forebay.demo import records
from forebay.demo.folder import prepare
from forebay.demo.report import Progress
from forebay.demo.search import Originals, fragments
from forebay.errors import ConfigError


def test_records_are_the_same_in_every_run_and_hold_their_identifiers():
    first, second = records.generate(50), records.generate(50)
    assert first.lines == second.lines
    assert sum(first.counts.values()) == len(first.identifiers)
    text = "\n".join(first.lines)
    assert all(identifier in text for identifier in first.identifiers)
    assert json.loads(first.lines[0]).keys() == {"ts", "visitor", "note"}


def test_card_numbers_satisfy_luhn_and_resident_numbers_iso_7064():
    import random

    rng = random.Random(1)
    for _ in range(200):
        card = [int(d) for d in records.bank_card(rng).replace(" ", "")]
        doubled = [sum(divmod(2 * d, 10)) if i % 2 else d for i, d in enumerate(reversed(card))]
        assert sum(doubled) % 10 == 0
        number = records.resident_id(rng)
        values = [10 if sign == "X" else int(sign) for sign in number]
        # ISO 7064 MOD 11-2 over all 18 places, powers of 2 from the right
        assert sum(v * 2**p for p, v in enumerate(reversed(values))) % 11 == 1


def test_search_finds_originals_at_both_ends_and_across_chunks(monkeypatch):
    monkeypatch.setattr("forebay.demo.search._CHUNK", 64)
    originals = Originals([b"13812345678", "粤B12345".encode(), b"absent-number"])
    data = b"13812345678" + bytes(46) + "粤B12345".encode() + b"." * 100
    assert originals.find(data) == {b"13812345678", "粤B12345".encode()}
    assert originals.find(data[1:50]) == set()
    assert originals.find(b"12345") == set()


def test_search_agrees_with_bytes_in_on_random_data():
    import random

    rng = random.Random(7)
    words = [bytes(rng.choices(b"ab", k=rng.randint(6, 12))) for _ in range(200)]
    data = bytes(rng.choices(b"ab", k=300))
    assert Originals(words).find(data) == {word for word in words if word in data}


def test_an_original_too_short_for_the_filter_is_refused():
    with pytest.raises(ValueError, match="6 bytes"):
        Originals([b"short"])


def test_fragments_of_a_picture_lie_in_its_body():
    picture = bytes(range(256)) * 8
    pieces = fragments(picture)
    assert len(pieces) == 8
    assert all(len(piece) == 32 and piece in picture[512:] for piece in pieces)


def test_prepared_configurations_are_valid_and_secret_keys_private(tmp_path: Path):
    for with_photos in (True, False):
        folder = prepare(tmp_path / str(with_photos), with_photos=with_photos)
        agent = load_agent(folder.agent)
        assert not agent.warnings
        assert set(agent.config.pipelines) == {"turbines", "visitors"} | (
            {"photos"} if with_photos else set()
        )
        assert not load_receiver(folder.receiver).warnings
        assert stat.S_IMODE((folder.path / "keys/gateway.key").stat().st_mode) == 0o600


def test_an_earlier_demo_is_replaced_and_files_beside_it_stay(tmp_path: Path):
    (tmp_path / ".forebay-demo").touch()
    (tmp_path / "center.db").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    folder = prepare(tmp_path)
    assert not folder.database.exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_in_use_by_another_demo_is_refused(tmp_path: Path):
    prepare(tmp_path)
    with pytest.raises(ConfigError, match="another demo"):
        prepare(tmp_path)


def test_progress_writes_lines_where_there_is_no_terminal_and_survives_a_closed_one():
    stream = io.StringIO()
    progress = Progress(stream)
    progress("delivery", 0.5, "half")
    progress("delivery", 0.6, "too soon for another line")
    assert stream.getvalue().count("\n") == 1
    assert "50%" in stream.getvalue()
    stream.close()
    progress("checking", 1.0, "nobody looks")
    progress.close()
