"""The offline bundle on a Debian 12 without a network: one command, then the services run.

Run by `make test-install` on what `make packages` built.
"""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator

import pytest
from machine import ROOT, Machine, booted, missing, package, wait
from plant import rows_of

pytestmark = [pytest.mark.torture, pytest.mark.skipif(bool(missing()), reason=missing())]

GATEWAY = "hz-water-017"
KEYS = "/etc/forebay/keys"
SINK = "/var/lib/forebay-receiver/center.db"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    bundle = package("forebay-*-offline-x86_64.tar.gz")
    with booted(tmp_path_factory.mktemp("machine") / "root") as machine:
        with tarfile.open(bundle) as archive:
            archive.extractall(machine.path("/root"), filter="tar")
        (folder,) = machine.path("/root").glob("forebay-*-offline-x86_64")
        folder.rename(folder.with_name("bundle"))
        yield machine


def arrived(machine: Machine) -> list[tuple]:
    return rows_of(machine.path(SINK), "SELECT temperature FROM pump ORDER BY time")


def test_the_bundle_holds_the_units_of_this_checkout(machine: Machine) -> None:
    for unit in (ROOT / "packaging").glob("*.service"):
        assert machine.path(f"/root/bundle/{unit.name}").read_bytes() == unit.read_bytes(), (
            "make packages again"
        )


def test_a_damaged_bundle_changes_nothing(machine: Machine) -> None:
    unit = machine.path("/root/bundle/forebay-agent.service")
    whole = unit.read_text()
    unit.write_text(whole + "\n")
    code, told = machine.try_run("sh", "/root/bundle/install.sh")
    unit.write_text(whole)
    assert code == 1
    assert "this bundle is damaged" in told
    assert not machine.path("/opt/forebay").exists()


def test_one_command_installs_and_both_services_deliver(
    machine: Machine, record_property: pytest.RecordProperty
) -> None:
    begin = time.monotonic()
    told = machine.run("sh", "/root/bundle/install.sh", timeout=600)
    installed_s = time.monotonic() - begin
    assert "systemctl enable --now forebay-agent" in told
    machine.write("/var/lib/forebay/pump.csv", "ts,temperature\n2026-01-01T00:00:00Z,20.5\n")
    machine.run("forebay", "keys", "enroll", GATEWAY, f"{KEYS}/gateway.pub", "--allow", f"{KEYS}/allowed")
    machine.run("systemctl", "enable", "--now", "forebay-receiver", "forebay-agent")
    wait(
        lambda: arrived(machine) == [(20.5,)],
        "the first reading",
        told=lambda: machine.journal("forebay-agent") + machine.journal("forebay-receiver"),
    )
    print(f"installed after {installed_s:.1f} s, first reading stored after {time.monotonic() - begin:.1f} s")
    record_property("install_to_first_reading_s", round(time.monotonic() - begin, 1))


def test_running_it_again_keeps_configuration_and_keys_and_restarts_what_ran(machine: Machine) -> None:
    kept = {name: machine.path(name).read_bytes() for name in (f"{KEYS}/gateway.key", f"{KEYS}/center.key")}
    config = machine.path("/etc/forebay/agent.yaml")
    config.write_text(config.read_text() + "\n# the engineer's line\n")
    edited = config.read_text()
    pid = machine.run("systemctl", "show", "--property=MainPID", "--value", "forebay-agent")
    machine.run("sh", "/root/bundle/install.sh", timeout=600)
    assert {name: machine.path(name).read_bytes() for name in kept} == kept
    assert config.read_text() == edited
    assert machine.run("systemctl", "show", "--property=MainPID", "--value", "forebay-agent") not in (
        pid,
        "0\n",
    )


def test_an_older_bundle_is_refused(machine: Machine) -> None:
    wheels = machine.path("/root/bundle/wheels")
    (wheel,) = wheels.glob("forebay-*.whl")
    older = wheel.rename(wheels / wheel.name.replace(wheel.name.split("-")[1], "0.0.9"))
    sums = machine.path("/root/bundle/SHA256SUMS")
    sums.write_text(sums.read_text().replace(wheel.name, older.name))
    code, told = machine.try_run("sh", "/root/bundle/install.sh")
    assert code == 1
    assert "downgrade refused" in told
    machine.run("systemctl", "is-active", "forebay-agent")
