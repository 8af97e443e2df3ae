"""Bytes as text: base64 with the habits of cameras and browsers, and what is none."""

from __future__ import annotations

import base64
import binascii

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay import quality as q
from forebay.sources.base64_cells import decoded, from_base64

WRITTEN = {
    "as it is": base64.b64encode,
    "for URLs": base64.urlsafe_b64encode,
    "in lines": base64.encodebytes,
    "without padding": lambda data: base64.b64encode(data).rstrip(b"="),
    "data URI": lambda data: b"data:image/jpeg;base64," + base64.b64encode(data),
    "data URI with a parameter": lambda data: b"DATA:image/png;name=a.png;BASE64," + base64.b64encode(data),
}


@pytest.mark.parametrize("way", WRITTEN)
@given(data=st.binary(max_size=200))
def test_however_it_is_written_the_bytes_come_back(way, data):
    assert decoded(WRITTEN[way](data)) == data


@pytest.mark.parametrize(
    "text", [b"A", b"no, thanks", b"caf\xc3\xa9====", b"data:image/png,abc", b"%2F9j", b"QUJD=QUJD"]
)
def test_something_else_is_refused(text):
    with pytest.raises(binascii.Error):
        decoded(text)


def test_a_column_keeps_its_rows_and_says_which_is_none():
    cells = [base64.b64encode(b"one"), b"!", b"", b"ignored"]
    ends = np.cumsum([0, *map(len, cells)])
    codes = np.array([0, 0, 0, q.MISSING], np.uint8)
    column = from_base64(b"".join(cells), ends, codes)
    assert [column.cell_bytes(row) for row in range(4)] == [b"one", b"", b"", b""]
    assert column.quality is not None
    assert column.quality.tolist() == [0, q.TYPE, 0, q.MISSING]
    assert codes.tolist() == [0, 0, 0, q.MISSING], "what came in stays as it was"


def test_a_column_in_which_all_is_well_has_no_codes():
    text = base64.b64encode(b"one")
    assert from_base64(text, np.array([0, len(text)]), None).quality is None
