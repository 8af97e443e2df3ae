"""A CycloneDX bill of materials of an installed tree: every Python package, every native library that it brings.

Native libraries are the shared objects in the `*.libs` folders of wheels, with the name and version that their file
names carry (libzmq-2f02442c.so.5.2.5), and the extension modules themselves, all hashed. What a wheel links
statically is in no file's name: it is listed by hand below, with a pattern where a module's text tells the version.
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

# package: library inside its extension modules -> where their text says which version it is
STATIC: dict[str, dict[str, bytes]] = {
    "cryptography": {"openssl": rb"OpenSSL (\d+\.\d+\.\d+) \d"},
    "zstandard": {"zstd": rb"\0(1\.\d+\.\d+)\0"},
    "onnxruntime": {"onnx": b"", "protobuf": b"", "abseil-cpp": b"", "eigen": b"", "mlas": b""},
    "opencv-python-headless": {
        "opencv": b"",
        "libjpeg-turbo": rb"libjpeg-turbo \(ver ([\d.]+)",
        "libtiff": rb"TIFF: +build \(ver \d+ - ([\d.]+)",
        "openjpeg": rb"JPEG 2000: +build \(ver ([\d.]+)",
        "libwebp": b"",
        "zlib": b"",
    },
    "protobuf": {"upb": b"", "utf8_range": b""},
    "pyyaml": {"libyaml": b""},
}
# As auditwheel names them: libzmq-2f02442c.so.5.2.5, libopenblasp-r0-59ffcd50.3.15.so
BUNDLED = re.compile(
    r"^(?P<name>lib\w+?)_*(?:-r(?P<release>\d+))?(?:-[0-9a-f]{8}){1,2}(?P<rest>\.[\d.]+)?\.so\.?(?P<version>[\w.]*)$"
)


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
            "static": _static(found, STATIC.get(name, {})),
        }


def _classified(found: Distribution) -> str:
    names = [
        c.split(" :: ")[-1] for c in found.metadata.get_all("Classifier", []) if c.startswith("License ::")
    ]
    text = found.metadata["License"] or ""
    return ", ".join(names) or (text if len(text) <= 64 and "\n" not in text else "")


def _native(found: Distribution) -> Iterator[dict[str, object]]:
    for file in found.files or ():
        if re.search(r"\.so(\.[\w.]+)?$", file.name):
            path = Path(str(file.locate()))
            bundled = ".libs/" in str(file)
            name, version = interface_of(file.name) if bundled else (file.name, "")
            yield {
                "file": str(file),
                "name": name,
                "version": version,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "bundled": bundled,
            }


def interface_of(file: str) -> tuple[str, str]:
    """Return name and version of a library as its file name tells them; the version may be the interface's."""
    parts = BUNDLED.match(file)
    if parts is None:
        return file, ""
    return parts["name"], parts["version"] or f"{parts['release'] or ''}{parts['rest'] or ''}"


def _static(found: Distribution, patterns: dict[str, bytes]) -> list[dict[str, str]]:
    """Return the libraries linked into a package's modules, and the versions that can be seen."""
    files = [Path(str(f.locate())) for f in found.files or () if ".so" in f.name and ".libs/" not in str(f)]
    text = b"".join(path.read_bytes() for path in files) if patterns else b""
    versions = {name: re.search(pattern, text) if pattern else None for name, pattern in patterns.items()}
    return [{"name": name, "version": seen[1].decode() if seen else ""} for name, seen in versions.items()]


def _fingerprint(tree: Path) -> str:
    return ",".join(sorted(f"{d.metadata['Name']}={d.version}" for d in distributions(path=[str(tree)])))
