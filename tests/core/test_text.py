"""The scan: what is found, what is not, and that both implementations agree."""

from __future__ import annotations

import threading
from itertools import pairwise
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


def column(cells):
    raw = [c.encode() if isinstance(c, str) else c for c in cells]
    offsets = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(c) for c in raw], out=offsets[1:])
    return np.frombuffer(b"".join(raw), np.uint8), offsets


def found(kernel, text, context=0, classes=tables.ALL_CLASSES):
    data, offsets = column([text])
    raw = data.tobytes()
    spans, codes, _ = kernel.scan(data, offsets, classes, context)
    return [
        (tables.CLASSES[code], raw[a:b].decode("utf-8", "replace"))
        for (_, a, b), code in zip(spans.tolist(), codes.tolist(), strict=True)
    ]


POSITIVE = [
    ("resident_id", "身份证11010519491231002X，请核对", "11010519491231002X"),
    ("resident_id", "id:11010519491231002x", "11010519491231002x"),
    ("resident_id", "110105 19491231 002X", "110105 19491231 002X"),
    ("resident_id", "110105-1949-1231-002X", "110105-1949-1231-002X"),
    ("resident_id", "１１０１０５１９４９１２３１００２Ｘ", "１１０１０５１９４９１２３１００２Ｘ"),
    ("resident_id", "1 1 0 1 0 5 1 9 4 9 1 2 3 1 0 0 2 X", "1 1 0 1 0 5 1 9 4 9 1 2 3 1 0 0 2 X"),
    ("resident_id", "4 4 0 3 0 1 1 9 9 0 0 1 0 1 0 0 1 2", "4 4 0 3 0 1 1 9 9 0 0 1 0 1 0 0 1 2"),
    ("resident_id", "110105-19491231-002-x，", "110105-19491231-002-x"),
    ("resident_id", "旧证110105491231002", "110105491231002"),
    ("mobile", "请致电13812345678谢谢", "13812345678"),
    ("mobile", "138-1234-5678", "138-1234-5678"),
    ("mobile", "138 1234 5678", "138 1234 5678"),
    ("mobile", "١٣٨١٢٣٤٥٦٧٨", "١٣٨١٢٣٤٥٦٧٨"),
    ("mobile", "फोन १३८१२३४५६७८", "१३८१२३४५६७८"),
    (
        "mobile",
        "\U0001d7cf\U0001d7d1\U0001d7d6\U0001d7cf2345678",
        "\U0001d7cf\U0001d7d1\U0001d7d6\U0001d7cf2345678",
    ),
    (
        "mobile",
        "1\ufe0f3\u180e8\u034f1\u31642\U000e0020345678",
        "1\ufe0f3\u180e8\u034f1\u31642\U000e0020345678",
    ),
    ("mobile", "①13812345678", "13812345678"),
    ("mobile", "1️⃣13812345678", "13812345678"),
    ("mobile", "我的号码是一三八一二三四五六七八，谢谢", "一三八一二三四五六七八"),
    ("mobile", "手机幺三八〇〇零二三四五六", "幺三八〇〇零二三四五六"),
    ("mobile", "壹叁捌壹贰叁肆伍陆柒捌", "壹叁捌壹贰叁肆伍陆柒捌"),
    ("mobile", "主叫 013812345678 转接", "13812345678"),
    ("mobile", "tel=138+1234+5678&x=1", "138+1234+5678"),
    ("resident_id", "一一〇一〇五一九四九一二三一〇〇二X", "一一〇一〇五一九四九一二三一〇〇二X"),
    ("resident_id", "١١٠١٠٥١٩٤٩١٢٣١٠٠٢X", "١١٠١٠٥١٩٤٩١٢٣١٠٠٢X"),
    ("mobile", "138.1234.5678", "138.1234.5678"),
    ("mobile", "+8613812345678", "13812345678"),
    ("mobile", "+86 138-1234-5678", "138-1234-5678"),
    ("mobile", "86 138 1234 5678", "138 1234 5678"),
    ("mobile", "0086-13812345678", "13812345678"),
    ("mobile", "008613812345678", "13812345678"),
    ("mobile", "tel13812345678", "13812345678"),
    ("mobile", "Phone:13812345678,", "13812345678"),
    ("mobile", "user_13812345678_x", "13812345678"),
    ("mobile", "１３８１２３４５６７８", "１３８１２３４５６７８"),
    ("mobile", "\u202d13812345678\u202c", "13812345678\u202c"),
    ("mobile", "138\u200b1234\u200b5678", "138\u200b1234\u200b5678"),
    ("mobile", "138\ufffd1234\ufffd5678", "138\ufffd1234\ufffd5678"),
    ("mobile", "a\ufffd13812345678\ufffdb", "13812345678"),
    ("mobile", "138\u20111234\u20115678", "138\u20111234\u20115678"),
    ("mobile", r"\u624b\u673a13812345678\u8bf7", "13812345678"),
    ("mobile", r"line\n13812345678\n", "13812345678"),
    ("mobile", "tel=%2B8613812345678&x=1", "13812345678"),
    ("mobile", "13812345678.0", "13812345678"),
    ("mobile", "2023-11-05 12:30:45 138 1234 5678", "138 1234 5678"),
    ("mobile", '{"phone":"13812345678"}', "13812345678"),
    ("landline", "010-62345678", "010-62345678"),
    ("landline", "（0571）87654321", "（0571）87654321"),
    ("landline", "0571-8765-4321", "0571-8765-4321"),
    ("landline", "0755-26001234-8001", "0755-26001234-8001"),
    ("landline", "电话01062345678", "01062345678"),
    ("landline", "+86-10-62345678", "10-62345678"),
    ("bank_card", "卡号6222020000000000000", "6222020000000000000"),
    ("bank_card", "6222 0200 0000 0000 000", "6222 0200 0000 0000 000"),
    ("bank_card", "4111-1111-1111-1111", "4111-1111-1111-1111"),
    ("uscc", "统一社会信用代码91110000600037341L。", "91110000600037341L"),
    ("uscc", "91440300708461136t", "91440300708461136t"),
    ("plate", "车牌京A12345闯红灯", "京A12345"),
    ("plate", "粤B·D12345", "粤B·D12345"),
    ("plate", "粤BD12345", "粤BD12345"),
    ("plate", "沪A12345D", "沪A12345D"),
    ("plate", "川A 8K2M5", "川A 8K2M5"),
    ("plate", "京A1234警", "京A1234警"),
    ("plate", "粤Z1234港", "粤Z1234港"),
    ("email", "联系zhang.san+x@mail.example.com.", "zhang.san+x@mail.example.com"),
    ("email", "13812345678@139.com", "13812345678@139.com"),
    ("email", "a%40qq.com", "a%40qq.com"),
    ("email", "邮箱ａ＠ｑｑ．ｃｏｍ", "ａ＠ｑｑ．ｃｏｍ"),
    ("email", "邮箱：张三@例子.中国，请回复", "张三@例子.中国"),
    ("email", "发zhang@example.中国联系我", "zhang@example.中国"),
    ("email", "zhang@163.com中国移动", "zhang@163.com"),
    ("email", "a@mail.例子.公司", "a@mail.例子.公司"),
    ("email", "zhang@xn--fsqu00a.xn--fiqs8s，", "zhang@xn--fsqu00a.xn--fiqs8s"),
    ("mac", "网卡 7075888578A2", "7075888578A2"),
    ("mac", "蓝牙地址：7075888578a2", "7075888578a2"),
    ("mac", "BSSID=7075888578A2", "7075888578A2"),
    ("gps", "北纬23度7分12秒，东经113度15分36秒", "23度7分12秒，东经113度15分36秒"),
    ("gps", "北纬23.1200度，东经113.2600度", "23.1200度，东经113.2600度"),
    ("gps", "23°07.2'N 113°15.6'E", "23°07.2'N 113°15.6'E"),
    ("ipv4", "来自192.168.1.100:8080", "192.168.1.100"),
    ("ipv6", "IP:2001:db8::ff00:42:8329", "2001:db8::ff00:42:8329"),
    ("ipv6", "::ffff:10.1.2.3", "::ffff:10.1.2.3"),
    ("ipv6", "fe80::1%eth0", "fe80::1"),
    ("mac", "MAC:00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E"),
    ("mac", "00-1a-2b-3c-4d-5e", "00-1a-2b-3c-4d-5e"),
    ("mac", "001a.2b3c.4d5e", "001a.2b3c.4d5e"),
    ("imei", "IMEI 490154203237518", "490154203237518"),
    ("imei", "串号：49-015420-323751-8", "49-015420-323751-8"),
    ("vin", "车架1HGBH41JXMN109186", "1HGBH41JXMN109186"),
    ("passport", "护照E12345678", "E12345678"),
    ("passport", "EA1234567", "EA1234567"),
    ("passport", "通行证C12345678", "C12345678"),
    ("passport", "台胞证号 08812345", "08812345"),
    ("passport", "军官证：海字第20113487号", "海字第20113487号"),
    ("passport", "永久居留证 USA110075031200", "USA110075031200"),
    ("plate", "使馆车使124·089", "使124·089"),
    ("plate", "WJ粤12345", "WJ粤12345"),
    ("plate", "粤X0119应急", "粤X0119应急"),
    ("plate", "京A·ABC12", "京A·ABC12"),
    ("plate", "车牌京ABCDE1", "京ABCDE1"),
    ("plate", "军牌照KA12345", "KA12345"),
    ("plate", "%E4%BA%ACA12345", "%E4%BA%ACA12345"),
    ("vin", "车架号LFV2A21K083012345", "LFV2A21K083012345"),
    ("mobile", "手机16412345678", "16412345678"),
    ("mobile", "+8616412345678", "16412345678"),
    ("mobile", "ID110105194912310021TEL13812345678", "13812345678"),
    ("landline", "固话：87654321", "87654321"),
    ("bank_card", "银行卡号8888888888888888", "8888888888888888"),
    ("gps", "39.904989,116.405285", "39.904989,116.405285"),
    ("mobile", "样本电话13812345678", "13812345678"),
    ("mobile", "流水联系13812345678", "13812345678"),
    ("mobile", "msgseq=13812345678", "13812345678"),
    ("mobile", "seq=1 13812345678", "13812345678"),
    ("mobile", "编号 A-13812345678", "13812345678"),
    ("mobile", "2024-13812345678-A", "13812345678"),
    ("mobile", "打给１３８－１２３４－５６７８号", "１３８－１２３４－５６７８"),
    ("mobile", "打1３8 １２34 ５6７８谢谢", "1３8 １２34 ５6７８"),
    ("mobile", "电话138\u30001234\u30005678转分机", "138\u30001234\u30005678"),
    ("mac", "%aabb.ccdd.1122", "aabb.ccdd.1122"),
    ("gps", "纬度39.904989，经度116.405285", "39.904989，经度116.405285"),
]

NEGATIVE = [
    "1 1 0 1 0 5 1 9 4 9 1 2 3 1 0 0 2 5",
    "110105-19491231-002-Xa",
    "2 3 5 7 11 13 17 19 23 29 31",
    "一二三四五六七八九十 一二三四五六七八九",
    "一三八一二三四五六七八九",
    "二一三八一二三四五六七",
    "一一〇一〇五一九四九一二三一〇〇二一",
    "一三八一二三四五六七八9",
    "一九九八年一月一日一时三刻",
    "订单 013812345678",
    "设备013812345678",
    "012812345678",
    "1 + 138+1234+5678 = 7051",
    "\U0001d7cf\U0001d7d1\U0001d7d6",
    "ⅠⅢⅧ①③⑧①②③④⑤⑥⑦⑧",
    "流量 7075888578A2 版本",
    "@值班室",
    "张三@泵房说水位到了",
    "张三@例子.文档",
    "@例子.中国",
    "运行23度7分12秒",
    "水温23度 湿度45度",
    "转角23度7分12秒，俯角13度15分36秒",
    "序列号20231105123456789012",
    "1700000000000 1700000000 1700000000123456 1700000000123456789",
    "0.13812345678",
    "1.13812345678",
    "13812345678.25",
    "abc13812345678def",
    "SN13812345678",
    "0x13812345678",
    "deadbeef13812345678",
    "12812345678",
    "16412345678",
    "LFV2A21K083012345",
    "KA12345",
    "即使124089用",
    "日期 20231105 87654321",
    "8888888888888888",
    "138123456789",
    "1381234567",
    "138-1234-56789",
    "4403-138-1234-5678",
    "138 1234 5678 9012",
    "110105194912310020",
    "11010519491331002X",
    "991105194912310021",
    "6222020000000000001",
    "1234567890123456",
    "91110000600037341M",
    "20231105123045678",
    "京A1234",
    "京AI2345",
    "京ABCDE1",
    "北京A座12345",
    "a@b",
    "@qq.com",
    "a@b.1",
    "1.2.3.4.5",
    "v1.2.3.4",
    "固件版本1.2.3.4",
    "256.1.1.1",
    "127.0.0.1",
    "255.255.255.0",
    "12:30:45",
    "std::vector",
    "20-23-11-05-12-30",
    "490154203237518",
    "1HGBH41J0MN109186",
    "12345678901234567",
    "S20231105 E20231105",
    "D12345678",
    "123.4567,234.5678",
    "1.2345,6.7890",
    "0012-12345678",
    "temperature 36.6 pressure 101325 flow 12.50",
    "550e8400-e29b-41d4-a716-446655440000",
    "len=1024 seq=13900000001",
    "SEQ: 13900000001",
    "检验科：样本 13800138001 阴性",
    "流水号13800138001",
    "合同编号 HT-2024-13800138000-A",
    "firmware 3.12.5.1 -> 3.12.6.0 upgraded",
    "工件坐标 12.3456,7.8901 刀补 0.0123",
    "刀补位置 112.3456,70.8901",
    "13 812 345 6789 01",
    "卷号 1381234567890123456789",
]


@pytest.mark.parametrize(("name", "text", "expected"), POSITIVE)
def test_an_identifier_is_found_whole_in_its_text(kernel, name, text, expected):
    assert found(kernel, text) == [(name, expected)]


@pytest.mark.parametrize("text", NEGATIVE)
def test_what_only_looks_like_an_identifier_is_not_found(kernel, text):
    assert found(kernel, text) == []


def test_several_identifiers_of_a_cell_are_found_in_order(kernel):
    text = "张三13812345678,13912345678 a@qq.com 京A12345 110105 19491231 002X"
    expected = ["name", "mobile", "mobile", "email", "plate", "resident_id"]
    assert [name for name, _ in found(kernel, text)] == expected


def test_a_wider_identifier_takes_the_place_of_those_it_covers_unless_it_may_pass(kernel):
    text = "13812345678@139.com"
    assert [n for n, _ in found(kernel, text)] == ["email"]
    without_email = tables.ALL_CLASSES & ~(1 << tables.CODES["email"])
    assert found(kernel, text, classes=without_email) == [("mobile", "13812345678")]


def test_a_context_that_the_column_vouches_for_stands_in_for_the_word(kernel):
    assert found(kernel, "490154203237518", 1 << tables.CONTEXT_IMEI) == [("imei", "490154203237518")]


def test_hits_never_reach_over_cells(kernel):
    data, offsets = column(["1381234", "5678", "138-", "1234-5678"])
    assert len(kernel.scan(data, offsets, tables.ALL_CLASSES, 0)[0]) == 0


def test_broken_utf8_and_nothing_at_all_are_scanned(kernel):
    assert found(kernel, b"\xff\xfe\xe6\x89\x8b\xe613812345678\xc3") == [("mobile", "13812345678")]
    for cells in ([], [""], ["", ""]):
        spans, codes, confidence = kernel.scan(*column(cells), tables.ALL_CLASSES, 0)
        assert (spans.shape, codes.shape, confidence.shape) == ((0, 3), (0,), (0,))


def test_read_only_input_passes_and_wrong_offsets_are_refused(kernel):
    data, offsets = column(["13812345678"])
    data.flags.writeable = False
    offsets.flags.writeable = False
    assert len(kernel.scan(data, offsets, tables.ALL_CLASSES, 0)[0]) == 1
    for wrong in ([0, 99], [-1, 4], [4, 2], []):
        with pytest.raises(ValueError, match="offsets"):
            kernel.scan(data, np.array(wrong, np.int64), tables.ALL_CLASSES, 0)


def test_hostile_text_takes_time_in_proportion_to_its_length(kernel):
    for unit in (
        "@",
        "a@",
        "1:",
        "::",
        "1 ",
        "12-",
        "京A",
        "(0",
        "1.1.",
        "%2",
        "\\u0",
        "39.9042 ",
        "ab-",
        "seq=1",
    ):
        data, offsets = column([unit * 2000])
        kernel.scan(data, offsets, tables.ALL_CLASSES, 0)  # a quadratic rule would show in the suite's time


def test_long_columns_grow_the_table_of_hits(kernel):
    data, offsets = column(["13812345678 a@qq.com"] * 700)
    spans, codes, _ = kernel.scan(data, offsets, tables.ALL_CLASSES, 0)
    assert len(codes) == 1400
    assert spans[-1].tolist() == [699, 12, 20]


def test_integers_are_written_as_python_writes_them(kernel):
    values = np.array([0, 7, -1, 13812345678, 2**63 - 1, -(2**63)], np.int64)
    data, offsets = kernel.decimal_text(values)
    raw = data.tobytes()
    cells = [raw[a:b].decode() for a, b in pairwise(offsets.tolist())]
    assert cells == [str(v) for v in values.tolist()]


def test_long_numbers_are_found_whatever_their_sign(kernel):
    least = 10**9
    integers = [0, 10**9 - 1, 10**9, -(10**9), -(10**9) + 1, 2**63 - 1, -(2**63)]
    rows, numbers = kernel.long_ints(np.array(integers, np.int64), least)
    assert rows.tolist() == [2, 3, 5, 6]
    assert numbers.tolist() == [integers[r] for r in rows.tolist()]
    floats = [1e9, -1e9, 1e9 + 0.5, 2.0**53, 2.0**53 + 2, 999_999_999.0, np.nan, np.inf, -np.inf, -0.0]
    rows, numbers = kernel.long_floats(np.array(floats), least)
    assert (rows.tolist(), numbers.tolist()) == ([0, 1, 3], [10**9, -(10**9), 2**53])
    for search, dtype in ((kernel.long_ints, np.int64), (kernel.long_floats, np.float64)):
        assert [len(a) for a in search(np.zeros(0, dtype), least)] == [0, 0]
        assert [len(a) for a in search(np.arange(9, dtype=dtype), least)] == [0, 0]
        with pytest.raises(ValueError, match="least"):
            search(np.zeros(1, dtype), 0)


def test_the_selected_implementation_is_the_one_that_was_asked_for():
    from forebay_core import text

    expected = "_text" if forebay_core.IMPLEMENTATION == "compiled" else "reference.text"
    assert text.scan.__module__ in (f"forebay_core.{expected}", "forebay_core._text", expected)
    assert (text.scan is reference.scan) == (forebay_core.IMPLEMENTATION == "pure")


@pytest.mark.skipif(forebay_core.IMPLEMENTATION != "compiled", reason="the twin holds the GIL")
def test_the_scan_lets_other_threads_run():
    data, offsets = column(["请联系13812345678或a@qq.com"] * 200_000)
    beats, stop = [0], threading.Event()

    def beat():
        while not stop.is_set():
            beats[0] += 1

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        before = beats[0]
        for _ in range(5):
            _text.scan(data, offsets, tables.ALL_CLASSES, 0)
        during = beats[0] - before
    finally:
        stop.set()
        thread.join()
    assert during > 1000
