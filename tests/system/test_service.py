"""The agent as a service: looked into, reloaded, kept in safe mode, watched, and its pipelines restarted alone."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from plant import Plant, kill, rows_of

PATIENCE_S = 60.0

TWO = """\
sources:
  a: {type: file, path: a.csv, format: csv, follow: true, time: {field: ts, unit: s}}
  b: {type: file, path: b.csv, format: csv, follow: true, time: {field: ts, unit: s}}
pipelines:
  a: {source: a, linger: 20ms, steps: [%s]}
  b: {source: b, linger: 20ms}
"""
KEEP_ALL = "deadband: {field: value, absolute: 0, max_silence: 1h}"
DOUBLE = "scale: {field: value, factor: 2}"

# Put into a process from outside, by Python's own hook: the product has no switch for its own faults.
FAULTS = """
import os, pathlib, time
def _after_import():
    from forebay import worker
    here = pathlib.Path(os.environ["FAULTS"])
    seal = worker.Worker._seal_open
    def faulty(self):
        if self._dirty and (here / f"crash-{self.options.stream}").exists():
            (here / f"crash-{self.options.stream}").unlink()
            raise RuntimeError("13800138000")
        while self._dirty and (here / f"stuck-{self.options.stream}").exists():
            time.sleep(0.01)
        seal(self)
    worker.Worker._seal_open = faulty
_after_import()
"""


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.02)


def append(plant: Plant, name: str, first: int, last: int) -> None:
    path = plant.folder / f"{name}.csv"
    with path.open("a") as file:
        if not file.tell():
            file.write("ts,id,value\n")
        file.writelines(f"{i},{i},{i / 4}\n" for i in range(first, last))


def ids(plant: Plant, stream: str) -> list[int]:
    return [row[0] for row in rows_of(plant.sink, f"SELECT id FROM {stream} ORDER BY time")]


def arrived(plant: Plant, stream: str, last: int) -> Callable[[], bool]:
    return lambda: ids(plant, stream)[-1:] == [last - 1]


def with_faults(plant: Plant) -> Path:
    folder = plant.folder / "faults"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FAULTS)
    # Before what is there: a checkout that is tried under PYTHONPATH must not be left for the installed one.
    path = os.pathsep.join(filter(None, [str(folder), plant.environment.get("PYTHONPATH", "")]))
    plant.environment = plant.environment | {"PYTHONPATH": path, "FAULTS": str(folder)}
    return folder


def stopped(plant: Plant, child) -> None:
    child.terminate()
    assert child.wait(PATIENCE_S) == 0, plant.log()[-3000:]


@pytest.fixture
def running(plant):
    append(plant, "a", 0, 100)
    append(plant, "b", 0, 100)
    plant.configure(TWO % DOUBLE)
    plant.start_receiver()
    child = plant.start_agent()
    eventually(arrived(plant, "a", 100), "rows of a")
    eventually(arrived(plant, "b", 100), "rows of b")
    yield child
    kill(child)


# -- look inside --------------------------------------------------------------------------------------------


def test_status_of_a_running_agent_says_what_only_it_knows(plant, running):
    facts = plant.live()
    assert facts["running"]
    assert facts["link"]["state"] == "up"
    assert facts["pipelines"]["a"]["working"]
    assert facts["pipelines"]["a"]["steps"] == ["scale"]
    assert facts["streams"]["a"]["read"] == 200
    assert stat.S_IMODE((plant.spool / "agent.sock").stat().st_mode) == 0o600
    told = plant.cli("status", "agent.yaml")
    assert "link    up" in told
    stopped(plant, running)
    facts = plant.status()
    assert not facts["running"]
    assert "link" not in facts
    assert facts["balanced"]


def test_tap_shows_rows_after_the_steps_and_masked(plant, running):
    from threading import Thread

    out: list[str] = []
    looker = Thread(target=lambda: out.append(plant.process("tap", "agent.yaml", "--rows", "3", expect=0)))
    looker.start()
    first = 100
    while looker.is_alive():
        assert first < 100_000
        append(plant, "a", first, first + 10)
        first += 10
        looker.join(0.2)
    rows = [json.loads(line) for line in out[0].splitlines()]
    assert len(rows) == 3
    assert all(row["stream"] == "a" and row["value"] == row["id"] / 2 for row in rows)


def test_top_counts_readings_a_second(plant, running):
    append(plant, "b", 100, 600)
    (line,) = plant.cli("top", "agent.yaml", "--count", "1", "--interval", "300ms", "--json").splitlines()
    facts = json.loads(line)
    assert set(facts["streams"]) == {"a", "b"}
    assert facts["link"] == "up"
    assert "gateway gw-1" in plant.cli("top", "agent.yaml", "--count", "1", "--interval", "50ms")


def test_commands_for_a_running_agent_say_that_none_runs(plant):
    append(plant, "a", 0, 1)
    append(plant, "b", 0, 1)
    plant.configure(TWO % DOUBLE, forward=False)
    for command in ("reload", "tap", "top"):
        plant.cli(command, "agent.yaml", expect=1)
        assert "no agent runs here" in plant.last_error or "No such file" in plant.last_error


def test_a_support_bundle_holds_facts_and_no_data_and_no_secret(plant):
    import tarfile

    import canaries as c

    found = c.make(300, seed=7)
    with (plant.folder / "a.csv").open("w", encoding="utf-8") as file:
        file.write("ts,id,value\n")
        file.writelines(f'{i},{i},"{canary.written}"\n' for i, canary in enumerate(found))
        file.writelines(f'x{canary.plain},"{canary.written}\n' for canary in found[:50])  # broken records
    append(plant, "b", 0, 100)
    plant.configure(TWO % "" + "masking: {policy: policy.yaml}\n")
    (plant.folder / "policy.yaml").write_text(
        'name: mine\nversion: 1\nfields: {"*": {operator: pass, unguarded: true}}\n'
    )
    faults = with_faults(plant)
    (faults / "crash-b").touch()
    child = plant.start_agent()
    try:
        eventually(lambda: "agent runs" in plant.log(), "the agent")
        eventually(lambda: plant.status()["streams"].get("b", {}).get("accepted"), "rows")
        plant.cli("support", "agent.yaml", "-o", "live.tar.gz", "--log", "agent.log")
        stopped(plant, child)
    finally:
        kill(child)
    plant.cli("support", "agent.yaml", "-o", "dead.tar.gz", "--log", "agent.log")
    for name, running in (("live.tar.gz", True), ("dead.tar.gz", False)):
        with tarfile.open(plant.folder / name) as archive:
            parts = {m.name.split("/")[1]: archive.extractfile(m).read() for m in archive.getmembers()}
        assert json.loads(parts["status.json"])["running"] is running
        assert json.loads(parts["spool.json"])["ok"]
        assert json.loads(parts["crashes.json"])[0]["error"] == "RuntimeError"
        assert json.loads(parts["versions.json"])["libraries"]["pyzmq"]
        assert b"agent runs" in parts["log.txt"]
        assert not c.search(parts.values(), found)
        secret = (plant.folder / "keys/gateway.key").read_text().split()
        assert not any(word.encode() in part for part in parts.values() for word in secret if len(word) > 30)
        assert stat.S_IMODE((plant.folder / name).stat().st_mode) == 0o600


# -- reload -------------------------------------------------------------------------------------------------


def test_a_reload_changes_only_what_changed_and_no_row_is_lost_or_doubled(plant, running):
    append(plant, "a", 100, 5_000)
    append(plant, "b", 100, 5_000)
    plant.configure(TWO % f"{DOUBLE}, {DOUBLE}")
    told = plant.cli("reload", "agent.yaml")
    assert "pipelines.a.steps" in told
    assert told.endswith("rebuilt a\n")
    append(plant, "a", 5_000, 6_000)
    append(plant, "b", 5_000, 6_000)
    eventually(arrived(plant, "a", 6_000), "rows of a")
    eventually(arrived(plant, "b", 6_000), "rows of b")
    assert ids(plant, "a") == ids(plant, "b") == list(range(6_000))
    values = dict(rows_of(plant.sink, "SELECT id, value FROM a"))
    assert values[5] == 5 / 2
    assert values[5_999] == 5_999
    facts = plant.live()
    assert facts["pipelines"]["b"]["restarts"] == 0
    assert facts["pipelines"]["a"]["steps"] == ["scale", "scale"]
    assert "nothing changed" in plant.cli("reload", "agent.yaml")
    stopped(plant, running)
    assert plant.status()["balanced"]


def test_pipelines_come_and_go_by_reload(plant, running):
    text = (plant.folder / "agent.yaml").read_text()
    only_a = text.replace("  b: {source: b, linger: 20ms}\n", "")
    only_a = "\n".join(line for line in only_a.splitlines() if "path: b.csv" not in line)
    (plant.folder / "agent.yaml").write_text(only_a)
    assert "removed b" in plant.cli("reload", "agent.yaml")
    append(plant, "b", 100, 200)
    (plant.folder / "agent.yaml").write_text(text)
    assert "added b" in plant.cli("reload", "agent.yaml")
    eventually(arrived(plant, "b", 200), "rows of b after it came back")
    assert ids(plant, "b") == list(range(200))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((DOUBLE, "scael: {field: value}"), "scael"),
        ((DOUBLE, "infer: {model: nosuch, inputs: [value]}"), "no bundle `nosuch`"),
        (("id: gw-1", "id: gw-2"), "cannot change while the agent runs"),
        (("dir: spool", "dir: spool, max_bytes: 20MiB"), "`spool.max_bytes` cannot change"),
    ],
)
def test_a_reload_that_cannot_be_is_refused_and_the_old_goes_on(plant, running, change, said):
    text = (plant.folder / "agent.yaml").read_text()
    (plant.folder / "agent.yaml").write_text(text.replace(*change))
    plant.cli("reload", "agent.yaml", expect=None)
    assert said in plant.last_error
    os.kill(running.pid, signal.SIGHUP)
    eventually(lambda: "the old one goes on" in plant.log(), "a word in the log")
    append(plant, "a", 100, 200)
    eventually(arrived(plant, "a", 200), "rows under the old configuration")
    assert ids(plant, "a") == list(range(200))


def test_hangup_reads_the_configuration_again(plant, running):
    plant.configure(TWO % KEEP_ALL)
    os.kill(running.pid, signal.SIGHUP)
    eventually(lambda: plant.live()["pipelines"]["a"]["steps"] == ["deadband"], "the new step")


# -- restarts -----------------------------------------------------------------------------------------------


def test_a_failed_pipeline_is_built_anew_alone_and_nothing_is_lost_or_doubled(plant):
    faults = with_faults(plant)
    append(plant, "a", 0, 3_000)
    append(plant, "b", 0, 3_000)
    (faults / "crash-a").touch()
    plant.configure(TWO % KEEP_ALL)
    plant.start_receiver()
    child = plant.start_agent()
    try:
        eventually(arrived(plant, "a", 3_000), "rows of the failed pipeline")
        eventually(arrived(plant, "b", 3_000), "rows of the other")
        (faults / "crash-a").touch()
        append(plant, "a", 3_000, 4_000)
        eventually(arrived(plant, "a", 4_000), "rows after the second failure")
        facts = plant.live()
        assert facts["pipelines"]["a"]["restarts"] == 2
        assert facts["pipelines"]["b"]["restarts"] == 0
        stopped(plant, child)
    finally:
        kill(child)
    assert ids(plant, "a") == list(range(4_000))
    assert ids(plant, "b") == list(range(3_000))
    assert plant.status()["balanced"]
    assert "13800138000" not in plant.log(), "the text of an exception may be data"
    reports = sorted((plant.spool / "crashes").glob("crash-*.json"))
    assert len(reports) == 2
    report = reports[0].read_text()
    assert "13800138000" not in report
    assert json.loads(report)["error"] == "RuntimeError"


def test_a_finite_run_survives_a_failed_pipeline(plant):
    faults = with_faults(plant)
    append(plant, "a", 0, 2_000)
    append(plant, "b", 0, 10)
    (faults / "crash-a").touch()
    text = (TWO % KEEP_ALL).replace("follow: true, ", "")
    plant.configure(text)
    plant.start_receiver()
    plant.once()
    assert ids(plant, "a") == list(range(2_000))
    assert plant.status()["balanced"]


# -- safe mode ----------------------------------------------------------------------------------------------


def test_safe_mode_runs_what_ran_last_until_the_file_is_mended(plant):
    append(plant, "a", 0, 100)
    append(plant, "b", 0, 100)
    plant.configure(TWO % DOUBLE)
    good = (plant.folder / "agent.yaml").read_text()
    plant.start_receiver()
    child = plant.start_agent("--safe-mode")
    eventually(lambda: (plant.spool / "last-good.json").exists(), "a copy of the configuration")
    stopped(plant, child)
    (plant.folder / "agent.yaml").write_text(good.replace("scale:", "scael:"))
    assert "scael" in plant.process("run", "agent.yaml", expect=2)
    child = plant.start_agent("--safe-mode")
    append(plant, "a", 100, 200)
    eventually(arrived(plant, "a", 200), "rows in safe mode")
    assert "safe mode" in plant.log()
    assert "did you mean `scale`" in plant.log().lower()
    assert "SAFE MODE" in plant.cli("status", "agent.yaml")
    assert "gateway gw-1" in plant.cli("top", "agent.yaml", "--count", "1", "--interval", "50ms")
    (plant.folder / "agent.yaml").write_text(good.replace(DOUBLE, KEEP_ALL))
    plant.cli("reload", "agent.yaml")
    assert plant.live()["config"]["safe_mode"] == ""
    append(plant, "a", 200, 300)
    eventually(arrived(plant, "a", 300), "rows after the mend")
    assert ids(plant, "a") == list(range(300))
    stopped(plant, child)


def test_safe_mode_is_told_in_the_configured_log_file(plant):
    append(plant, "a", 0, 1)
    append(plant, "b", 0, 1)
    plant.configure(TWO % "scael: {}", rest="log: {file: agent.jsonl, format: json}", forward=False)
    child = plant.start_agent("--safe-mode")
    file = plant.folder / "agent.jsonl"
    eventually(
        lambda: file.exists() and "only spool, link and status run" in file.read_text(), "a word on why"
    )
    stopped(plant, child)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert any("did you mean `scale`" in line["message"] for line in lines)


@pytest.mark.slow
def test_in_safe_mode_the_link_stays_up_when_the_policy_is_bad_too(plant):
    append(plant, "a", 0, 100)
    append(plant, "b", 0, 100)
    policy = plant.folder / "policy.yaml"
    policy.write_text("name: mine\nversion: 1\n")
    plant.configure(TWO % DOUBLE, rest="masking: {policy: policy.yaml}")
    plant.start_receiver()
    child = plant.start_agent("--safe-mode")
    eventually(lambda: (plant.spool / "last-good.json").exists(), "a copy of the configuration")
    kill(child)
    policy.write_text("name: [\n")
    before = plant.log().count("agent runs")
    child = plant.start_agent("--safe-mode")
    eventually(lambda: plant.log().count("agent runs") > before, "the agent")
    eventually(lambda: plant.status().get("link", {}).get("state") == "up", "the link")
    facts = plant.live()
    assert facts["config"]["safe_mode"]
    assert facts["pipelines"] == {}
    stopped(plant, child)


@pytest.mark.parametrize("broken", ["steps: [{scael: {}}]", "steps: [{"])
def test_safe_mode_without_an_earlier_run_keeps_spool_link_and_status_up(plant, broken):
    append(plant, "a", 0, 100)
    append(plant, "b", 0, 100)
    plant.configure(TWO % DOUBLE)
    good = (plant.folder / "agent.yaml").read_text()
    (plant.folder / "agent.yaml").write_text(good.replace(f"steps: [{DOUBLE}]", broken, 1))
    plant.start_receiver()
    assert plant.process("run", "agent.yaml", expect=2)
    child = plant.start_agent("--safe-mode")
    eventually(lambda: "only spool, link and status run" in plant.log(), "a word on why")
    eventually((plant.spool / "agent.sock").exists, "the local socket")
    eventually(lambda: plant.status().get("link", {}).get("state") == "up", "the link")
    facts = plant.live()
    assert facts["config"]["safe_mode"]
    assert facts["pipelines"] == {}
    assert facts["spool"]["state"] == "ok"
    assert not (plant.spool / "last-good.json").exists()  # a bad one is not kept for a good one
    (plant.folder / "agent.yaml").write_text(good)
    plant.cli("reload", "agent.yaml")
    assert plant.live()["config"]["safe_mode"] == ""
    eventually(arrived(plant, "a", 100), "rows after the mend")
    stopped(plant, child)


# -- watchdog -----------------------------------------------------------------------------------------------


def empty(box: socket.socket) -> None:
    box.setblocking(False)
    try:
        while True:
            box.recv(4096)
    except BlockingIOError:
        box.setblocking(True)


@pytest.mark.slow
def test_a_stuck_pipeline_starves_the_watchdog_and_a_restart_loses_nothing(plant):
    faults = with_faults(plant)
    append(plant, "a", 0, 100)
    append(plant, "b", 0, 100)
    plant.configure(TWO % KEEP_ALL)
    plant.start_receiver()
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = f"\0forebay-test-{os.getpid()}-{time.monotonic_ns()}"
    manager.bind(address)
    manager.settimeout(PATIENCE_S)
    plant.environment |= {"NOTIFY_SOCKET": "@" + address[1:], "WATCHDOG_USEC": "6000000"}
    child = plant.start_agent()
    try:
        told = manager.recv(4096).decode()
        assert "READY=1" in told
        while "WATCHDOG=1" not in manager.recv(4096).decode():
            pass
        eventually(arrived(plant, "a", 100), "the first rows")
        (faults / "stuck-a").touch()
        append(plant, "a", 100, 200)
        append(plant, "b", 100, 200)
        eventually(lambda: "pipeline a has not moved" in plant.log(), "the watch to see it")
        empty(manager)  # what was sent before
        manager.settimeout(7.0)
        with pytest.raises(TimeoutError):
            manager.recv(4096)
        assert "pipeline a" in plant.live()["stuck"]
        child.send_signal(signal.SIGABRT)  # what the manager does then
        assert child.wait(PATIENCE_S) == -signal.SIGABRT
        assert not list(plant.folder.glob("core*"))
    finally:
        kill(child)
        manager.close()
    (faults / "stuck-a").unlink()
    child = plant.start_agent()
    eventually(arrived(plant, "a", 200), "the rows that were stuck")
    eventually(arrived(plant, "b", 200), "the rows of the other")
    stopped(plant, child)
    assert ids(plant, "a") == ids(plant, "b") == list(range(200))
    assert plant.status()["balanced"]
