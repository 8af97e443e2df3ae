"""Keys of policies: derived, shared, rotated, never in the configuration."""

from __future__ import annotations

import json
import stat

import numpy as np
import pytest

from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.cli import app
from forebay.errors import ConfigError
from forebay.mask import Guard, Masker, load_policy
from forebay.mask.keyring import TRIAL_SECRET, Keyring
from forebay.mask.rotation import rotate

POLICY = """\
## of the site 水务
name: site
version: 4
extends: base
classes:
  mobile: {operator: token}
  email: {operator: encrypt}
  resident_id: {operator: fpe}
## the key of tokens
keys:
  id: k1
  tenant: water
  secret: file:first.key

## last words
undeclared: {text: scan}
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "p.yaml").write_text(POLICY, encoding="utf-8")
    (tmp_path / "first.key").write_text("1" * 32)
    (tmp_path / "first.key").chmod(0o600)
    return tmp_path


def masked(policy, text):
    given = Block(Schema("s", (Field("x", Type.STR),)), np.zeros(1, np.int64), (Column.of(Type.STR, [text]),))
    out = Guard(policy).check(Masker(policy).apply(given))
    assert not any(rule.startswith("leak") for rule in out.hits)
    return out.columns[0].to_list(Type.STR)[0]


def test_each_use_class_key_and_tenant_has_a_key_of_its_own(site):
    ring = Keyring(load_policy("p.yaml", site))
    other = (site / "p.yaml").read_text().replace("tenant: water", "tenant: gas")
    (site / "q.yaml").write_text(other)
    made = {ring.derive(use, name) for use in ("token", "fpe", "encrypt") for name in ("mobile", "name")}
    made.add(Keyring(load_policy("q.yaml", site)).derive("token", "mobile"))
    assert len(made) == 7
    assert {len(key) for key in made} == {32}


def test_two_gateways_that_share_a_key_make_the_same_tokens_also_after_a_restart(site, tmp_path):
    first = masked(load_policy("p.yaml", site), "13812345678")
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    (elsewhere / "p.yaml").write_text(POLICY.replace("file:first.key", "env:ELSEWHERE"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELSEWHERE", "1" * 32)
        policy = load_policy("p.yaml", elsewhere)
        assert masked(policy, "138 1234 5678") == first
        assert policy.hash == load_policy("p.yaml", site).hash


def test_rotation_writes_a_secret_and_keeps_the_rest_of_the_file(site):
    done = rotate(site / "p.yaml")
    text = (site / "p.yaml").read_text(encoding="utf-8")
    assert (done.key_id, done.old_id, done.policy.version) == ("k2", "k1", 5)
    assert stat.S_IMODE(done.secret.stat().st_mode) == 0o600
    assert len(done.secret.read_text().strip()) == 64
    for words in ("## of the site", "## the key of tokens", "## last words", "undeclared: {text: scan}"):
        assert words in text
    assert done.policy.options.keys.tenant == "water"
    assert [key.id for key in done.policy.options.keys.previous] == ["k1"]
    assert done.secret.read_text().strip() not in text
    assert not list(site.glob(".*.new"))


def test_tokens_change_with_the_key_unless_a_bridge_writes_both(site):
    before = masked(load_policy("p.yaml", site), "13812345678")
    (site / "q.yaml").write_text(POLICY.replace("name: site", "name: other"), encoding="utf-8")
    plain = masked(rotate(site / "p.yaml").policy, "13812345678")
    both = masked(rotate(site / "q.yaml", "new", bridge=True).policy, "13812345678")
    assert plain.startswith("mobile_k2_")
    assert both.startswith("mobile_new_")
    assert both.endswith(before.removeprefix("mobile"))


def test_what_the_old_key_closed_opens_after_rotations(site, capsys):
    before = masked(load_policy("p.yaml", site), "mail li@example.com")
    number = masked(load_policy("p.yaml", site), "11010519491231002X")
    rotate(site / "p.yaml")
    rotate(site / "p.yaml")
    after = masked(load_policy("p.yaml", site), "mail li@example.com")
    lines = [before, after, json.dumps({"a": before, "b": 1}), "nothing here"]
    (site / "in.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    code = app.run(
        ["keys", "reveal", str(site / "p.yaml"), "-i", str(site / "in.txt"), "-o", str(site / "out.txt")]
    )
    assert code == 0
    assert capsys.readouterr().err == "opened: email 3\n"
    out = (site / "out.txt").read_text(encoding="utf-8").splitlines()
    assert out == ["mail li@example.com"] * 2 + ['{"a": "mail li@example.com", "b": 1}', "nothing here"]
    (site / "in.txt").write_text(number + "\n", encoding="utf-8")
    arguments = ["keys", "reveal", str(site / "p.yaml"), "-i", str(site / "in.txt"), "--class", "resident_id"]
    assert app.run([*arguments, "--key-id", "k1"]) == 0
    assert capsys.readouterr().out == "11010519491231002X\n"


def test_nothing_opens_without_the_secret(site, capsys):
    closed = masked(load_policy("p.yaml", site), "li@example.com")
    (site / "first.key").write_text("2" * 32)
    (site / "in.txt").write_text(closed + "\n")
    assert app.run(["keys", "reveal", str(site / "p.yaml"), "-i", str(site / "in.txt")]) == 1
    assert capsys.readouterr().out == closed + "\n"
    (site / "first.key").unlink()
    assert app.run(["keys", "reveal", str(site / "p.yaml"), "-i", str(site / "in.txt")]) == 2


def test_a_policy_without_a_key_gets_its_first(site, capsys):
    (site / "q.yaml").write_text("name: q\nversion: 1\nextends: base", encoding="utf-8")
    assert app.run(["keys", "rotate", str(site / "q.yaml"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["key_id"], facts["old_id"], facts["version"]) == ("k1", "", 2)
    policy = load_policy("q.yaml", site)
    assert facts["hash"] == policy.hash
    Keyring(policy).check()


def test_a_rotation_that_cannot_be_used_changes_nothing(site):
    text = (site / "p.yaml").read_text()
    with pytest.raises(ConfigError, match="there is a key"):
        rotate(site / "p.yaml", "k1")
    with pytest.raises(ConfigError):
        rotate(site / "p.yaml", "Not A Name")
    (site / "child.yaml").write_text("name: c\nversion: 1\nextends: p.yaml\n")
    with pytest.raises(ConfigError, match="extends"):
        rotate(site / "child.yaml")
    assert (site / "p.yaml").read_text() == text
    assert [p.name for p in site.glob("*.key")] == ["first.key"]


def test_the_secret_of_trials_is_never_used_for_data(site):
    policy = load_policy("p.yaml", site)
    trial = Keyring(policy, trial=True).derive("token", "mobile")
    assert trial != Keyring(policy).derive("token", "mobile")
    assert TRIAL_SECRET not in (site / "first.key").read_bytes()


def test_an_inline_secret_is_refused_in_previous_keys_too(site):
    body = POLICY.replace(
        "  secret: file:first.key", "  secret: file:first.key\n  previous: [{id: k0, secret: hunter2}]"
    )
    (site / "p.yaml").write_text(body, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_policy("p.yaml", site)
    assert "hunter2" not in str(caught.value)
    assert "never the secret itself" in str(caught.value)


@pytest.mark.parametrize("options", [(), ("--bridge",)])
def test_a_policys_own_tests_pass_after_rotations(site, options):
    policy = site / "p.yaml"
    with policy.open("a", encoding="utf-8") as file:
        file.write(
            "tests:\n"
            "  - given: {note: call 13812345678, other: x}\n"
            "    expect: {note: {matches: 'call mobile_k1_[a-z2-7]{16}'}, other: x}\n"
        )
    for _ in range(3):
        assert app.run(["check", str(policy)]) == 0
        assert app.run(["keys", "rotate", str(policy), *options]) == 0
    assert app.run(["check", str(policy)]) == 0
    policy.write_text(
        policy.read_text(encoding="utf-8").replace("mobile_k1_", "mobile_k9_"), encoding="utf-8"
    )
    assert app.run(["check", str(policy)]) == 2, "a key that the policy does not know"
