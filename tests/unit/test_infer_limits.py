"""Models that hang, crash and leak: the agent lives, the rows go on, memory stays."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from forebay import infer
from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.models import InferOptions, ModelsOptions
from forebay.errors import ModelError
from forebay.infer.anomaly import AnomalyStep
from forebay.infer.bundle import find, load
from forebay.infer.isolated import IsolatedSession
from forebay.infer.limits import REST_AFTER, REST_NS, Deadlines, Rest
from forebay.infer.session import ModelTimeout, Session, SessionOptions
from forebay.keys import generate, write_pair

DATA = Path(__file__).parents[1] / "data" / "models"
MS = 1_000_000
ROWS = np.zeros((2, 26), np.float32)
ENDLESS = np.full((2, 26), 2.0**40, np.float32)


def graph(name: str) -> bytes:
    return (DATA / f"{name}.onnx").read_bytes()


@pytest.fixture
def isolated() -> Iterator[IsolatedSession]:
    session = IsolatedSession(graph("slow_if_asked"), SessionOptions(limit_ns=60_000 * MS), place="here")
    yield session
    session.close()


# -- time limit ---------------------------------------------------------------------------------------------


def test_a_model_that_never_ends_is_stopped_at_its_limit() -> None:
    session = Session(graph("hang"), SessionOptions(limit_ns=200 * MS), place="here")
    with pytest.raises(ModelTimeout, match=r"here: not done within 0\.2 s"):
        session.run({"window": ROWS}, ("error",))


def test_a_run_within_its_limit_is_not_stopped_and_nor_is_the_next_after_a_timeout() -> None:
    session = Session(graph("slow_if_asked"), SessionOptions(limit_ns=20_000 * MS), place="here")
    for _ in range(50):
        (found,) = session.run({"window": ROWS}, ("error",))
        assert found.shape == (2,)
    session._limit_s = 0.2
    with pytest.raises(ModelTimeout):
        session.run({"window": ENDLESS}, ("error",))
    session._limit_s = 20.0
    session.run({"window": ROWS}, ("error",))


def test_a_model_that_keeps_hanging_rests_and_then_gets_one_more_try() -> None:
    now = [0]
    rest = Rest(lambda: now[0])
    for _ in range(REST_AFTER):
        assert not rest.is_due()
        rest.note(timed_out=True)
    assert rest.is_due()
    now[0] += REST_NS
    assert not rest.is_due()
    rest.note(timed_out=True)
    assert rest.is_due()
    now[0] += REST_NS
    rest.note(timed_out=False)
    rest.note(timed_out=True)
    assert not rest.is_due()


def test_the_watchdog_calls_what_is_late_and_only_that() -> None:
    deadlines, late = Deadlines(), threading.Event()
    with deadlines.within(60, lambda: pytest.fail("not late")), deadlines.within(0.01, late.set):
        assert late.wait(20)
    for _ in range(1000):
        with deadlines.within(60, late.set):
            late.clear()
    assert not deadlines._due
    assert not late.is_set()


# -- a process of its own -----------------------------------------------------------------------------------


def test_an_isolated_session_gives_the_same_as_one_in_the_agent(isolated: IsolatedSession) -> None:
    loaded = load(find("sensor-anomaly"))
    rows = np.random.default_rng(0).normal(size=(300, 26)).astype(np.float32)
    here = Session(loaded.files["model.onnx"], SessionOptions(), place="a")
    there = IsolatedSession(loaded.files["model.onnx"], SessionOptions(), place="b")
    try:
        assert (here.inputs(), here.outputs()) == (there.inputs(), there.outputs())
        assert here.providers == there.providers
        (a,), (b,) = (s.run({"window": rows}, ("error",)) for s in (here, there))
        np.testing.assert_array_equal(a, b)
        with pytest.raises(ModelError, match=r"b: the model failed on window float64"):
            there.run({"window": rows.astype(np.float64)}, ("error",))
        assert there.restarts == 0
    finally:
        there.close()


def test_a_crash_of_the_child_is_an_error_and_the_next_run_has_a_new_child(isolated: IsolatedSession) -> None:
    child = isolated._child
    assert child is not None
    threading.Timer(0.5, os.kill, (child.pid, signal.SIGSEGV)).start()
    with pytest.raises(ModelError, match=r"process died \(signal 11\)"):
        isolated.run({"window": ENDLESS}, ("error",))
    assert isolated.run({"window": ROWS}, ("error",))[0].shape == (2,)
    assert isolated.restarts == 1


def test_a_hanging_child_is_ended_at_the_limit(isolated: IsolatedSession) -> None:
    child = isolated._child
    assert child is not None
    isolated._limit_s = 0.3
    with pytest.raises(ModelTimeout, match="its process was ended"):
        isolated.run({"window": ENDLESS}, ("error",))
    assert child.poll() == -signal.SIGKILL
    isolated._limit_s = 60.0
    isolated.run({"window": ROWS}, ("error",))


ENDS_BADLY = """
import sys, threading
import numpy as np
from forebay.infer.isolated import IsolatedSession
from forebay.infer.session import SessionOptions
made = []
def start():
    made.append(IsolatedSession(open(sys.argv[1], "rb").read(), SessionOptions(), place=""))
starter = threading.Thread(target=start)  # as a reload does; that this thread ends must not end the child
starter.start()
starter.join()
threading.Timer(2.0, lambda: print(made[0]._child.pid, made[0]._child.poll(), flush=True)).start()
made[0].run({"window": np.full((2, 26), 2.0**40, np.float32)}, ("error",))
"""


def command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # gone, perhaps between open and read
        return b""


def test_a_busy_child_outlives_the_thread_that_started_it_but_not_the_agent() -> None:
    agent = subprocess.Popen(
        [sys.executable, "-c", ENDS_BADLY, str(DATA / "slow_if_asked.onnx")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert agent.stdout is not None
    pid, ended = agent.stdout.readline().split()
    assert ended == "None"
    agent.kill()
    agent.wait()
    agent.stdout.close()
    deadline = time.monotonic() + 60
    while b"isolated" in command_line(pid):
        assert time.monotonic() < deadline, "the child lives on without the agent"
        time.sleep(0.05)


def test_a_graph_that_the_child_cannot_load_is_the_same_error_as_here() -> None:
    with pytest.raises(ModelError, match="cannot load the graph"):
        IsolatedSession(b"nothing", SessionOptions(), place="here")


# -- in a pipeline ------------------------------------------------------------------------------------------


def series(rows: int, start: int = 0) -> Block:
    time_ns = (np.arange(rows, dtype=np.int64) + start) * 1_000_000_000
    values = np.random.default_rng(start).normal(5, 1, rows).tolist()
    return Block(Schema("pump", (Field("flow", Type.F64),)), time_ns, (Column.of(Type.F64, values),))


def bad_bundle(folder: Path, model: str) -> Path:
    """Return a bundle around a bad graph, its manifest true to it."""
    made = Path(shutil.copytree(find("sensor-anomaly"), folder / model))
    (made / "model.onnx").write_bytes(graph(model))
    manifest = yaml.safe_load((made / "manifest.yaml").read_text())
    names = [p.name for p in made.iterdir() if p.name != "manifest.yaml"]
    manifest["files"] = {n: hashlib.sha256((made / n).read_bytes()).hexdigest() for n in names}
    (made / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return made


@pytest.mark.parametrize("isolate", [False, True])
def test_rows_of_a_hanging_model_go_on_with_null_scores(tmp_path: Path, isolate: bool) -> None:
    made = bad_bundle(tmp_path, "hang")
    options = InferOptions(model=f"{made}/", inputs=["flow"], isolated=isolate)
    models = ModelsOptions(verify=False, time_limit="200ms")
    step = infer.build("infer", options, models=models)
    assert isinstance(step, AnomalyStep)
    for start in (0, 100):
        (out,) = step.process(series(100, start))
        assert out.column("flow").to_list(Type.F64) == series(100, start).column("flow").to_list(Type.F64)
        assert out.column("anomaly").to_list(Type.F64) == [None] * 100
    codes = out.column("anomaly").quality
    assert codes is not None
    assert set(codes.tolist()) == {q.MISSING}
    assert step.counts["model_error"] == 176
    if isolate:
        assert isinstance(step._session, IsolatedSession)
        step._session.close()


def test_a_golden_run_that_hangs_is_refused_at_load(tmp_path: Path) -> None:
    made = bad_bundle(tmp_path, "hang")
    with pytest.raises(ModelTimeout):
        infer.build(
            "infer", InferOptions(model=f"{made}/", inputs=["flow"]), models=ModelsOptions(time_limit="200ms")
        )


@pytest.mark.parametrize("command", ["verify", "sign", "install", "bench"])
def test_a_golden_run_that_hangs_is_a_named_error_of_each_command(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from forebay.cli.app import run
    from forebay.infer import bundle

    monkeypatch.setattr(bundle, "TRY_NS", 300 * MS)
    made, (key, _) = f"{bad_bundle(tmp_path, 'hang')}/", write_pair(generate("maker"), tmp_path / "keys")
    more = {"sign": ["--key", str(key)], "install": ["--dir", str(tmp_path / "bundles")]}.get(command, [])
    with pytest.raises(SystemExit, match="1"):
        sys.exit(run(["models", command, made, *more]))
    assert "not done within 0.3 s" in capsys.readouterr().err
    assert not list(tmp_path.glob("*/manifest.sig"))
    assert not (tmp_path / "bundles").exists()


def test_a_detector_that_forebay_infer_loads_is_limited_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forebay.infer import vision

    monkeypatch.setattr(vision, "TRY_NS", 300 * MS)
    with pytest.raises(ModelTimeout, match=r"not done within 0\.3 s"):
        vision.load_detector(f"{bad_bundle(tmp_path, 'hang')}/")


def test_rows_without_numbers_get_no_score_and_break_nothing() -> None:
    step = infer.build("infer", InferOptions(model="sensor-anomaly", inputs=["flow"], calibration=64))
    step.process(series(200))
    for bad in (float("nan"), float("inf"), -float("inf"), 1e308):
        block = series(5, 200)
        block.columns[0].values[:] = bad
        (out,) = step.process(block)
        found = out.column("anomaly").to_list(Type.F64)
        assert all(v is None or 0 <= v <= 1 for v in found)
    (out,) = step.process(series(100, 300))
    assert all(v is not None and 0 <= v <= 1 for v in out.column("anomaly").to_list(Type.F64)[-50:])
    assert step.counts["model_error"] == 0, "the model was never asked about what is no number"


def test_an_answer_of_nan_is_the_model_s_failure_not_a_calibration_without_end() -> None:
    step = infer.build("infer", InferOptions(model="sensor-anomaly", inputs=["flow"], calibration=64))
    assert isinstance(step, AnomalyStep)
    step.process(series(200))

    class Broken:
        providers = ("CPUExecutionProvider",)

        def run(self, inputs: dict[str, np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
            (given,) = inputs.values()
            found = np.full((len(given), 1), 0.1, np.float32)
            found[::2] = np.nan
            return [found]

    step._session = Broken()  # type: ignore[assignment]
    (out,) = step.process(series(100, 200))
    column = out.column("anomaly")
    assert column.quality is not None
    assert column.quality.tolist() == [q.MISSING, q.GOOD] * 50
    assert (step.failures, step.counts["model_error"]) == (1, 50)
    assert step.results["failed", step.model] == 50


# -- providers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["raises", "leaves"])
def test_a_provider_that_is_there_but_does_not_work_is_said_aloud_and_the_cpu_runs(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnxruntime as ort

    real = ort.InferenceSession

    def start(model: bytes, settings: object, providers: list[str], enable_fallback: int) -> object:
        if way == "raises" and "GPU" in providers:
            raise RuntimeError("no device")
        assert enable_fallback == 0, "the runtime's own retry prints and says nothing in the log"
        return real(model, settings, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "InferenceSession", start)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["GPU", "CPUExecutionProvider"])
    loaded = load(find("sensor-anomaly"))
    session = Session(loaded.files["model.onnx"], SessionOptions(("GPU",)), place="here")
    assert session.providers == ("CPUExecutionProvider",)
    assert session.run({"window": ROWS}, ("error",))[0].shape == (2,)
    assert "execution provider GPU d" in caplog.text


def test_a_provider_that_the_child_does_not_have_is_said_aloud(caplog: pytest.LogCaptureFixture) -> None:
    options = SessionOptions(("GPUExecutionProvider", "CPUExecutionProvider"))
    session = IsolatedSession(graph("slow_if_asked"), options, place="here")
    try:
        assert session.providers == ("CPUExecutionProvider",)
        assert "here: execution provider GPUExecutionProvider does not run the model" in caplog.text
    finally:
        session.close()


# -- memory -------------------------------------------------------------------------------------------------


def rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def memory_over(runs: int) -> float:
    """Return by how many MiB memory grew over so many runs of changing shape, the first tenth aside."""
    loaded = load(find("sensor-anomaly"))
    session = Session(loaded.files["model.onnx"], SessionOptions(limit_ns=60_000 * MS), place="here")
    inputs = [np.zeros((1 + 7 * i, 26), np.float32) for i in range(10)]
    for i in range(runs // 10):
        session.run({"window": inputs[i % 10]}, ("error",))
    before = rss_mib()
    for i in range(runs):
        session.run({"window": inputs[i % 10]}, ("error",))
    return rss_mib() - before


@pytest.mark.slow
def test_memory_is_flat_over_a_hundred_thousand_runs() -> None:
    assert memory_over(100_000) < 3.0


@pytest.mark.torture
def test_memory_is_flat_over_a_million_runs() -> None:
    begun = time.monotonic()
    grown = memory_over(1_000_000)
    print(f"grown by {grown:.2f} MiB in {time.monotonic() - begun:.0f} s")
    assert grown < 3.0
