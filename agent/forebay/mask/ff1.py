"""FF1, the format-preserving mode of operation of NIST SP 800-38G, over AES from `cryptography`.

A number of n symbols of a radix is encrypted to n symbols of the same radix: ten Feistel rounds whose round
function is a CBC-MAC. The block cipher is the library's; only the mode is here, tested against the samples
that NIST publishes. The packages that offer FF1 for this Python are one person's or have no wheels for ARM64.

References
----------
NIST SP 800-38G (2016), algorithms 7 and 8; Rev. 1 draft (2019): at least a million possible values.
"""

from __future__ import annotations

from collections.abc import Sequence

from forebay.config.operators import MIN_FPE_DOMAIN
from forebay.errors import MaskError

_ROUNDS = 10
_MAX_SYMBOLS = 256  # far more than any identifier; NIST allows 2^32


class FF1:
    """Encrypts and decrypts sequences of symbols 0..radix-1. Used by one thread.

    Parameters
    ----------
    key : 16, 24 or 32 bytes
    radix : 2 to 65536
    """

    def __init__(self, key: bytes, radix: int) -> None:
        # 7 MB of memory: only where a policy encrypts
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._radix = radix
        # CBC from a zero vector: the last block of the output is the CBC-MAC that FF1 calls PRF. As the
        # encryptor goes on chaining, each message gets one of its own; its cost is what FF1 costs.
        self._cipher = Cipher(algorithms.AES(key), modes.CBC(bytes(16)))

    def encrypt(self, symbols: Sequence[int], tweak: bytes) -> list[int]:
        """Return as many symbols. Raises MaskError for fewer than a million possible values."""
        return self._feistel(symbols, tweak, range(_ROUNDS), forward=True)

    def decrypt(self, symbols: Sequence[int], tweak: bytes) -> list[int]:
        """Return what `encrypt` was given. Raises MaskError."""
        return self._feistel(symbols, tweak, range(_ROUNDS - 1, -1, -1), forward=False)

    def _feistel(self, symbols: Sequence[int], tweak: bytes, rounds: range, *, forward: bool) -> list[int]:
        radix, n = self._radix, len(symbols)
        if n > _MAX_SYMBOLS or radix**n < MIN_FPE_DOMAIN:
            raise MaskError(f"{n} symbols of {radix}: too few or too many to keep their form")
        u = n // 2
        v = n - u
        a, b = _number(symbols[:u], radix), _number(symbols[u:], radix)
        moduli = radix**u, radix**v
        width = ((radix**v - 1).bit_length() + 7) // 8  # bytes of the longer half
        size = 4 * ((width + 3) // 4) + 4
        head = b"\x01\x02\x01" + radix.to_bytes(3, "big") + b"\x0a" + bytes([u % 256])
        head += n.to_bytes(4, "big") + len(tweak).to_bytes(4, "big")
        body = head + tweak + bytes((-len(tweak) - width - 1) % 16)
        for i in rounds:
            known = b if forward else a
            y = self._prf(body + bytes([i]) + known.to_bytes(width, "big"), size)
            modulus = moduli[i % 2]
            if forward:
                a, b = b, (a + y) % modulus
            else:
                a, b = (b - y) % modulus, a
        return _symbols(a, u, radix) + _symbols(b, v, radix)

    def _prf(self, message: bytes, size: int) -> int:
        mac = self._cipher.encryptor().update(message)[-16:]
        stream = mac
        for j in range(1, -(-size // 16)):
            block = int.from_bytes(mac, "big") ^ j
            stream += self._cipher.encryptor().update(block.to_bytes(16, "big"))
        return int.from_bytes(stream[:size], "big")


def _number(symbols: Sequence[int], radix: int) -> int:
    value = 0
    for symbol in symbols:
        value = value * radix + symbol
    return value


def _symbols(value: int, count: int, radix: int) -> list[int]:
    out = [0] * count
    for place in range(count - 1, -1, -1):
        value, out[place] = divmod(value, radix)
    return out
