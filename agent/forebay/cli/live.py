"""What `forebay check --live` can try on this machine: files, keys, secrets, disk."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from forebay import secrets
from forebay.config.agent import AgentConfig
from forebay.config.base import format_size
from forebay.config.findings import Finding, KeyPath, Severity
from forebay.config.loader import CREDENTIAL, LoadedConfig
from forebay.config.receiver import ReceiverConfig
from forebay.config.secrets import secrets_of
from forebay.errors import ConfigError, ForebayError
from forebay.keys import read_allowed, read_public, read_secret

SHIPPED_POLICIES = frozenset({"base", "strict"})
CREDENTIALS = "CREDENTIALS_DIRECTORY"  # set by systemd, for the service alone

Loaded = LoadedConfig[Any]


@contextmanager
def systemd_keys(loaded: Loaded) -> Iterator[list[Finding]]:
    """Within it `credential:NAME` is `keys/NAME` beside the configuration, where systemd has handed over nothing.

    That is where the packages keep what the units load, and an engineer at the shell has no credentials.
    """
    folder = _keys_beside(loaded)
    if CREDENTIALS in os.environ or not folder.is_dir() or CREDENTIAL not in loaded.config.model_dump_json():
        yield []
        return
    os.environ[CREDENTIALS] = str(folder)
    try:
        message = (
            f"`{CREDENTIAL}NAME` is handed to the service by systemd; here it was looked for in {folder}"
        )
        yield [loaded.finding(message, (), severity=Severity.INFO)]
    finally:
        del os.environ[CREDENTIALS]


def _keys_beside(loaded: Loaded) -> Path:
    return loaded.base / "keys"


def check_files(loaded: Loaded) -> Iterator[Finding]:
    """Find files and folders that the configuration reads and that are not there."""
    config = loaded.config
    if isinstance(config, ReceiverConfig):
        for name, sink in config.sinks.items():
            path = getattr(sink, "path", None)
            if isinstance(path, Path) and not os.access(loaded.resolve(path).parent, os.W_OK | os.X_OK):
                yield loaded.finding("the folder is missing or not writable", ("sinks", name, "path"))
        return
    for name, source in config.sources.items():
        path = getattr(source, "path", None)
        if isinstance(path, Path):
            yield from _readable(loaded, path, ("sources", name, "path"))
    policy = getattr(config.masking, "policy", None)
    if policy is not None and str(policy) not in SHIPPED_POLICIES:
        yield from _readable(loaded, Path(policy), ("masking", "policy"))


def _readable(loaded: Loaded, path: Path, keys: KeyPath) -> Iterator[Finding]:
    whole = loaded.resolve(path)
    if any(c in str(path) for c in "*?["):
        if next(whole.parent.glob(whole.name), None) is None:
            yield loaded.finding("no file matches yet", keys, severity=Severity.WARNING)
    elif not whole.exists():
        yield loaded.finding("there is no such file", keys, hint=f"looked for {whole}")
    elif not os.access(whole, os.R_OK):
        yield loaded.finding("the file is not readable by this user", keys)


def check_keys(loaded: Loaded) -> Iterator[Finding]:
    """Find key files that are missing, or private ones that others can read."""
    config = loaded.config
    if isinstance(config, ReceiverConfig):
        yield from _private_key(loaded, config.listen.key, ("listen", "key"))
        allow = loaded.resolve(config.listen.allow)
        if not allow.is_dir():
            yield loaded.finding(
                "there is no such folder: every gateway is refused",
                ("listen", "allow"),
                hint=f"forebay keys enroll GATEWAY_ID PUBFILE --allow {allow}",
            )
        elif not os.access(allow, os.R_OK | os.X_OK):
            yield loaded.finding("the folder is not readable: every gateway is refused", ("listen", "allow"))
        else:
            yield from _enrolled(loaded, allow)
    elif config.forward is not None:
        yield from _private_key(loaded, config.forward.keys.own, ("forward", "keys", "own"))
        server, at = config.forward.keys.server, ("forward", "keys", "server")
        missing = list(_readable(loaded, server, at))
        yield from missing or _parses(loaded, read_public, server, at)


def _enrolled(loaded: Loaded, allow: Path) -> Iterator[Finding]:
    """Find files of the allow-list that let nobody in."""
    keys, problems = read_allowed(allow)
    for problem in problems:
        message = f"{problem.place}: {problem.message}"
        yield loaded.finding(message, ("listen", "allow"), hint=problem.hint, severity=Severity.WARNING)
    if not keys and not problems:
        hint = f"forebay keys enroll GATEWAY_ID PUBFILE --allow {allow}"
        message = "nobody is enrolled: every gateway is refused"
        yield loaded.finding(message, ("listen", "allow"), hint=hint, severity=Severity.WARNING)


def _parses(loaded: Loaded, read: Callable[[Path], object], path: Path, at: KeyPath) -> Iterator[Finding]:
    try:
        read(loaded.resolve(path))
    except ForebayError as error:
        yield loaded.finding(error.message, at, hint=error.hint)


def _private_key(loaded: Loaded, path: Path, keys: KeyPath) -> Iterator[Finding]:
    try:
        whole = loaded.resolve(path)
    except ConfigError as error:
        yield loaded.finding(error.message, keys, hint=error.hint)
        return
    try:
        mode = stat.S_IMODE(whole.stat().st_mode)
    except OSError:
        yield loaded.finding(
            "there is no such key", keys, hint=f"forebay keys new {whole.stem} --dir {whole.parent}"
        )
        return
    if not os.access(whole, os.R_OK):
        yield loaded.finding("the key is not readable by this user", keys)
    # systemd hands credentials out read-only, with modes of its own
    given = os.environ.get(CREDENTIALS, "")
    by_systemd = given and whole.is_relative_to(given) and Path(given) != _keys_beside(loaded)
    if mode & 0o077 and not by_systemd:
        yield loaded.finding(
            f"expected mode 0600, found {mode:04o}: others can read the key", keys, hint=f"chmod 600 {whole}"
        )
        return
    yield from _parses(loaded, read_secret, path, keys)


def check_secrets(loaded: Loaded) -> Iterator[Finding]:
    """Find references to secrets that lead nowhere."""
    for path, reference in secrets_of(loaded.config):
        try:
            secrets.resolve(reference, loaded.base)
        except ConfigError as error:
            yield loaded.finding(error.message, path, hint=error.hint)


def check_spool(loaded: Loaded) -> Iterator[Finding]:
    """Try to write where the spool is, and compare its quota with what is free."""
    if not isinstance(loaded.config, AgentConfig):
        return
    spool = loaded.config.spool
    folder = loaded.resolve(spool.dir)
    existing = folder
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".forebay-check-"):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        yield loaded.finding(
            f"cannot write to {existing}: {error.strerror}",
            ("spool", "dir"),
            hint="as which user does it run?",
        )
        return
    used = sum(f.stat().st_size for f in folder.glob("*") if f.is_file()) if folder.is_dir() else 0
    if spool.max_bytes > free + used:
        yield loaded.finding(
            f"the quota is {format_size(spool.max_bytes)}, but only {(free + used) // 1024**2} MiB are free",
            ("spool", "max_bytes"),
            hint="the disk will be full before the quota is",
            severity=Severity.WARNING,
        )
