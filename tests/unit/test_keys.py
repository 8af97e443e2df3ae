"""Key files: made private, read back, refused when they are not what they should be."""

from __future__ import annotations

import stat

import pytest

from forebay import keys
from forebay.errors import KeyFileError
from forebay.receive.zap import AllowList


@pytest.fixture
def pair(tmp_path):
    key = keys.generate("gw-1")
    secret, public = keys.write_pair(key, tmp_path / "keys")
    return key, secret, public


def test_a_pair_is_read_back_as_it_was_made(pair):
    key, secret, public = pair
    assert keys.read_secret(secret) == key
    assert keys.read_public(public) == key.public


def test_the_secret_file_is_private_and_the_public_one_has_no_secret(pair):
    key, secret, public = pair
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    text = public.read_text()
    assert "secret" not in text
    for raw in (key.transport, key.signing):
        import base64

        assert base64.b64encode(raw).decode() not in text
    assert not [p for p in secret.parent.iterdir() if p.suffix == ".new"]


def test_the_repr_of_a_secret_shows_no_secret(pair):
    key, *_ = pair
    assert repr(key) == "SecretKey('gw-1')"
    assert repr(key.transport) not in f"{key!r} {key!s} {[key]}"


def test_an_existing_pair_is_not_overwritten(pair):
    key, secret, _ = pair
    before = secret.read_bytes()
    with pytest.raises(KeyFileError, match="already there"):
        keys.write_pair(keys.generate("gw-1"), secret.parent)
    assert secret.read_bytes() == before
    keys.write_pair(keys.generate("gw-1"), secret.parent, overwrite=True)
    assert secret.read_bytes() != before
    assert key.name == "gw-1"


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_public_key_in_the_place_of_a_secret_one_is_named_so(pair, mode):
    *_, public = pair
    public.chmod(mode)
    with pytest.raises(KeyFileError, match="expected a secret key, found a public one") as caught:
        keys.read_secret(public)
    assert caught.value.place == str(public)
    assert "NAME.key" in caught.value.hint


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601])
def test_a_secret_that_others_can_reach_is_refused(pair, mode):
    _, secret, _ = pair
    secret.chmod(mode)
    with pytest.raises(KeyFileError, match="read by others") as caught:
        keys.read_secret(secret)
    assert "chmod 600" in caught.value.hint


def test_a_credential_of_systemd_may_have_any_mode(pair, monkeypatch):
    _, secret, _ = pair
    secret.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent))
    keys.read_secret(secret)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secret.parent / "elsewhere"))
    with pytest.raises(KeyFileError):
        keys.read_secret(secret)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../gw", "a/b", "-x", ".x", "a" * 65, "a b", "a\n", "名", "a\x00b"]
)
def test_names_that_cannot_be_file_names_are_refused(name, tmp_path):
    with pytest.raises(KeyFileError):
        keys.generate(name)
    with pytest.raises(KeyFileError):
        keys.allow_path(tmp_path, name)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: b"",
        lambda text: b"\x00" * 200,
        lambda text: b"forebay-key: 1",
        lambda text: text.replace("forebay-key: 1", "forebay-key: 2").encode(),
        lambda text: text.replace("transport-public: ", "transport-public: A").encode(),
        lambda text: "\n".join(x for x in text.splitlines() if "transport-public" not in x).encode(),
        lambda text: text.replace("signing-public: ", "signing-public: !").encode(),
        lambda text: text[: len(text) // 2].encode(),
        lambda text: (text + "# " + "x" * 5000).encode(),
        lambda text: text.encode("utf-16"),
    ],
)
def test_malformed_files_are_named_errors_without_their_content(pair, spoil):
    _, secret, public = pair
    for path, read in ((secret, keys.read_secret), (public, keys.read_public)):
        text = path.read_text()
        path.write_bytes(spoil(text))
        with pytest.raises(KeyFileError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        for line in text.splitlines():
            if "secret:" in line:
                assert line.split(": ")[1] not in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(KeyFileError, match="forebay keys new"):
        keys.read_secret(tmp_path / "none.key")
    with pytest.raises(KeyFileError):
        keys.read_public(tmp_path)


def test_one_key_names_one_gateway(pair, tmp_path):
    key, *_ = pair
    allow = tmp_path / "allowed"
    path = keys.enroll("gw-1", key.public, allow)
    assert keys.read_allowed(allow)[0]["gw-1"].transport == key.public.transport
    assert keys.read_public(path).name == "gw-1"
    with pytest.raises(KeyFileError, match="already enrolled as gw-1"):
        keys.enroll("gw-2", key.public, allow)
    keys.enroll("gw-1", key.public, allow)
    keys.enroll("gw-1", keys.generate("new").public, allow)  # a gateway may get a new key
    assert keys.read_allowed(allow)[0]["gw-1"].transport != key.public.transport
    keys.revoke("gw-1", allow)
    assert keys.read_allowed(allow) == ({}, [])
    with pytest.raises(KeyFileError, match="no gateway `gw-1` is enrolled"):
        keys.revoke("gw-1", allow)


def test_what_a_relay_speaks_for_is_said_at_enrolment_and_never_by_its_key_file(pair, tmp_path):
    key, _, public = pair
    allow = tmp_path / "allowed"
    keys.enroll("relay", key.public, allow, ("hz-*", "lab"))
    listed = AllowList(allow)
    listed.refresh(0)
    spoken = [listed.speaks_for("relay", name) for name in ("hz-1", "lab", "lab2", "relay")]
    assert spoken == [True, True, False, False]
    with public.open("a", encoding="ascii") as file:
        file.write("speaks-for: *\n")
    keys.enroll("relay", keys.read_public(public), allow)
    listed.refresh(10**9)
    assert not listed.speaks_for("relay", "hz-1")
    keys.enroll("relay", key.public, allow, ("hz-*",))
    keys.revoke("relay", allow)
    assert list(allow.iterdir()) == []


@pytest.mark.parametrize("pattern", ["", "a b", "../x", "[ab]", "x" * 65])
def test_a_pattern_that_no_gateway_can_match_is_refused(pair, tmp_path, pattern):
    with pytest.raises(KeyFileError, match="what it speaks for"):
        keys.enroll("relay", pair[0].public, tmp_path, (pattern,))


def test_a_broken_file_locks_out_its_own_gateway_only(pair, tmp_path):
    key, *_ = pair
    allow = tmp_path / "allowed"
    keys.enroll("gw-1", key.public, allow)
    (allow / "gw-2.pub").write_text("nonsense")
    allowed, errors = keys.read_allowed(allow)
    assert list(allowed) == ["gw-1"]
    assert len(errors) == 1
    assert "gw-2.pub" in str(errors[0])
