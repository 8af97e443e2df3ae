"""Names and addresses in free text: what is found, what is not, on both implementations."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

import forebay_core
from forebay_core import text_people, text_tables
from forebay_core.reference import text as reference

_IMPLEMENTATIONS = [reference]
if forebay_core.IMPLEMENTATION == "compiled":
    from forebay_core import _text

    _IMPLEMENTATIONS.append(_text)

PEOPLE = 1 << text_tables.CODES["name"] | 1 << text_tables.CODES["address"]


@pytest.fixture(params=_IMPLEMENTATIONS, ids=lambda m: m.__name__.rsplit(".", 1)[-1])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    return request.param


def found(kernel, text, context=0, classes=text_tables.ALL_CLASSES):
    raw = text.encode()
    data, offsets = np.frombuffer(raw, np.uint8), np.array([0, len(raw)], np.int64)
    spans, codes, _ = kernel.scan(data, offsets, classes, context)
    return [
        (text_tables.CLASSES[code], raw[a:b].decode())
        for (_, a, b), code in zip(spans.tolist(), codes.tolist(), strict=True)
    ]


NAMES = [
    ("麻烦让张千一回个电话", "张千一"),
    ("来电者自称苗若兰，说水压低", "苗若兰"),
    ("姓名：张三", "张三"),
    ("联系人 欧阳娜娜，女", "欧阳娜娜"),
    ("户主:阿依古丽·买买提", "阿依古丽·买买提"),
    ("居民张伟反映路灯故障", "张伟"),
    ("患者刘芳芳，35岁", "刘芳芳"),
    ("请联系王小明先生", "王小明"),
    ("由李明处理", "李明"),
    ('{"contact":"李建国"}', "李建国"),
    ("driver=赵海", "赵海"),
    ("王芳 13812345678", "王芳"),
    ("13812345678（王芳）", "王芳"),
    ("张三13812345678", "张三"),
    ("孙丽,女,1985-03-02", "孙丽"),
    (r"\u59d3\u540d\uff1a\u5f20\u4e09", r"\u5f20\u4e09"),
    (r"{\"userName\":\"洪金宝\"}", "洪金宝"),
    ("%E5%A7%93%E5%90%8D=%E5%BC%A0%E4%B8%89", "%E5%BC%A0%E4%B8%89"),
    ("我妈宁静怡，58岁", "宁静怡"),
    ("主持：殷小亭", "殷小亭"),
    ("记录：宋青 会议结束", "宋青"),
    ("邻居蒋春梅上门询问", "蒋春梅"),
    ("田晓玲报称手机被盗", "田晓玲"),
]
NO_NAMES = [
    "高温告警 安全阀 方向错误 马达过载",
    "姓名：不详 联系人：物业",
    "联系人：无",
    "王女士来电，李工已到，老张签字",
    "由于高压线路检修，有关单位注意",
    "操作员应立即停机",
    "用户安全用水须知",
    "黄河水位 12.5 米，江水浑浊",
    "任务完成，计划关闭",
    '"pumpName":"高压泵"',
    "项目经理 施工队长 值班主任",
    "石家庄 马鞍山 连云港",
    "请工程师于周三前到场，用户于今天来电",
    "成员：高压班 主持：温度 记录：水位",
    "海尔空调上门维修，李宁运动鞋退回",
]
ADDRESSES = [
    ("家住惠州市惠城区演达大道12号3栋501室。", "惠州市惠城区演达大道12号3栋501室"),
    ("人民路123号门口井盖丢失", "人民路123号"),
    ("锦绣花园3栋2单元501漏水", "锦绣花园3栋2单元501"),
    ("广西壮族自治区南宁市青秀区民族大道136号", "广西壮族自治区南宁市青秀区民族大道136号"),
    ("送到三栋镇鹿颈村塘头组8号", "三栋镇鹿颈村塘头组8号"),
    ("地址：江北云山西路8号帝景湾3栋1204房", "江北云山西路8号帝景湾3栋1204房"),
    ("晚上到水口镇民营工业园龙湖大道18号等", "水口镇民营工业园龙湖大道18号"),
    ("快递放清荷水乡2栋了", "快递放清荷水乡2栋"),
    ("广东省 深圳市 南山区 科技园南路8号", "广东省 深圳市 南山区 科技园南路8号"),
]
NO_ADDRESSES = [
    "惠州市惠城区供水公司",
    "广东省深圳市气象台",
    "管道12号阀门，线路2号刀闸，回路3号断路器",
    "库区3号罐，A区5号泵",
    "路面塌陷，绕行",
    "北京中心大学上海国际",
]


@pytest.mark.parametrize(("text", "expected"), NAMES)
def test_a_name_is_found_by_what_stands_around_it(kernel, text, expected):
    assert ("name", expected) in found(kernel, text)


@pytest.mark.parametrize("text", NO_NAMES)
def test_words_that_begin_like_a_surname_are_no_names(kernel, text):
    assert found(kernel, text, classes=PEOPLE) == []


@pytest.mark.parametrize(("text", "expected"), ADDRESSES)
def test_an_address_is_found_whole(kernel, text, expected):
    assert found(kernel, text) == [("address", expected)]


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_a_region_or_a_numbered_thing_is_no_address(kernel, text):
    assert found(kernel, text, classes=PEOPLE) == []


def test_each_name_of_a_list_is_found(kernel):
    text = "签到：苗翠花、方德、冯道德"
    assert [t for _, t in found(kernel, text)] == ["苗翠花", "方德", "冯道德"]


@pytest.mark.parametrize("word", ["和", "与", "及", "跟"])
def test_a_name_behind_a_name_and_a_word_for_and_is_one(kernel, word):
    assert found(kernel, f"患者周伟{word}李娜到场")[-1] == ("name", "李娜")
    assert len(found(kernel, f"患者张三{word}高温报警到场")) == 1, "a word that begins like a name"


def test_the_column_can_vouch_for_a_name_and_an_address(kernel):
    vouched = 1 << text_tables.CONTEXT_NAME
    assert found(kernel, "高远", vouched) == [("name", "高远")]
    assert found(kernel, "高远") == []
    vouched = 1 << text_tables.CONTEXT_ADDRESS
    assert found(kernel, "下角村三组", vouched) == [("address", "下角村三组")]


def test_a_number_wins_over_the_address_that_it_stands_in(kernel):
    assert found(kernel, "地址：人民路8号13812345678") == [
        ("address", "人民路8号"),
        ("mobile", "13812345678"),
    ]


def test_names_and_addresses_are_looked_for_only_when_asked(kernel):
    text = "姓名：张三，住址：人民路8号"
    assert found(kernel, text, classes=text_tables.ALL_CLASSES & ~PEOPLE) == []
    assert [n for n, _ in found(kernel, text, classes=1 << text_tables.CODES["name"])] == ["name"]


def test_the_tables_agree_with_the_codes_of_the_kernel():
    assert all(2 <= len(word) <= 4 for word in text_people.WORDS)
    assert max(text_people.WORDS.values()) < 1 << 16
    assert max(text_people.character_bits()) < 1 << 16
    assert text_people.CITY == 0x100
    assert text_people.ZONE == 0x4000
    assert text_people.LABELLING == 0x8000
    assert len(text_people.WORDS) < 16384 // 2


def test_hostile_text_of_ideographs_takes_time_in_proportion_to_its_length(kernel):
    for unit in ("路", "省", "北京", "姓名", "张", "号", "1栋", "阿·", "员", "住", "自治", "人民路1号"):
        found(kernel, unit * 500)  # a quadratic rule would show in the suite's time
