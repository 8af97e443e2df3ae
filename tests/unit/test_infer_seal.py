"""`forebay models seal`: what a maker need not write by hand, and that what does not go together is left as it was."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from forebay.errors import ModelError
from forebay.infer.bundle import find, load, try_apart
from forebay.infer.seal import seal
from forebay.infer.signing import sign
from forebay.keys import generate


def copied(folder: Path, name: str = "sensor-anomaly") -> Path:
    return Path(shutil.copytree(find(name), folder / name))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("golden", [False, True])
def test_sealing_what_is_sealed_changes_nothing(tmp_path: Path, golden: bool) -> None:
    made = copied(tmp_path)
    before = contents(made)
    _, difference = seal(made, golden=golden)
    assert contents(made) == before
    assert difference < 1e-6


def test_a_changed_and_a_new_file_are_sealed_and_the_signature_of_before_goes(tmp_path: Path) -> None:
    made = copied(tmp_path)
    (made / "manifest.sig").write_bytes(sign((made / "manifest.yaml").read_bytes(), generate("maker")))
    (made / "CARD.md").write_text("another card")
    (made / "notes.txt").write_text("more")
    with pytest.raises(ModelError):
        load(made)
    found, _ = seal(made, golden=False)
    assert load(made).sha256 == found.sha256
    assert "notes.txt" in found.files
    assert not (made / "manifest.sig").exists()


@pytest.mark.parametrize("name", ["energy-forecast", "bearing-faults", "faces-near", "plates-cn"])
def test_files_and_golden_output_are_made_where_the_manifest_says_nothing_of_them(
    tmp_path: Path, name: str
) -> None:
    made = copied(tmp_path, name)
    stated = yaml.safe_load((made / "manifest.yaml").read_text())
    del stated["files"], stated["golden"]
    (made / "manifest.yaml").write_text("# by hand\n" + yaml.safe_dump(stated))
    (made / "golden.npz").unlink()
    found, _ = seal(made, golden=True)
    assert load(made).sha256 == found.sha256
    assert (made / "manifest.yaml").read_text().startswith("# by hand\n")
    assert try_apart(load(made))[0] < 1e-4


def test_a_golden_picture_is_what_the_preprocessing_makes_of_pixels(tmp_path: Path) -> None:
    made = copied(tmp_path, "faces-near")
    seal(made, golden=True)
    with np.load(io.BytesIO((made / "golden.npz").read_bytes())) as stored:
        (given,) = (stored[name] for name in stored.files if name.startswith("in/"))
    assert given.shape == (1, 128, 128, 3)
    assert given.dtype == np.float32
    assert (-1.001 <= given.min() < -0.9, 0.9 < given.max() <= 1.001) == (True, True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("opset", 12, "expected opset 12, found 17"),
        ("inputs", [{"name": "window", "shape": ["n", 30]}], "input `window`: expected"),
        ("preprocessing", {"kind": "series-window", "window": 20}, "the preprocessing makes"),
        ("task", "detection", "do not go with task detection"),
    ],
)
def test_what_does_not_go_together_is_named_and_left_as_it_was(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    made = copied(tmp_path)
    stated = yaml.safe_load((made / "manifest.yaml").read_text()) | {key: value}
    (made / "manifest.yaml").write_text(yaml.safe_dump(stated))
    (made / "golden.npz").write_bytes(b"of before")
    before = contents(made)
    with pytest.raises(ModelError, match=message) as caught:
        seal(made, golden=True)
    assert not caught.value.message.startswith(":")
    assert contents(made) == before


def test_a_folder_without_a_manifest_or_with_a_broken_one_is_named(tmp_path: Path) -> None:
    made = copied(tmp_path)
    (made / "manifest.yaml").write_text("name: [")
    with pytest.raises(ModelError, match="not valid YAML"):
        seal(made, golden=False)
    (made / "manifest.yaml").write_text("just text")
    with pytest.raises(ModelError, match="valid dictionary"):
        seal(made, golden=False)
    (made / "manifest.yaml").unlink()
    with pytest.raises(ModelError, match=r"found no manifest\.yaml"):
        seal(made, golden=False)
