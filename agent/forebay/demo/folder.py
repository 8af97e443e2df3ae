"""The demo's working folder: input files, keys, and configurations that can be read, changed and run again."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from forebay import keys, shipped
from forebay.demo.records import Records, generate
from forebay.errors import ConfigError, ForebayError

GATEWAY, CENTER = "demo-gateway", "demo-center"
RECORDING = "la-haute-borne-2014-01-02.csv"
TURBINES, VISITORS, PHOTOS = "turbines", "visitors", "photos"
_MARKER = ".forebay-demo"
_NAMES = (
    *("agent.yaml", "receiver.yaml", "keys", "input", "spool", "logs", "center.db", "center.db-wal"),
    *("center.db-shm", "anomalies.png", "masked.jpg", "summary.txt", "summary.json"),
)

_AGENT = """\
# Written by `forebay demo`: the agent on the gateway. Yours to read, change and run again:
#   forebay check agent.yaml
#   forebay run agent.yaml --once
gateway: {{id: {gateway}, site: this machine}}

sources:
  turbines: {{type: file, path: input/{recording}, format: csv, time: {{field: ts}}}}
  visitors: {{type: file, path: input/visitors.jsonl, format: jsonl, time: {{field: ts}}}}
{photo_source}
pipelines:
  turbines:
    source: turbines
    key: turbine
    fields:
      turbine: {{grade: general}}
      pitch: {{unit: deg, grade: general, decimals: 2}}
      power: {{unit: kW, grade: general, decimals: 2}}
      wind_speed: {{unit: m/s, grade: general, decimals: 2}}
      vane: {{unit: deg, grade: general, decimals: 2}}
      temperature: {{unit: "°C", grade: general, decimals: 2}}
      nacelle: {{unit: deg, grade: general, decimals: 2}}
      wind_direction: {{unit: deg, grade: general, decimals: 2}}
    steps:
      - validate: {{field: temperature, range: [-40, 50]}}
      - validate: {{field: wind_speed, range: [0, 60]}}
      - validate: {{field: power, range: [-100, 2200]}}
      - infer: {{model: sensor-anomaly, inputs: [power, wind_speed, pitch, vane, temperature]}}
      - alarm: {{when: "anomaly > 0.9", clear: "anomaly < 0.5", name: unusual, lane: urgent}}
      # The nacelle turns seldom: a value that has not changed is sent once an hour.
      - deadband: {{field: nacelle, absolute: 0, max_silence: 1h}}

  visitors:
    source: visitors
    fields:
      visitor: {{classes: [name]}}
{photo_pipeline}
masking: {{policy: {policy}}}
spool: {{dir: spool, max_bytes: 256MiB}}
forward:
  endpoints: [{endpoint}]
  keys: {{own: keys/gateway.key, server: keys/center.pub}}
  retry_max: 1s
"""
_PHOTO_SOURCE = "  photos: {type: file, path: input/photos, format: images}\n"
_PHOTO_PIPELINE = "\n  photos: {source: photos, lane: bulk}\n"

_RECEIVER = """\
# Written by `forebay demo`: the receiver in the data center.
#   forebay check receiver.yaml
#   forebay receive receiver.yaml
center: {{id: {center}}}
listen: {{endpoint: {endpoint}, key: keys/center.key, allow: keys/allowed}}
sinks:
  store: {{type: sqlite, path: center.db}}
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """A prepared working folder."""

    path: Path
    records: Records
    with_photos: bool

    @property
    def agent(self) -> Path:
        """The agent's configuration."""
        return self.path / "agent.yaml"

    @property
    def receiver(self) -> Path:
        """The receiver's configuration."""
        return self.path / "receiver.yaml"

    @property
    def input(self) -> Path:
        """What the sources read: their own files, which are not masked."""
        return self.path / "input"

    @property
    def spool(self) -> Path:
        """The agent's buffer."""
        return self.path / "spool"

    @property
    def logs(self) -> Path:
        """Logs of both."""
        return self.path / "logs"

    @property
    def database(self) -> Path:
        """The receiver's store."""
        return self.path / "center.db"

    def photos(self) -> list[Path]:
        """Return the photographs that are read."""
        return sorted((self.input / "photos").glob("*.jpg")) if self.with_photos else []


def prepare(path: Path, *, policy: str = "base", with_photos: bool = True) -> Folder:
    """Make the working folder; what an earlier demo left in it is replaced.

    Raises
    ------
    ConfigError
        The folder holds files that no demo made, or another demo runs in it.
    """
    path.mkdir(parents=True, exist_ok=True)
    _claim(path)
    for name in _NAMES:
        _remove(path / name)
    folder = Folder(path.resolve(), generate(), with_photos)
    for part in (folder.input, folder.logs):
        part.mkdir()
    _write_input(folder)
    _write_keys(folder.path / "keys")
    _write_configurations(folder, policy)
    return folder


def _claim(path: Path) -> None:
    """Refuse a folder of somebody else; hold ours until this process ends."""
    marker = path / _MARKER
    if not marker.exists() and any(path.iterdir()):
        raise ConfigError(
            "the folder holds files that no demo made", place=str(path), hint="give another one with --dir"
        )
    descriptor = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigError("another demo runs in this folder", place=str(path)) from None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_input(folder: Folder) -> None:
    data = shipped.path("config") / "demo"
    if not (data / RECORDING).is_file():
        raise ForebayError(
            "the demo's recording is missing", place=str(data), hint="install the package again"
        )
    shutil.copyfile(data / RECORDING, folder.input / RECORDING)
    (folder.input / "visitors.jsonl").write_text("\n".join(folder.records.lines) + "\n", encoding="utf-8")
    if folder.with_photos:
        (folder.input / "photos").mkdir()
        for photo in sorted((data / "photos").glob("*.jpg")):
            shutil.copyfile(photo, folder.input / "photos" / photo.name)


def _write_keys(folder: Path) -> None:
    gateway, center = keys.generate("gateway"), keys.generate("center")
    keys.write_pair(gateway, folder)
    keys.write_pair(center, folder)
    keys.enroll(GATEWAY, gateway.public, folder / "allowed")


def _write_configurations(folder: Folder, policy: str) -> None:
    if policy not in ("base", "strict"):
        policy = f"'{Path(policy).resolve()}'"
    endpoint = f"tcp://127.0.0.1:{_free_port()}"
    folder.agent.write_text(
        _AGENT.format(
            gateway=GATEWAY,
            recording=RECORDING,
            policy=policy,
            endpoint=endpoint,
            photo_source=_PHOTO_SOURCE if folder.with_photos else "",
            photo_pipeline=_PHOTO_PIPELINE if folder.with_photos else "",
        ),
        encoding="utf-8",
    )
    folder.receiver.write_text(_RECEIVER.format(center=CENTER, endpoint=endpoint), encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
