"""Hostile bytes at both ends of the wire raise WireError and nothing else; what is encoded is read back."""

from __future__ import annotations

import hashlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.errors import WireError
from forebay.wire import messages as m
from forebay.wire.envelope import (
    CLOCK_STATES,
    ID_BYTES,
    MAX_HITS,
    Context,
    Envelope,
    Exported,
    Stamp,
    body_id,
    content_tag,
)
from forebay.wire.packing import unpack
from forebay.wire.schema import parse_schema

INT64 = st.integers(-(2**63), 2**63 - 1)
NATURAL = st.integers(0, 2**63 - 1)
NUMBERS = st.lists(st.tuples(NATURAL, NATURAL), max_size=20)
LANE = st.sampled_from(["urgent", "normal", "bulk"])
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
GAP = st.builds(
    lambda e, a, n, s, c: m.Gap(e, a, min(a + n, 2**63 - 1), s, 3, 4, -5, 6, c),
    NATURAL,
    NATURAL,
    st.integers(0, 1000),
    TEXT,
    TEXT,
)
MESSAGES = st.one_of(
    st.builds(
        m.Hello,
        NATURAL,
        TEXT,
        TEXT,
        TEXT,
        st.dictionaries(INT64, st.tuples(LANE, NATURAL).map(list), max_size=5),
        TEXT,
    ),
    st.builds(m.Batch, LANE, NATURAL, NATURAL, st.binary(max_size=16)),
    st.builds(m.Bodies, st.lists(st.binary(max_size=50), max_size=5)),
    st.builds(m.Gaps, st.lists(GAP, max_size=4)),
    st.builds(
        m.Welcome,
        NATURAL,
        TEXT,
        TEXT,
        st.integers(1, 1000),
        st.integers(1, 2**40),
        st.dictionaries(INT64, INT64, max_size=5),
    ),
    st.builds(m.Ack, NUMBERS),
    st.builds(m.RetryLater, NUMBERS, st.integers(0, 3_600_000)),
    st.builds(m.Permanent, NUMBERS, TEXT),
    st.builds(m.NeedSchema, st.lists(st.binary(max_size=ID_BYTES), max_size=5), NUMBERS),
    st.builds(m.Conflict, NUMBERS),
    st.builds(m.UpgradeNeeded, st.lists(NATURAL, max_size=5)),
    st.builds(m.GapsAck, NUMBERS),
    st.builds(m.Refused, TEXT),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | INT64 | st.floats() | TEXT | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(INT64 | TEXT, inner, max_size=5),
    max_leaves=30,
)
CONTEXT = Context("gw-1", "s/p", "boot", "0.1")
SCHEMA_BODY = b"any bytes: only their hash counts here"


def plain(message):
    """Lists instead of tuples: msgpack has one kind of array."""
    return msgpack.unpackb(m.encode(message), strict_map_key=False)


@given(MESSAGES)
def test_every_message_is_read_back(message):
    assert plain(m.decode(m.encode(message))) == plain(message)
    assert type(m.decode(m.encode(message))) is type(message)


def reads_or_refuses(read, data):
    try:
        read(data)
    except WireError as error:
        return error
    return None


READERS = [m.decode, Envelope.unpack, Exported.unpack, Context.parse, parse_schema, unpack]


@pytest.mark.parametrize("read", READERS)
@given(data=st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_wire_errors(read, data):
    reads_or_refuses(read, data)


@pytest.mark.parametrize("read", READERS)
@given(value=ANYTHING)
def test_random_structures_raise_nothing_but_wire_errors(read, value):
    reads_or_refuses(read, msgpack.packb(value))


@given(st.integers(0, 40), st.lists(ANYTHING, max_size=12))
def test_known_kinds_with_random_items_raise_nothing_but_wire_errors(kind, items):
    reads_or_refuses(m.decode, msgpack.packb([kind, *items]))


@given(MESSAGES, st.data())
def test_messages_with_one_changed_byte_or_cut_off_raise_nothing_but_wire_errors(message, data):
    frame = bytearray(m.encode(message))
    place = data.draw(st.integers(0, len(frame) - 1))
    reads_or_refuses(m.decode, bytes(frame[:place]))
    frame[place] = data.draw(st.integers(0, 255))
    reads_or_refuses(m.decode, bytes(frame))


ENVELOPES = st.builds(
    Envelope,
    st.binary(min_size=ID_BYTES, max_size=ID_BYTES),
    st.binary(min_size=ID_BYTES, max_size=ID_BYTES),
    INT64,
    INT64,
    INT64,
    INT64,
    st.builds(Stamp, INT64, INT64, st.sampled_from(CLOCK_STATES)),
    st.none() | st.binary(max_size=30),
    st.dictionaries(TEXT, NATURAL, max_size=5),
    st.binary(max_size=60),
)


@given(ENVELOPES)
def test_envelopes_are_read_back(envelope):
    assert Envelope.unpack(envelope.pack()) == envelope


@given(ENVELOPES, st.data())
def test_envelopes_with_one_changed_byte_raise_nothing_but_wire_errors(envelope, data):
    packed = bytearray(envelope.pack())
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    reads_or_refuses(Envelope.unpack, bytes(packed))


@given(st.lists(ANYTHING, max_size=12))
def test_envelopes_of_random_items_raise_nothing_but_wire_errors(items):
    reads_or_refuses(Envelope.unpack, msgpack.packb([1, *items]))


@given(st.dictionaries(st.sampled_from(["gateway", "owner", "labels", "models", "site"]), ANYTHING))
def test_contexts_of_random_values_raise_nothing_but_wire_errors(entries):
    reads_or_refuses(Context.parse, msgpack.packb({"kind": "context", **entries}))


def exported() -> Exported:
    envelope = Envelope(
        body_id(SCHEMA_BODY), body_id(CONTEXT.body()), 1, 1, 0, 0, Stamp(1, 2, "synced"), None, {}, b"payload"
    )
    data = envelope.pack()
    return Exported("normal", 7, 1, content_tag(data), data, SCHEMA_BODY, CONTEXT.body())


@given(st.data())
def test_no_changed_byte_of_an_exported_batch_goes_unnoticed(data):
    packed = bytearray(exported().pack())
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = Exported.unpack(bytes(packed))
    except WireError:
        return
    # Lane and number travel beside the sealed bytes; all else is under the tag.
    original = exported()
    assert (changed.tag, changed.data, changed.schema, changed.context) == (
        original.tag,
        original.data,
        original.schema,
        original.context,
    )


# -- limits, one below and one above ------------------------------------------------------------------------


def test_a_reply_names_at_most_so_many_batches():
    numbers = [(1, n) for n in range(m.MAX_NUMBERS)]
    assert m.decode(m.encode(m.Ack(numbers))) == m.Ack(numbers)
    with pytest.raises(WireError):
        m.decode(m.encode(m.Ack([*numbers, (1, 9)])))


def test_a_control_message_has_at_most_so_many_bytes():
    reason = m.encode(m.Refused("x" * 256))
    assert m.decode(reason) == m.Refused("x" * 256)
    with pytest.raises(WireError):
        m.decode(m.encode(m.Refused("x" * 257)))
    with pytest.raises(WireError, match="at most"):
        m.decode(b"\x91" + b"\xc6" + m.MAX_CONTROL_BYTES.to_bytes(4, "big") + b"\0" * m.MAX_CONTROL_BYTES)


def test_numbers_are_bounded():
    assert m.decode(m.encode(m.Ack([(2**63 - 1, 0)])))
    for number in ((2**63, 0), (0, -1), (-1, 0)):
        with pytest.raises(WireError):
            m.decode(msgpack.packb([m.Kind.ACK, [list(number)]]))
    for delay in (3_600_001, -1):
        with pytest.raises(WireError):
            m.decode(msgpack.packb([m.Kind.RETRY_LATER, [], delay]))


def test_booleans_are_no_integers():
    with pytest.raises(WireError):
        m.decode(msgpack.packb([m.Kind.ACK, [[True, 1]]]))


def test_an_envelope_has_at_most_so_many_hits():
    envelope = exported()
    base = Envelope.unpack(envelope.data)
    hits = {f"c{n}": n for n in range(MAX_HITS + 1)}
    many = Envelope(base.schema_id, base.context_id, 1, 1, 0, 0, base.stamp, None, hits, b"")
    with pytest.raises(WireError):
        Envelope.unpack(many.pack())


def test_errors_quote_no_byte_of_what_came():
    secret = "13812345678"
    for data in (
        msgpack.packb([m.Kind.REFUSED, {secret: 1}]),
        msgpack.packb({"kind": "context", "gateway": [secret]}),
        secret.encode() * 30,
        msgpack.packb([1, secret.encode()]),
    ):
        for read in READERS:
            error = reads_or_refuses(read, data)
            if error is not None:
                assert secret not in f"{error} {error.hint}"


def test_an_extension_type_is_refused():
    with pytest.raises(WireError):
        unpack(msgpack.packb(msgpack.ExtType(5, b"x")))
    with pytest.raises(WireError):
        unpack(msgpack.packb(msgpack.Timestamp(1)))


def test_deep_nesting_is_refused_not_recursed():
    for opening in (b"\x91", b"\x81\x01"):
        reads_or_refuses(unpack, opening * 100_000)
        error = reads_or_refuses(m.decode, opening * 100_000)
        assert error is not None


def test_a_claimed_length_allocates_nothing():
    for head in (
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
    ):
        assert reads_or_refuses(unpack, head) is not None


def test_the_tag_is_blake2b_over_the_sealed_bytes():
    assert content_tag(b"abc") == hashlib.blake2b(b"abc", digest_size=16).digest()
