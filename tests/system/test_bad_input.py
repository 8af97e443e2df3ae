"""Broken, hostile and missing things, through the command line: each is a counted, named error with place
and hint, the rest goes on, nothing is lost, and no data value is in any log line."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from kills import check_ledger, check_numbers, sink_rows, source_rows, write_csv
from plant import Plant, kill, rows_of

MB = 1_000_000
CANARY = "canary7731x"  # in every broken record: it must never be seen in a log
PHOTOS = Path(__file__).parents[2] / "config" / "demo" / "photos"

CSV = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}%s}
pipelines:
  pump:
    source: pump
    fields: {value: {unit: bar, type: f64}}
"""


def run_csv(plant: Plant, data: bytes, *, options: str = "", config: str = CSV) -> str:
    """Run a CSV file to its end; return the log."""
    (plant.folder / "pump.csv").write_bytes(data)
    plant.configure(config % options if "%s" in config else config)
    plant.start_receiver()
    log = plant.once()
    assert CANARY not in log
    assert CANARY not in plant.log("receiver")
    return log


def good(plant: Plant) -> list[int]:
    """Return the ids in the sink, in order."""
    return [row[1] for row in sink_rows(plant, "pump", ("id",))]


def rejected(plant: Plant) -> dict[str, int]:
    return check_ledger(plant, "pump")["rejected"]


# -- records ------------------------------------------------------------------------------------------------


def test_a_broken_csv_line_is_named_and_the_rest_arrives(plant):
    log = run_csv(
        plant,
        f"ts,id,value\n1000,1,1.5\n1001,2,{CANARY},3,4\n1002,3,2.5\n1003,4\n1004,5,3.5\n".encode(),
    )
    assert good(plant) == [1, 3, 5]
    assert rejected(plant) == {"line": 2}
    assert re.search(r"place=pump\.csv:3 reason=line length=\d+: expected 3 cells", log)
    assert "place=pump.csv:5" in log
    check_numbers(plant)


def test_a_quote_that_is_never_closed_costs_its_own_line_only(plant):
    lines = [f"{1000 + i},{i},{'' if i != 50 else chr(34) + CANARY}" for i in range(100)]
    run_csv(plant, ("ts,id,note\n" + "\n".join(lines) + "\n").encode())
    assert good(plant) == [i for i in range(100) if i != 50]


def test_a_wrong_type_nulls_its_cell_and_keeps_the_row(plant):
    log = run_csv(plant, f"ts,id,value\n1000,1,1.5\n1001,2,{CANARY}\n1002,3,2.5\n".encode())
    stored = sink_rows(plant, "pump", ("id", "value", "quality", "quality_detail"))
    assert [row[1:3] for row in stored] == [(1, 1.5), (2, None), (3, 2.5)]
    assert stored[1][3] == "bad"
    assert "type" in stored[1][4]
    assert rejected(plant) == {"type": 1}
    assert "place=pump.csv:3 reason=type" in log
    assert "value" in log


def test_invalid_utf8_is_counted_and_named(plant):
    log = run_csv(plant, b"ts,id,note\n1000,1,fine\n1001,2,\xff\xfe" + CANARY.encode() + b"\n1002,3,fine\n")
    assert good(plant) == [1, 3]
    assert rejected(plant)["utf8"] >= 1
    assert "place=pump.csv:3 reason=utf8" in log


def test_a_time_that_cannot_be_read_rejects_its_row(plant):
    log = run_csv(plant, f"ts,id,value\n1000,1,1\n{CANARY},2,2\n1002,3,3\n".encode())
    assert good(plant) == [1, 3]
    assert rejected(plant)["time"] >= 1
    assert "place=pump.csv:3 reason=time" in log


@pytest.mark.parametrize("kind", ["csv", pytest.param("jsonl", marks=pytest.mark.slow)])
def test_a_line_of_200_mb_is_counted_and_costs_no_memory(plant, kind):
    path = plant.folder / "pump.csv"
    head = (
        b"ts,id,note\n1000,1,fine\n1001,2," if kind == "csv" else b'{"ts":1000,"id":1}\n{"ts":1001,"note":"'
    )
    tail = b"\n1002,3,fine\n" if kind == "csv" else b'"}\n{"ts":1002,"id":3}\n'
    with path.open("wb") as file:
        file.write(head)
        for _ in range(200):
            file.write((CANARY.encode() * 100_000)[:MB])
        file.write(tail)
    plant.configure((CSV % "").replace("format: csv", f"format: {kind}"))
    plant.start_receiver()
    child = plant.start_agent("--once")
    peak = 0
    while child.poll() is None:
        peak = max(peak, _peak_kib(child.pid))
        time.sleep(0.005)
    assert child.returncode == 0, plant.log()[-2000:]
    assert good(plant) == [1, 3]
    assert rejected(plant) == {"size": 1}
    assert re.search(r"place=pump\.csv:[23] reason=size length=2000000\d\d", plant.log())
    assert CANARY not in plant.log()
    assert 0 < peak < 250 * 1024, f"peak of {peak} KiB"
    path.unlink()


def _peak_kib(pid: int) -> int:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def test_broken_json_lines_are_named_and_the_rest_arrives(plant):
    broken = {
        "open": b"{",
        "array": b"[1, 2]",
        "no value": b'{"ts": 1, "id": }',
        "trailing": b'{"ts":1001,"id":2} ' + CANARY.encode(),
        "binary": b"\x00\x01\x02",
        "deep": b"[" * 5000,
        "utf-8": b'{"ts":1001,"id":"\xff' + CANARY.encode() + b'"}',
        "control": b'{"ts":1001,"id":"a\x01b"}',
    }
    lines = [b'{"ts":1000,"id":1}']
    for number, line in enumerate(broken.values(), start=2):
        lines += [line, b'{"ts":%d,"id":%d}' % (1000 + number, number)]
    config = (CSV % "").replace("pump.csv, format: csv", "pump.csv, format: jsonl")
    log = run_csv(plant, b"\n".join(lines), config=config)
    assert good(plant) == list(range(1, len(broken) + 2))
    assert sum(rejected(plant).values()) == len(broken), rejected(plant)
    assert "place=pump.csv:2 reason=line" in log


# -- pictures and models ------------------------------------------------------------------------------------

IMAGES = """
sources:
  camera: {type: file, path: photos, format: images}
pipelines:
  camera: {source: camera}
"""


def test_a_truncated_image_becomes_null_and_the_others_arrive(plant):
    photos = plant.folder / "photos"
    photos.mkdir()
    whole = (PHOTOS / "hopper.jpg").read_bytes()
    (photos / "a.jpg").write_bytes(whole)
    (photos / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "c.jpg").write_bytes(CANARY.encode() * 10)
    (photos / "d.jpg").write_bytes((PHOTOS / "coffee.jpg").read_bytes())
    plant.configure(IMAGES)
    plant.start_receiver()
    log = plant.once()
    stored = sink_rows(plant, "camera", ("name", "length(image)", "quality_detail"))
    stored = rows_of(plant.sink, "SELECT name, length(image), quality_detail FROM camera ORDER BY name")
    assert [row[0] for row in stored] == ["a.jpg", "b.jpg", "d.jpg"]
    assert stored[0][1] > 1000
    assert stored[2][1] > 1000
    assert stored[1][1] is None
    assert "detector_failed" in stored[1][2]
    entry = check_ledger(plant, "camera")
    assert entry["rejected"] == {"image": 1}
    assert "place=c.jpg reason=image" in log
    assert CANARY not in log


ANOMALY = """
sources:
  pump: {type: file, path: pump.csv, format: csv, time: {field: ts, unit: ms}}
pipelines:
  pump:
    source: pump
    steps:
      - infer: {model: %s, inputs: [%s]}
"""


def test_a_model_whose_input_is_missing_or_text_lets_the_rows_pass_and_says_so(plant):
    log = run_csv(
        plant,
        f"ts,id,note\n1000,1,{CANARY}\n1001,2,{CANARY}\n".encode(),
        config=ANOMALY % ("sensor-anomaly", "flow, note"),
    )
    assert good(plant) == [1, 2]
    assert re.search(r"sensor-anomaly.*expected field flow with numbers, found missing", log)
    assert re.search(r"sensor-anomaly.*expected field note with numbers, found str", log)


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("faces", "a model of numbers is expected, `faces` is one of detection"),
        ("no-such-model", "no bundle `no-such-model`"),
    ],
)
def test_a_model_of_another_task_or_none_ends_the_start_with_a_reason(plant, model, hint):
    write_csv(plant.folder / "pump.csv", source_rows(10, 1))
    plant.configure(ANOMALY % (model, "pressure"))
    log = plant.once(expect=2)
    assert hint in log
    assert re.search(r"agent\.yaml:\d+:\d+: pipelines\.pump\.steps\[0\]\.infer", log)
    assert "Traceback" not in log


def test_a_damaged_model_file_is_refused_by_its_hash(plant):
    shipped = Path(__file__).parents[2] / "models" / "sensor-anomaly"
    bundle = plant.folder / "models" / "sensor-anomaly"
    shutil.copytree(shipped, bundle)
    onnx = bytearray((bundle / "model.onnx").read_bytes())
    onnx[len(onnx) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(onnx)
    write_csv(plant.folder / "pump.csv", source_rows(10, 1))
    config = (ANOMALY % ("sensor-anomaly", "pressure")) + "\nmodels: {dir: models}\n"
    plant.configure(config)
    log = plant.once(expect=1)
    assert "model.onnx" in log
    assert "sha256" in log


# -- keys and links -----------------------------------------------------------------------------------------

ANSWERED = (
    "8s"  # longer than a hello waits for its answer, so that by then the link has a reason on any machine
)


def small_run(plant: Plant, rows: int = 50) -> None:
    write_csv(plant.folder / "pump.csv", source_rows(rows, 1))
    plant.configure((CSV % "").replace("    fields: {value: {unit: bar, type: f64}}\n", ""))


def waits(plant: Plant, rows: int = 50) -> None:
    """Assert that everything is in the spool and nothing was lost."""
    facts = plant.status()
    assert facts["balanced"]
    entry = facts["streams"]["pump"]
    assert entry["pending"] == entry["accepted"] == entry["read"] > 4 * rows
    assert facts["spool"]["pending_batches"] > 0


def test_a_key_that_is_not_enrolled_is_refused_with_a_hint_and_nothing_is_lost(plant):
    small_run(plant)
    plant.cli("keys", "revoke", "gw-1", "--allow", "keys/allowed")
    plant.start_receiver()
    log = plant.once(expect=1, options=("--give-up", ANSWERED))
    assert "does not accept this gateway's key" in log
    assert "forebay keys enroll" in log
    assert "not enrolled" in plant.log("receiver")
    waits(plant)
    plant.cli("keys", "enroll", "gw-1", "keys/gateway.pub", "--allow", "keys/allowed")
    plant.once()
    check_ledger(plant, "pump")
    assert good(plant) == list(range(50))


@pytest.mark.slow
def test_a_key_that_is_enrolled_for_another_gateway_is_refused(plant):
    small_run(plant)
    (plant.folder / "keys/allowed/gw-1.pub").rename(plant.folder / "keys/allowed/gw-2.pub")
    plant.start_receiver()
    log = plant.once(expect=1, options=("--give-up", ANSWERED))
    assert "gateway id" in log
    waits(plant)


def test_a_wrong_server_key_is_named_and_nothing_is_sent(plant):
    small_run(plant)
    plant.cli("keys", "new", "impostor", "--dir", "keys")
    config = plant.folder / "agent.yaml"
    config.write_text(config.read_text().replace("keys/center.pub", "keys/impostor.pub"))
    plant.start_receiver()
    log = plant.once(expect=1, options=("--give-up", ANSWERED))
    assert re.search("key handshake failed|no answer to the hello", log)
    waits(plant)
    assert rows_of(plant.sink, "SELECT count(*) FROM batches") == [(0,)]


def test_an_unreachable_receiver_ends_a_finite_run_with_the_reason(plant):
    small_run(plant)
    begun = time.monotonic()
    log = plant.once(expect=1, options=("--give-up", "1s"))
    assert time.monotonic() - begun < 60
    assert re.search(r"not everything was delivered \(\d+ readings unacknowledged\)", log)
    assert f"tcp://127.0.0.1:{plant.port}" in log
    waits(plant)


@pytest.mark.parametrize(
    "missing", ["keys/gateway.key", pytest.param("keys/center.pub", marks=pytest.mark.slow)]
)
def test_a_missing_key_file_is_a_bad_configuration_with_a_hint(plant, missing):
    small_run(plant)
    (plant.folder / missing).unlink()
    log = plant.once(expect=2)
    assert missing in log
    assert "forebay keys new" in log


def test_a_secret_key_that_others_can_read_is_refused(plant):
    small_run(plant)
    (plant.folder / "keys/gateway.key").chmod(0o644)
    assert "chmod 600" in plant.once(expect=2)


def test_a_port_in_use_is_named(plant):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", plant.port))
        taken.listen()
        plant.last_error = plant.process("receive", "receiver.yaml", expect=1)
    assert f"tcp://127.0.0.1:{plant.port}" in plant.last_error
    assert "cannot listen" in plant.last_error
    assert "Traceback" not in plant.last_error


def test_a_sink_that_is_another_program_s_database_is_refused_untouched(plant):
    db = sqlite3.connect(plant.sink)
    db.execute("CREATE TABLE orders (id INTEGER)")
    db.commit()
    db.close()
    before = plant.sink.read_bytes()
    plant.cli("receive", "receiver.yaml", expect=1)
    assert "give the sink a file of its own" in plant.last_error
    assert _tables(plant.sink) == ["orders"]
    assert len(before) == plant.sink.stat().st_size


def _tables(path: Path) -> list[str]:
    return [name for (name,) in rows_of(path, "SELECT name FROM sqlite_master WHERE type = 'table'")]


def test_a_stranger_who_sends_garbage_costs_the_receiver_nothing(plant):
    small_run(plant)
    receiver = plant.start_receiver()
    for data in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100_000,
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0CURVE" + b"\0" * 60,
    ):
        with socket.create_connection(("127.0.0.1", plant.port), 5) as s:
            s.sendall(data)
    plant.once()
    assert receiver.poll() is None
    assert good(plant) == list(range(50))


# -- configuration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check"])
def test_every_error_of_a_configuration_is_told_at_once_with_its_place(plant, command):
    (plant.folder / "agent.yaml").write_text(
        "gateway: {id: gw-1}\n"
        "sources:\n"
        "  pump: {type: fil, path: pump.csv}\n"
        "pipelines:\n"
        "  pump: {source: pmp, lingr: 1s}\n"
        "spool: {dir: spool, max_bytes: 2}\n"
    )
    told = plant.cli(command, "agent.yaml", expect=2) + plant.last_error
    for place in ("agent.yaml:3:", "agent.yaml:5:", "agent.yaml:6:"):
        assert place in told, told
    assert "lingr" in told
    assert "linger" in told
    assert "Traceback" not in told
    assert not plant.spool.exists()


@pytest.mark.parametrize("text", ["", "{", "- 1\n", "\x00", "gateway: {id: !!python/object:os.system x}\n"])
def test_a_file_that_is_no_configuration_is_refused(plant, text):
    (plant.folder / "agent.yaml").write_text(text)
    plant.cli("run", "agent.yaml", expect=2)
    assert "agent.yaml" in plant.last_error
    assert "Traceback" not in plant.last_error


def test_a_missing_source_ends_a_finite_run_with_its_name(plant):
    small_run(plant)
    (plant.folder / "pump.csv").unlink()
    plant.start_receiver()
    log = plant.once(expect=1, options=("--give-up", "1s"))
    assert "no such file" in log
    assert "pump.csv" in log


# -- spool --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_spool_stops_the_source_and_everything_arrives_later(plant):
    import base64
    import random

    rng, rows = random.Random(5), 2_000
    with (plant.folder / "pump.csv").open("w") as file:
        file.write("ts,id,note\n")
        file.writelines(
            f"{i},{i},{base64.b85encode(rng.randbytes(16_000)).decode().replace(',', '.').replace(chr(34), '.')}\n"
            for i in range(rows)
        )
    policy = plant.folder / "open.yaml"
    policy.write_text('name: open\nversion: 1\nfields: {"*": {operator: pass, unguarded: true}}\n')
    config = (CSV % "").replace("    fields: {value: {unit: bar, type: f64}}\n", "")
    plant.configure(config, rest="masking: {policy: open.yaml}", spool="max_bytes: 16MiB")
    log = plant.once(expect=1, options=("--give-up", "1s"))
    assert "spool is full" in log
    sizes = {p.name: p.stat().st_size for p in plant.spool.iterdir() if p.name != "ballast"}
    assert sum(sizes.values()) <= 16 * 1024**2, sizes
    assert plant.status()["balanced"]
    assert plant.status()["streams"]["pump"]["pending"] > 0
    plant.start_receiver()
    plant.once()
    assert good(plant) == list(range(rows))
    check_numbers(plant)
    check_ledger(plant, "pump")


@pytest.mark.parametrize(
    "damage",
    ["garbage", "truncated", *(pytest.param(d, marks=pytest.mark.slow) for d in ("header", "empty"))],
)
def test_a_damaged_spool_is_kept_aside_and_the_run_goes_on(plant, damage):
    small_run(plant, 5000)
    plant.once(expect=1, options=("--give-up", "1s"))
    accepted = plant.ledger("pump")["accepted"]
    segment = plant.segment
    data = segment.read_bytes()
    for side in ("-wal", "-shm"):
        segment.with_name(segment.name + side).unlink(missing_ok=True)
    changed = {
        "garbage": bytes(range(256)) * (len(data) // 256),
        "header": b"not a database at all" + data[21:],
        "truncated": data[: len(data) // 2 // 4096 * 4096 + 100],
        "empty": b"",
    }[damage]
    segment.write_bytes(changed)
    plant.start_receiver()
    log = plant.once(expect=None)
    assert "damaged and set aside" in log
    assert plant.segment != segment
    assert plant.status()["balanced"]
    entry = plant.ledger("pump")
    lost = sum(entry["quarantined"].values())
    assert entry["delivered"] + lost == entry["accepted"] == accepted, "the books were kept in a copy"
    kept = [
        p for p in plant.spool.iterdir() if p.stat().st_size == len(changed) and p.read_bytes() == changed
    ]
    assert kept or not lost, "the damaged file was written to, or thrown away"
    (told,) = rows_of(plant.sink, "SELECT total(readings) FROM gaps")
    assert told == (lost,), "the center knows of each hole"
    ids = good(plant)
    assert len(ids) == len(set(ids)), "the source is not read again: where it stood is known"


def test_a_bit_flip_in_a_stored_batch_is_found_set_aside_and_told(plant):
    small_run(plant, 5000)
    plant.once(expect=1, options=("--give-up", "1s"))
    db = sqlite3.connect(plant.segment)
    batch, data, readings = db.execute("SELECT id, data, readings FROM batch ORDER BY id LIMIT 1").fetchone()
    flipped = bytearray(data)
    flipped[len(flipped) // 2] ^= 4
    db.execute("UPDATE batch SET data = ? WHERE id = ?", (bytes(flipped), batch))
    db.commit()
    db.close()
    plant.cli("spool", "verify", "spool", expect=1)
    plant.start_receiver()
    log = plant.once(expect=1)
    assert "damaged on disk and set aside" in log
    entry = plant.ledger("pump")
    assert entry["quarantined"] == {"damaged": readings}
    assert entry["delivered"] == entry["accepted"] - readings
    gaps = rows_of(plant.sink, "SELECT seq_from, seq_to, readings, cause FROM gaps")
    assert gaps == [(1, 1, readings, "damaged")]


def test_two_agents_cannot_share_a_spool(plant):
    small_run(plant)
    plant.start_receiver()
    first = plant.start_agent()
    deadline = time.monotonic() + 60
    while "agent runs" not in plant.log() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "another agent uses this spool" in plant.once(expect=1)
    first.terminate()
    try:
        assert first.wait(60) == 0
    finally:
        kill(first)
