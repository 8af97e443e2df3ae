"""Compiled and reference kernels agree on anything; splicing changes nothing but the hits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forebay_core
from forebay_core import text_tables as tables
from forebay_core.reference import splice as reference_splice
from forebay_core.reference import text as reference_text

pytestmark = pytest.mark.skipif(
    forebay_core.IMPLEMENTATION != "compiled", reason="there is nothing to compare with"
)

# Pieces that rules are made of, so that random mixtures come near identifiers and their edges.
PIECES = [
    *("138", "1234", "5678", "13812345678", "11010519491231002X", "110105", "19491231", "002X", "86"),
    *("+86", "0086", "0", "1", "10", "4111", "1111", "6222", "020", "010", "0571", "87654321", "-"),
    *(" ", ".", ":", "::", "@", "qq", ".com", "(", ")", "，", "手机", "IMEI", "卡", "京", "粤", "A"),
    *("B·", "D1234", "警", "ab", "fe80", "0x", "\\u624b", "\\n", "\\u0031", "%2B", "%E6%89%8B"),
    *("%40", "１３８", "\u200b", "°", "N", "39.90421", "116.40742", ",", "tel", "VIN", "E12345678"),
    *("00:1A", "2B", "-3C", "x", "X", "_", "/", "姓名", "：", "张", "伟", "建国", "欧阳", "先生"),
    *("女士", "患者", "联系人", "王小明", "阿依古丽·买买提", "反映", "惠州市", "惠城区", "演达"),
    *("大道", "路", "12号", "3栋", "单元", "501", "室", "小区", "花园", "住址", "村", "组", "在"),
    *("的", "男", '"name":"', "%E5%BC%A0", "\\u5f20", "街道", "自治县", "内蒙古", "军官证"),
    *("字第", "使", "·", "WJ", "KA12345", "车牌", "应急", "12345678", "订单", "三", "甲", "#", "-2-"),
    *("湾", "\ue000", "\ufffd", "电话", "192.168.", "1.1", "255", "版本", "91110000600037341L"),
    *("1HGBH41JXMN109186", "35693803564380", "电话", "350211", "35", "209900", "176148"),
    *("2026-03-04", "T05:06:07", " 05:06", "1949-12-31", "aa-bb", "-11-22", "aabb.ccdd", "wj-A1234", "WJ "),
    *(
        "seq=",
        "样本",
        "编号",
        "HT-2024-",
        "-A",
        " -> ",
        "=>",
        "工件",
        "ip",
        "主持：",
        "宋青",
        "于周三",
        "水乡2栋",
    ),
    *(
        "一三八一二三四五六七八",
        "一一〇一〇五",
        "一九四九一二三一〇〇二",
        "١٣٨",
        "\U0001d7cf",
        "\ufe0f",
        "\U000e0020",
        "+",
        "0138",
        " X",
        "1 1 0 1 0 5 1 9 4 9 1 2 3 1 0 0 2",
    ),
    *("001a.2b3c.4d5e", "\x00", "𠮷", "经度", "%", "\\", "\ud83d", "\udc00"),
]
mixtures = (
    st.lists(st.sampled_from(PIECES), max_size=9)
    .map("".join)
    .map(lambda text: text.encode("utf-8", "surrogatepass"))
)
cells = st.lists(st.one_of(mixtures, st.binary(max_size=30)), max_size=6)


def column(parts):
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(p) for p in parts], out=offsets[1:])
    return np.frombuffer(b"".join(parts), np.uint8), offsets


@settings(max_examples=400, deadline=None)
@given(cells, st.integers(0, tables.ALL_CLASSES), st.integers(0, 8191))
def test_both_scans_find_the_same(parts, classes, context):
    from forebay_core import _text

    data, offsets = column(parts)
    for given_, expected in zip(
        _text.scan(data, offsets, classes, context),
        reference_text.scan(data, offsets, classes, context),
        strict=True,
    ):
        np.testing.assert_array_equal(given_, expected)


@settings(max_examples=100, deadline=None)
@given(cells, st.randoms(use_true_random=False))
def test_both_splices_write_the_same_and_leave_the_rest_alone(parts, random):
    from forebay_core import _splice

    data, offsets = column(parts)
    spans = []
    for row, part in enumerate(parts):
        ends = sorted(random.randint(0, len(part)) for _ in range(2 * random.randint(0, 2)))
        spans += [(row, a, b) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    table = np.array(spans, np.int64).reshape(-1, 3)
    rules = np.zeros((256, 4), np.int64)
    rules[1:5] = [(1, 1, 1, 1), (2, 0, 0, 0), (3, 0, 0, 0), (0, 0, 0, 0)]
    codes = np.array([random.choice([1, 1, 2, 2, 3, 4]) for _ in spans], np.uint8)
    which = np.array([random.randint(0, 1) for _ in spans], np.int64)
    arguments = (data, offsets, table, codes, which, rules, *column([b"[x]", "█".encode()]))
    compiled, twin = _splice.splice(*arguments), reference_splice.splice(*arguments)
    for given_, expected in zip(compiled, twin, strict=True):
        np.testing.assert_array_equal(given_, expected)
    new, ends, made, removed = compiled
    for row, part in enumerate(parts):
        cell = new[ends[row] : ends[row + 1]].tobytes()
        if removed[row]:
            assert cell == b""
            continue
        old_spans = [(a, b) for (r, a, b), c in zip(spans, codes, strict=True) if r == row and c != 4]
        new_spans = [(a, b) for r, a, b in made.tolist() if r == row]
        assert _outside(part, old_spans) == _outside(cell, new_spans)


def _outside(cell, spans):
    at, rest = 0, b""
    for start, end in spans:
        rest += cell[at:start]
        at = end
    return rest + cell[at:]
