"""The container image: built from the Debian package on a Debian of debootstrap's, so that no registry is asked.

Run by `make test-install`; wants podman.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from machine import CACHE, ROOT, base, missing, package

pytestmark = [pytest.mark.torture, pytest.mark.skipif(bool(missing("podman")), reason=missing("podman"))]

Podman = Callable[..., str]


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Run podman with a store of its own; everything in it is deleted afterwards."""
    # Short: podman refuses long paths of its runtime.
    store = CACHE / "podman"
    options = ("--root", f"{store}/root", "--runroot", f"{store}/run", "--storage-driver", "overlay",
               "--cgroup-manager", "cgroupfs", "--events-backend", "none")  # fmt: skip

    def call(*command: str, expect: int | None = 0) -> str:
        done = subprocess.run(
            ["podman", *options, *command], capture_output=True, text=True, check=False, timeout=900
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
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="module")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image from the package in dist/; return its name."""
    folder = tmp_path_factory.mktemp("context")
    shutil.copy(package("forebay_*_amd64.deb"), folder)
    archive = folder.with_name("base.tar")
    subprocess.run(["tar", "-C", str(base()), "-cf", str(archive), "."], check=True, timeout=300)
    podman("import", str(archive), "localhost/forebay-base")
    archive.unlink()
    podman("build", "--format", "docker", "--isolation", "chroot", "--build-arg", "BASE=localhost/forebay-base",
           "--build-arg", "TARGETARCH=amd64", "-t", "localhost/forebay", "-f", str(ROOT / "packaging/Containerfile"),
           str(folder))  # fmt: skip
    return "localhost/forebay"


def test_the_image_is_built_without_a_registry_and_is_not_for_root(podman: Podman, image: str) -> None:
    facts = json.loads(podman("inspect", image))[0]
    assert facts["Config"]["User"] == "10001"
    assert facts["Config"]["Volumes"] == {"/var/lib/forebay": {}}
