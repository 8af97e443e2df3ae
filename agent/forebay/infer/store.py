"""Installed bundles: several versions of each beside each other, one of them current, none that goes back unasked.

Layout of a folder of bundles::

    DIR/NAME/VERSION/manifest.yaml ...   an installed version, complete or not there at all
    DIR/NAME/current                     the version in use, one line
    DIR.versions/NAME.json               what was seen: the highest version, and the one that a rollback allows
    DIR/NAME/manifest.yaml ...           instead of all that: a bundle put there by hand, never touched here

What was seen stands outside the bundles' own folders, so that copying an old bundle over a new one does not bring
the old version back: it is refused at load, too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from forebay.errors import ModelError
from forebay.infer.manifest import Manifest, version_key

CURRENT = "current"
_MANIFEST, _SIGNATURE = "manifest.yaml", "manifest.sig"
VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
MAX_PACKED_BYTES = 2 * 1024 * 1024 * 1024
MAX_PACKED_FILES = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """What is remembered of one bundle. `allowed`: a version below `highest` that `rollback` asked for."""

    highest: str = "0.0.0"
    sha256: str = ""
    previous: str = ""
    allowed: str = ""


def versions(folder: Path, name: str) -> list[str]:
    """Return the installed versions, lowest first."""
    found = [p.parent.name for p in (folder / name).glob("*/manifest.yaml")]
    return sorted((v for v in found if VERSION.fullmatch(v)), key=version_key)


def current(folder: Path, name: str) -> str:
    """Return the version in use, empty if the bundle is not installed by version. Raises ModelError."""
    path = folder / name / CURRENT
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read: {type(error).__name__}", place=str(path)) from None
    if VERSION.fullmatch(text) is None:
        raise ModelError("expected a version such as 1.2.0", place=str(path))
    return text


def _memory(folder: Path, name: str) -> Path:
    return folder.with_name(folder.name + ".versions") / f"{name}.json"


def seen(folder: Path, name: str) -> Seen:
    """Return what is remembered of a bundle. Raises ModelError if that is damaged: it never means `nothing`."""
    path = _memory(folder, name)
    try:
        facts = json.loads(path.read_text("ascii"))
        found = Seen(**{k: str(v) for k, v in facts.items()})
    except FileNotFoundError:
        return Seen()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"damaged: {type(error).__name__}", place=str(path)) from None
    if VERSION.fullmatch(found.highest) is None:
        raise ModelError("damaged: no version", place=str(path))
    return found


def check_not_older(folder: Path, manifest: Manifest, sha256: str) -> None:
    """Refuse a version below the highest one seen, unless a rollback asked for it. Raises ModelError."""
    known = seen(folder, manifest.name)
    if manifest.version == known.highest and known.sha256 not in ("", sha256):
        raise ModelError(
            f"{manifest.name} {manifest.version} was seen with other content: give what is new a new version",
            place=str(folder),
        )
    if version_key(manifest.version) < version_key(known.highest) and manifest.version != known.allowed:
        raise ModelError(
            f"{manifest.name} {manifest.version} is older than {known.highest}, which was installed here",
            place=str(folder),
            hint=f"go back on purpose with: forebay models rollback {manifest.name}",
        )


def unpack(path: Path) -> dict[str, bytes]:
    """Return the files of a packed bundle (.tar, .tar.gz) by name, without writing any. Raises ModelError."""
    files: dict[str, bytes] = {}
    total, tops = 0, set()
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                if member.isdir():
                    continue
                *folders, name = Path(member.name).parts
                tops.add(tuple(folders))
                total += member.size
                if (
                    not member.isreg()
                    or len(folders) > 1
                    or ".." in folders
                    or len(tops) > 1
                    or name in files
                ):
                    raise ModelError("expected plain files of one folder", place=str(path))
                if total > MAX_PACKED_BYTES or len(files) >= MAX_PACKED_FILES:
                    raise ModelError("too large or too many files", place=str(path))
                stream = archive.extractfile(member)
                files[name] = stream.read() if stream else b""
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise ModelError(
            f"not a readable bundle: {type(error).__name__}",
            place=str(path),
            hint="expected a folder or a .tar.gz of one",
        ) from None
    return files


def install(
    folder: Path, manifest: Manifest, sha256: str, files: dict[str, bytes], *, make_current: bool
) -> Path:
    """Write a verified bundle beside the others, atomically; return its folder.

    Parameters
    ----------
    files : everything that stands in the bundle's folder, the manifest and its signature too
    make_current : use it from the next (re)load on; otherwise it only stands there, for a shadow run

    Raises
    ------
    ModelError
        It is older than what was seen, the version is there with other content, or the disk refuses.
    """
    name, version = manifest.name, manifest.version
    if (folder / name / "manifest.yaml").exists():
        raise ModelError(
            "a bundle put there by hand is in the way", place=str(folder / name), hint="move it away"
        )
    check_not_older(folder, manifest, sha256)
    place = folder / name / version
    try:
        _write_folder(place, files)
        if make_current:
            known = seen(folder, name)
            # In this order: a crash between leaves the new version in use and the memory one version late.
            before = _use(folder, name, version)
            known = replace(known, previous=before if before != version else known.previous)
            if version_key(version) >= version_key(known.highest):
                known = replace(known, highest=version, sha256=sha256, allowed="")
            _remember(folder, name, known)
    except OSError as error:
        raise ModelError(f"cannot be written: {error.strerror}", place=str(place)) from error
    _remove_old(folder, name, manifest.version)
    return place


def previous(folder: Path, name: str) -> str:
    """Return the version before the one in use. Raises ModelError if there is none."""
    now, known = current(folder, name), seen(folder, name)
    if known.previous not in versions(folder, name) or known.previous == now:
        raise ModelError(f"there is no version of {name} to go back to", place=str(folder / name))
    return known.previous


def rollback(folder: Path, name: str) -> str:
    """Go back to the version before; return it. Raises ModelError if there is none."""
    back, now, known = previous(folder, name), current(folder, name), seen(folder, name)
    try:
        _remember(folder, name, replace(known, previous=now, allowed=back))
        _use(folder, name, back)
    except OSError as error:
        raise ModelError(f"cannot be written: {error.strerror}", place=str(folder)) from error
    return back


def _use(folder: Path, name: str, version: str) -> str:
    """Make a version the current one; return the one before."""
    before = current(folder, name)
    _write_file(folder / name / CURRENT, f"{version}\n".encode())
    return before


def _remember(folder: Path, name: str, known: Seen) -> None:
    path = _memory(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_file(path, json.dumps(asdict(known)).encode())


def _write_folder(place: Path, files: dict[str, bytes]) -> None:
    if place.exists():
        _mend_folder(place, files)
        return
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, data in files.items():
        _write_file(partial / name, data)
    _sync(partial)
    partial.rename(place)
    _sync(place.parent)


def _mend_folder(place: Path, files: dict[str, bytes]) -> None:
    """Bring back what was damaged of an installed version: its manifest is the same, so its content must be."""
    there = {p.name: None if p.is_symlink() else p.read_bytes() for p in place.iterdir()}
    same = there.get(_MANIFEST, files[_MANIFEST]) == files[_MANIFEST]
    if not same or (_SIGNATURE in there and _SIGNATURE not in files):
        raise ModelError(
            "this version is installed with other content: give what is new a new version", place=str(place)
        )
    for name in there.keys() - files.keys():
        (place / name).unlink()
    for name, data in files.items():
        if there.get(name) != data:
            _write_file(place / name, data)


def _write_file(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.new")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.chmod(0o644)  # the agent may run as another user than the one who installs
    partial.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_old(folder: Path, name: str, newest: str) -> None:
    """Remove versions that are neither in use, nor the one before, nor the newest."""
    keep = {current(folder, name), seen(folder, name).previous, newest}
    for version in versions(folder, name):
        if version not in keep:
            shutil.rmtree(folder / name / version, ignore_errors=True)
