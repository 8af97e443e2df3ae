"""What a receiver asks of the masking behind a batch: the list of its configuration, and who passes."""

from __future__ import annotations

import pytest

from forebay.config.loader import load_receiver
from forebay.errors import ConfigError
from forebay.receive.checks import policy_accepted
from forebay.wire.envelope import Context

HASH = "e9b6dd9e21764fb6b2f6a53eb0c358cf1bd78b520037d9198b719a1fb1b6bed5"


def required(tmp_path, ids):
    path = tmp_path / "center.yaml"
    path.write_text(
        "center: {id: dc-1}\n"
        f"listen: {{endpoint: 'tcp://127.0.0.1:5570', key: a.key, allow: keys, require_policy: [{ids}]}}\n"
        "sinks: {store: {type: sqlite, path: center.db}}\n",
        encoding="utf-8",
    )
    return load_receiver(path).config.listen.require_policy


def batch(name, digest):
    return Context("g", "s/p", "boot", "0.1.0", policy=name, policy_hash=digest)


def test_a_part_of_a_hash_is_no_name_of_a_policy(tmp_path):
    for part in (HASH[:12], HASH[:63], HASH[:8].upper()):
        with pytest.raises(ConfigError, match="expected all 64 digits of a hash"):
            required(tmp_path, f"'{part}'")


def test_a_hash_is_compared_whatever_way_it_was_written_and_names_are_left(tmp_path):
    ids = required(tmp_path, f"'{HASH.upper()}', strict, feed, deadbeef, water-2026")
    assert ids == (HASH, "strict", "feed", "deadbeef", "water-2026")


@pytest.mark.parametrize(
    ("name", "digest", "taken"),
    [
        ("site", HASH, True),
        ("strict", "ab" * 32, True),
        ("site", "ab" * 32, False),
        (HASH, "ab" * 32, False),  # a policy of this name
        ("", "", False),
        ("strict", "", False),  # a name without a hash attests nothing
        ("strict", "ab", False),
    ],
)
def test_who_passes(name, digest, taken):
    assert policy_accepted(batch(name, digest), (HASH, "strict")) is taken
    assert policy_accepted(batch(name, digest), ())
