"""The steps `smooth` and `gaps`, and what `window` says about waveforms."""

from typing import Any

import numpy as np
import pytest

from forebay import quality as q
from forebay.blocks import Block, Column, Field, Schema, Type
from forebay.config.preprocess import STEP_OPTIONS
from forebay.errors import ConfigError
from forebay.preprocess import StreamStep, build

S = 10**9
RATE = 25_600


def step(name: str, *, key: str = "", **options: Any) -> StreamStep:
    return build(name, STEP_OPTIONS[name].model_validate(options), key=key)


def table(at: Any, t: Any, codes: Any = None, dev: Any = None) -> Block:
    """Build a block with a field `t` in °C, and a key `dev` if given."""
    fields, columns = [Field("t", Type.F64, "°C")], [Column.of(Type.F64, t, codes)]
    if dev is not None:
        fields.insert(0, Field("dev", Type.STR))
        columns.insert(0, Column.of(Type.STR, dev))
    times = (np.array(at, dtype=np.float64) * S).astype(np.int64)
    return Block(Schema("pump", tuple(fields), "dev" if dev else ""), times, tuple(columns))


def cells(block: Block, name: str) -> list[Any]:
    return block.column(name).to_list(block.schema.fields[block.schema.index(name)].type)


def codes_of(block: Block, name: str) -> list[int]:
    quality = block.column(name).quality
    return [0] * block.rows if quality is None else quality.tolist()


# -- smooth


def test_smoothing_follows_a_step_by_time_and_rounds_if_asked() -> None:
    (out,) = step("smooth", tau="10s", decimals=2).process(table([0, 10, 20], [0.0, 1.0, 1.0]))
    assert cells(out, "t") == [0.0, 0.63, 0.86]
    assert out.schema.fields[0].unit == "°C"


def test_null_and_bad_cells_pass_a_smoothing_untouched() -> None:
    given = table(range(4), [1.0, None, 500.0, 1.0], np.array([0, q.NULL, q.RANGE, 0], np.uint8))
    (out,) = step("smooth", tau="1s").process(given)
    assert cells(out, "t") == [1.0, None, 500.0, 1.0]
    assert codes_of(out, "t") == [0, q.NULL, q.RANGE, 0]


def test_devices_are_smoothed_apart() -> None:
    given = table([0, 0, 1, 1], [0.0, 100.0, 0.0, 100.0], dev=list("abab"))
    (out,) = step("smooth", tau="1min", key="dev").process(given)
    assert cells(out, "t") == [0.0, 100.0, 0.0, 100.0]


# -- gaps


def test_a_gap_becomes_null_rows_at_the_times_that_were_due() -> None:
    made = step("gaps", every="10s", fill=3)
    (out,) = made.process(table([0, 10, 20, 70, 80], [1.0, 2.0, 3.0, 4.0, 5.0]))
    assert (out.time // S).tolist() == [0, 10, 20, 30, 40, 50, 70, 80]
    assert cells(out, "t") == [1.0, 2.0, 3.0, None, None, None, 4.0, 5.0]
    assert codes_of(out, "t") == [0, 0, 0, q.GAP, q.GAP, q.GAP, 0, 0]
    assert made.counts == {"gaps": 1, "missing_rows": 4}


def test_a_gap_across_blocks_is_seen_and_measured() -> None:
    made = step("gaps", every="1s", fill=0, length="gap")
    (first,) = made.process(table([0, 1], [1.0, 2.0]))
    (second,) = made.process(table([61.5, 62], [3.0, 4.0]))
    assert (cells(first, "gap"), cells(second, "gap")) == ([0.0, 0.0], [60.5, 0.0])
    assert second.schema.fields[-1].unit == "s"
    assert second.rows == 2


def test_inserted_rows_belong_to_the_device_that_was_silent() -> None:
    given = table([0, 0, 1, 2, 9], [1.0, 2.0, 3.0, 4.0, 5.0], dev=list("abbba"))
    (out,) = step("gaps", every="1s", key="dev", fill=1, length="gap").process(given)
    assert cells(out, "dev") == ["a", "b", "b", "b", "a", "a"]
    assert cells(out, "t") == [1.0, 2.0, 3.0, 4.0, None, 5.0]
    assert cells(out, "gap") == [0.0, 0.0, 0.0, 0.0, None, 9.0]
    assert out.time[4] == 1 * S


def test_regular_rows_pass_as_the_same_block() -> None:
    given = table(range(5), [1.0] * 5)
    assert step("gaps", every="1s").process(given) == [given]


def test_many_gaps_are_cut_to_the_row_limit() -> None:
    out = step("gaps", every="1s", fill=100).process(table(np.arange(900) * 1000.0, [1.0] * 900))
    assert sum(part.rows for part in out) == 900 + 899 * 100
    assert max(part.rows for part in out) <= 1000


def test_the_length_of_gaps_cannot_take_the_keys_name() -> None:
    with pytest.raises(ConfigError, match="is the key"):
        step("gaps", every="1s", length="Dev", key="dev")


# -- windows of waveforms


def wave(values: Any, rate: float = RATE, codes: Any = None) -> Block:
    """Build a block of one channel in m/s²; times are rounded to ns, as a source's are."""
    x = np.array(values, dtype=np.float64)
    times = 1_700_000_000 * S + np.round(np.arange(len(x)) * 1e9 / rate).astype(np.int64)
    return Block(Schema("motor", (Field("a", Type.F64, "m/s²"),)), times, (Column(x, None, codes),))


def clock(n: int = RATE, rate: float = RATE) -> np.ndarray:
    return np.arange(n) / rate


def one(block: Block, **options: Any) -> dict[str, Any]:
    (out,) = step("window", stats=["rms"], **{"size": block.rows, **options}).process(block)
    return {f.name: cells(out, f.name)[0] for f in out.schema.fields}


def test_a_band_has_the_rms_of_what_vibrates_within_and_not_of_what_does_not() -> None:
    t = clock()
    x = 9.81 + 2.0 * np.sin(2 * np.pi * 50 * t) + 0.5 * np.sin(2 * np.pi * 3000.3 * t)
    found = one(wave(x), bands=[["10Hz", "1kHz"], ["1kHz", "10kHz"], ["10kHz", "12.8kHz"], [0, "5Hz"]])
    assert found["a_band_10_1000"] == pytest.approx(2.0 / np.sqrt(2), rel=1e-4)
    assert found["a_band_1000_10000"] == pytest.approx(0.5 / np.sqrt(2), rel=1e-4)
    assert found["a_band_10000_12800"] < 1e-4
    assert found["a_band_0_5"] < 1e-4


def test_neighbouring_bands_add_up_to_the_whole() -> None:
    x = np.random.default_rng(3).normal(size=8192)
    found = one(wave(x), bands=[[0, "4kHz"], ["4kHz", "12.8kHz"], [0, "12.8kHz"]])
    parts = found["a_band_0_4000"] ** 2 + found["a_band_4000_12800"] ** 2
    assert found["a_band_0_12800"] ** 2 == pytest.approx(parts)
    assert found["a_band_0_12800"] == pytest.approx(1.0, rel=0.03)


def test_a_tone_has_its_amplitude_between_the_bins_too() -> None:
    x = 3.0 * np.sin(2 * np.pi * 97.31 * clock() + 0.4) + np.sin(2 * np.pi * 1200 * clock())
    found = one(wave(x), tones=["97.31Hz", "1.2kHz", "600Hz"])
    assert found["a_tone_97.31"] == pytest.approx(3.0, rel=1e-3)
    assert found["a_tone_1200"] == pytest.approx(1.0, rel=1e-3)
    assert found["a_tone_600"] < 1e-3


def struck(every_hz: float, size: float, noise: float = 0.05) -> np.ndarray:
    """Return a shaft's rotation, and a resonance at 4 kHz that is struck `every_hz` times a second."""
    t = clock()
    phase = (t * every_hz) % 1.0 / every_hz
    ringing = size * np.exp(-phase * 800) * np.sin(2 * np.pi * 4000 * phase)
    rotation = 5.0 * np.sin(2 * np.pi * 24.7 * t)
    return np.random.default_rng(4).normal(0, noise, len(t)) + ringing + rotation


def test_the_envelope_shows_how_often_a_bearing_is_struck() -> None:
    envelope = {"band": ["2kHz", "6kHz"], "tones": ["97.3Hz", "140Hz"]}
    hurt = one(wave(struck(97.3, 2.0)), envelope=envelope)
    whole = one(wave(struck(97.3, 0.0)), envelope=envelope)
    assert hurt["a_envelope_peak_frequency"] == pytest.approx(97.3, abs=0.3)
    assert hurt["a_envelope_97.3"] > 20 * hurt["a_envelope_140"]
    assert hurt["a_envelope_97.3"] > 50 * whole["a_envelope_97.3"]
    assert hurt["a_envelope_rms"] > 10 * whole["a_envelope_rms"]
    assert hurt["a_envelope_kurtosis"] > whole["a_envelope_kurtosis"] + 1


def test_the_envelope_of_a_modulated_tone_is_its_modulation() -> None:
    t = clock()
    x = (2.0 + 0.5 * np.cos(2 * np.pi * 30 * t)) * np.sin(2 * np.pi * 5000 * t)
    found = one(wave(x), envelope={"band": ["4kHz", "6kHz"], "tones": ["30Hz"]})
    assert found["a_envelope_rms"] == pytest.approx(np.sqrt(4.0 + 0.125), rel=5e-3)
    assert found["a_envelope_30"] == pytest.approx(0.5, rel=1e-2)
    assert found["a_envelope_peak_frequency"] == pytest.approx(30.0, abs=0.1)


def test_a_tone_far_below_the_band_does_not_leak_into_the_envelope() -> None:
    x = 100.0 * np.sin(2 * np.pi * 24.37 * clock() + 1.0)  # not a whole number of turns in the window
    assert one(wave(x), envelope={"band": ["2kHz", "6kHz"]})["a_envelope_rms"] < 0.01


def test_columns_have_the_units_of_what_they_say() -> None:
    made = step(
        "window", size=64, stats=["zero_crossings", "crossing_rate"], bands=[["1Hz", "2kHz"]], tones=["50Hz"],
        envelope={"band": ["1kHz", "2kHz"], "tones": ["7Hz"]},
    )  # fmt: skip
    (out,) = made.process(wave(np.random.default_rng(1).normal(size=64)))
    assert {f.name: f.unit for f in out.schema.fields} == {
        "a_zero_crossings": "", "a_crossing_rate": "Hz", "a_band_1_2000": "m/s²", "a_tone_50": "m/s²",
        "a_envelope_rms": "m/s²", "a_envelope_kurtosis": "", "a_envelope_peak_frequency": "Hz",
        "a_envelope_7": "m/s²",
    }  # fmt: skip


def test_the_rate_comes_from_the_times_or_from_the_options() -> None:
    x = np.sin(2 * np.pi * 100 * clock(4096))
    stamped = wave(x)
    stamped.time[:] = 1_700_000_000 * S  # a gateway that stamps a whole transfer with one time
    assert one(stamped, tones=["100Hz"])["a_tone_100"] is None
    assert one(stamped, tones=["100Hz"], rate="25.6kHz")["a_tone_100"] == pytest.approx(1.0, rel=1e-3)
    assert one(wave(x), tones=["100Hz"])["a_tone_100"] == pytest.approx(1.0, rel=1e-3)


def test_windows_that_have_no_spectrum_say_so_and_are_counted() -> None:
    x = np.random.default_rng(1).normal(size=256)
    uneven = wave(x)
    uneven.time[100:] += 10_000_000
    codes = np.zeros(256, np.uint8)
    codes[5:30] = q.RANGE
    for given, why in ((uneven, "uneven"), (wave(x[:15]), "short"), (wave(x, codes=codes), "incomplete")):
        made = step("window", size=given.rows, stats=["count"], bands=[["1kHz", "2kHz"]])
        (out,) = made.process(given)
        assert codes_of(out, "a_band_1000_2000") == [q.NAN]
        assert made.counts[why] == 1
    made = step("window", size=256, bands=[["1kHz", "5kHz"]], envelope={"band": ["1kHz", "5kHz"]})
    (out,) = made.process(wave(x, rate=8000))
    assert codes_of(out, "a_band_1000_5000") == codes_of(out, "a_envelope_rms") == [q.NAN]
    assert made.counts["beyond_half_rate"] == 1


def test_a_few_bad_samples_are_bridged() -> None:
    x = np.sin(2 * np.pi * 50 * clock())
    codes = np.zeros(len(x), np.uint8)
    codes[1000:1005] = codes[0] = q.RANGE
    broken = x.copy()
    broken[codes > 0] = 1e6
    assert one(wave(broken, codes=codes), tones=["50Hz"])["a_tone_50"] == pytest.approx(1.0, rel=1e-3)


def test_a_silent_channel_has_no_peak_and_no_kurtosis() -> None:
    found = one(wave(np.zeros(1024)), bands=[["1kHz", "2kHz"]], envelope={"band": ["1kHz", "2kHz"]})
    assert (found["a_band_1000_2000"], found["a_envelope_rms"]) == (0.0, 0.0)
    assert found["a_envelope_kurtosis"] is found["a_envelope_peak_frequency"] is None


def test_crossings_are_counted_about_the_level_asked_for() -> None:
    x = 3.0 + np.sin(2 * np.pi * 100 * clock() + 0.1)
    for zero, count in (("mean", 199), (3.0, 199), (0.0, 0)):
        made = step("window", size=RATE, stats=["zero_crossings", "crossing_rate"], zero=zero, hysteresis=0.1)
        (out,) = made.process(wave(x))
        assert cells(out, "a_zero_crossings") == [count]
        assert cells(out, "a_crossing_rate")[0] == pytest.approx(count, rel=1e-4)


def test_a_waveform_block_of_the_largest_size_gives_its_windows() -> None:
    x = np.sin(2 * np.pi * 1000 * clock(65_536))
    made = step("window", size=4096, stats=["rms"], bands=[["500Hz", "2kHz"]])
    (out,) = made.process(wave(x))
    assert out.rows == 16
    assert cells(out, "a_band_500_2000") == pytest.approx(cells(out, "a_rms"), rel=1e-3)
