"""A CycloneDX bill of materials of an installed tree: every Python package, every native library that it brings.

Native libraries are the shared objects in the `*.libs` folders of wheels, named and hashed, and the extension
modules themselves; what a wheel links statically is not visible in its files, so the well-known ones are named by
hand below and say so.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

from targets import Target, epoch, run

# Written by a program of its own in the tools' environment: the product does not depend on CycloneDX.
WRITER = Path(__file__).parent / "write_sbom.py"

STATIC = {  # package: libraries inside its extension modules (stated by its own build scripts)
    "cryptography": ("openssl",),
    "zstandard": ("zstd",),
    "onnxruntime": ("onnx", "protobuf", "abseil-cpp", "eigen", "mlas"),
    "opencv-python-headless": ("opencv", "libjpeg-turbo", "libpng", "libtiff", "libwebp", "openjpeg", "zlib"),
    "pyyaml": ("libyaml",),
}


def write_sbom(tree: Path, path: Path, target: Target) -> Path:
    """Write the bill of a tree and return its path."""
    import json

    facts = {
        "serial": str(
            uuid.uuid5(uuid.NAMESPACE_URL, f"forebay-{target.arch}-{epoch()}-{_fingerprint(tree)}")
        ),
        "time": datetime.fromtimestamp(epoch(), UTC).isoformat(),
        "arch": target.arch,
        "packages": list(_packages(tree)),
    }
    source = path.with_suffix(".facts")
    source.write_text(json.dumps(facts))
    tools = Path(__file__).resolve().parent.parent / ".cache/packaging/bin/python"
    run(str(tools), str(WRITER), str(source), str(path))
    source.unlink()
    return path


def _packages(tree: Path) -> Iterator[dict[str, object]]:
    for found in sorted(distributions(path=[str(tree)]), key=lambda d: d.metadata["Name"].lower()):
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        yield {
            "name": name,
            "version": found.version,
            "license": found.metadata["License-Expression"] or _classified(found) or "",
            "native": sorted(_native(found), key=lambda n: str(n["file"])),
            "static": list(STATIC.get(name, ())),
        }


def _classified(found: Distribution) -> str:
    names = [
        c.split(" :: ")[-1] for c in found.metadata.get_all("Classifier", []) if c.startswith("License ::")
    ]
    text = found.metadata["License"] or ""
    return ", ".join(names) or (text if len(text) <= 64 and "\n" not in text else "")


def _native(found: Distribution) -> Iterator[dict[str, object]]:
    for file in found.files or ():
        if re.search(r"\.so(\.[0-9.]+)?$", file.name):
            path = Path(str(file.locate()))
            yield {
                "file": str(file),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "bundled": ".libs/" in str(file),
            }


def _fingerprint(tree: Path) -> str:
    return ",".join(sorted(f"{d.metadata['Name']}={d.version}" for d in distributions(path=[str(tree)])))
