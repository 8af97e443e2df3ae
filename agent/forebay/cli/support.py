"""`forebay support`: what a supporter needs, in one archive, without a data value and without a secret."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from forebay import __version__
from forebay.cli.status import ANSWER_S, DEFAULT_CONFIG, collect
from forebay.config.agent import AgentConfig
from forebay.config.findings import ConfigErrors
from forebay.config.hidden import hidden
from forebay.config.loader import LoadedConfig, load_agent
from forebay.control.client import ask_once
from forebay.errors import ForebayError
from forebay.lastgood import spool_folder

LOG_LINES = 2000
LOG_BYTES = 4 * 1024 * 1024
JOURNAL = ("journalctl", "--unit=forebay-agent", f"--lines={LOG_LINES}", "--no-pager", "--output=short-iso")


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default=DEFAULT_CONFIG)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: forebay-support-TIME.tar.gz.")
@click.option(
    "--log",
    "log_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The agent's log, where it is neither the journal's nor the configuration's `log.file`.",
)
def support_command(config: Path, output: Path | None, log_file: Path | None) -> int:
    """Pack what a supporter needs about the agent of CONFIG (/etc/forebay/agent.yaml).

    Versions, the configuration in force with secrets hidden, ledger, counters, crash reports, the buffer doctor's
    report, the last lines of the log. Everything passes the masking of the shipped `base` policy once more.
    """
    output = output or Path(time.strftime("forebay-support-%Y%m%dT%H%M%S.tar.gz"))
    names = []
    with tarfile.open(output, "w:gz") as archive:
        os.chmod(output, 0o600)
        for name, text in parts(config, log_file):
            data = (text if name == "versions.json" else masked(name, text)).encode("utf-8", "replace")
            entry = tarfile.TarInfo(f"forebay-support/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
            names.append(f"{name} ({len(data)} bytes)")
    click.echo(f"{output}: {', '.join(names)}")
    return 0


def parts(config: Path, log_file: Path | None) -> Iterator[tuple[str, str]]:
    """Yield name and text of each part. What cannot be had says why instead: half a bundle is better than none."""
    yield "versions.json", _dump(versions())
    folder = spool_folder(config)
    try:
        loaded: LoadedConfig[AgentConfig] | None = load_agent(config)
    except ConfigErrors as error:
        loaded = None
        yield "config-errors.txt", str(error)
    except ForebayError as error:
        loaded = None
        yield "config-errors.txt", str(error)
    if loaded is not None:
        yield "config.json", _dump(effective(loaded))
    yield "status.json", _dump(_status(folder, loaded.config.gateway.id if loaded else ""))
    yield "spool.json", _dump(_doctor(folder))
    yield "files.json", _dump(_files(folder))
    yield "crashes.json", _dump(_crashes(folder))
    yield "log.txt", _log(log_file or _own_log(loaded))


def _dump(facts: Any) -> str:
    return json.dumps(facts, ensure_ascii=False, default=str)


def versions() -> dict[str, Any]:
    """Return versions of the product, of what it stands on, and what the machine is."""
    from forebay_core import IMPLEMENTATION

    wanted = sorted(r.split(";")[0].split("[")[0] for r in importlib.metadata.requires("forebay") or ())
    names = sorted({"".join(c for c in w if c.isalnum() or c in "-_.").rstrip("0123456789.") for w in wanted})
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {
        "forebay": __version__,
        "core": IMPLEMENTATION,
        "python": sys.version,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "libraries": found,
    }


def effective(loaded: LoadedConfig[AgentConfig]) -> Any:
    """Return the configuration in force, defaults included. References to secrets stay, secrets are not in it."""
    return hidden(loaded.config.model_dump(mode="json"))


def _status(folder: Path, gateway: str) -> Any:
    try:
        return ask_once(folder, "status", timeout=ANSWER_S)
    except ForebayError as error:
        try:
            return {"agent": str(error), **collect(folder, gateway)}
        except ForebayError as worse:
            return {"agent": str(error), "spool": str(worse)}


def _doctor(folder: Path) -> Any:
    from forebay.cli.spool import verify_folder

    try:
        return verify_folder(folder)
    except ForebayError as error:
        return {"error": str(error)}


def _files(folder: Path) -> Any:
    try:
        disk = shutil.disk_usage(folder)
        found = [(p.name, p.stat()) for p in sorted(folder.iterdir())]
    except OSError as error:
        return {"error": error.strerror}
    entries = [
        {"name": n, "bytes": s.st_size, "mode": oct(s.st_mode & 0o7777), "uid": s.st_uid} for n, s in found
    ]
    return {"disk_total": disk.total, "disk_free": disk.free, "files": entries}


def _crashes(folder: Path) -> Any:
    from forebay.clock import SystemClock
    from forebay.crash import CrashReports

    try:
        return CrashReports(folder / "crashes", SystemClock()).read()
    except (OSError, ValueError) as error:
        return {"error": type(error).__name__}


def _own_log(loaded: LoadedConfig[AgentConfig] | None) -> Path | None:
    own = loaded.config.log.file if loaded is not None else None
    path = loaded.resolve(own) if loaded is not None and own is not None else None
    return path if path is not None and path.exists() else None


def _log(log_file: Path | None) -> str:
    if log_file is not None:
        with log_file.open("rb") as file:
            file.seek(max(0, log_file.stat().st_size - LOG_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
        return "\n".join(lines[-LOG_LINES:])
    try:
        done = subprocess.run(JOURNAL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no journal here ({type(error).__name__}); name the log with --log"
    return done.stdout[-LOG_BYTES:].decode("utf-8", "replace")


def masked(name: str, text: str) -> str:
    """Return text in which nothing is left that looks like an identifier: a second line, none should be there."""
    from forebay.mask.policy import load_policy
    from forebay.mask.records import RecordMasker, mask_json_lines

    masker = RecordMasker(load_policy("base", Path()), "support")
    if name.endswith(".json"):
        (line,) = mask_json_lines([text], masker, lambda: None)
        return line
    lines = text.split("\n")
    return "\n".join(masker.mask_text(lines, range(len(lines))))
