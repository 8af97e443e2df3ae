"""Operators one by one: what they make of a value, and which combinations a policy may not name."""

from __future__ import annotations

import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.operators import Generalise, Noise
from forebay.errors import ConfigError, MaskError
from forebay.mask import Guard, Masker, generalise, load_policy
from forebay.mask.ciphers import seal, unseal
from forebay.mask.keyring import Keyring
from forebay.mask.noise import Budgets, add_noise
from forebay.mask.records import Leaf, RecordMasker

DAY = 86_400_000_000_000


@pytest.fixture
def policy_of(tmp_path, monkeypatch):
    monkeypatch.setenv("FOREBAY_TEST_SECRET", "s" * 32)

    def make(body, extends="base"):
        keys = "" if "keys:" in body else "keys: {id: k1, secret: 'env:FOREBAY_TEST_SECRET'}\n"
        text = f"name: p\nversion: 1\nextends: {extends}\n{keys}{body}"
        (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
        return load_policy("p.yaml", tmp_path)

    return make


def masked(policy, values, stream="desk", time=None, masker=None, **field):
    field = {"name": "note", "type": Type.STR, **field}
    column = Column.of(field["type"], values)
    times = np.arange(len(values), dtype=np.int64) if time is None else np.array(time, np.int64)
    given = Block(Schema(stream, (Field(**field),)), times, (column,))
    out = Guard(policy).check((masker or Masker(policy)).apply(given))
    return out.columns[0].to_list(field["type"]), out


def rule(**options):
    return Generalise(operator="generalise", **options)


@pytest.mark.parametrize(
    ("keep", "text", "expected"),
    [
        ("year", "1984-03-15", "1984"),
        ("month", "1984/3/5", "1984-03"),
        ("month", "1984年3月15日", "1984-03"),
        ("month", "19840315", "1984-03"),
        ("day", "1984-03-15T12:30:00Z", "1984-03-15"),
        ("decade", "１９８４-03-15", "1980s"),
        ("year", "15.03.1984", None),
        ("year", "198403155", None),
        ("year", "1984-13-01", None),
        ("year", "born 1984-03-15", None),
    ],
)
def test_dates(keep, text, expected):
    assert generalise.text_value(rule(date=keep), text) == expected


@pytest.mark.parametrize(
    ("level", "text", "expected"),
    [
        ("province", "浙江省杭州市西湖区文三路1号", "浙江省"),
        ("city", "浙江省杭州市西湖区文三路1号", "浙江省杭州市"),
        ("district", "浙江省杭州市西湖区文三路1号", "浙江省杭州市西湖区"),
        ("city", "杭州市西湖区文三路1号", "杭州市"),
        ("city", "北京市朝阳区建国路1号", "北京市"),
        ("district", "北京市朝阳区建国路1号", "北京市朝阳区"),
        ("district", "内蒙古自治区锡林郭勒盟苏尼特左旗1号", "内蒙古自治区锡林郭勒盟苏尼特左旗"),
        ("city", "新疆维吾尔自治区伊犁哈萨克自治州伊宁市1号", "新疆维吾尔自治区伊犁哈萨克自治州"),
        ("province", "文三路1号", None),
        ("city", "文三路1号", None),
        ("district", "浙江省杭州市文三路1号", None),
    ],
)
def test_addresses(level, text, expected):
    assert generalise.text_value(rule(address=level), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30.274151,120.155153", "30.27,120.16"),
        ("lat 30.274151 lng -120.155153", "lat 30.27 lng -120.16"),
        ("N30°16′27″", None),
        ("30.274151,120.155153 room 1204", None),
    ],
)
def test_coordinates(text, expected):
    assert generalise.text_value(rule(grid=0.01), text) == expected


def test_numbers_are_clipped_and_rounded_in_their_own_type():
    ages = rule(round=5, clip=(20, 80))
    assert generalise.numbers(ages, np.array([93, 33, 2, 22], np.int64)).tolist() == [80, 35, 20, 20]
    assert generalise.numbers(ages, np.array([93.0, 32.4])).tolist() == [80, 30]
    assert generalise.numbers(rule(round=0.1), np.array([0.31, 2.74])).tolist() == [0.3, 2.7]
    big = np.array([2**60 + 1], np.int64)
    assert generalise.numbers(rule(round=10), big).tolist() == [
        (2**60 + 1) // 10 * 10 + 10 * ((2**60 + 1) % 10 >= 5)
    ]
    assert np.isnan(generalise.numbers(rule(round=10), np.array([np.nan]))[0])
    assert generalise.text_value(ages, "93.2") == "80"
    assert generalise.text_value(ages, "many") is None


def test_an_integer_that_rounding_would_push_over_its_bounds_nulls_the_column(policy_of):
    policy = policy_of("fields: {n: {operator: generalise, round: 1000}}\n")
    values, out = masked(policy, [2**63 - 1, 5], name="n", type=Type.I64)
    assert values == [None, None]
    assert out.hits["detector:failed"] == 2


def test_what_an_operator_cannot_handle_becomes_a_tag_and_is_counted(policy_of):
    policy = policy_of("fields: {born: {operator: generalise, date: year}}\n")
    values, out = masked(policy, ["1984-03-15", "yesterday", "yesterday"], name="born")
    assert values == ["1984", "[field]", "[field]"]
    assert out.hits == {"field:generalise": 3, "field:unfit": 2}


def test_encrypted_values_open_under_their_key_only(policy_of):
    policy = policy_of("classes: {email: {operator: encrypt, cipher: sm4-gcm}, name: {operator: encrypt}}\n")
    values, out = masked(policy, ["mail a@qq.com", "mail a@qq.com"])
    assert values[0] != values[1], "no two are alike"
    assert "a@qq.com" not in values[0]
    ring = Keyring(policy)
    assert unseal(ring, values[0].removeprefix("mail ")) == b"a@qq.com"
    assert out.hits == {"email:encrypt": 2}
    sealed = seal(ring, "aes-gcm", "name", "张三".encode()).decode()
    assert unseal(ring, sealed).decode() == "张三"
    other = "B" if sealed[-20] == "A" else "A"
    changed = sealed[:-20] + other + sealed[-19:]
    for broken in (changed, sealed.replace(".name.", ".email."), sealed.replace(".k1.", ".k2.")):
        with pytest.raises(MaskError):
            unseal(ring, broken)


def test_fpe_values_pass_the_guard_though_they_look_real(policy_of):
    policy = policy_of("classes: {mobile: {operator: fpe}}\n")
    values, out = masked(policy, ["call 13812345678 now"])
    assert values[0] != "call 13812345678 now"
    assert values[0][5:6] == "1"
    assert out.hits == {"mobile:fpe": 1}


# --- noise


NOISE = Noise(operator="noise", epsilon=1, range=(0, 100), budget=3, period="1d")


def test_noise_has_the_scale_that_epsilon_asks_for():
    values = add_noise(NOISE, np.full(40_000, 50.0))
    assert abs(float(np.mean(values)) - 50) < 5
    assert 90 < float(np.mean(np.abs(values - 50))) < 110, "the mean deviation of Laplace is its scale"
    assert len(np.unique(values)) > 39_000
    assert add_noise(NOISE, np.array([10**9], np.int64)).dtype == np.int64
    assert abs(int(add_noise(NOISE, np.array([10**12], np.int64))[0])) < 10_000, "clipped to the range first"


def test_a_budget_is_spent_once_a_period_and_survives_a_restart(policy_of):
    policy = policy_of(
        "fields: {pay: {operator: noise, epsilon: 1, range: [0, 100], budget: 3, period: 1d}}\n"
    )
    masker = Masker(policy)
    times = [0, 1, 2, 3, DAY, DAY + 1]
    values, out = masked(policy, [5.0] * 6, time=times, masker=masker, name="pay", type=Type.F64)
    assert [v is None for v in values] == [False, False, False, True, False, False]
    assert out.hits == {"field:noise": 5, "field:noise_spent": 1}
    assert out.columns[0].quality.tolist()[3] == q.SUPPRESSED
    fresh = Masker(policy)
    fresh.restore(masker.state())
    values, _ = masked(
        policy, [5.0] * 4, time=[5, DAY + 2, DAY + 3, 2 * DAY], masker=fresh, name="pay", type=Type.F64
    )
    assert [v is None for v in values] == [True, False, True, False]


def test_a_budget_that_cannot_be_read_closes(policy_of):
    policy = policy_of("fields: {pay: {operator: noise, epsilon: 1, range: [0, 100], budget: 3}}\n")
    masker = Masker(policy)
    masker.restore(b"not a budget")
    values, _ = masked(policy, [5.0], masker=masker, name="pay", type=Type.F64)
    assert values == [None]


def test_old_periods_are_forgotten_as_spent():
    budgets = Budgets()
    budgets.take("f", NOISE, np.arange(500, dtype=np.int64))
    assert budgets.take("f", NOISE, np.array([3], np.int64)).tolist() == [False]
    assert budgets.take("f", NOISE, np.array([499], np.int64)).tolist() == [True]
    assert len(budgets.state()) < 20_000


def test_a_file_gets_no_noise_because_nobody_would_keep_its_budget(policy_of):
    policy = policy_of("fields:\n  pay: {operator: noise, epsilon: 1, range: [0, 100], budget: 3}\n")
    with pytest.raises(ConfigError, match="noise") as caught:
        RecordMasker(policy, "")
    assert caught.value.place.endswith("p.yaml:6:3")


# --- whole records, streams and levels


def test_a_row_with_a_class_that_drops_goes_whole_and_is_counted(policy_of):
    policy = policy_of("streams: {desk: {drop_when: [email]}}\n")
    values, out = masked(policy, ["ok", "a@qq.com", "13812345678"])
    assert values == ["ok", "138****5678"]
    assert out.time.tolist() == [0, 2]
    assert out.hits["record:drop"] == 1
    assert masked(policy, ["a@qq.com"], stream="other")[0] == ["[email]"]


def test_a_declared_class_and_a_long_number_drop_rows_too(policy_of):
    policy = policy_of("streams: {desk: {drop_when: [name, mobile]}}\n")
    assert masked(policy, ["张三", None], classes=("name",))[0] == [None]
    assert masked(policy, [13812345678, 7], type=Type.I64)[0] == [7]


def test_dropped_records_of_a_file_keep_their_line_and_names(policy_of):
    masker = RecordMasker(policy_of("streams: {desk: {drop_when: [email]}}\n"), "desk")
    leaves = [
        Leaf(0, 0, "(name)", "a", True),
        Leaf(0, 1, "a", "a@qq.com"),
        Leaf(0, 2, "b", 5),
        Leaf(1, 0, "b", 5),
    ]
    assert masker.mask(leaves) == {(0, 1): None, (0, 2): None}
    assert masker.hits["record:drop"] == 1


def test_only_listed_fields_of_a_stream_are_kept(policy_of):
    policy = policy_of("streams: {'de*': {keep_only: ['temp*']}}\n")
    assert masked(policy, ["x"], name="note")[0] == [None]
    assert masked(policy, ["x"], name="temp_1")[0] == ["x"]


def test_a_stream_has_rules_of_its_own_under_the_hash_of_the_whole(policy_of):
    policy = policy_of(
        "streams: {desk: {classes: {mobile: {operator: tag}}, undeclared: {text: scan, number: suppress},"
        " grades: {core: pass}}}\n"
    )
    values, out = masked(policy, ["13812345678"])
    assert values == ["[mobile]"]
    assert out.columns[0].masked == policy.hash
    assert masked(policy, ["13812345678"], stream="other")[0] == ["138****5678"]
    assert masked(policy, [5], type=Type.I64)[0] == [None]
    assert masked(policy, ["x"], grade="core")[0] == ["x"]
    assert masked(policy, ["x"], grade="core", stream="other")[0] == [None]


def test_levels_give_a_rule_to_classes_that_have_none(policy_of):
    body = "levels: {personal: {operator: tag}, sensitive: {operator: suppress}}\nundeclared: {text: scan}\n"
    (policy_of("", "base").path.parent / "q.yaml").write_text("name: q\nversion: 1\n" + body)
    policy = load_policy("q.yaml", policy_of("").path.parent)
    assert masked(policy, ["13812345678", "11010519491231002X"])[0] == ["[mobile]", None]
    assert policy.level("resident_id") == "sensitive"
    assert policy.where(policy.class_rule("mobile")).endswith("q.yaml:3:10")


def test_levels_go_before_inherited_rules_and_behind_rules_beside_them(policy_of):
    policy = policy_of("levels: {personal: {operator: suppress}}\nclasses: {mobile: {operator: tag}}\n")
    assert masked(policy, ["a@qq.com", "13812345678", "11010519491231002X"])[0] == [
        None,
        "[mobile]",
        "110*************2X",
    ]
    assert policy.where(policy.class_rule("email")).endswith("p.yaml:5:10")
    assert policy.where(policy.class_rule("resident_id")).startswith("base.yaml:")


# --- what does not fit is an error with its place


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ("classes:\n  email: {operator: fpe}\n", ":6:3: classes.email", "email"),
        ("classes:\n  mobile: {operator: fpe, first: 7}\n", ":6:3: classes.mobile", "1,000,000"),
        ("classes:\n  mobile: {operator: generalise, date: year}\n", ":6:3: classes.mobile", "fields"),
        ("classes:\n  name: {operator: generalise, address: city}\n", ":6:3: classes.name", "address"),
        ("classes:\n  mobile: {operator: noise, epsilon: 1, range: [0, 1], budget: 2}\n", ":6:", "noise"),
        ("fields:\n  a: {operator: generalise}\n", ":6:6: fields.a", "one of"),
        ("fields:\n  a: {operator: generalise, date: year, round: 5}\n", ":6:6: fields.a", "one of"),
        ("fields:\n  a: {operator: generalise, clip: [9, 1]}\n", ":6:6: fields.a", "lower bound"),
        (
            "fields:\n  a: {operator: noise, epsilon: 2, range: [0, 1], budget: 1}\n",
            ":6:6: fields.a",
            "budget",
        ),
        ("levels: {personal: {operator: fpe}}\n", ":5:10: levels.personal", "some classes"),
        ("streams:\n  s: {classes: {email: {operator: fpe}}}\n", ":6:17: streams.s.classes.email", "email"),
        (
            "classes: {email: {operator: pass}}\nstreams:\n  s: {drop_when: [email]}\n",
            ":7:7: streams.s.drop_when",
            "not looked for",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_refused_with_their_place(policy_of, body, place, said):
    with pytest.raises(ConfigError) as caught:
        policy_of(body)
    assert place in str(caught.value)
    assert said in str(caught.value)


def test_all_conflicts_of_a_policy_come_at_once(policy_of):
    with pytest.raises(ConfigError, match="2 errors"):
        policy_of("classes: {email: {operator: fpe}, mobile: {operator: generalise, grid: 1}}\n")


# --- names and numbers at the guard


def test_a_field_named_by_an_identifier_gets_another_name(policy_of):
    policy = policy_of("")
    given = Block(
        Schema(
            "desk", (Field("13812345678", Type.STR, given="13812345678"), Field("ok", Type.STR)), key="ok"
        ),
        np.zeros(1, np.int64),
        (Column.of(Type.STR, ["x"]), Column.of(Type.STR, ["y"])),
    )
    out = Guard(policy).check(Masker(policy).apply(given))
    assert out.schema.names() == ("mobile_1", "ok")
    assert out.schema.fields[0].given == ""
    assert out.hits == {"mobile:name": 1}
    assert Masker(policy).apply(out).schema == out.schema


def test_the_guard_takes_a_column_out_whose_name_is_an_identifier(policy_of):
    policy = policy_of("")
    guard = Guard(policy)
    columns = tuple(Column(c.values, c.offsets, masked=policy.hash) for c in [Column.of(Type.STR, ["x"])] * 2)
    given = Block(
        Schema("desk", (Field("13812345678", Type.STR), Field("ok", Type.STR))),
        np.zeros(1, np.int64),
        columns,
    )
    out = guard.check(given)
    assert out.schema.names() == ("ok",)
    assert len(out.columns) == 1
    assert out.hits == {"guard:name": 1}
    assert guard.take_tally() == {("desk", "(name)", "guard:name"): 1}


def test_the_guard_looks_at_long_numbers_unless_a_unit_or_the_policy_vouches_for_them(policy_of):
    policy = policy_of("fields: {a: {operator: pass}, b: {operator: pass, unguarded: true}}\n")
    number = {"type": Type.I64}
    values, out = masked(policy, [13812345678, 7], name="a", **number)
    assert values == [None, 7]
    assert out.hits == {"leak:mobile": 1}
    assert masked(policy, [13812345678], name="b", **number)[0] == [13812345678]
    assert masked(policy, [13812345678], name="c", unit="Wh", grade="general", **number)[0] == [13812345678]
    assert masked(policy, [13812345678], name="c", grade="general", **number)[0] == [None]


@pytest.mark.parametrize(
    "text",
    [
        '{"phone":"13812345678"}',
        '{"a": {"phone\\": \\"138-1234-5678\\"}}',
        "site/huizhou/13812345678/state",
        "１３８１２３４５６７８",
    ],
)
def test_the_guard_finds_identifiers_in_json_in_topics_and_in_the_column_of_devices(policy_of, text):
    policy = policy_of("")
    column = Column.of(Type.STR, [text, "pump-3"])
    column.masked = policy.hash
    schema = Schema("desk", (Field("device", Type.STR),), key="device")
    out = Guard(policy).check(Block(schema, np.zeros(2, np.int64), (column,)))
    assert out.columns[0].to_list(Type.STR) == [None, "pump-3"]
    assert out.hits == {"leak:mobile": 1}


def test_a_leak_is_told_once_and_without_the_value(policy_of, caplog):
    policy = policy_of("fields: {a: {operator: pass}}\n")
    guard, masker = Guard(policy), Masker(policy)
    for _ in range(3):
        given = Block(
            Schema("desk", (Field("a", Type.STR),)),
            np.zeros(1, np.int64),
            (Column.of(Type.STR, ["13812345678"]),),
        )
        guard.check(masker.apply(given))
    assert len(caplog.records) == 1
    assert "class=mobile" in caplog.text
    assert "138" not in caplog.text


@pytest.mark.parametrize(
    "text", ["1381234\n5678", "1381234 \r\n  5678", r"1381234\n5678", r"1381234\\r\\n5678"]
)
def test_a_number_over_a_line_end_gives_the_token_and_the_cipher_of_the_whole_one(policy_of, text):
    tokens = policy_of("classes: {mobile: {operator: token}}\n")
    (plain, broken), _ = masked(tokens, ["回电13812345678谢", f"回电{text}谢"])
    assert broken == plain
    (plain, broken), _ = masked(
        policy_of("classes: {mobile: {operator: fpe}}\n"), ["回电13812345678谢", f"回电{text}谢"]
    )
    ends = text[7:-4]
    assert broken == plain[:9] + ends + plain[9:]
