"""Locking of batches at rest."""

from __future__ import annotations

import pytest

from forebay.errors import SpoolError, WireError
from forebay.keys import generate
from forebay.wire.atrest import CIPHERS, CenterLock, GatewayLock, is_locked, open_at_center
from forebay.wire.envelope import content_tag

PLAIN = b"\x9b" + b"thirty-six degrees" * 100


@pytest.fixture(params=sorted(CIPHERS))
def cipher(request):
    return request.param


def test_the_center_opens_what_was_locked_to_it_and_nobody_else(cipher):
    center, other = generate("center"), generate("other")
    locked = CenterLock(center.public.transport, cipher).lock(PLAIN)
    assert is_locked(locked)
    assert b"degrees" not in locked
    assert open_at_center(locked, center.transport, center.public.transport) == PLAIN
    for key in (other, generate("gateway")):
        with pytest.raises(WireError, match="cannot be opened"):
            open_at_center(locked, key.transport, key.public.transport)


def test_each_batch_is_locked_with_a_key_of_its_own(cipher):
    lock = CenterLock(generate("center").public.transport, cipher)
    assert lock.lock(PLAIN)[6:38] != lock.lock(PLAIN)[6:38]


def test_a_gateway_opens_its_own_after_a_restart_and_another_does_not(cipher):
    mine, other = generate("gw"), generate("gw")
    locked = GatewayLock(mine.transport, cipher).lock(PLAIN)
    assert b"degrees" not in locked
    assert GatewayLock(mine.transport).open(locked) == (PLAIN, content_tag(PLAIN))
    with pytest.raises(SpoolError, match="cannot be opened"):
        GatewayLock(other.transport, cipher).open(locked)


def test_what_is_not_locked_or_locked_to_the_center_passes_a_gateway_as_it_is():
    gateway, center = generate("gw"), generate("center")
    assert GatewayLock(gateway.transport).open(PLAIN) == (PLAIN, content_tag(PLAIN))
    locked = CenterLock(center.public.transport).lock(PLAIN)
    assert GatewayLock(gateway.transport).open(locked) == (locked, content_tag(locked))


def test_a_flipped_bit_anywhere_is_noticed(cipher):
    center = generate("center")
    locked = CenterLock(center.public.transport, cipher).lock(PLAIN[:40])
    for at in range(len(locked)):
        hurt = bytearray(locked)
        hurt[at] ^= 1
        with pytest.raises(WireError):
            open_at_center(bytes(hurt), center.transport, center.public.transport)


@pytest.mark.parametrize("length", [0, 3, 4, 5, 6, 37, 49, 50, 65])
def test_short_bytes_are_refused(length):
    center = generate("center")
    locked = CenterLock(center.public.transport).lock(PLAIN)
    with pytest.raises(WireError):
        open_at_center(locked[:length], center.transport, center.public.transport)
