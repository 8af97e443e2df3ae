"""The nearest known word to one that is not known, for hints."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known word that is most like `word`, empty if none is (`cutoff` 0 to 1: how like at least)."""
    known = list(known)
    if not known:
        return ""
    # Here: 0.1 MB that an agent without a mistake in its configuration spares.
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, known, 1, cutoff)), "")
