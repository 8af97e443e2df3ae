"""Load a bundle: verify every file, then hand on the bytes that were verified.

Invariants
----------
- Each file is read once. What is hashed is what is parsed and what the runtime gets; no path is opened again.
- A file that the manifest does not list, a listed one that is missing, a link or a folder: refused.
- A graph that names data outside itself is refused.
- A signature is checked before anything else is parsed; see forebay.infer.signing for whose is believed.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import ValidationError

from forebay import shipped
from forebay.errors import ModelError
from forebay.infer import fit, signing, store
from forebay.infer.manifest import Manifest
from forebay.infer.onnx_file import examine
from forebay.infer.session import Session, SessionOptions, SessionPool

MANIFEST = "manifest.yaml"
SIGNATURE = "manifest.sig"
MAX_MANIFEST_BYTES = 256 * 1024
MAX_FILE_BYTES = 1024 * 1024 * 1024
TRY_NS = 30_000_000_000  # of a golden run, as `models.time_limit` is by default

_ORT_TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "int64": "tensor(int64)",
    "uint8": "tensor(uint8)",
}


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes
    ----------
    manifest : what it says
    sha256 : of the manifest's bytes, which hold the hash of every file
    files : verified bytes by name, the model's included
    place : folder, for messages
    signed_by : name of the trusted key that signed it, `signing.SHIPPED` for one that came with Forebay, or empty
    signature : bytes of `manifest.sig`, None if there is none
    text : bytes of the manifest
    """

    manifest: Manifest
    sha256: str
    files: dict[str, bytes]
    place: str
    signed_by: str = ""
    signature: bytes | None = None
    text: bytes = b""

    @property
    def model(self) -> str:
        """`name@version#hash8`, as results carry it."""
        return f"{self.manifest.name}@{self.manifest.version}#{self.sha256[:8]}"


def find(name: str, *, bundles_dir: Path | None = None, base: Path | None = None) -> Path:
    """Return the folder of a bundle given by name or by path.

    Parameters
    ----------
    name : a bundle's name, `NAME@VERSION` of an installed one, or a path (with a separator) relative to `base`
    bundles_dir : looked in before the bundles that come with Forebay
    base : folder of the configuration file

    Raises
    ------
    ModelError
        If there is none.
    """
    if "/" in name or name in (".", ".."):
        folder = (base or Path()) / name
        if (folder / MANIFEST).is_file():
            return folder
        raise ModelError(f"expected a bundle, found no {MANIFEST}", place=str(folder))
    places = [d for d in (bundles_dir, shipped.path("models")) if d is not None]
    plain, _, version = name.partition("@")
    for place in places:
        used = version or store.current(place, plain)
        if used and (place / plain / used / MANIFEST).is_file():
            return place / plain / used
        if not version and (place / plain / MANIFEST).is_file():
            return place / plain
    known = sorted({p.name for d in places for p in folders(d)})
    is_folder = ((base or Path()) / name / MANIFEST).is_file()
    hint = f"for the folder say ./{name}" if is_folder else f"known bundles: {', '.join(known)}"
    raise ModelError(f"no bundle `{name}`", place="models", hint=hint)


def folders(place: Path) -> list[Path]:
    """Return the folders of a folder that hold a bundle, in one version or several."""
    if not place.is_dir():
        return []
    return sorted(p for p in place.iterdir() if (p / MANIFEST).is_file() or (p / store.CURRENT).is_file())


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.is_symlink() or not path.is_file():
            raise ModelError("expected a plain file, found a link or a folder", place=str(path))
        with path.open("rb") as handle:
            data = handle.read(limit + 1)
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=str(path)) from error
    if len(data) > limit:
        raise ModelError(f"larger than {limit} bytes", place=str(path))
    return data


def read_manifest(folder: Path) -> tuple[Manifest, bytes]:
    """Return a bundle's manifest and its bytes. Raises ModelError."""
    path = folder / MANIFEST
    data = _read(path, MAX_MANIFEST_BYTES)
    return parse(data, str(path)), data


def parse(data: bytes, place: str) -> Manifest:
    """Return the manifest that these bytes are. Raises ModelError."""
    try:
        return Manifest.model_validate(yaml.safe_load(data))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ModelError("not valid YAML", place=f"{place}{where}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        text = str(first["msg"]).removeprefix("Value error, ")
        raise ModelError(f"{key}: {text}" if key else text, place=place) from None


def read_files(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder, each read once. Raises ModelError."""
    try:
        names = sorted(p.name for p in folder.iterdir())
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=str(folder)) from None
    limits = {MANIFEST: MAX_MANIFEST_BYTES, SIGNATURE: signing.MAX_BYTES}
    return {name: _read(folder / name, limits.get(name, MAX_FILE_BYTES)) for name in names}


def load(folder: Path, trust: signing.Trust | None = None) -> Bundle:
    """Read and verify every file of a bundle. Raises ModelError; nothing is run yet.

    `trust` says whose signature is needed; None: nobody's, but a signature that is there must be right.
    """
    is_shipped = shipped.path("models").resolve() in folder.resolve().parents
    return verified(read_files(folder), str(folder), trust or signing.Trust(), is_shipped=is_shipped)


def verified(
    files: dict[str, bytes], place: str, trust: signing.Trust, *, is_shipped: bool = False
) -> Bundle:
    """Return the bundle that these files are, all of them verified. Raises ModelError; nothing is run yet."""
    files = dict(files)
    text, signature = files.pop(MANIFEST, None), files.pop(SIGNATURE, None)
    if text is None:
        raise ModelError(f"expected a bundle, found no {MANIFEST}", place=place)
    signer = (
        signing.SHIPPED if is_shipped and signature is None else signing.check(text, signature, trust, place)
    )
    manifest = parse(text, f"{place}/{MANIFEST}")
    for name in sorted(set(files) - set(manifest.files)):
        raise ModelError(
            "a file that the manifest does not list", place=f"{place}/{name}", hint="remove it or list it"
        )
    for name, expected in manifest.files.items():
        if name not in files:
            raise ModelError("listed in the manifest, but missing", place=f"{place}/{name}")
        found = hashlib.sha256(files[name]).hexdigest()
        if found != expected:
            raise ModelError(
                f"expected sha256 {expected[:16]}..., found {found[:16]}...",
                place=f"{place}/{name}",
                hint="the file was changed or damaged: install the bundle again",
            )
    _check_graph(manifest, files["model.onnx"], f"{place}/model.onnx")
    digest = hashlib.sha256(text).hexdigest()
    return Bundle(manifest, digest, files, place, signer, signature, text)


def _check_graph(manifest: Manifest, model: bytes, place: str) -> None:
    try:
        facts = examine(model)
    except ValueError as error:
        raise ModelError(f"not an ONNX file: {error}", place=place) from None
    if facts.external:
        raise ModelError(
            "the graph keeps weights in another file, which no hash covers",
            place=place,
            hint="save the model in one file",
        )
    if facts.opset != manifest.opset:
        raise ModelError(f"expected opset {manifest.opset}, found {facts.opset}", place=place)


def open_session(
    bundle: Bundle, pool: SessionPool, options: SessionOptions, *, verify: bool = True
) -> Session:
    """Return a session for the verified bytes, its signature and golden output checked. Raises ModelError."""
    name, manifest = "model.onnx", bundle.manifest
    session = pool.get(manifest.files[name], bundle.files[name], options, place=bundle.place)
    check_tensors(manifest, session, bundle.place)
    if verify:
        check_golden(bundle, session)
    return session


def check_tensors(manifest: Manifest, session: Session, place: str) -> None:
    """Refuse a graph whose inputs and outputs are not those stated, or not what the task needs. Raises ModelError."""
    for what, stated, found in (
        ("input", manifest.inputs, session.inputs()),
        ("output", manifest.outputs, session.outputs()),
    ):
        for tensor in stated:
            if tensor.name not in found:
                raise ModelError(f"the graph has no {what} `{tensor.name}`", place=place)
            dtype, shape = found[tensor.name]
            if dtype != _ORT_TYPES[tensor.dtype] or not _same_shape(tensor.shape, shape):
                raise ModelError(
                    f"{what} `{tensor.name}`: expected {tensor.dtype}{tensor.shape}, found {dtype}{shape}",
                    place=place,
                )
        if what == "input" and len(found) != len(stated):
            raise ModelError(f"expected {len(stated)} inputs, found {len(found)}", place=place)
    fit.check_shapes(manifest, session.inputs(), place)


def try_apart(bundle: Bundle) -> tuple[float, tuple[str, ...]]:
    """Run a bundle's golden input in a process of its own: nobody knows yet whether it ends, or crashes.

    Returns
    -------
    The largest difference found, and the execution providers that ran it.

    Raises
    ------
    ModelError
        It does not load, fit its manifest or give its golden output, crashes or hangs.
    """
    options = SessionOptions(limit_ns=TRY_NS, isolated=True)
    session = open_session(bundle, SessionPool(), options, verify=False)
    return check_golden(bundle, session), session.providers


def _same_shape(stated: list[int | str], found: list[Any]) -> bool:
    """A name in the manifest stands for any dimension, a number for itself."""
    return len(stated) == len(found) and all(
        isinstance(a, str) or a == b for a, b in zip(stated, found, strict=True)
    )


def golden_input(bundle: Bundle) -> dict[str, npt.NDArray[Any]]:
    """Return the recorded input by name. Raises ModelError."""
    golden = bundle.manifest.golden.file
    arrays = _arrays(bundle.files[golden], f"{bundle.place}/{golden}")
    return {k.removeprefix("in/"): v for k, v in arrays.items() if k.startswith("in/")}


def check_golden(bundle: Bundle, session: Session) -> float:
    """Run the golden input; return the largest difference found. Raises ModelError if it is too large."""
    golden = bundle.manifest.golden
    place = f"{bundle.place}/{golden.file}"
    arrays = _arrays(bundle.files[golden.file], place)
    inputs = {k.removeprefix("in/"): v for k, v in arrays.items() if k.startswith("in/")}
    names = tuple(t.name for t in bundle.manifest.outputs)
    worst, answer = 0.0, session.run(inputs, names)
    for name, found in zip(names, answer, strict=True):
        index, expected = arrays.get(f"out/{name}/index"), arrays.get(f"out/{name}/value")
        if index is None or expected is None or not len(index) or len(index) != len(expected):
            raise ModelError(f"no golden values of output `{name}`", place=place)
        flat = found.reshape(-1)
        if int(index.min()) < 0 or int(index.max()) >= len(flat):
            raise ModelError(f"golden output `{name}` has another size", place=place)
        difference = np.abs(flat[index].astype(np.float64) - expected)
        if not bool((difference <= golden.absolute + golden.relative * np.abs(expected)).all()):
            raise ModelError(
                f"output `{name}` differs from its golden value by up to {float(difference.max()):.3g}",
                place=place,
                hint="this runtime or processor computes something else than the model's maker saw",
            )
        worst = max(worst, float(difference.max()))
    (given,) = inputs.values()
    fit.check_answer(bundle.manifest, given, answer, bundle.place)
    return worst


def _arrays(data: bytes, place: str) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except Exception as error:  # noqa: BLE001 - zipfile, zlib and NumPy raise a dozen kinds
        raise ModelError(f"not a readable .npz: {type(error).__name__}", place=place) from None
