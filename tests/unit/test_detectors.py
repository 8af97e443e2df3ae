"""Masking's own detectors: loaded late, limited, trusted like other bundles, let go when idle; never fail open."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from forebay import keys, shipped
from forebay import quality as q
from forebay.blocks import Column, Type
from forebay.cli import app
from forebay.clock import SystemClock
from forebay.config.loader import load_agent
from forebay.config.models import ModelsOptions
from forebay.detectors import Detectors
from forebay.errors import ModelError
from forebay.infer.bundle import find
from forebay.infer.session import ModelTimeout, SessionPool
from forebay.mask import load_policy
from forebay.mask.images import ImageMasker
from forebay.pipeline import Builder

FACES_ONLY = """
name: faces-only
version: 1
images: {plate: pass}
"""
FRAME = np.full((64, 64, 3), 200, np.uint8)


@pytest.fixture(scope="module")
def portrait() -> bytes:
    frame = cv2.imread(str(sorted((shipped.path("config") / "demo" / "photos").glob("*.jpg"))[0]))
    return bytes(cv2.imencode(".jpg", frame)[1])


@pytest.fixture
def faces_only(tmp_path: Path) -> Any:
    (tmp_path / "policy.yaml").write_text(FACES_ONLY)
    return load_policy("policy.yaml", tmp_path)


def masked(policy: Any, detectors: Detectors, picture: bytes) -> tuple[Column, Counter[str]]:
    hits: Counter[str] = Counter()
    return ImageMasker(policy, detectors).apply(Column.of(Type.BYTES, [picture]), hits), hits


def own_bundles(folder: Path, name: str = "faces") -> Path:
    shutil.copytree(find(name), folder / "bundles" / name)
    return folder / "bundles" / name


def test_a_run_that_is_late_raises_and_the_picture_does_not_pass(faces_only: Any) -> None:
    detectors = Detectors(models=ModelsOptions.model_validate({"time_limit": "1ms", "verify": False}))
    large = np.full((1280, 1280, 3), 200, np.uint8)  # half a second of work, so that the limit comes first
    with pytest.raises(ModelTimeout, match="not done within"):
        detectors["face"].detect(large)
    column, hits = masked(faces_only, detectors, bytes(cv2.imencode(".png", large)[1]))
    assert column.quality is not None
    assert column.quality.tolist() == [q.DETECTOR_FAILED]
    assert hits["image:detector_failed"] == 1
    assert not len(column.values)


def test_within_its_limit_the_face_is_covered(faces_only: Any, portrait: bytes) -> None:
    column, hits = masked(faces_only, Detectors(), portrait)
    assert column.quality is None
    assert hits["face:fill"] >= 1


def test_an_unsigned_detector_is_refused_where_signatures_are_required(
    tmp_path: Path, faces_only: Any, portrait: bytes
) -> None:
    own_bundles(tmp_path)
    models = ModelsOptions.model_validate({"dir": "bundles", "require_signature": True})
    detectors = Detectors(models=models, base=tmp_path)
    with pytest.raises(ModelError, match="not signed"):
        detectors["face"]
    column, _ = masked(faces_only, detectors, portrait)
    assert column.is_null().tolist() == [True]
    assert detectors["plate"].model.startswith("plates-cn@"), (
        "one that is shipped is trusted by being shipped"
    )


def test_a_detector_signed_by_a_trusted_key_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    from forebay.infer import signing

    bundle = own_bundles(tmp_path)
    text = (bundle / "manifest.yaml").read_text().replace("version: 1.0.0", "version: 1.0.7")
    (bundle / "manifest.yaml").write_text(text)
    pair = keys.generate("maker")
    keys.write_pair(pair, tmp_path)
    (bundle / "manifest.sig").write_bytes(signing.sign(text.encode(), pair))
    models = ModelsOptions.model_validate(
        {"dir": "bundles", "trust": ["maker.pub"], "require_signature": True}
    )
    detectors = Detectors(models=models, base=tmp_path)
    assert detectors["face"].model.startswith("faces@1.0.7#")
    (bundle / "manifest.yaml").write_text(text.replace("score: 0.4", "score: 0.9"))
    with pytest.raises(ModelError, match="changed after it was signed"):
        Detectors(models=models, base=tmp_path)["face"]


def test_a_damaged_detector_lets_no_picture_pass(tmp_path: Path, faces_only: Any, portrait: bytes) -> None:
    model = own_bundles(tmp_path) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    detectors = Detectors(models=ModelsOptions.model_validate({"dir": "bundles"}), base=tmp_path)
    column, hits = masked(faces_only, detectors, portrait)
    assert column.is_null().tolist() == [True]
    assert hits == {"image:detector_failed": 1}


def test_why_a_detector_cannot_be_loaded_is_said_once_and_again_after_it_was_mended(
    tmp_path: Path, faces_only: Any, portrait: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    model = own_bundles(tmp_path) / "model.onnx"
    whole = model.read_bytes()
    detectors = Detectors(models=ModelsOptions.model_validate({"dir": "bundles"}), base=tmp_path)
    for data, told in ((whole[:-1], 1), (whole, 1), (whole[:-2], 2)):
        model.write_bytes(data)
        detectors.release(1 << 62)
        for _ in range(2):
            masked(faces_only, detectors, portrait)
        assert (
            caplog.text.count("a detector of masking cannot be loaded, no picture passes class=face") == told
        )
    assert "expected sha256" in caplog.text


def test_only_ones_own_detectors_are_tried_and_only_those_that_are_asked_for(tmp_path: Path) -> None:
    model = own_bundles(tmp_path) / "model.onnx"
    models = ModelsOptions.model_validate({"dir": "bundles"})
    assert list(Detectors(models=models, base=tmp_path).try_own(["face", "plate"])) == []
    model.write_bytes(model.read_bytes()[:-1])
    (error,) = Detectors(models=models, base=tmp_path).try_own(["face", "plate"])
    assert "expected sha256" in str(error)
    assert list(Detectors(models=models, base=tmp_path).try_own(["plate", "person"])) == []
    assert list(Detectors().try_own(["face"])) == []


@pytest.mark.parametrize("damage", [False, True])
def test_check_live_tries_the_detectors_of_ones_own(
    tmp_path: Path, damage: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    model = own_bundles(tmp_path) / "model.onnx"
    model.write_bytes(model.read_bytes()[: -1 if damage else None])
    (tmp_path / "a.csv").write_text("ts,x\n")
    file = tmp_path / "agent.yaml"
    file.write_text(
        "gateway: {id: g}\nmodels: {dir: bundles}\nspool: {dir: spool}\n"
        "sources: {a: {type: file, path: a.csv}}\npipelines: {a: {source: a}}\n"
    )
    assert app.run(["check", str(file), "--live"]) == int(damage)
    told = capsys.readouterr()
    assert (
        "models.dir: masking cannot use a detector, no picture will pass" in told.out + told.err
    ) is damage


def test_a_reload_with_a_detector_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    model = own_bundles(tmp_path) / "model.onnx"
    file = tmp_path / "agent.yaml"
    file.write_text(
        "gateway: {id: g}\nmodels: {dir: bundles}\nspool: {dir: spool}\n"
        "sources: {a: {type: file, path: a.csv}}\npipelines: {a: {source: a}}\n"
    )
    spool: Any = SimpleNamespace(writer=None)  # nothing is written: it is built to see whether it can be
    Builder(load_agent(file), spool, SystemClock(), "boot", once=True).trial("a")
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(ModelError, match="expected sha256"):
        Builder(load_agent(file), spool, SystemClock(), "boot", once=True).trial("a")


def test_a_reload_sees_an_exchanged_detector_of_ones_own_and_nothing_else(tmp_path: Path) -> None:
    bundle = own_bundles(tmp_path)
    models = ModelsOptions.model_validate({"dir": "bundles"})
    before = Detectors(models=models, base=tmp_path).digest(["face", "plate"])
    assert before
    assert Detectors(models=models, base=tmp_path).digest(["plate"]) == ""
    assert Detectors().digest(["face"]) == ""
    (bundle / "manifest.yaml").write_text((bundle / "manifest.yaml").read_text() + "# another\n")
    assert Detectors(models=models, base=tmp_path).digest(["face", "plate"]) != before


def test_an_idle_detector_gives_its_session_back_and_the_next_picture_loads_it_again() -> None:
    pool = SessionPool()
    detectors = Detectors(models=ModelsOptions.model_validate({"idle": "1h"}), pool=lambda: pool)
    first = detectors["face"]
    found, session = first.detect(FRAME), weakref.ref(first._session)
    detectors.release(0)
    assert detectors["face"] is first, "it is not idle yet"
    detectors.release(1 << 62)
    assert session() is not None, "who looks at a picture now keeps what it looks with"
    del first
    gc.collect()
    assert session() is None
    assert np.array_equal(detectors["face"].detect(FRAME), found)


def test_steps_and_masking_share_one_session() -> None:
    from forebay import infer
    from forebay.config.models import InferOptions

    pool, models = SessionPool(), ModelsOptions()
    options = InferOptions(model="street-objects", field="image")
    step: Any = infer.build("infer", options, models=models, pool=pool)
    person = Detectors(models=models, pool=lambda: pool)["person"]
    assert person._session is step._detector._session
