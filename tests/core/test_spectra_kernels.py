"""goertzel and band_energies: one body over the compiled kernels and their twins."""

from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

PARAMS = ["compiled", "reference"]


def load(which: str) -> ModuleType:
    return import_module("forebay_core._spectra" if which == "compiled" else "forebay_core.reference.spectra")


@pytest.fixture(params=PARAMS)
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


def run_goertzel(kernels: ModuleType, windows: np.ndarray, turns: Any) -> np.ndarray:
    windows = np.atleast_2d(windows)
    windows.flags.writeable = False
    wanted = np.tile(np.array(turns, dtype=np.float64), (len(windows), 1))
    out = np.full(wanted.shape, 77.0)
    kernels.goertzel(windows, wanted, out)
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 255, 256, 257, 1023, 1024, 1025, 5000])
def test_goertzel_agrees_with_the_fft_on_every_kind_of_bin(kernels: ModuleType, n: int) -> None:
    x = np.random.default_rng(n).normal(size=(2, n)) + 5.0
    bins = np.unique(np.array([0, min(1, n // 2), n // 7, n // 3, n // 2]))
    wanted = np.abs(np.fft.rfft(x))[:, bins]
    np.testing.assert_allclose(run_goertzel(kernels, x, bins / n), wanted, atol=1e-10 * n, rtol=1e-10)


def test_a_tone_between_the_bins_has_its_amplitude(kernels: ModuleType) -> None:
    n, turns = 25_600, 97.31 / 25_600
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    x = 3.0 * np.sin(2 * np.pi * turns * np.arange(n) + 1.0) * taper
    assert run_goertzel(kernels, x, [turns])[0, 0] == pytest.approx(1.5 * taper.sum(), rel=1e-3)


def test_a_long_window_and_a_low_frequency_lose_no_precision(kernels: ModuleType) -> None:
    n = 500_000
    x = np.sin(2 * np.pi * 3 / n * np.arange(n))
    assert run_goertzel(kernels, x, [3 / n, 4 / n])[0].tolist() == pytest.approx([n / 2, 0.0], abs=1e-5)


def test_windows_of_nothing_and_questions_of_nothing_are_answered(kernels: ModuleType) -> None:
    assert run_goertzel(kernels, np.zeros((2, 0)), [0.1]).tolist() == [[0.0], [0.0]]
    kernels.goertzel(np.zeros((0, 5)), np.zeros((0, 2)), np.zeros((0, 2)))
    kernels.goertzel(np.zeros((2, 5)), np.zeros((2, 0)), np.zeros((2, 0)))


def test_a_nan_makes_its_window_nan_and_no_other(kernels: ModuleType) -> None:
    x = np.ones((2, 700))
    x[0, 300] = np.nan
    found = run_goertzel(kernels, x, [0.0])
    assert np.isnan(found[0, 0])
    assert found[1, 0] == pytest.approx(700)


values = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 5e-324, 1e-310])


@settings(max_examples=80, deadline=None)
@given(
    x=st.integers(1, 300).flatmap(lambda n: arrays(np.float64, (1, n), elements=values)),
    turns=st.floats(0, 0.5),
)
def test_compiled_and_reference_goertzel_agree(x: np.ndarray, turns: float) -> None:
    first, second = (run_goertzel(load(which), x.copy(), [turns]) for which in PARAMS)
    assert first[0, 0] == pytest.approx(second[0, 0], abs=1e-9 * (1.0 + np.abs(x).sum()))


def run_bands(kernels: ModuleType, x: np.ndarray, firsts: Any, lasts: Any) -> np.ndarray:
    spectra = np.ascontiguousarray(np.fft.rfft(x)).view(np.float64)
    spectra.flags.writeable = False
    out = np.full((len(x), len(firsts)), 77.0)
    first, last = (np.tile(np.array(v, dtype=np.int64), (len(x), 1)) for v in (firsts, lasts))
    kernels.band_energies(spectra, x.shape[1], first, last, out)
    return out


@pytest.mark.parametrize("n", [1, 2, 3, 4, 255, 256, 1000])
def test_all_bands_together_have_the_energy_of_the_samples(kernels: ModuleType, n: int) -> None:
    x = np.random.default_rng(n).normal(size=(3, n)) + 1.0
    bins = n // 2 + 1
    cuts = sorted({0, bins // 3, bins // 2, max(bins - 1, 0), bins})
    found = run_bands(kernels, x, cuts[:-1], cuts[1:])
    np.testing.assert_allclose(found.sum(axis=1), n * (x * x).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(run_bands(kernels, x, [0], [bins])[:, 0], n * (x * x).sum(axis=1), rtol=1e-12)


def test_an_empty_band_has_no_energy(kernels: ModuleType) -> None:
    assert run_bands(kernels, np.ones((1, 8)), [0, 5, 2], [0, 5, 2]).tolist() == [[0.0, 0.0, 0.0]]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), n=st.integers(1, 60))
def test_compiled_and_reference_bands_agree(data: st.DataObject, n: int) -> None:
    x = data.draw(arrays(np.float64, (2, n), elements=values))
    edges = sorted(data.draw(st.lists(st.integers(0, n // 2 + 1), min_size=2, max_size=2)))
    first, second = (run_bands(load(which), x, edges[:1], edges[1:]) for which in PARAMS)
    np.testing.assert_allclose(first, second, rtol=1e-12, atol=1e-300)


def test_shapes_that_do_not_agree_are_errors(kernels: ModuleType) -> None:
    with pytest.raises(ValueError, match="shape"):
        kernels.goertzel(np.zeros((2, 5)), np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="shape"):
        kernels.goertzel(np.zeros((1, 5)), np.zeros((1, 1)), np.zeros((1, 2)))
    first, last, out = np.zeros((1, 1), np.int64), np.full((1, 1), 6), np.zeros((1, 1))
    with pytest.raises(ValueError, match="outside"):
        kernels.band_energies(np.zeros((1, 10)), 8, first, last, out)
    with pytest.raises(ValueError, match="shape"):
        kernels.band_energies(np.zeros((1, 9)), 8, first, first, out)
    with pytest.raises(ValueError, match="shape"):
        kernels.band_energies(np.zeros((1, 0)), 0, first, first, out)


def test_strided_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        load("compiled").goertzel(np.zeros((2, 8))[:, ::2], np.zeros((2, 1)), np.zeros((2, 1)))
