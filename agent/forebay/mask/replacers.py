"""Operators that make a new text from what was found: token, generalise, fpe, encrypt.

A value that an operator cannot handle (an address without a city, a card number of 4 digits) is replaced by
its class in brackets: the operator shows less than it was told to, never more. That is counted as `CLASS:unfit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from forebay.config.operators import ClassRule, Encrypt, FieldRule, Fpe, Generalise, Token
from forebay.errors import ConfigError, MaskError
from forebay.mask.policy import Policy

if TYPE_CHECKING:
    from forebay.mask.keyring import Keyring

Replacer = Callable[[bytes], bytes]
"""Takes the bytes that were found, returns what stands there instead."""

MADE = ("token", "generalise", "fpe", "encrypt")
"""Operators that this module knows."""

_CACHE_ENTRIES = 4096


class Replacers:
    """Makes replacers for the rules of a policy. Used by one thread.

    Raises
    ------
    ConfigError
        The policy needs its key and the secret cannot be read.
    """

    def __init__(self, policy: Policy, *, trial: bool = False) -> None:
        self.unfit: Counter[str] = Counter()
        self._keyring: Keyring | None = None
        self._known: dict[tuple[ClassRule | FieldRule, str], Replacer] = {}
        if policy.needs_key:  # imports are made where a policy needs them: most need none
            from forebay.mask.keyring import Keyring

            self._keyring = Keyring(policy, trial=trial)
            self._keyring.check()

    def make(self, rule: ClassRule | FieldRule, class_name: str) -> Replacer:
        """Return what applies a rule of one of the operators in `MADE`; the same one each time."""
        made = self._known.get((rule, class_name))
        if made is None:
            made = self._known[rule, class_name] = self._make(rule, class_name)
        return made

    def _make(self, rule: ClassRule | FieldRule, class_name: str) -> Replacer:
        if isinstance(rule, Generalise):
            from forebay.mask.generalise import text_value

            return self._or_tag(class_name, lambda text: text_value(rule, text))
        keyring = self._keyring
        if keyring is None:
            raise ConfigError(f"`{rule.operator}` needs a key")
        if isinstance(rule, Token):
            from forebay.mask.tokens import Tokens

            tokens = Tokens(keyring)
            return lambda raw: tokens.token(class_name, rule.length, raw)
        if isinstance(rule, Fpe):
            from forebay.mask.forms import Forms

            forms, known = Forms(keyring), dict[bytes, bytes]()
            slow = self._or_tag(class_name, lambda text: forms.encrypt(rule, class_name, text))
            return lambda raw: _remembered(known, slow, raw)
        if isinstance(rule, Encrypt):
            from forebay.mask.ciphers import seal

            return lambda raw: seal(keyring, rule.cipher, class_name, raw)
        raise MaskError(f"operator {rule.operator} makes no text")

    def take_unfit(self) -> Counter[str]:
        """Return how many values of each class could not be handled since the last call."""
        unfit, self.unfit = self.unfit, Counter()
        return unfit

    def _or_tag(self, class_name: str, change: Callable[[str], str | None]) -> Replacer:
        def replace(raw: bytes) -> bytes:
            try:
                made = change(raw.decode("utf-8"))
            except (UnicodeDecodeError, MaskError):
                made = None
            if made is None:
                self.unfit[f"{class_name}:unfit"] += 1
                made = f"[{class_name}]"
            return made.encode()

        return replace


def _remembered(known: dict[bytes, bytes], make: Replacer, raw: bytes) -> bytes:
    # an FF1 of eleven digits costs 50 times what a look at a dictionary does, and devices repeat themselves
    made = known.get(raw)
    if made is None or made.endswith(b"]"):  # what did not fit is counted each time
        made = make(raw)
        if len(known) >= _CACHE_ENTRIES:
            known.clear()
        known[raw] = made
    return made
