"""Identifiers that a line end cuts in two, and numbers that only the word before them makes something."""

from __future__ import annotations

import time
from types import ModuleType

import numpy as np
import pytest

import forebay_core
from forebay_core import text_tables as tables
from forebay_core.reference import text as reference

_IMPLEMENTATIONS = [reference]
if forebay_core.IMPLEMENTATION == "compiled":
    from forebay_core import _text

    _IMPLEMENTATIONS.append(_text)


@pytest.fixture(params=_IMPLEMENTATIONS, ids=lambda m: m.__name__.rsplit(".", 1)[-1])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def hits(kernel, *cells, context=0):
    raw = [cell.encode() for cell in cells]
    offsets = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(cell) for cell in raw], out=offsets[1:])
    data = np.frombuffer(b"".join(raw), np.uint8)
    spans, codes, confidence = kernel.scan(data, offsets, tables.ALL_CLASSES, context)
    return [
        (tables.CLASSES[code], raw[row][a:b].decode(), sure)
        for (row, a, b), code, sure in zip(spans.tolist(), codes.tolist(), confidence.tolist(), strict=True)
    ]


def found(kernel, text, context=0):
    return [(name, span) for name, span, _ in hits(kernel, text, context=context)]


BROKEN = [
    ("mobile", "请回电1381234\n5678，谢谢", "1381234\n5678"),
    ("mobile", "请回电138123\r\n45678，谢谢", "138123\r\n45678"),
    ("mobile", "请回电1381234 \n    5678，谢谢", "1381234 \n    5678"),
    ("mobile", "手机138\n1234\n5678", "138\n1234\n5678"),
    ("mobile", "电话138-1234-\n5678", "138-1234-\n5678"),
    ("mobile", "电话138 1234\n5678", "138 1234\n5678"),
    ("mobile", "电话138\n1234 5678", "138\n1234 5678"),
    ("mobile", r"请回电1381234\n5678，谢谢", r"1381234\n5678"),
    ("mobile", r"请回电1381234\r\n5678，谢谢", r"1381234\r\n5678"),
    ("mobile", "请回电１３８１２３４\n５６７８，谢谢", "１３８１２３４\n５６７８"),
    ("mobile", "call 1381234\n5678 please", "1381234\n5678"),
    ("landline", "座机0752-\n2861234", "0752-\n2861234"),
    ("landline", "座机0752-286\n1234", "0752-286\n1234"),
    ("resident_id", "证号110105194912\n31002X已核对", "110105194912\n31002X"),
    ("resident_id", "11010519491231\n  002X", "11010519491231\n  002X"),
    ("resident_id", "110105\n19491231\n002X", "110105\n19491231\n002X"),
    ("bank_card", "汇到6222020000\n000000000处", "6222020000\n000000000"),
    ("bank_card", "汇到6222 0200\n0000 0000 000处", "6222 0200\n0000 0000 000"),
    ("bank_card", "汇到4111-1111\n-1111-1111处", "4111-1111\n-1111-1111"),
    ("uscc", "代码91110000\n600037341L", "91110000\n600037341L"),
    ("vin", "车架1HGBH41JX\nMN109186", "1HGBH41JX\nMN109186"),
    ("email", "邮箱zhangsan@exam\nple.com", "zhangsan@exam\nple.com"),
    ("plate", "车牌粤B\nD12345违停", "粤B\nD12345"),
    ("ipv4", "来自192.168.\n1.100的请求", "192.168.\n1.100"),
    ("mac", "网卡00:1A:2B:\n3C:4D:5E", "00:1A:2B:\n3C:4D:5E"),
    ("passport", "护照E1234\n5678", "E1234\n5678"),
    ("imei", "IMEI 49015420\n3237518", "49015420\n3237518"),
    ("address", "寄到广东省惠州市惠城区\n江北云山西路8号", "广东省惠州市惠城区\n江北云山西路8号"),
]

WHOLE = [
    "1381234\n5678",
    "1381234\n5678\n2231\n8890",
    "读数 1381234\n2024-03-18 10:00:00 正常",
    "合计 13802\n239157年",
    "count=138\n12345678 bytes",
    "请回电1381234\n\n5678",
    "12:30:138\n12345678 ok",
    "版本 1.5\n2.3.7 发布",
    "表 E1234\n5678",
    "23.1123\n00,114.4162",
    "温度正常\n压力正常",
    "a\nb",
    "\n",
]


@pytest.mark.parametrize(("name", "text", "expected"), BROKEN)
def test_what_a_line_end_cuts_in_two_is_found_whole(kernel, name, text, expected):
    assert found(kernel, text) == [(name, expected)]


@pytest.mark.parametrize("text", WHOLE)
def test_lines_that_only_follow_each_other_make_no_number(kernel, text):
    assert found(kernel, text) == []


def test_what_stands_on_one_line_is_not_given_up_for_a_wider_one(kernel):
    assert found(kernel, "抄送li\nzhang@qq.com") == [("email", "zhang@qq.com")]
    assert found(kernel, "见zhang@qq.com\nTel 13812345678") == [
        ("email", "zhang@qq.com"),
        ("mobile", "13812345678"),
    ]
    assert found(kernel, "打13812345678\n2次") == [("mobile", "13812345678")]


def test_hits_over_line_ends_stand_in_order_and_only_in_their_cell(kernel):
    cells = "甲 13811112222\n乙 1381234\n5678 丙", "5678 再来", "丁1393333\n4444"
    assert [(name, span) for name, span, _ in hits(kernel, *cells)] == [
        ("mobile", "13811112222"),
        ("mobile", "1381234\n5678"),
        ("mobile", "1393333\n4444"),
    ]


def test_a_number_over_a_line_end_that_nothing_else_proves_raises_no_alarm(kernel):
    ((_, _, weak),) = hits(kernel, "请回电1381234\n5678，谢谢")
    ((_, _, sure),) = hits(kernel, "证号110105194912\n31002X")
    assert weak < 80 <= sure


LABELLED = [
    ("resident_id", "身份证：110105194912310020", "110105194912310020"),
    ("resident_id", "身份证:11010519491231003x", "11010519491231003x"),
    ("resident_id", "证件号 110105 19491231 0020", "110105 19491231 0020"),
    ("bank_card", "卡号：6222020000000000001", "6222020000000000001"),
    ("bank_card", "银行卡 6222 0200 0000 0000 001", "6222 0200 0000 0000 001"),
    ("bank_card", "卡6222 02000000 0000000", "6222 02000000 0000000"),
    ("uscc", "信用代码：91110000600037341M", "91110000600037341M"),
    ("imei", "IMEI：490154203237519", "490154203237519"),
    ("imei", "imei=49015420323751", "49015420323751"),
    ("imei", "IMEI编号：490154203237518", "490154203237518"),
    ("imei", "IMEI 4901542032375101", "4901542032375101"),
    ("mac", "mac=001a2b3c4d5e", "001a2b3c4d5e"),
    ("mac", "MAC地址 001A2B3C4D5E", "001A2B3C4D5E"),
    ("mobile", "手机 1381234 5678", "1381234 5678"),
    ("mobile", "手机 1 3 8 1 2 3 4 5 6 7 8", "1 3 8 1 2 3 4 5 6 7 8"),
    ("mobile", "手机 138·1234·5678", "138·1234·5678"),
    ("mobile", "138 - 1234 - 5678", "138 - 1234 - 5678"),
    ("landline", "0755-26001234转8001", "0755-26001234转8001"),
    ("mobile", "手机 138/1234/5678", "138/1234/5678"),
    ("mobile", "tel_138_1234_5678", "138_1234_5678"),
    ("uscc", "信用代码 91 110000 600037341L", "91 110000 600037341L"),
    ("uscc", "信用代码：9111-0000-6000-3734-1L", "9111-0000-6000-3734-1L"),
    ("resident_id", "身份证352749230407979", "352749230407979"),
]

BARE = [
    ("imei", "终端861234039876548上线", "861234039876548"),
    ("imei", "lost 352099001761481", "352099001761481"),
    ("imei", "35-209900-176148-1", "35-209900-176148-1"),
    ("gps", "N23.1123,E114.4162", "N23.1123,E114.4162"),
    ("gps", "23°06'44\"N 114°24'58\"E", "23°06'44\"N 114°24'58\"E"),
    ("gps", "东经114°24′58.5″，北纬23°06′44″", "114°24′58.5″，北纬23°06′44″"),
    ("plate", "粵B12345", "粵B12345"),
    ("bank_card", "amex 378282246310005", "378282246310005"),
]

NOTHING = [
    "物料 110105194912310020",
    "门禁 6222020000000000001",
    "物联卡号 8986012345678901234",
    "订单 352099001761481",
    "SN:861234039876548",
    "490154203237518",
    "861234039876549",
    "001a2b3c4d5e",
    "machine 001a2b3c4d5e",
    "1381234 5678",
    "1 3 8 1 2 3 4 5 6 7 8",
    "1 2 3 4 5 6 7 8 9 10 11 12",
    "IMEI缺失，旧机已退回厂家，订单编号867017841855857",
    "电话缺失，流水号07528611234",
    "传感器 378282246310005",
    "/138/1234/5678/",
    "id_138_1234_5678",
    "见 91 110000 600037341L",
    "设备 352749230407979",
    "编号352749230407979",
    "07522861234",
    "夹角 45°30'15\" 60°15'30\"",
    "温度 25° 湿度 60",
]


@pytest.mark.parametrize(("name", "text", "expected"), [*LABELLED, *BARE])
def test_a_word_or_a_form_stands_in_for_a_check_digit(kernel, name, text, expected):
    assert found(kernel, text) == [(name, expected)]


@pytest.mark.parametrize("text", NOTHING)
def test_without_its_word_or_form_such_a_number_is_none(kernel, text):
    assert found(kernel, text) == []


def test_a_column_can_vouch_for_what_is_mistyped(kernel):
    vouched = 1 << tables.CONTEXT_RESIDENT
    assert found(kernel, "110105194912310020", vouched) == [("resident_id", "110105194912310020")]


def test_hostile_line_ends_take_time_in_proportion(kernel):
    if kernel is reference:
        pytest.skip("the twin is for reading")

    """Ten times the text may not take thirty times as long, whatever it is made of."""

    def seconds(text):
        began = time.process_time()
        hits(kernel, text)
        return time.process_time() - began

    size = 20_000
    for piece in (
        "138\n",
        "1\n",
        "a@b\n",
        "°\n1°",
        "1 - ",
        "1.1\n\n",
        "粤B\n",
        "座机0752-\n2861234 ",
        "打1381234\n5678 ",
    ):
        small = min(seconds(piece * (size // len(piece))) for _ in range(3))
        large = min(seconds(piece * (10 * size // len(piece))) for _ in range(2))
        assert large < 30 * max(small, 0.002), piece
