"""The container image: built from the Debian package on a Debian of debootstrap's, so that no registry is asked.

Run by `make test-install`; wants podman. crun refuses machines with both versions of control groups: there, podman
runs in a mount namespace of its own that has only the first. Limits are given, since podman's own may exceed ours.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import CACHE, ROOT, base, missing, package, wait
from plant import FOREBAY, RECEIVER, free_port, kill, rows_of

pytestmark = [pytest.mark.torture, pytest.mark.skipif(bool(missing("podman")), reason=missing("podman"))]

Podman = Callable[..., str]
USER = 10001  # the image's
# Short: podman refuses long paths of its runtime.
STORE = CACHE / "podman"
PODMAN = ("podman", "--root", f"{STORE}/root", "--runroot", f"{STORE}/run", "--storage-driver", "overlay",
          "--cgroup-manager", "cgroupfs", "--events-backend", "none")  # fmt: skip
LIMITS = ("--ulimit", "nofile=4096:4096", "--ulimit", "nproc=2048:2048")
UNIFIED = Path("/sys/fs/cgroup/unified")
ALONE = ("unshare", "-m", "sh", "-c", f'umount {UNIFIED}; exec "$@"', "sh") if UNIFIED.exists() else ()
AGENT = """\
gateway: {{id: gw-1}}
sources:
  rows: {{type: file, path: rows.csv, format: csv, time: {{field: ts, unit: s}}}}
pipelines:
  rows: {{source: rows, linger: 50ms}}
spool: {{dir: /var/lib/forebay/spool}}
forward:
  endpoints: ["tcp://127.0.0.1:{port}"]
  keys: {{own: keys/gateway.key, server: keys/center.pub}}
  retry_max: 1s
"""


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Run podman with a store of its own; everything in it is deleted afterwards."""

    def call(*command: str, expect: int | None = 0) -> str:
        done = subprocess.run(
            [*ALONE, *PODMAN, *command], capture_output=True, text=True, check=False, timeout=900
        )
        assert expect is None or done.returncode == expect, (
            command,
            done.stdout[-2000:],
            done.stderr[-3000:],
        )
        return done.stdout if expect is not None else str(done.returncode)

    yield call
    call("rm", "--all", "--force", "--time", "0", expect=None)
    call("unmount", "--all", expect=None)
    shutil.rmtree(STORE, ignore_errors=True)


@pytest.fixture(scope="module")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image from the package in dist/; return its name."""
    folder = tmp_path_factory.mktemp("context")
    shutil.copy(package("forebay_*_amd64.deb"), folder)
    archive = folder.with_name("base.tar")
    subprocess.run(["tar", "-C", str(base()), "-cf", str(archive), "."], check=True, timeout=300)
    podman("import", str(archive), "localhost/forebay-base")
    archive.unlink()
    podman("build", "--format", "docker", *LIMITS, "--network", "none", "--build-arg", "BASE=localhost/forebay-base",
           "--build-arg", "TARGETARCH=amd64", "-t", "localhost/forebay", "-f", str(ROOT / "packaging/Containerfile"),
           str(folder))  # fmt: skip
    return "localhost/forebay"


def test_the_image_is_built_without_a_registry_and_is_not_for_root(podman: Podman, image: str) -> None:
    facts = json.loads(podman("inspect", image))[0]
    assert facts["Config"]["User"] == "10001"
    assert facts["Config"]["Volumes"] == {"/var/lib/forebay": {}}


def test_the_entry_point_of_the_image_delivers_to_a_receiver_of_the_same_image(
    podman: Podman, image: str, tmp_path: Path
) -> None:
    port = free_port()
    for name in ("site", "center", "agent"):
        (tmp_path / name).mkdir()
    site = tmp_path / "site"
    (site / "agent.yaml").write_text(AGENT.format(port=port))
    (site / "receiver.yaml").write_text(
        RECEIVER.format(port=port).replace("center.db", "/var/lib/forebay/center.db")
    )
    (site / "rows.csv").write_text("ts,id\n0,0\n1,1\n2,2\n")
    for command in (
        ("new", "gateway", "--dir", "keys"),
        ("new", "center", "--dir", "keys"),
        ("enroll", "gw-1", "keys/gateway.pub", "--allow", "keys/allowed"),
    ):
        subprocess.run([FOREBAY, "keys", *command], cwd=site, check=True, timeout=120)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, USER, USER)

    def start(name: str, *command: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*ALONE, *PODMAN, "run", *LIMITS, "--network", "host", "--no-healthcheck", "-v",
                 f"{site}:/etc/forebay:ro", "-v", f"{tmp_path / name}:/var/lib/forebay", image, *command],
                stdout=subprocess.DEVNULL, stderr=log,
            )  # fmt: skip

    def told() -> str:
        return "".join((tmp_path / f"{name}.log").read_text() for name in ("center", "agent"))

    running = [start("center", "receive", "/etc/forebay/receiver.yaml"), start("agent")]
    try:
        wait(
            lambda: rows_of(tmp_path / "center/center.db", "SELECT id FROM rows ORDER BY id") == [(0,), (1,), (2,)],
            "rows from container to container", told=told,
        )  # fmt: skip
        assert (tmp_path / "agent/spool/agent.sock").stat().st_uid == USER
        for child in running:
            child.send_signal(signal.SIGTERM)
        assert [child.wait(120) for child in running] == [0, 0], told()
    finally:
        for child in running:
            kill(child)
