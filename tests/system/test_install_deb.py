"""The Debian package on a Debian 12 without a network, systemd as PID 1: install, upgrade, downgrade, remove, purge.

Run by `make test-install` on what `make packages` built. The tests go through one machine's life, in this order.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import ROOT, Machine, booted, missing, package, wait
from plant import rows_of

pytestmark = [pytest.mark.torture, pytest.mark.skipif(bool(missing()), reason=missing())]

OLD = "0.0.9"
GATEWAY = "hz-water-017"  # the shipped example's
SINK = "/var/lib/forebay-receiver/center.db"
SOURCE = "/var/lib/forebay/pump.csv"
KEYS = "/etc/forebay/keys"
EDITED = f"""\
# the engineer's own file
gateway: {{id: {GATEWAY}}}
sources:
  pump: {{type: file, path: {SOURCE}, format: csv, follow: true, time: {{field: ts, unit: ms}}}}
pipelines:
  pump: {{source: pump, stream: full, linger: 20ms}}
spool: {{max_bytes: 16MiB}}
forward:
  endpoints: ["tcp://127.0.0.1:5570"]
  keys: {{own: "credential:gateway.key", server: keys/center.pub}}
  retry_max: 1s
"""
STUCK = f"""\
gateway: {{id: {GATEWAY}}}
models: {{verify: false, time_limit: 0s}}
sources:
  stuck: {{type: file, path: /var/lib/forebay/stuck.csv, format: csv, follow: true, time: {{field: ts, unit: s}}}}
pipelines:
  stuck: {{source: stuck, STEPSlinger: 20ms}}
forward:
  endpoints: ["tcp://127.0.0.1:5570"]
  keys: {{own: "credential:gateway.key", server: keys/center.pub}}
  retry_max: 1s
"""
ROWS = 500_000  # of 40 random bytes as letters: more than the spool's quota
LETTERS = str.maketrans("0123456789", "ghijklmnop")  # no digits, so that no identifier is found in them


@pytest.fixture(scope="module")
def deb() -> Path:
    return package("forebay_*_amd64.deb")


@pytest.fixture(scope="module")
def contents(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package unpacked, its control files in DEBIAN."""
    folder = tmp_path_factory.mktemp("deb") / "contents"
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def older(contents: Path) -> Path:
    """The same package under a lower version, with another example: what a release before this one looks like."""
    folder = contents.with_name("older")
    shutil.copytree(contents, folder, copy_function=shutil.copy2)
    new = version(contents)
    for name in ("DEBIAN/control", "DEBIAN/preinst", "usr/lib/forebay/forebay/__init__.py"):
        text = (folder / name).read_text()
        assert new in text
        (folder / name).write_text(text.replace(new, OLD))
    example = folder / "etc/forebay/agent.yaml"
    example.write_text(example.read_text() + "\n## A line that the next release has no more.\n")
    path = folder.with_name(f"forebay_{OLD}_amd64.deb")
    command = ("dpkg-deb", "--root-owner-group", "-Znone", "--build", str(folder), str(path))
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder)
    return path


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, deb: Path, older: Path) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("machine") / "root") as machine:
        machine.put(deb, "new.deb")
        machine.put(older, "old.deb")
        yield machine


def version(contents: Path) -> str:
    found = re.search(r"^Version: (.+)$", (contents / "DEBIAN/control").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def installed(machine: Machine) -> str:
    return machine.try_run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "forebay")[1].strip()


def dpkg(machine: Machine, *arguments: str, **environment: str) -> tuple[int, str]:
    return machine.try_run("dpkg", *arguments, timeout=600, DEBIAN_FRONTEND="noninteractive", **environment)


def must(result: tuple[int, str]) -> str:
    assert result[0] == 0, result[1][-3000:]
    return result[1]


def arrived(machine: Machine, stream: str) -> int:
    return (rows_of(machine.path(SINK), f"SELECT count(*) FROM {stream}") or [(0,)])[0][0]


def logs(machine: Machine) -> str:
    return machine.journal("forebay-agent") + machine.journal("forebay-receiver")


def user_of(machine: Machine, unit: str) -> str:
    pid = machine.run("systemctl", "show", "--property=MainPID", "--value", unit).strip()
    return machine.run("stat", "--format=%U", f"/proc/{pid}").strip()


def restarts(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "show", "--property=NRestarts", "--value", unit).strip()


# -- the package --------------------------------------------------------------------------------------------


def test_the_package_holds_this_checkout(contents: Path) -> None:
    inside = contents / "usr/lib/forebay"
    for path in (ROOT / "agent").rglob("*.py"):
        packed = inside / path.relative_to(ROOT / "agent")
        assert packed.read_bytes() == path.read_bytes(), f"{path}: make packages again"
    for unit in (ROOT / "packaging").glob("*.service"):  # those that the tests of hardening look at
        assert (contents / "lib/systemd/system" / unit.name).read_bytes() == unit.read_bytes()


def test_the_bill_names_the_libraries_that_the_package_brings(contents: Path) -> None:
    bill = json.loads((contents / "usr/share/doc/forebay/forebay.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = [part for package in bill["components"] for part in package.get("components", ())]
    parts = {part["name"]: part for part in listed}
    names = {
        "libzmq",
        "libsodium",
        "zstd",
        "openssl",
        "libscipy_openblas64",
        "libavcodec",
        "libpng16",
        "onnx",
    }
    assert names <= set(parts)
    assert re.fullmatch(r"5\.\d+\.\d+", parts["libzmq"]["version"])
    assert re.fullmatch(r"1\.\d+\.\d+", parts["zstd"]["version"])
    shared = {p.name for p in (contents / "usr/lib/forebay").glob("*.libs/*.so*")}
    files = {prop["value"].rsplit("/", 1)[-1] for part in listed for prop in part["properties"]}
    assert shared <= files


# -- its life on a machine ----------------------------------------------------------------------------------


def test_it_installs_without_a_network_and_delivers_a_reading(
    machine: Machine, contents: Path, record_property: pytest.RecordProperty
) -> None:
    assert machine.try_run("cat", "/proc/net/route")[1].count("\n") == 1  # the header: there is nowhere to go
    begin = time.monotonic()
    told = must(dpkg(machine, "--install", "/root/new.deb"))
    unpacked_s = time.monotonic() - begin
    assert "edit /etc/forebay/agent.yaml" in told
    machine.write(SOURCE, "ts,temperature,flow\n2026-01-01T00:00:00Z,20.5,3\n2026-01-01T00:00:01Z,21.5,4\n")
    machine.run("forebay", "keys", "enroll", GATEWAY, f"{KEYS}/gateway.pub", "--allow", f"{KEYS}/allowed")
    machine.run("systemctl", "enable", "--now", "forebay-receiver", "forebay-agent")
    wait(lambda: arrived(machine, "pump") == 2, "the first readings", told=lambda: logs(machine))
    whole_s = time.monotonic() - begin
    print(f"installed after {unpacked_s:.1f} s, first readings stored by the receiver after {whole_s:.1f} s")
    record_property("install_to_first_reading_s", round(whole_s, 1))
    assert machine.run("forebay", "--version").strip() == f"forebay {version(contents)} (core: compiled)"


def test_services_run_as_their_user_and_keys_stay_root_s(machine: Machine) -> None:
    for unit in ("forebay-agent", "forebay-receiver"):
        assert user_of(machine, unit) == "forebay"
        assert restarts(machine, unit) == "0", machine.journal(unit)
    modes = machine.run("stat", "--format=%U:%G %a %n", "/var/lib/forebay", KEYS, f"{KEYS}/gateway.key")
    assert modes.splitlines() == [
        "forebay:forebay 700 /var/lib/forebay",
        f"root:forebay 750 {KEYS}",
        f"root:root 600 {KEYS}/gateway.key",
    ]
    for name in ("agent", "receiver"):
        machine.run("forebay", "check", f"/etc/forebay/{name}.yaml")
        machine.run("systemd-analyze", "verify", f"/lib/systemd/system/forebay-{name}.service")
    # As the operations page says it, beside the running agent: by root, and as the service sees it.
    live = ("forebay", "check", "/etc/forebay/agent.yaml", "--live")
    assert f"looked for in {KEYS}" in machine.run(*live)
    as_service = (
        "systemd-run",
        "--pipe",
        "--wait",
        "--collect",
        "--uid=forebay",
        f"--property=LoadCredential=gateway.key:{KEYS}/gateway.key",
    )
    assert "looked for" not in machine.run(*as_service, *live)
    machine.path(SOURCE).chmod(0o600)  # root's
    assert "the file is not readable by this user" in machine.try_run(*as_service, *live)[1]
    machine.path(SOURCE).chmod(0o644)


def test_what_runs_before_the_start_finds_the_credentials(machine: Machine) -> None:
    folder = machine.path("/etc/systemd/system/forebay-agent.service.d")
    folder.mkdir(parents=True)
    drop_in = "[Service]\nExecStartPre=/usr/bin/forebay check --live /etc/forebay/agent.yaml\n"
    (folder / "live.conf").write_text(drop_in)  # unlike the unit's own line, one that must end with 0
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "forebay-agent")
    assert "looked for in" not in machine.journal("forebay-agent")
    shutil.rmtree(folder)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "forebay-agent")


def test_both_services_are_back_after_a_restart_of_the_machine(machine: Machine) -> None:
    machine.stop()
    with machine.path(SOURCE).open("a") as file:
        file.write("2026-01-01T00:01:02Z,25.5,5\n")
    machine.boot()
    for unit in ("forebay-agent", "forebay-receiver"):
        wait(
            lambda u=unit: machine.try_run("systemctl", "is-active", u)[0] == 0,
            unit,
            told=lambda: logs(machine),
        )
    assert arrived(machine, "pump") >= 2


def drop_in(machine: Machine, text: str) -> None:
    """Give the agent's unit a drop-in; none for an empty text."""
    folder = machine.path("/etc/systemd/system/forebay-agent.service.d")
    shutil.rmtree(folder, ignore_errors=True)
    if text:
        folder.mkdir(parents=True)
        (folder / "test.conf").write_text(text)
    machine.run("systemctl", "daemon-reload")


def test_a_start_may_take_longer_than_systemd_s_own_limit(machine: Machine) -> None:
    drop_in(machine, "[Service]\nExecStartPre=/bin/sleep 100\n")  # as long as examining a damaged card
    begin = time.monotonic()
    machine.run("systemctl", "restart", "forebay-agent", timeout=300)
    assert time.monotonic() - begin > 100
    assert machine.run("systemctl", "is-active", "forebay-agent").strip() == "active"
    assert restarts(machine, "forebay-agent") == "0"
    drop_in(machine, "")


def test_the_watchdog_ends_a_stuck_pipeline_and_nothing_is_lost(machine: Machine) -> None:
    machine.run("systemctl", "stop", "forebay-receiver")
    source = machine.path("/var/lib/forebay/stuck.csv")
    source.write_text("ts,id,flow\n" + "".join(f"{i},{i},{i % 7}\n" for i in range(10)))
    agent = machine.path("/etc/forebay/agent.yaml")
    agent.write_text(STUCK.replace("STEPS", ""))
    machine.run("systemctl", "restart", "forebay-agent")

    def waiting() -> int:
        code, told = machine.try_run("forebay", "status", "--json")
        return int(json.loads(told)["spool"]["pending_readings"]) if code == 0 else 0

    wait(lambda: waiting() >= 20, "what is in the buffer when it happens", told=lambda: logs(machine))

    # A model whose one operator never ends, and nobody who ends it: the pipeline does not come back.
    bundle = machine.path("/etc/forebay/stuck")
    shutil.copytree(
        ROOT / "models/sensor-anomaly", bundle, ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    graph = (ROOT / "tests/data/models/hang.onnx").read_bytes()
    before = hashlib.sha256((bundle / "model.onnx").read_bytes()).hexdigest()
    (bundle / "model.onnx").write_bytes(graph)
    manifest = (bundle / "manifest.yaml").read_text()
    (bundle / "manifest.yaml").write_text(manifest.replace(before, hashlib.sha256(graph).hexdigest()))
    agent.write_text(
        STUCK.replace("STEPS", "steps: [infer: {model: stuck/, inputs: [flow], calibration: 32}], ")
    )
    drop_in(machine, "[Service]\nWatchdogSec=20\n")
    machine.run("systemctl", "restart", "forebay-agent")
    with source.open("a") as file:
        file.writelines(f"{i},{i},{i % 7}\n" for i in range(10, 300))
    begin = time.monotonic()
    wait(lambda: int(restarts(machine, "forebay-agent")) >= 1, "the watchdog", told=lambda: logs(machine))
    print(f"the watchdog (20 s) has ended the agent after {time.monotonic() - begin:.1f} s")
    told = machine.run("journalctl", "--no-pager", "-u", "forebay-agent")
    assert "a part is stuck, the watchdog is no longer fed: pipeline stuck has not moved" in told
    assert "Watchdog timeout" in told

    agent.write_text(STUCK.replace("STEPS", ""))
    drop_in(machine, "")
    machine.run("systemctl", "restart", "forebay-agent")
    machine.run("systemctl", "start", "forebay-receiver")
    wait(lambda: arrived(machine, "stuck") == 300, "every row", told=lambda: logs(machine))
    assert rows_of(machine.path(SINK), "SELECT count(DISTINCT id), min(id), max(id) FROM stuck") == [
        (300, 0, 299)
    ]
    assert rows_of(machine.path(SINK), "SELECT * FROM gaps") == []


def test_purging_deletes_what_was_buffered_only_when_that_was_answered(machine: Machine) -> None:
    must(dpkg(machine, "--purge", "forebay"))
    assert not machine.path("/etc/forebay/agent.yaml").exists()
    assert machine.path(f"{KEYS}/gateway.key").exists()
    assert arrived(machine, "pump") >= 2
    must(dpkg(machine, "--install", "/root/new.deb"))
    machine.write("/root/answer", "forebay forebay/purge-data boolean true\n")
    machine.run("debconf-set-selections", "/root/answer")
    must(dpkg(machine, "--purge", "forebay"))
    for left in ("/etc/forebay", "/var/lib/forebay", "/var/lib/forebay-receiver", "/usr/lib/forebay"):
        assert not machine.path(left).exists(), left
    assert machine.try_run("getent", "passwd", "forebay")[0] == 2


def test_an_upgrade_keeps_a_full_spool_and_the_edited_configuration(machine: Machine, contents: Path) -> None:
    must(dpkg(machine, "--install", "/root/old.deb"))
    assert machine.run("forebay", "--version").split()[1] == OLD
    machine.write("/etc/forebay/agent.yaml", EDITED)
    machine.run("forebay", "keys", "enroll", GATEWAY, f"{KEYS}/gateway.pub", "--allow", f"{KEYS}/allowed")
    numbers = random.Random(7)
    with machine.path(SOURCE).open("w") as file:
        file.write("ts,id,note\n")
        texts = (f"{numbers.getrandbits(320):080x}".translate(LETTERS) for _ in range(ROWS))
        file.writelines(f"{i},{i},{text}\n" for i, text in enumerate(texts))
    machine.run("systemctl", "start", "forebay-agent")

    def full() -> bool:
        code, told = machine.try_run("forebay", "status", "--json")
        spool = json.loads(told)["spool"] if code == 0 else {"file_bytes": 0, "max_bytes": 1}
        return bool(spool["file_bytes"] > 0.8 * spool["max_bytes"])

    wait(full, "the spool is full", told=lambda: logs(machine))
    waiting = json.loads(machine.run("forebay", "status", "--json"))["spool"]["pending_readings"]
    assert waiting > 100_000

    # Conffiles as an unattended upgrade treats them: what was edited stays.
    must(dpkg(machine, "--force-confdef", "--force-confold", "--install", "/root/new.deb"))
    assert installed(machine) == f"installed {version(contents)}"
    assert machine.path("/etc/forebay/agent.yaml").read_text() == EDITED
    assert machine.path("/etc/forebay/agent.yaml.dpkg-dist").exists()
    wait(lambda: machine.try_run("systemctl", "is-active", "forebay-agent")[0] == 0, "the agent runs again")
    assert machine.run("forebay", "--version").split()[1] == version(contents)
    assert json.loads(machine.run("forebay", "status", "--json"))["spool"]["pending_readings"] >= waiting

    machine.run("systemctl", "start", "forebay-receiver")
    wait(lambda: arrived(machine, "full") >= ROWS, "everything is delivered", told=lambda: logs(machine))
    assert rows_of(machine.path(SINK), "SELECT count(*), count(DISTINCT id), min(id), max(id) FROM full") == [
        (ROWS, ROWS, 0, ROWS - 1)
    ]
    assert rows_of(machine.path(SINK), "SELECT * FROM gaps") == []


def test_a_downgrade_is_refused_and_what_runs_goes_on(machine: Machine, contents: Path) -> None:
    code, told = dpkg(machine, "--install", "/root/old.deb")
    assert code != 0
    assert "downgrade refused" in told
    assert installed(machine) == f"installed {version(contents)}"
    machine.run("systemctl", "is-active", "forebay-agent")
    with machine.path(SOURCE).open("a") as file:
        file.write(f"{ROWS},{ROWS},x\n")
    wait(lambda: arrived(machine, "full") == ROWS + 1, "a reading after it", told=lambda: logs(machine))


def test_removing_keeps_data_keys_and_configuration_and_no_older_version_takes_them(
    machine: Machine, contents: Path
) -> None:
    machine.run("systemctl", "stop", "forebay-receiver")
    with machine.path(SOURCE).open("a") as file:
        file.write(f"{ROWS + 1},{ROWS + 1},x\n")
    wait(
        lambda: json.loads(machine.run("forebay", "status", "--json"))["spool"]["pending_readings"] == 2,
        "a reading waits",
    )
    must(dpkg(machine, "--remove", "forebay"))
    assert machine.try_run("systemctl", "is-active", "forebay-agent")[0] != 0
    assert not machine.path("/usr/bin/forebay").exists()
    assert list(machine.path("/usr/lib").glob("forebay*")) == []
    assert machine.path("/etc/forebay/agent.yaml").read_text() == EDITED
    assert machine.path(f"{KEYS}/gateway.key").exists()

    code, told = dpkg(machine, "--install", "/root/old.deb")
    assert code != 0
    assert "downgrade refused" in told

    must(dpkg(machine, "--force-confold", "--install", "/root/new.deb"))
    machine.run("systemctl", "start", "forebay-receiver", "forebay-agent")
    wait(lambda: arrived(machine, "full") == ROWS + 2, "what waited is delivered", told=lambda: logs(machine))
    assert rows_of(machine.path(SINK), "SELECT count(DISTINCT id) FROM full") == [(ROWS + 2,)]
