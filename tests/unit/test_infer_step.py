"""The steps: anomaly scores on any fields, detections from images; restarts, bad cells, limits."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from forebay import infer, shipped
from forebay import quality as q
from forebay.blocks import Block, Column, Field, Grade, Lane, Schema, Type
from forebay.config.base import parse_duration
from forebay.config.models import InferOptions, ModelsOptions
from forebay.errors import ForebayError, ModelError
from forebay.infer.anomaly import AnomalyStep
from forebay.infer.detect import DetectStep
from forebay.infer.session import SessionPool

SECOND = 1_000_000_000
PHOTOS = shipped.path("config") / "demo" / "photos"
POOL = SessionPool()
Column_or_list = Column | list[object]


def anomaly(key: str = "", **options: object) -> AnomalyStep:
    given = {"model": "sensor-anomaly", "inputs": ["temperature", "flow"], "calibration": 64} | options
    step = infer.build("infer", InferOptions(**given), key=key, pool=POOL)  # type: ignore[arg-type]
    assert isinstance(step, AnomalyStep)
    return step


def block(
    start: int = 0, step_ns: int = SECOND, key: str = "", **columns: tuple[Type, Column_or_list]
) -> Block:
    fields = tuple(Field(name, kind) for name, (kind, _) in columns.items())
    cells = tuple(c if isinstance(c, Column) else Column.of(t, c) for t, c in columns.values())
    time = (np.arange(cells[0].rows, dtype=np.int64) + start) * step_ns
    return Block(Schema("pump", fields, key), time, cells)


def walk(rows: int, seed: int = 0) -> tuple[list[object], list[object]]:
    rng = np.random.default_rng(seed)
    temperature = 40 + rng.normal(0, 0.1, rows).cumsum() * 0.3
    flow = 7 + rng.normal(0, 0.2, rows)
    return np.round(temperature, 2).tolist(), np.round(flow, 2).tolist()


def pump(rows: int, seed: int = 0, start: int = 0) -> Block:
    temperature, flow = walk(rows, seed)
    return block(start, temperature=(Type.F64, temperature), flow=(Type.F64, flow))


def scores(blocks: list[Block], name: str = "anomaly") -> list[float | None]:
    (one,) = blocks
    return one.column(name).to_list(Type.F64)


def test_the_score_is_a_field_that_says_its_model() -> None:
    step = anomaly()
    (out,) = step.process(pump(300))
    field = out.schema.fields[-1]
    assert (field.name, field.type) == ("anomaly", Type.F64)
    assert field.model.startswith("sensor-anomaly@1.0.0#")
    assert out.schema.names()[:2] == ("temperature", "flow")


def test_no_score_and_so_no_alarm_before_the_calibration_is_full() -> None:
    step = anomaly()
    got = scores(step.process(pump(300)))
    first = next(i for i, s in enumerate(got) if s is not None)
    assert first == 24 + 64
    assert all(s is not None and 0 <= s <= 1 for s in got[first:])
    assert step.counts["calibrating"] == first
    (out,) = anomaly().process(pump(300))
    assert out.columns[-1].quality is not None
    assert set(out.columns[-1].quality[:first].tolist()) == {q.WARMING_UP}


@pytest.mark.parametrize("fault", ["spike", "shift", "noise", "drift"])
def test_the_score_rises_above_nine_tenths_on_an_injected_fault_only(fault: str) -> None:
    temperature, flow = walk(1500, seed=3)
    x = np.array(flow, float)
    rng = np.random.default_rng(1)
    x[1300:1340] += {
        "spike": np.r_[8.0, np.zeros(39)],
        "shift": np.full(40, 4.0),
        "noise": rng.normal(0, 3, 40),
        "drift": np.linspace(0, 6, 40),
    }[fault]
    got = scores(anomaly().process(block(temperature=(Type.F64, temperature), flow=(Type.F64, x.tolist()))))
    assert max(s or 0 for s in got[1300:1340]) > 0.9
    assert np.mean([(s or 0) > 0.9 for s in got[:1300]]) < 0.01


def test_a_restart_goes_on_to_the_bit() -> None:
    whole = pump(900, seed=5)
    once = scores(anomaly().process(whole))
    first = anomaly()
    a = scores(first.process(whole.take(slice(0, 411))))
    second = anomaly()
    second.restore(first.state())
    b = scores(second.process(whole.take(slice(411, 900))))
    assert a + b == once
    reference = anomaly()
    reference.process(whole)
    assert second.state() == reference.state()


def test_how_rows_are_cut_into_blocks_changes_no_score() -> None:
    whole, step = pump(400, seed=6), anomaly()
    parts: list[float | None] = []
    for i in range(0, 400, 7):
        parts += scores(step.process(whole.take(slice(i, i + 7))))
    # batches of another size may round the last bit otherwise, which four decimals mostly hide
    np.testing.assert_allclose(
        np.array(parts, float), np.array(scores(anomaly().process(whole)), float), atol=2e-4
    )


def test_devices_do_not_see_each_other() -> None:
    t, f = walk(1200, seed=7)
    devices = [("a", "b", "b")[i % 3] for i in range(1200)]
    mixed = block(key="dev", dev=(Type.STR, devices), temperature=(Type.F64, t), flow=(Type.F64, f))
    rows = [i for i, d in enumerate(devices) if d == "a"]
    together = scores(anomaly(key="dev").process(mixed))
    alone = scores(anomaly(key="dev").process(mixed.take(np.array(rows))))
    np.testing.assert_allclose(
        np.array([together[i] for i in rows], float), np.array(alone, float), atol=2e-4
    )


def test_devices_beyond_the_limit_get_no_score_and_are_counted() -> None:
    t, f = walk(600)
    devices = [f"d{i % 3}" for i in range(600)]
    step = anomaly(key="dev", max_keys=2)
    got = scores(
        step.process(block(key="dev", dev=(Type.STR, devices), temperature=(Type.F64, t), flow=(Type.F64, f)))
    )
    assert [s is None for s in got[2::3]] == [True] * 200
    assert got[-3] is not None
    assert got[-2] is not None
    assert step.counts["max_keys"] == 200


def test_null_cells_are_passed_over_and_the_other_field_still_scores() -> None:
    t, f = walk(400, seed=8)
    holes = [None if i % 2 else v for i, v in enumerate(t)]
    got = scores(anomaly().process(block(temperature=(Type.F64, holes), flow=(Type.F64, f))))
    assert None not in got[100:]
    both_gone = block(400, temperature=(Type.F64, [None]), flow=(Type.F64, [float("nan")]))
    step = anomaly()
    step.process(pump(400))
    assert scores(step.process(both_gone)) == [None]


def test_a_cell_that_a_deadband_blanked_counts_as_the_value_that_holds() -> None:
    flow = [round(float(v), 1) for v in np.random.default_rng(9).normal(5, 0.2, 500)]
    held = [flow[0]]
    for v in flow[1:]:
        held.append(held[-1] if abs(v - held[-1]) < 0.2 else v)
    codes = np.array([0] + [q.UNCHANGED if a == b else 0 for a, b in pairwise(held)], np.uint8)
    assert 50 < np.count_nonzero(codes) < 450
    cells = np.where(codes == 0, held, 0.0)
    plain = anomaly(inputs=["flow"])
    banded = anomaly(inputs=["flow"])
    expected: list[float | None] = []
    got: list[float | None] = []
    for part in (slice(0, 203), slice(203, 500)):  # the value that holds may be of the block before
        start = part.start
        expected += scores(plain.process(block(start, flow=(Type.F64, held[part]))))
        column = Column(cells[part], None, codes[part])
        got += scores(banded.process(block(start, flow=(Type.F64, column))))
    assert got == expected


def test_a_field_that_is_missing_or_text_is_said_once_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, f = walk(200)
    step = anomaly()
    for _ in range(3):
        got = scores(step.process(block(temperature=(Type.STR, ["warm"] * 200), flow=(Type.F64, f))))
    assert got[-1] is not None
    assert caplog.text.count("expected field temperature with numbers, found str") == 1
    assert "warm" not in caplog.text
    assert scores(anomaly().process(block(other=(Type.I64, [1, 2])))) == [None, None]


def test_integers_and_switches_are_numbers_too() -> None:
    rng = np.random.default_rng(10)
    n = rng.integers(0, 50, 200).tolist()
    got = scores(anomaly().process(block(temperature=(Type.I64, n), flow=(Type.BOOL, [v > 25 for v in n]))))
    assert got[-1] is not None


def test_a_second_score_in_a_block_gets_a_suffix() -> None:
    (once,) = anomaly().process(pump(5))
    (twice,) = anomaly().process(once)
    assert twice.schema.names()[-2:] == ("anomaly", "anomaly_2")
    assert anomaly(output="oddness").process(pump(5))[0].schema.names()[-1] == "oddness"


def test_an_empty_block_passes() -> None:
    assert scores(anomaly().process(pump(3).take(slice(0, 0)))) == []


def test_a_model_that_fails_gives_null_scores_and_a_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step = anomaly()
    step.process(pump(300))

    def fail(*_: object) -> None:
        raise ModelError("broken", place="here")

    monkeypatch.setattr(step._session, "run", fail)
    assert scores(step.process(pump(5, start=300))) == [None] * 5
    assert step.counts["model_error"] == 10
    assert "here: broken" in caplog.text
    monkeypatch.undo()
    assert None not in scores(step.process(pump(5, start=305)))


def test_a_state_of_other_inputs_or_noise_is_refused_and_changes_nothing() -> None:
    step = anomaly()
    step.process(pump(100))
    before = step.state()
    for bad in (
        anomaly(inputs=["flow"]).state(),
        anomaly(key="dev").state(),
        b"",
        b"\xc1",
        before[:-9],
        b"\x01",
    ):
        with pytest.raises(ForebayError, match="saved state is"):
            step.restore(bad)
    assert step.state() == before


def test_another_models_thresholds_are_learned_anew() -> None:
    old, new = anomaly(), anomaly()
    old.process(pump(300))
    new.restore(old.state().replace(b"sensor-anomaly@1", b"sensor-anomaly@0"))
    assert scores(new.process(pump(63, start=300))) == [None] * 63
    assert None not in scores(new.process(pump(10, start=363)))[2:]


def test_the_state_stays_small() -> None:
    step = anomaly(key="dev")
    t, f = walk(400)
    devices = [f"pump-{i % 100}" for i in range(400)]
    step.process(block(key="dev", dev=(Type.STR, devices), temperature=(Type.F64, t), flow=(Type.F64, f)))
    assert len(step.state()) / 200 < 220


# -- images


def images(*cells: bytes | None, time: list[int] | None = None) -> Block:
    fields = (Field("camera", Type.STR), Field("picture", Type.BYTES, media="image"))
    columns = (Column.of(Type.STR, ["gate"] * len(cells)), Column.of(Type.BYTES, list(cells)))
    stamps = np.array(time if time is not None else range(len(cells)), np.int64) * SECOND
    return Block(Schema("gate", fields, "camera"), stamps, columns, Lane.BULK)


def jpeg(name: str) -> bytes:
    return (PHOTOS / name).read_bytes()


def look(key: str = "camera", **options: object) -> DetectStep:
    given = {"model": "faces", "field": "picture"} | options
    step = infer.build("infer", InferOptions(**given), key=key, pool=POOL)  # type: ignore[arg-type]
    assert isinstance(step, DetectStep)
    return step


def test_detections_are_a_stream_of_their_own_beside_the_images() -> None:
    pytest.importorskip("cv2")
    given = images(jpeg("coffee.jpg"), jpeg("astronaut.jpg"), jpeg("hopper.jpg"))
    step = look()
    found, passed = step.process(given)
    told = {"model": step.model, "providers": ["CPUExecutionProvider"], "looked": 3}
    assert step.report() == told
    assert passed.schema.names() == ("camera", "picture", "frame", "objects")
    assert passed.column("objects").to_list(Type.I64) == [0, 1, 1]
    assert passed.column("picture").cell_bytes(1) == jpeg("astronaut.jpg")
    frames = passed.column("picture").frames
    assert frames is not None
    assert [f.shape for f in frames if f is not None] == [(400, 600, 3), (512, 512, 3), (600, 512, 3)]
    assert (found.stream, found.schema.key, found.lane) == ("gate_detections", "camera", Lane.BULK)
    box = ("x1", "y1", "x2", "y2", "width", "height")
    assert found.schema.names() == ("camera", "frame", "label", "score", *box)
    assert (found.column("width").values.tolist(), found.column("height").values.tolist()) == (
        [512, 512],
        [512, 600],
    )
    assert found.column("frame").values.tolist() == [1, 2]
    assert found.time.tolist() == [SECOND, 2 * SECOND]
    assert found.column("label").to_list(Type.STR) == ["face", "face"]
    assert found.schema.fields[3].model.startswith("faces@1.0.0#")
    assert abs(found.column("x1").values[0] - 180) < 20


def test_nothing_found_is_no_block_and_the_output_can_be_named() -> None:
    pytest.importorskip("cv2")
    assert len(look().process(images(jpeg("coffee.jpg"), None))) == 1
    found, passed = look(output="people").process(images(jpeg("hopper.jpg")))
    assert found.stream == "people"
    assert passed.schema.names()[-1] == "people_objects"


@pytest.mark.parametrize("bad", [b"", b"no picture", b"\xff\xd8\xff\xe0" + b"\0" * 50])
def test_a_broken_picture_passes_without_detections_and_is_counted(
    bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("cv2")
    step = look()
    found, passed = step.process(images(bad, jpeg("astronaut.jpg")))
    assert passed.column("objects").to_list(Type.I64) == [None, 1]
    assert step.counts == {"undecodable": 1, "looked": 1}
    assert passed.column("picture").cell_bytes(0) == bad
    assert found.column("frame").values.tolist() == [1]
    assert "faces@1.0.0#" in caplog.text
    assert ": field picture: " in caplog.text


def test_every_skips_by_the_images_own_stamps_and_keeps_its_place_over_a_restart() -> None:
    pytest.importorskip("cv2")
    picture = jpeg("coffee.jpg")
    step = look(every="10s", model="faces-near")
    step.process(images(*[picture] * 4, time=[0, 3, 9, 10]))
    assert (step.counts["looked"], step.counts["skipped"]) == (2, 2)
    again = look(every="10s", model="faces-near")
    again.restore(step.state())
    again.process(images(*[picture] * 3, time=[15, 20, 2]))  # the clock then went back
    assert (again.counts["looked"], again.counts["skipped"]) == (2, 1)
    (passed,) = again.process(images(picture))
    assert passed.column("frame").values.tolist() == [7]
    with pytest.raises(ForebayError, match="damaged"):
        again.restore(b"\x81")


def test_frames_that_are_already_decoded_are_used() -> None:
    pytest.importorskip("cv2")
    given = images(b"not looked at")
    given.columns[1].frames = [np.zeros((64, 64, 3), np.uint8)]
    step = look()
    step.process(given)
    assert step.counts == {"looked": 1}


def test_frames_kept_beside_a_block_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.setattr("forebay.infer.detect.MAX_CACHED_BYTES", 512 * 512 * 3)
    found, passed = look(model="faces-near").process(images(jpeg("astronaut.jpg"), jpeg("hopper.jpg")))
    frames = passed.column("picture").frames
    assert frames is not None
    assert [f is None for f in frames] == [False, True]
    assert found.rows == 2


class Ticking:
    """A clock on which every question takes 0.2 s: a look takes 0.2 s, then."""

    now = 0

    def monotonic_ns(self) -> int:
        self.now += SECOND // 5
        return self.now

    def wall_ns(self) -> int:
        raise AssertionError("nothing is dropped by the wall clock")

    def state(self) -> str:
        return "synced"


def test_under_load_the_newest_image_wins_and_the_others_are_dropped() -> None:
    pytest.importorskip("cv2")
    options = InferOptions(model="faces-near", field="picture", on_load="drop")
    step = infer.build("infer", options, key="camera", pool=POOL, clock=Ticking())
    dark = np.zeros((32, 32, 3), np.uint8)
    kept = []
    for number in range(20):  # 25 images a second, each look takes five of them
        given = images(b"")
        given.columns[1].frames = [dark]
        for block in step.process(Block(given.schema, np.array([number * SECOND // 25]), given.columns)):
            kept += (block.time * 25 // SECOND).tolist()
    assert kept == [0, 5, 10, 15]
    assert step.counts["late"] == 16  # type: ignore[attr-defined]


def test_under_load_each_camera_has_its_turn() -> None:
    pytest.importorskip("cv2")
    options = InferOptions(model="faces-near", field="picture", on_load="drop")
    step = infer.build("infer", options, key="camera", pool=POOL, clock=Ticking())
    seen = {"a": 0, "b": 0}
    fields = (Field("camera", Type.STR), Field("picture", Type.BYTES, media="image"))
    for number in range(100):
        picture = Column(
            np.zeros(0, np.uint8), np.zeros(3, np.int64), frames=[np.zeros((8, 8, 3), np.uint8)] * 2
        )
        columns = (Column.of(Type.STR, ["a", "b"]), picture)
        time = np.full(2, number * SECOND // 25)
        for block in step.process(Block(Schema("gate", fields, "camera"), time, columns)):
            for camera in block.column("camera").to_list(Type.STR):
                seen[camera] += 1
    assert seen == {"a": 11, "b": 10}  # the very first look did not know of the other camera


def test_what_is_derived_is_graded_like_what_it_comes_from() -> None:
    pytest.importorskip("cv2")
    given = pump(3)
    fields = (Field("temperature", Type.F64, grade=Grade.GENERAL), Field("flow", Type.F64, grade=Grade.CORE))
    graded = Block(Schema("pump", fields), given.time, given.columns)
    assert anomaly().process(graded)[0].schema.fields[-1].grade is Grade.CORE
    assert anomaly().process(given)[0].schema.fields[-1].grade is None
    found, _ = look(model="faces-near").process(images(jpeg("hopper.jpg")))
    assert {f.grade for f in found.schema.fields[1:]} == {Grade.GENERAL}


def test_a_stream_without_that_field_passes_untouched(caplog: pytest.LogCaptureFixture) -> None:
    step, given = look(), pump(3)
    assert step.process(given) == [given]
    assert step.process(given) == [given]
    assert caplog.text.count("expected field picture with images, found missing") == 1


# -- options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "m"}, "give either"),
        ({"model": "m", "inputs": ["a"], "field": "b"}, "give either"),
        ({"model": "m", "inputs": ["a"], "threshold": 0.5}, "alarm on the score"),
        ({"model": "m", "field": "a", "calibration": 99}, "`calibration` goes with `inputs`"),
        ({"model": "m", "inputs": ["a", "a"]}, "twice"),
        ({"model": "m", "field": "a", "tiles": 9}, "less than or equal to 4"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InferOptions(**options)  # type: ignore[arg-type]


def test_the_wrong_kind_of_model_is_refused_at_build() -> None:
    with pytest.raises(ModelError, match="expected an anomaly model, found task detection"):
        infer.build("infer", InferOptions(model="faces", inputs=["a"]), pool=POOL)
    with pytest.raises(ModelError, match="expected a detection model"):
        infer.build("infer", InferOptions(model="sensor-anomaly", field="a"), pool=POOL)


def test_models_dir_is_relative_to_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no bundle `mine`"):
        infer.build(
            "infer",
            InferOptions(model="mine", inputs=["a"]),
            base=tmp_path,
            models=ModelsOptions(dir=Path("x")),
        )
    assert parse_duration("10s") == InferOptions(model="m", field="f", every="10s").every  # type: ignore[arg-type]
