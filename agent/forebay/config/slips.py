"""What a hand at a keyboard gets wrong in YAML so that the parser stumbles elsewhere, or over something else.

The parser complains where it can no longer go on: of `type： mqtt` with a full-width colon, or `type:mqtt` without
a space, that is the next line, and of a quote that is not closed, the next quote of the file.
"""

from __future__ import annotations

import re
from typing import NamedTuple

FULL_WIDTH = {
    "：": ":", "，": ",", "｛": "{", "｝": "}", "［": "[", "］": "]", "【": "[", "】": "]", "＃": "#", "－": "-",
    "“": '"', "”": '"', "‘": "'", "’": "'", "\u3000": " ", "\xa0": " ",
}  # fmt: skip
"""Signs that Chinese input methods and word processors put where YAML wants the ASCII one."""

_BLANKS = {"\u3000": "wide space", "\xa0": "no-break space"}
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'")
_COMMENT = re.compile(r"(?:^|\s)#.*$")
_NO_SPACE = re.compile(r"\s*(?:- +)?([A-Za-z_][\w-]*):[^\s:/]")


class Slip(NamedTuple):
    """Where (0-based row and column), what is there, and what to do."""

    row: int
    col: int
    message: str
    hint: str


def full_width(text: str) -> str:
    """Return what to do about a full-width sign in a word, empty where there is none."""
    sign = next((c for c in text if c in FULL_WIDTH), "")
    if sign in _BLANKS:
        return f"a {_BLANKS[sign]} is none to YAML: write plain spaces"
    return f"`{sign}` is full-width: write `{FULL_WIDTH[sign]}`" if sign else ""


def half_width_number(text: str) -> bool:
    """Tell whether a text would be a number if its digits were written half-width."""
    import unicodedata  # for a mistake only: an agent without one spares its tables

    plain = unicodedata.normalize("NFKC", text)
    return plain != text and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", plain) is not None


def find_slip(rows: list[str], row: int, opened: tuple[int, int] | None) -> Slip | None:
    """Return the slip that a parser's complaint about a row comes from, None where none is seen.

    Parameters
    ----------
    rows : the file's lines
    row : 0-based, where the parser could not go on
    opened : 0-based place of the last quote that the parser had closed only in a later line
    """
    if opened is not None and opened[0] < row <= opened[0] + 20:
        return Slip(*opened, "a quote is opened here and not closed in its line", "close it")
    for number in _near(rows, row):
        bare = _bare(rows[number])
        if "\t" in rows[number][: len(rows[number]) - len(rows[number].lstrip())]:
            return Slip(
                number, rows[number].index("\t"), "a tab where YAML wants spaces", "indent with spaces"
            )
        sign = next((i for i, c in enumerate(bare) if c in FULL_WIDTH and _stands_for_ascii(bare, i)), None)
        if sign is not None:
            found = _BLANKS.get(bare[sign], f"full-width `{bare[sign]}`")
            return Slip(number, sign, f"a {found} where YAML wants an ASCII one", _instead(bare[sign]))
        match = _NO_SPACE.match(bare)
        if match is not None and number < row:
            return Slip(number, match.end(1), "a `:` without a space behind it", "a key needs `: ` behind it")
    return None


def _stands_for_ascii(row: str, at: int) -> bool:
    """Tell a sign that was meant for YAML from one in a text such as `description: 泵房，一号`."""
    sign, before = row[at], row[:at]
    in_flow = sum(before.count(c) for c in "{[") > sum(before.count(c) for c in "}]")
    if sign == "：":
        return in_flow or re.search(r":(\s|$)", before) is None
    if sign == "，":
        return in_flow
    begins = before.strip() in ("", "-")
    return begins or before.rstrip()[-1:] in (":", "：", ",", "{", "[") or (sign in "｝］】" and in_flow)


def _instead(sign: str) -> str:
    what = "plain spaces" if sign in _BLANKS else f"`{FULL_WIDTH[sign]}`"
    return f"write {what}, or put text in quotes"


def _near(rows: list[str], row: int) -> list[int]:
    """Return the row and the one before it that says something."""
    row = min(row, len(rows) - 1)
    before = next((n for n in range(row - 1, -1, -1) if _bare(rows[n]).strip()), None)
    return [n for n in (row, before) if n is not None and n >= 0]


def _bare(row: str) -> str:
    """Return a row with its quoted texts and its comment blanked, so that columns stay."""
    row = _QUOTED.sub(lambda m: " " * len(m[0]), row)
    return _COMMENT.sub(lambda m: " " * len(m[0]), row)
