"""factorize and group_rows: one body over the compiled kernels and their twins."""

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(params=["compiled", "reference"])
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    name = "forebay_core._grouping" if request.param == "compiled" else "forebay_core.reference.grouping"
    return import_module(name)


def cells(*texts: str) -> tuple[np.ndarray, np.ndarray]:
    data = [t.encode() for t in texts]
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in data])]).astype(np.int64)
    values = np.frombuffer(b"".join(data), dtype=np.uint8)  # read-only
    return values, offsets


def test_the_compiled_kernel_is_the_one_loaded() -> None:
    assert import_module("forebay_core._grouping").__file__.endswith(".so")


@pytest.mark.parametrize(
    ("texts", "codes", "first"),
    [
        ([], [], []),
        (["a"], [0], [0]),
        (["", ""], [0, 0], [0]),
        (["b", "a", "b", "", "a", ""], [0, 1, 0, 2, 1, 2], [0, 1, 3]),
        (["pump-0001", "pump-0002", "pump-0001", "pump-00012"], [0, 1, 0, 2], [0, 1, 3]),
        (["温", "度", "温"], [0, 1, 0], [0, 1]),
        (["12345678", "1234567", "123456789", "12345678"], [0, 1, 2, 0], [0, 1, 2]),
        (["\0", "\0\0", "", "\0"], [0, 1, 2, 0], [0, 1, 2]),
    ],
)
def test_codes_count_up_in_order_of_first_appearance(
    kernels: ModuleType, texts: list[str], codes: list[int], first: list[int]
) -> None:
    got_codes, got_first = kernels.factorize(*cells(*texts))
    assert got_codes.tolist() == codes
    assert got_first.tolist() == first
    assert got_codes.dtype == np.int32
    assert got_first.dtype == np.int64


def test_thousands_of_keys_find_their_place(kernels: ModuleType) -> None:
    rng = np.random.default_rng(5)
    wanted = rng.integers(0, 3_000, 8_000)
    codes, first = kernels.factorize(*cells(*(f"plant/{n:x}" for n in wanted.tolist())))
    _, index, inverse = np.unique(wanted, return_index=True, return_inverse=True)
    assert sorted(first.tolist()) == sorted(index.tolist())
    assert np.array_equal(wanted[first][codes], wanted)
    assert len(np.unique(inverse)) == len(first)


@pytest.mark.parametrize("offsets", [[0, 3, 2], [0, 9], [-1, 2], []])
def test_offsets_out_of_place_are_an_error_not_a_crash(kernels: ModuleType, offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offset"):
        kernels.factorize(np.zeros(4, dtype=np.uint8), np.array(offsets, dtype=np.int64))


def test_groups_are_put_together_in_stable_order(kernels: ModuleType) -> None:
    codes = np.array([2, 0, 2, 1, 0], dtype=np.int32)
    codes.flags.writeable = False
    order, bounds = kernels.group_rows(codes, 4)
    assert order.tolist() == [1, 4, 3, 0, 2]
    assert bounds.tolist() == [0, 2, 3, 5, 5]
    assert [len(a) for a in kernels.group_rows(codes[:0], 0)] == [0, 1]


@pytest.mark.parametrize(("codes", "groups"), [([0, 2], 2), ([-1], 1), ([0], 0), ([0], -1)])
def test_a_code_outside_the_groups_is_an_error(kernels: ModuleType, codes: list[int], groups: int) -> None:
    with pytest.raises(ValueError, match="group"):
        kernels.group_rows(np.array(codes, dtype=np.int32), groups)


def test_kernels_refuse_what_is_not_contiguous() -> None:
    compiled = import_module("forebay_core._grouping")
    with pytest.raises(ValueError, match="contiguous"):
        compiled.group_rows(np.zeros(8, dtype=np.int32)[::2], 1)
