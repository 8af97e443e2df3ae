"""The steps of the other tasks on numbers: forecasts with residuals, labels of windows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forebay import infer, shipped
from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.models import InferOptions
from forebay.errors import ConfigError, ForebayError, ModelError
from forebay.infer.classify import ClassifyStep
from forebay.infer.forecast import ForecastStep
from forebay.infer.session import SessionPool

POOL = SessionPool()
RATE_HZ, WINDOW = 12_000, 4096
PERIOD_NS = 1_000_000_000 // RATE_HZ


def build(model: str, key: str = "", **options: object) -> Any:
    given = {"model": model, "inputs": ["x"]} | options
    return infer.build("infer", InferOptions(**given), key=key, pool=POOL)  # type: ignore[arg-type]


def block(
    values: Any, start: int = 0, period_ns: int = 600_000_000_000, key: str = "", device: str = ""
) -> Block:
    time = (np.arange(len(values), dtype=np.int64) + start) * period_ns
    fields, cells = [Field("x", Type.F64)], [Column(np.asarray(values, np.float64), None)]
    if key:
        fields.append(Field(key, Type.STR))
        cells.append(Column.of(Type.STR, [device] * len(values)))
    return Block(Schema("pump", tuple(fields), key), time, tuple(cells))


def cells(blocks: list[Block], name: str) -> list[Any]:
    (one,) = blocks
    return one.column(name).to_list(one.schema.fields[one.schema.index(name)].type)


def wave(rows: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return 500 + 200 * np.sin(np.arange(rows) / 6) + rng.normal(0, 10, rows)


# -- forecast -----------------------------------------------------------------------------------------------


def test_a_forecast_gives_residual_and_score_and_a_jump_stands_out_in_both() -> None:
    step = build("energy-forecast", calibration=64)
    assert isinstance(step, ForecastStep)
    values = wave(1000)
    values[900] += 2000
    out = step.process(block(values))
    assert out[0].schema.names() == ("x", "x_residual", "surprise")
    residual, score = cells(out, "x_residual"), cells(out, "surprise")
    assert residual[:23] == [None] * 23
    assert score[:88] == [None] * 88
    assert np.argmax([abs(r or 0) for r in residual]) in (900, 901)
    assert score[900] > 0.9
    assert np.mean([s > 0.9 for s in score[200:900]]) < 0.02
    assert out[0].schema.fields[-1].model.startswith("energy-forecast@1.1.0#")


def test_the_residual_is_small_where_the_series_can_be_foreseen() -> None:
    smooth = cells(
        build("energy-forecast").process(block(500 + 200 * np.sin(np.arange(1000) / 20))), "x_residual"
    )
    steps = np.diff(500 + 200 * np.sin(np.arange(1000) / 20))[100:]
    mean = np.abs(steps).mean()
    assert np.mean(np.abs(np.array(smooth[101:], float))) < 0.8 * np.mean(np.abs(steps)) / mean


def test_a_forecast_goes_on_to_the_bit_after_a_restart_and_its_state_is_no_other_models() -> None:
    values = wave(600)
    once = build("energy-forecast", calibration=64).process(block(values))
    first = build("energy-forecast", calibration=64)
    a = first.process(block(values[:301]))
    second = build("energy-forecast", calibration=64)
    second.restore(first.state())
    b = second.process(block(values[301:], 301))
    for name in ("x_residual", "surprise"):
        np.testing.assert_allclose(
            np.array(cells(a, name) + cells(b, name), float), np.array(cells(once, name), float), atol=2e-4
        )


def test_a_model_that_fails_gives_neither_residual_nor_score(monkeypatch: pytest.MonkeyPatch) -> None:
    step = build("energy-forecast", calibration=64)
    step.process(block(wave(300)))

    def fail(*_: object) -> None:
        raise ModelError("broken", place="here")

    monkeypatch.setattr(step._session, "run", fail)
    out = step.process(block(wave(10), 300))
    assert cells(out, "x_residual") == cells(out, "surprise") == [None] * 10
    codes = out[0].column("x_residual").quality
    assert codes is not None
    assert set(codes.tolist()) == {q.MISSING}


def test_an_empty_block_passes_a_forecast() -> None:
    (out,) = build("energy-forecast").process(block([]))
    assert out.schema.names() == ("x", "x_residual", "surprise")


# -- classification -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vibration() -> tuple[Any, Any]:
    """Windows of the same generator, seeds that training never saw."""
    sys.path.insert(0, str(shipped.path("models")))
    try:
        import bearings  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    found: tuple[Any, Any] = bearings.windows(77, 80)
    return found


def labels_of(step: Any, x: Any, cut: int, start: int = 0) -> list[Any]:
    out: list[Any] = []
    for i in range(0, len(x), cut):
        out += cells(step.process(block(x[i : i + cut], start + i, PERIOD_NS)), "label")
    return out


def test_each_full_window_gets_a_label_at_its_last_reading_mostly_the_right_one(vibration: Any) -> None:
    x, y = vibration
    step = build("bearing-faults")
    assert isinstance(step, ClassifyStep)
    found = labels_of(step, x.reshape(-1), 1000)
    places = [i for i, label in enumerate(found) if label is not None]
    assert places == [WINDOW * (i + 1) - 1 for i in range(80)]
    names = ("normal", "outer_race", "inner_race", "ball")
    right = [found[p] == names[k] for p, k in zip(places, y.tolist(), strict=True)]
    assert np.mean(right) > 0.8
    assert not step.counts


def test_how_readings_are_cut_into_blocks_and_restarts_change_no_label(vibration: Any) -> None:
    x = vibration[0][:6].reshape(-1)
    once = labels_of(build("bearing-faults"), x, len(x))
    assert labels_of(build("bearing-faults"), x, 777) == once
    first, second = build("bearing-faults"), build("bearing-faults")
    a = labels_of(first, x[:9000], 500)
    second.restore(first.state())
    assert a + labels_of(second, x[9000:], 500, 9000) == once
    assert second.state() is not None


def test_null_means_warming_up_before_the_first_label_and_unchanged_after(vibration: Any) -> None:
    (out,) = build("bearing-faults").process(block(vibration[0][:2].reshape(-1), 0, PERIOD_NS))
    for name in ("label", "label_score"):
        codes = out.column(name).quality
        assert codes is not None
        assert set(codes[: WINDOW - 1].tolist()) == {q.WARMING_UP}
        assert codes[WINDOW - 1] == q.GOOD
        assert set(codes[WINDOW:-1].tolist()) == {q.UNCHANGED}
    score = cells([out], "label_score")[WINDOW - 1]
    assert 0.25 < score <= 1


def test_a_hole_ends_the_window_and_another_rate_gives_no_label(
    vibration: Any, caplog: pytest.LogCaptureFixture
) -> None:
    x = vibration[0][:2].reshape(-1).astype(float)
    x[100] = np.nan
    step = build("bearing-faults")
    found = labels_of(step, x, 1000)
    assert [i for i, label in enumerate(found) if label] == [100 + WINDOW]
    assert step.counts["gap"] == 1
    slow = build("bearing-faults")
    (out,) = slow.process(block(vibration[0][0], 0, 2 * PERIOD_NS))
    assert cells([out], "label") == [None] * WINDOW
    assert slow.counts["rate"] == 1
    assert "12000 Hz" in caplog.text


def test_devices_have_windows_of_their_own_up_to_a_limit(vibration: Any) -> None:
    step = build("bearing-faults", key="dev", max_keys=2)
    for device in ("a", "b", "c"):
        step.process(block(vibration[0][0][:3000], 0, PERIOD_NS, "dev", device))
    assert step.counts["max_keys"] == 3000
    (out,) = step.process(block(vibration[0][0][3000:], 3000, PERIOD_NS, "dev", "b"))
    assert cells([out], "label")[-1] is not None


def test_constant_readings_and_a_failing_model_break_nothing(
    monkeypatch: pytest.MonkeyPatch, vibration: Any
) -> None:
    step = build("bearing-faults")
    (out,) = step.process(block(np.zeros(WINDOW), 0, PERIOD_NS))
    assert cells([out], "label")[-1] in ("normal", "outer_race", "inner_race", "ball", "unsure")

    def fail(*_: object) -> None:
        raise ModelError("broken", place="here")

    monkeypatch.setattr(step._session, "run", fail)
    (out,) = step.process(block(vibration[0][0], WINDOW, PERIOD_NS))
    assert cells([out], "label") == [None] * WINDOW
    assert step.counts["model_error"] == 1
    assert step.failures == 1


def test_options_that_mean_nothing_to_a_classifier_are_errors() -> None:
    with pytest.raises(ConfigError, match="one field"):
        build("bearing-faults", inputs=["x", "y"])
    with pytest.raises(ConfigError, match="`calibration` means nothing"):
        build("bearing-faults", calibration=64)


def test_a_damaged_state_is_refused_and_changes_nothing(vibration: Any) -> None:
    step = build("bearing-faults")
    step.process(block(vibration[0][0][:100], 0, PERIOD_NS))
    before = step.state()
    for bad in (b"", b"\xc1", before[:-9], build("energy-forecast").state()):
        with pytest.raises(ForebayError, match="saved state is"):
            step.restore(bad)
    assert step.state() == before


# -- cards --------------------------------------------------------------------------------------------------


def numbers(found: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield every measured number of a metrics.json but counts and what stands in no table."""
    for name, value in found.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{place}/{name}")
        elif isinstance(value, float) and place and not place.startswith("/outside"):
            yield f"{place}/{name}", value


@pytest.mark.parametrize("name", ["energy-forecast", "bearing-faults"])
def test_a_card_holds_the_numbers_that_the_script_measured(name: str) -> None:
    folder: Path = shipped.path("models") / name
    card, metrics = (folder / "CARD.md").read_text(), json.loads((folder / "metrics.json").read_text())
    for place, value in numbers(metrics):
        told = {f"{value:.{digits}f}" for digits in (1, 2, 3)}
        assert any(text in card for text in told), (place, value)


def test_the_forecast_is_better_than_the_simple_ones_on_what_it_has_not_seen() -> None:
    metrics = json.loads((shipped.path("models") / "energy-forecast" / "metrics.json").read_text())
    tables = [found for found in metrics.values() if isinstance(found, dict)]
    assert len(tables) == 3
    for table in tables:
        own = table.pop("energy-forecast")
        unseen = table.pop("energy-forecast, unseen series")
        assert unseen["MAE"] < table.pop("the last reading again, unseen series")["MAE"]
        others = [found for found in table.values() if isinstance(found, dict)]
        assert len(others) >= 4
        assert all(own["MAE"] < other["MAE"] and own["RMSE"] < other["RMSE"] for other in others)
