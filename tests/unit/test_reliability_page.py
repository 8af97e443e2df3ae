"""docs/reliability.md shows the figures that are kept, and no loss."""

from __future__ import annotations

import json

import reliability_page


def rows():
    return json.loads(reliability_page.KEPT.read_text("utf-8"))


def test_the_page_is_what_the_kept_figures_say():
    page = reliability_page.PAGE.read_text("utf-8")
    assert reliability_page.render(page, rows()) == page


def test_every_row_names_the_test_that_reproduces_it():
    root = reliability_page.DOCS.parent
    for row in rows():
        file = next(word for word in row["command"].split() if word.startswith("tests/"))
        assert (root / file).exists(), row["command"]
        assert row["trials"] > 0


def test_no_run_that_is_shown_lost_or_doubled_anything():
    nothing_to_lose = {"storm", "verify"}  # no data passes in these
    for row in rows():
        expected = (None, None) if row["name"] in nothing_to_lose else (0, 0)
        assert (row["lost"], row["doubled"]) == expected, row["name"]
