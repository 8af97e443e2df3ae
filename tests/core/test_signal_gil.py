"""Long kernels let other threads run."""

import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from forebay_core import _grouping, _hampel, _signal, _windows

NONE8, NONE32, NONE64 = np.zeros(0, np.uint8), np.zeros(0, np.int32), np.zeros(0, np.int64)
TRIES = 40  # other processes may keep either thread from its core
FEW = 20_000  # beats: a millisecond or two of counting; the kernels here take 30 and more

Work = Callable[[], object]


def hampel() -> Work:
    n = 150_000
    x = np.random.default_rng(1).normal(size=n)
    state, out = (np.zeros((1, 254)), np.zeros(1, np.int64)), (np.empty(n, np.uint8), np.empty(n))
    bounds, slots = np.array([0, n]), np.array([0])
    return lambda: _hampel.hampel(x, NONE8, NONE64, bounds, slots, 255, 3.0, 0.0, *state, *out)


def moments() -> Work:
    x, starts, out = np.arange(10_000.0), np.zeros(8_000, np.int64), np.empty((8_000, 14))
    ends = starts + 10_000
    return lambda: _windows.moments(x, starts, ends, out)


def percentiles() -> Work:
    x, starts = np.random.default_rng(1).normal(size=10_000), np.zeros(300, np.int64)
    ends, p, out = starts + 10_000, np.array([50.0]), np.empty((300, 1))
    return lambda: _windows.percentiles(x, starts, ends, p, out)


def deadband() -> Work:
    n = 8_000_000
    x, t, out = np.zeros(n), np.zeros(n, np.int64), np.empty(n, np.uint8)
    state = np.zeros(1), np.zeros(1, np.int64), np.full(1, 255, np.uint8)
    return lambda: _signal.deadband(x, NONE8, t, NONE32, 0.1, 0.0, -1, *state, out)


def factorize() -> Work:
    keys = np.random.default_rng(1).integers(97, 99, 4_000_000).astype(np.uint8)
    offsets = np.arange(0, 4_000_001, 4, dtype=np.int64)
    return lambda: _grouping.factorize(keys, offsets)


@pytest.fixture
def beats() -> Iterator[list[int]]:
    """Return a counter that another thread drives as fast as it gets to run."""
    # By default a thread that has waited for the lock may keep it for 5 ms: too coarse for this test.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    stop, counter = threading.Event(), [0]

    def count() -> None:
        while not stop.is_set():
            counter[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    yield counter
    stop.set()
    thread.join()
    sys.setswitchinterval(interval)


def during(beats: list[int], work: Work) -> int:
    before = beats[0]
    work()
    return beats[0] - before


@pytest.mark.parametrize("kernel", [hampel, moments, percentiles, deadband, factorize])
def test_another_thread_runs_while_a_kernel_does(kernel: Callable[[], Work], beats: list[int]) -> None:
    work = kernel()
    assert any(during(beats, work) > FEW for _ in range(TRIES))


def test_a_call_that_keeps_the_lock_would_be_found(beats: list[int]) -> None:
    numbers = np.random.default_rng(1).normal(size=200_000).tolist()
    assert any(during(beats, lambda: sorted(numbers)) < FEW for _ in range(TRIES))
