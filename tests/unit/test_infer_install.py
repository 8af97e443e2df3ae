"""Signatures and installed versions: what is believed, what is refused, what never goes back unasked."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import yaml

from forebay import infer
from forebay.cli.app import run
from forebay.config.models import InferOptions, ModelsOptions
from forebay.errors import ModelError
from forebay.infer import signing, store
from forebay.infer.bundle import find, load, verified
from forebay.keys import generate, read_public, read_secret, write_pair


class Shop:
    """Somebody who makes and signs bundles, and a gateway's folder beside."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.installed = folder, folder / "installed"
        self.key, self.pub = write_pair(generate("maker"), folder / "keys")
        self.error = ""

    def make(self, version: str, *, signed: bool = True, **changes: object) -> Path:
        """Return a bundle of that version."""
        made = Path(
            shutil.copytree(find("sensor-anomaly"), self.folder / "made" / version, dirs_exist_ok=True)
        )
        manifest = yaml.safe_load((made / "manifest.yaml").read_text()) | {"version": version} | changes
        (made / "manifest.yaml").write_text(yaml.safe_dump(manifest))
        if signed:
            assert self.cli("models", "sign", made, "--key", self.key) == 0, self.error
        return made

    def cli(self, *arguments: object) -> int:
        out, error = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(error):
            code = run([str(a) for a in arguments])
        self.out, self.error = out.getvalue(), error.getvalue()
        return code

    def install(self, bundle: Path, *more: object) -> int:
        return self.cli("models", "install", bundle, "--dir", self.installed, "--trust", self.pub, *more)

    def trust(self) -> signing.Trust:
        return signing.Trust.read([self.pub], required=True)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# -- signatures ---------------------------------------------------------------------------------------------


def test_a_signed_bundle_names_its_signer_by_the_trusted_file(shop: Shop) -> None:
    assert load(shop.make("1.0.1"), shop.trust()).signed_by == "maker"


def test_an_unsigned_bundle_is_refused_where_signatures_are_required_only(shop: Shop) -> None:
    made = shop.make("1.0.1", signed=False)
    assert load(made).signed_by == ""
    with pytest.raises(ModelError, match="not signed") as caught:
        load(made, shop.trust())
    assert "forebay models sign" in caught.value.hint


def test_a_shipped_bundle_is_trusted_by_being_shipped(shop: Shop) -> None:
    assert load(find("sensor-anomaly"), shop.trust()).signed_by == signing.SHIPPED


def test_a_changed_manifest_is_refused_even_where_no_signature_is_required(shop: Shop) -> None:
    made = shop.make("1.0.1")
    text = (made / "manifest.yaml").read_text()
    (made / "manifest.yaml").write_text(text.replace("score: 0.9", "score: 0.1"))
    for trust in (None, shop.trust()):
        with pytest.raises(ModelError, match="changed after it was signed"):
            load(made, trust)


def test_a_signature_by_somebody_else_is_no_signature_of_ours(shop: Shop) -> None:
    made = shop.make("1.0.1")
    other = generate("maker")  # the same name says nothing
    trust = signing.Trust((other.public,), required=True)
    with pytest.raises(ModelError, match="a key that is not trusted"):
        load(made, trust)
    assert load(made, signing.Trust((other.public,))).signed_by == ""


@pytest.mark.parametrize("text", [b"", b"\xff" * 100, b"forebay-signature: 1\nkey: AAAA\n", b"x" * 5000])
def test_what_is_no_signature_is_refused(shop: Shop, text: bytes) -> None:
    made = shop.make("1.0.1")
    (made / "manifest.sig").write_bytes(text)
    with pytest.raises(ModelError, match=r"no signature of format 1|larger than"):
        load(made)


def test_each_changed_byte_of_a_signature_breaks_it(shop: Shop) -> None:
    secret, public = read_secret(shop.key), read_public(shop.pub)
    text = signing.sign(b"manifest", secret)
    trust = signing.Trust((public,), required=True)
    assert signing.check(b"manifest", text, trust, "here") == "maker"
    at = text.index(b"signature: ", text.index(b"key:")) + len(b"signature: ")
    for place in range(at, at + 80, 7):
        broken = bytearray(text)
        broken[place] = ord("B") if broken[place] == ord("A") else ord("A")
        with pytest.raises(ModelError):
            signing.check(b"manifest", bytes(broken), trust, "here")


def test_a_signature_of_bare_bytes_by_the_same_key_does_not_pass(shop: Shop) -> None:
    import base64

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = read_secret(shop.key)
    bare = Ed25519PrivateKey.from_private_bytes(secret.signing).sign(b"manifest")
    key, made = (base64.b64encode(v).decode() for v in (secret.public.signing, bare))
    text = f"forebay-signature: 1\nkey: {key}\nsignature: {made}\n".encode()
    with pytest.raises(ModelError, match="not of this manifest"):
        signing.check(b"manifest", text, shop.trust(), "here")


def test_the_step_refuses_an_unsigned_model_as_configured(shop: Shop) -> None:
    made = shop.make("1.0.1", signed=False)
    options = InferOptions(model=f"{made}/", inputs=["a"])
    models = ModelsOptions(trust=[shop.pub], require_signature=True)
    with pytest.raises(ModelError, match="not signed"):
        infer.build("infer", options, models=models)
    infer.build("infer", options, models=ModelsOptions(trust=[shop.pub], require_signature=False))


def test_trust_without_saying_what_it_means_is_a_configuration_error(shop: Shop) -> None:
    with pytest.raises(ValueError, match="say `require_signature"):
        ModelsOptions(trust=[shop.pub])


# -- install and rollback -----------------------------------------------------------------------------------


def test_install_makes_a_version_current_and_keeps_the_one_before(shop: Shop) -> None:
    for version in ("1.0.1", "1.0.2", "1.0.10"):
        assert shop.install(shop.make(version)) == 0, shop.error
        assert find("sensor-anomaly", bundles_dir=shop.installed).name == version
    assert store.versions(shop.installed, "sensor-anomaly") == ["1.0.2", "1.0.10"]
    assert find("sensor-anomaly@1.0.2", bundles_dir=shop.installed).name == "1.0.2"
    assert shop.cli("models", "list", "--dir", shop.installed, "--trust", shop.pub, "--json") == 0, shop.error
    (facts,) = [f for f in map(json.loads, shop.out.splitlines()) if f["name"] == "sensor-anomaly"]
    assert (facts["version"], facts["versions"], facts["signed_by"]) == (
        "1.0.10",
        ["1.0.2", "1.0.10"],
        "maker",
    )
    assert shop.cli("models", "verify", "sensor-anomaly", "--dir", shop.installed, "--trust", shop.pub) == 0


def test_an_older_version_is_refused_and_a_rollback_allows_exactly_one(shop: Shop) -> None:
    old, new = shop.make("1.0.1"), shop.make("1.0.2")
    assert shop.install(old) == 0
    assert shop.install(new) == 0
    assert shop.install(old) == 1
    assert "older than 1.0.2" in shop.error
    assert "models rollback sensor-anomaly" in shop.error
    assert shop.cli("models", "rollback", "sensor-anomaly", "--dir", shop.installed) == 0, shop.error
    assert store.current(shop.installed, "sensor-anomaly") == "1.0.1"
    options = InferOptions(model="sensor-anomaly", inputs=["a"])
    step = infer.build("infer", options, bundles_dir=shop.installed)
    assert getattr(step, "model", "").startswith("sensor-anomaly@1.0.1#")
    assert shop.install(shop.make("1.0.0")) == 1
    assert shop.install(new) == 0
    assert store.current(shop.installed, "sensor-anomaly") == "1.0.2"


def test_an_old_bundle_copied_back_by_hand_is_refused_at_load(shop: Shop) -> None:
    for version in ("1.0.1", "1.0.2"):
        assert shop.install(shop.make(version)) == 0
    (shop.installed / "sensor-anomaly" / "current").write_text("1.0.1\n")
    options = InferOptions(model="sensor-anomaly", inputs=["a"])
    with pytest.raises(ModelError, match=r"1\.0\.1 is older than 1\.0\.2"):
        infer.build("infer", options, bundles_dir=shop.installed)
    shutil.rmtree(shop.installed / "sensor-anomaly")
    shutil.copytree(shop.folder / "made" / "1.0.1", shop.installed / "sensor-anomaly")
    with pytest.raises(ModelError, match="older than"):
        infer.build("infer", options, bundles_dir=shop.installed)


def test_the_same_version_with_other_content_is_refused(shop: Shop) -> None:
    assert shop.install(shop.make("1.0.1")) == 0
    assert shop.install(shop.make("1.0.1")) == 0, "the same again is no error"
    assert shop.install(shop.make("1.0.1", description="another")) == 1
    assert "other content" in shop.error


@pytest.mark.parametrize("damage", ["a changed byte", "a file gone", "no manifest", "a link", "one too many"])
def test_installing_again_mends_a_version_that_was_damaged(shop: Shop, damage: str) -> None:
    made = shop.make("1.0.1")
    assert shop.install(made) == 0
    place = find("sensor-anomaly", bundles_dir=shop.installed)
    graph = place / "model.onnx"
    if damage == "a changed byte":
        graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    elif damage == "a link":
        graph.unlink()
        graph.symlink_to(made / "model.onnx")
    elif damage == "one too many":
        (place / "weights.bin").write_bytes(b"x")
    else:
        (place / ("CARD.md" if damage == "a file gone" else "manifest.yaml")).unlink()
    with pytest.raises(ModelError):
        load(place, shop.trust())
    assert shop.install(made) == 0, shop.error
    assert load(place, shop.trust()).manifest.version == "1.0.1"


def test_installing_an_unsigned_copy_takes_no_signature_away(shop: Shop) -> None:
    made = shop.make("1.0.1")
    assert shop.install(made) == 0
    (made / "manifest.sig").unlink()
    assert shop.cli("models", "install", made, "--dir", shop.installed) == 1
    assert "other content" in shop.error
    assert load(find("sensor-anomaly", bundles_dir=shop.installed), shop.trust()).signed_by


def test_a_candidate_stands_beside_and_changes_nothing(shop: Shop) -> None:
    assert shop.install(shop.make("1.0.1")) == 0
    assert shop.install(shop.make("2.0.0"), "--candidate") == 0
    assert find("sensor-anomaly", bundles_dir=shop.installed).name == "1.0.1"
    assert find("sensor-anomaly@2.0.0", bundles_dir=shop.installed).name == "2.0.0"
    assert store.seen(shop.installed, "sensor-anomaly").highest == "1.0.1"


def test_nothing_is_installed_of_a_bundle_that_does_not_verify(shop: Shop) -> None:
    unsigned = shop.make("1.0.1", signed=False)
    assert shop.install(unsigned) == 1
    tampered = shop.make("1.0.2")
    (tampered / "CARD.md").write_text("better than it is")
    assert shop.install(tampered) == 1
    assert "expected sha256" in shop.error
    assert not list(shop.installed.glob("sensor-anomaly/*"))


def test_a_packed_bundle_is_installed_and_a_crooked_one_refused(shop: Shop, tmp_path: Path) -> None:
    made = shop.make("1.0.1")
    packed = tmp_path / "b.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(made, arcname="sensor-anomaly")
    assert shop.install(packed) == 0, shop.error
    for bad in ("../evil", "a/b/c"):
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(made / "CARD.md", arcname=bad)
            archive.add(made / "LICENCE", arcname="LICENCE")
        assert shop.install(packed) == 1
        assert "one folder" in shop.error
    packed.write_bytes(packed.read_bytes()[:100])
    assert shop.install(packed) == 1
    assert "not a readable bundle" in shop.error


def test_what_was_seen_is_never_nothing_when_it_is_damaged(shop: Shop) -> None:
    assert shop.install(shop.make("1.0.1")) == 0
    memory = shop.installed.with_name("installed.versions") / "sensor-anomaly.json"
    memory.write_text("{}x")
    with pytest.raises(ModelError, match="damaged"):
        store.seen(shop.installed, "sensor-anomaly")
    assert shop.install(shop.make("1.0.2")) == 1


def test_a_crash_before_the_marker_leaves_the_old_version_in_use(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.install(shop.make("1.0.1")) == 0
    made = load(shop.make("1.0.2"))
    files = {"manifest.yaml": made.text, **made.files}

    def crash(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_use", crash)
    with pytest.raises(KeyboardInterrupt):
        store.install(shop.installed, made.manifest, made.sha256, files, make_current=True)
    options = InferOptions(model="sensor-anomaly", inputs=["a"])
    step = infer.build("infer", options, bundles_dir=shop.installed)
    assert getattr(step, "model", "").startswith("sensor-anomaly@1.0.1#")


def test_bench_gives_latency_and_memory_of_this_machine(shop: Shop) -> None:
    assert shop.cli("models", "bench", "sensor-anomaly", "--runs", "50", "--json") == 0, shop.error
    facts = json.loads(shop.out)
    assert 0 < facts["p50_ms"] <= facts["p99_ms"]
    assert facts["rss_mib"] > 10
    assert facts["rows"] == 8
    assert facts["cpu_ms"] > 0


def test_bench_takes_another_number_of_rows_where_the_model_does(shop: Shop) -> None:
    assert shop.cli("models", "bench", "sensor-anomaly", "--runs", "10", "--rows", "3", "--json") == 0
    assert json.loads(shop.out)["rows"] == 3
    assert shop.cli("models", "bench", "street-objects", "--runs", "10", "--rows", "2") == 1
    assert "takes no 2 rows" in shop.error


def test_bench_takes_a_picture_of_another_size_where_the_model_does(shop: Shop) -> None:
    assert shop.cli("models", "bench", "plates-cn", "--runs", "10", "--size", "128x64", "--json") == 0
    facts = json.loads(shop.out)
    assert facts["inputs"] == {"image": [1, 3, 64, 128]}
    assert facts["peak_mib"] >= facts["rss_mib"] > facts["model_mib"]
    assert shop.cli("models", "bench", "plates-cn", "--runs", "10", "--size", "128x64") == 0
    assert "on image 1x3x64x128" in shop.out
    assert shop.cli("models", "bench", "street-objects", "--runs", "10", "--size", "128x64") == 1
    assert "its input is fixed" in shop.error
    assert shop.cli("models", "bench", "plates-cn", "--size", "128") == 2


def test_the_memory_of_a_small_model_is_not_that_of_the_runtime() -> None:
    """In a process of its own: here the runtime may be loaded already."""
    command = [sys.executable, "-m", "forebay", "models", "bench", "sensor-anomaly", "--runs", "10", "--json"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=True)
    assert json.loads(done.stdout)["model_mib"] < 6


def test_the_bytes_that_were_verified_are_the_bytes_that_are_used(shop: Shop) -> None:
    made = shop.make("1.0.1")
    before = {p.name: p.read_bytes() for p in made.iterdir()}
    bundle = verified(before, "memory", shop.trust())
    shutil.rmtree(made)
    assert bundle.files["model.onnx"] == before["model.onnx"]
    assert shop.cli("models", "sign", shop.folder, "--key", shop.key) == 1
