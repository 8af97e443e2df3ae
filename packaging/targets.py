"""What packages are built for, and the tools that build them."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

GLIBC = "2.17"  # of our own wheels; the libraries beside it want 2.28 (Debian 10 and later)
# All but `parquet` (pyarrow would add 166 MB).
EXTRAS = ("vision", "mqtt", "industrial", "web", "otel", "postgres", "nats", "ner")


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of machine. `python` is the interpreter that the packages are for."""

    arch: str
    debian: str
    python: str = f"{sys.version_info[0]}.{sys.version_info[1]}"

    @property
    def uv_platform(self) -> str:
        """Name of the platform as uv knows it."""
        return f"{self.arch}-manylinux_2_28"


TARGETS = (Target("x86_64", "amd64"), Target("aarch64", "arm64"))


@dataclass(frozen=True, slots=True)
class Tools:
    """The environment of packaging/requirements.txt."""

    folder: Path

    @property
    def bin(self) -> Path:
        """Folder of its programs."""
        return self.folder / "bin"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.bin / "python"


def run(*command: str, capture: bool = False, **environment: str) -> str:
    """Run a command; its output goes to stderr unless captured. Raises CalledProcessError."""
    done = subprocess.run(
        command,
        check=True,
        text=True,
        env=os.environ | environment,
        stdout=subprocess.PIPE if capture else sys.stderr,
    )
    return done.stdout or ""


def epoch() -> int:
    """Return the time that stands in every file of a package."""
    return int(os.environ["SOURCE_DATE_EPOCH"])


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(files: list[Path], folder: Path) -> Path:
    """Write SHA256SUMS for files below a folder, as `sha256sum --check` reads it, and return it."""
    path = folder / "SHA256SUMS"
    path.write_text("".join(f"{digest(f)}  {f.relative_to(folder)}\n" for f in files), encoding="utf-8")
    return path


def sign(path: Path, key_file: Path) -> Path:
    """Write the Ed25519 signature of a file beside it, 64 bytes as `openssl pkeyutl -verify -rawin` reads them.

    The key is what `openssl genpkey -algorithm ed25519` makes, without a passphrase. Exits and says so for any other.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if stat.S_IMODE(key_file.stat().st_mode) & 0o077:
        raise SystemExit(f"{key_file} can be read by others: chmod 600 {key_file}")
    try:
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SystemExit(f"{key_file} is no Ed25519 key in PEM without a passphrase")
    signature = path.with_name(f"{path.name}.sig")
    signature.write_bytes(key.sign(path.read_bytes()))
    return signature
