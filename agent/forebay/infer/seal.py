"""What a bundle's maker need not write by hand: the sha256 of every file, and a golden input with its output."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from forebay.errors import ModelError
from forebay.infer.bundle import (
    MANIFEST,
    SIGNATURE,
    TRY_NS,
    Bundle,
    check_tensors,
    parse,
    read_files,
    try_apart,
    verified,
)
from forebay.infer.fit import made_shape
from forebay.infer.isolated import IsolatedSession
from forebay.infer.manifest import ImagePreprocessing, Manifest
from forebay.infer.session import SessionOptions
from forebay.infer.signing import Trust

KEPT = 256  # values of an output that are kept
ROWS = 8  # of a golden input of numbers
SIDE = 96  # of a golden picture whose size the model leaves open
PATCH = 16  # pixels of one colour: it packs well

_FILES = re.compile(r"(?m)^files:.*\n(?:[ \t]+.*\n)*")


def seal(folder: Path, *, golden: bool) -> tuple[Bundle, float]:
    """Write the hashes of a bundle's files into its manifest; return it, verified and tried, and the difference found.

    Parameters
    ----------
    golden : also write its golden file: what the model answers now, to a seeded input, becomes the expected answer

    Raises
    ------
    ModelError
        The bundle does not verify. Manifest and golden file are then as they were.
    """
    files, place = read_files(folder), str(folder)
    files.pop(SIGNATURE, None)  # of what it was before
    manifest, text = _manifest(files, place)
    if golden:
        files[manifest.golden.file] = _golden(manifest, files["model.onnx"], place)
    text = _with_hashes(text, files)
    found = verified({**files, MANIFEST: text.encode()}, place, Trust())
    difference, _ = try_apart(found)
    try:
        if golden:
            (folder / manifest.golden.file).write_bytes(files[manifest.golden.file])
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        (folder / SIGNATURE).unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"cannot be written: {error.strerror}", place=place) from None
    return found, difference


def _manifest(files: dict[str, bytes], place: str) -> tuple[Manifest, str]:
    """Return the manifest, whatever it says of files, and its text."""
    if MANIFEST not in files:
        raise ModelError(f"expected a bundle, found no {MANIFEST}", place=place)
    text = files.pop(MANIFEST).decode("utf-8", "replace")
    return _checked(text, files, place), text


def _checked(text: str, files: dict[str, bytes], place: str) -> Manifest:
    try:
        stated = yaml.safe_load(text)
    except yaml.YAMLError:
        stated = None
    if isinstance(stated, dict):
        golden = stated.get("golden")
        name = golden.get("file") if isinstance(golden, dict) else None
        none = "0" * 64
        stated["files"] = dict.fromkeys([*files, str(name or "golden.npz")], none)
        text = yaml.safe_dump(stated)
    return parse(text.encode(), f"{place}/{MANIFEST}")


def _with_hashes(text: str, files: dict[str, bytes]) -> str:
    lines = "".join(f"  {name}: {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))
    block = f"files:\n{lines}"
    text = text if text.endswith("\n") else f"{text}\n"
    return _FILES.sub(block, text, count=1) if _FILES.search(text) else text + block


def _golden(manifest: Manifest, model: bytes, place: str) -> bytes:
    """Run a seeded input and keep some of the outputs' values."""
    names = tuple(t.name for t in manifest.outputs)
    given, taken = _input(manifest), manifest.inputs[0].name
    with closing(IsolatedSession(model, SessionOptions(limit_ns=TRY_NS), place=place)) as session:
        check_tensors(manifest, session, place)
        answer = session.run({taken: given}, names)
    arrays: dict[str, Any] = {f"in/{taken}": given}
    for name, value in zip(names, answer, strict=True):
        flat = value.reshape(-1)
        index = np.unique(np.linspace(0, len(flat) - 1, KEPT).astype(np.int64))
        arrays |= {f"out/{name}/index": index, f"out/{name}/value": flat[index]}
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # NumPy before 2.1 would store an `allow_pickle` as one more array
    return out.getvalue()


def _input(manifest: Manifest) -> npt.NDArray[np.float32]:
    """Return rows of noise, or a picture of flat patches within what the preprocessing makes of 0 to 255."""
    rng, prep = np.random.default_rng(0), manifest.preprocessing
    if not isinstance(prep, ImagePreprocessing):
        _, width = made_shape(manifest)
        return rng.normal(0, 2, (ROWS, int(width))).astype(np.float32)
    sides = prep.size or [-(-SIDE // prep.multiple) * prep.multiple] * 2
    ends = np.outer([0.0, 255.0], np.ones(3)) - np.array(prep.mean)
    ends *= np.array(prep.scale)
    few = rng.uniform(ends.min(), ends.max(), (1, 3, *(-(-side // PATCH) for side in sides)))
    whole = few.repeat(PATCH, axis=2).repeat(PATCH, axis=3)[:, :, : sides[0], : sides[1]]
    return np.ascontiguousarray(
        whole if prep.layout == "nchw" else whole.transpose(0, 2, 3, 1), dtype=np.float32
    )
