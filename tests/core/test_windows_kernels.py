"""moments, percentiles, panes: one body over the compiled kernels and their twins."""

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from forebay.config.preprocess import MOMENT_STATS

PARAMS = ["compiled", "reference"]
NONE32 = np.zeros(0, dtype=np.int32)


def load(which: str) -> ModuleType:
    return import_module("forebay_core._windows" if which == "compiled" else "forebay_core.reference.windows")


@pytest.fixture(params=PARAMS)
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


def moments_of(kernels: ModuleType, values: Any) -> dict[str, float]:
    x = np.array(values, dtype=np.float64)
    x.flags.writeable = False
    out = np.full((1, len(kernels.MOMENTS)), 7.0)
    kernels.moments(x, np.array([0]), np.array([len(x)]), out)
    return dict(zip(kernels.MOMENTS, out[0].tolist(), strict=True))


def test_configuration_knows_the_statistics_of_the_kernel(kernels: ModuleType) -> None:
    assert kernels.MOMENTS == MOMENT_STATS


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 255, 256, 1000])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_statistics_are_those_of_the_definitions(kernels: ModuleType, n: int, offset: float) -> None:
    x = np.random.default_rng(n).gamma(2.0, size=n) + offset
    got = moments_of(kernels, x)
    d = x - x.mean()
    wanted = {
        "count": n, "sum": x.sum(), "mean": x.mean(), "std": x.std(), "min": x.min(), "max": x.max(),
        "range": np.ptp(x), "rms": np.sqrt(np.mean(x * x)), "peak": np.abs(x).max(), "first": x[0],
        "last": x[-1],
    }  # fmt: skip
    wanted["crest"] = wanted["peak"] / wanted["rms"]
    assert {k: got[k] for k in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    if n > 2:
        assert got["kurtosis"] == pytest.approx(np.mean(d**4) / np.mean(d**2) ** 2, rel=1e-6)
        assert got["skewness"] == pytest.approx(np.mean(d**3) / np.mean(d**2) ** 1.5, rel=1e-6, abs=1e-6)


def test_a_large_mean_does_not_drown_a_small_spread(kernels: ModuleType) -> None:
    x = 1e9 + np.tile([0.0, 1.0], 128)
    got = moments_of(kernels, x)
    assert (got["std"], got["kurtosis"], got["skewness"]) == (0.5, 1.0, 0.0)


def test_a_sine_and_noise_have_their_known_crest_and_kurtosis(kernels: ModuleType) -> None:
    sine = moments_of(kernels, np.sin(np.arange(4096) * 2 * np.pi / 64))
    assert (sine["crest"], sine["kurtosis"]) == pytest.approx((np.sqrt(2), 1.5))
    noise = moments_of(kernels, np.random.default_rng(1).normal(size=200_000))
    assert noise["kurtosis"] == pytest.approx(3.0, abs=0.05)


def test_equal_samples_have_no_spread_and_no_shape(kernels: ModuleType) -> None:
    got = moments_of(kernels, [0.1] * 257)
    assert (got["mean"], got["std"], got["range"], got["crest"]) == (0.1, 0.0, 0.0, 1.0)
    assert np.isnan([got["kurtosis"], got["skewness"]]).all()
    assert np.isnan(moments_of(kernels, [0.0] * 8)["crest"])


def test_an_empty_window_has_only_a_count(kernels: ModuleType) -> None:
    got = moments_of(kernels, [])
    assert (got["count"], got["sum"]) == (0.0, 0.0)
    assert sum(np.isnan(list(got.values()))) == 12


def test_nan_and_infinity_spread_as_in_ieee(kernels: ModuleType) -> None:
    for place in (0, 3, 8, 9):
        x = np.arange(10.0)
        x[place] = np.nan
        got = moments_of(kernels, x)
        assert np.isnan([got[k] for k in ("sum", "mean", "std", "min", "max", "peak", "rms")]).all()
    both = moments_of(kernels, [np.inf, 1, -np.inf, 2])
    assert (both["min"], both["max"], both["peak"]) == (-np.inf, np.inf, np.inf)
    assert np.isnan([both["mean"], both["std"], both["kurtosis"]]).all()


def test_windows_may_overlap_and_compiled_agrees_with_reference() -> None:
    rng = np.random.default_rng(2)
    x = rng.choice([0.5, 1.0, -3.0, 1e-3, 7.7], 600) * rng.normal(size=600)
    x[[50, 120]] = np.nan, np.inf
    starts = rng.integers(0, 600, 200)
    ends = np.minimum(starts + rng.integers(0, 40, 200), 600)
    p = np.array([0.0, 1.0, 50.0, 50.0, 99.9, 100.0])
    found = []
    for which in PARAMS:
        stats, ranks = np.empty((200, 14)), np.empty((200, 6))
        load(which).moments(x, starts, ends, stats)
        load(which).percentiles(x, starts, ends, p, ranks)
        found.append((stats, ranks))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-7, atol=1e-9)
    assert np.array_equal(found[0][1], found[1][1], equal_nan=True)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 256, 1001])
def test_percentiles_are_numpys(kernels: ModuleType, n: int) -> None:
    x = np.round(np.random.default_rng(n).normal(size=n), 1)
    p = np.array([0.0, 5.0, 25.0, 50.0, 75.0, 99.9, 100.0])
    out = np.empty((1, len(p)))
    kernels.percentiles(x, np.array([0]), np.array([n]), p, out)
    assert out[0].tolist() == pytest.approx(np.percentile(x, p).tolist(), rel=1e-12, abs=1e-12)


def test_a_percentile_of_zeros_has_no_sign_whatever_stood_in_the_windows_before(kernels: ModuleType) -> None:
    zeros = np.array([0.0, -0.0, -0.0, 0.0])
    for before in range(8):
        x = np.concatenate([np.arange(4.0 * before), zeros])
        starts = np.arange(0, len(x), 4)
        out = np.empty((len(starts), 2))
        kernels.percentiles(x, starts, starts + 4, np.array([40.0, 50.0]), out)
        assert not np.signbit(out[-1]).any()


@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "organ"])
def test_percentiles_of_ordered_samples_stay_fast_and_right(kernels: ModuleType, order: str) -> None:
    n = 20_000
    x = {
        "ascending": np.arange(n), "descending": -np.arange(n), "equal": np.ones(n),
        "organ": np.minimum(np.arange(n), n - np.arange(n)),
    }[order].astype(float)  # fmt: skip
    out = np.empty((1, 1))
    kernels.percentiles(x, np.array([0]), np.array([n]), np.array([50.0]), out)
    assert out[0, 0] == np.median(x)


@pytest.mark.parametrize(
    ("starts", "ends", "p", "says"),
    [
        ([-1], [2], [50.0], "outside"),
        ([0], [11], [50.0], "outside"),
        ([5], [4], [50.0], "outside"),
        ([0, 1], [5], [50.0], "length"),
        ([0], [5], [50.0, 20.0], "ascend"),
        ([0], [5], [101.0], "ascend"),
        ([0], [5], [float("nan")], "ascend"),
    ],
)
def test_windows_outside_the_samples_are_errors(
    kernels: ModuleType, starts: list[int], ends: list[int], p: list[float], says: str
) -> None:
    x, a, b = np.zeros(10), np.array(starts), np.array(ends)
    with pytest.raises(ValueError, match=says):
        kernels.percentiles(x, a, b, np.array(p), np.empty((len(a), len(p))))
    if says != "ascend":
        with pytest.raises(ValueError, match=says):
            kernels.moments(x, a, b, np.empty((len(a), 14)))
    with pytest.raises(ValueError, match="column"):
        kernels.moments(x, a, b, np.empty((len(a), 13)))


def run_panes(
    kernels: ModuleType, times: list[int], *, groups: Any = (), pane: int = 10, back: int = 2,
    rows: int = 1000, states: int = 1,
) -> tuple[list[int], list[int]]:  # fmt: skip
    number, kind = np.empty(len(times), np.int64), np.empty(len(times), np.uint8)
    state = np.zeros(states, np.int64), np.zeros(states, np.int64)
    kernels.panes(
        np.array(times, np.int64), np.array(groups, np.int32), pane, back, rows, *state, number, kind
    )
    return number.tolist(), kind.tolist()


def test_panes_are_aligned_to_the_epoch_also_before_it(kernels: ModuleType) -> None:
    assert run_panes(kernels, [-11, -10, -1, 0, 9, 10]) == ([-2, -1, -1, 0, 0, 1], [2, 1, 0, 1, 0, 1])


def test_rows_behind_are_late_until_the_clock_was_clearly_set_back(kernels: ModuleType) -> None:
    assert run_panes(kernels, [50, 49, 31, 29, 35])[1] == [2, 3, 3, 2, 1]


def test_a_full_pane_is_closed(kernels: ModuleType) -> None:
    assert run_panes(kernels, [0, 1, 2, 3, 4], rows=2)[1] == [2, 0, 2, 0, 2]


def test_panes_are_per_group(kernels: ModuleType) -> None:
    assert run_panes(kernels, [0, 90, 5, 95, 5], groups=[0, 1, 0, 1, -1], states=2)[1] == [2, 2, 0, 0, 3]
    with pytest.raises(ValueError, match="outside the state"):
        run_panes(kernels, [0, 1], groups=[0, 1])


def test_panes_at_the_ends_of_int64_do_not_overflow(kernels: ModuleType) -> None:
    low, high = -(2**63), 2**63 - 1
    assert run_panes(kernels, [high, low, high], pane=1)[1] == [2, 2, 1]


@pytest.mark.parametrize(("pane", "rows", "back"), [(0, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_panes_without_length_are_errors(kernels: ModuleType, pane: int, rows: int, back: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        run_panes(kernels, [0], pane=pane, rows=rows, back=back)
