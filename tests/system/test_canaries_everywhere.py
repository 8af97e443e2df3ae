"""Identifiers and faces through every source and every failure: nothing that was ever written holds one.

The table is sources x failures. All sources run in one agent, so that each failure meets each of them; what is found
names the source that it came from. Three failures run in `make test`, with the sources of text; all of
them, with pictures, in the slow part. Then the search is shown not to be blind: of each way to leak, one is planted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import canaries as c
import canary_house as faults
import pytest
from canary_house import House
from canary_search import Needles
from canary_sources import PICTURES, SOURCES, TEXT
from test_spool_faults import small_disk

from forebay import shipped

ALL = tuple(SOURCES)
OWN_POLICY = "masking: {policy: p.yaml}"
LIMITED = "models: {time_limit: 1ms}"


class Case(NamedTuple):
    """One failure: what befalls, and what the house is like."""

    fault: faults.Fault
    how: str = "nothing"
    rest: str = ""
    spool: str = ""
    disk: str = ""


CASES = {
    "clean": Case(faults.nothing),
    "kill -9": Case(faults.killed),
    "core dump": Case(faults.dumped),
    "disk full": Case(faults.disk_full, disk="160m"),
    "EIO": Case(faults.fails_with(errno.EIO)),
    "read-only": Case(faults.fails_with(errno.EROFS)),
    "dead letter": Case(faults.dead_lettered),
    "receiver down": Case(faults.receiver_down, spool="compression: none"),
    "receiver refuses": Case(faults.refused),
    "policy broken": Case(faults.policy_broken, rest=OWN_POLICY),
    "pipeline crash": Case(faults.crashes, "crash_worker"),
    "source crash": Case(faults.crashes, "crash_source"),
    "detector error": Case(faults.detectors_fail, "raise_in_detectors"),
    "model damaged": Case(faults.model_damaged, "own_models"),
    "model too slow": Case(faults.receiver_down, rest=LIMITED),
    "spool damaged": Case(faults.spool_damaged),
}
QUICK = ("clean", "kill -9", "pipeline crash")


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: what was overwritten could not be searched")
    built = tmp_path_factory.mktemp("shim") / "write_shim.so"
    source = Path(__file__).with_name("write_shim.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True)
    assert ctypes.CDLL(str(built)).pwrite64
    return built


@pytest.fixture
def open_house(plant, library) -> Iterator:
    with ExitStack() as stack:

        def build(case: Case, sources: tuple[str, ...]) -> House:
            (plant.folder / "p.yaml").write_text("name: p\nversion: 1\nextends: base\n")
            if case.disk:
                stack.enter_context(small_disk(plant.spool, case.disk))
            if case.how == "own_models":
                shutil.copytree(shipped.path("models"), plant.folder / "models")
            house = House(plant, library, sources, how=case.how, rest=case.rest, spool=case.spool)
            stack.callback(house.close)
            return house

        yield build


def live_through(house: House, case: Case) -> tuple[dict[str, set[str]], int]:
    """Let it happen, let the tools look at what is left, and search all of it."""
    case.fault(house)
    house.stop()
    house.tools()
    return house.search()


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        *((name, TEXT) for name in QUICK),
        *(pytest.param(name, ALL, marks=pytest.mark.slow) for name in CASES),
    ],
    ids=lambda value: value if isinstance(value, str) else ("all" if len(value) > len(TEXT) else "text"),
)
def test_nothing_that_was_ever_written_holds_an_identifier_or_a_face(open_house, name, sources):
    case = CASES[name]
    house = open_house(case, sources)
    found, size = live_through(house, case)
    assert not found, found
    assert size > 1 << 18, "hardly anything was written: the search is empty"
    counts = {source: len(canaries) for source, canaries in house.feeds.canaries.items()}
    print(
        f"{name}: searched {size / 1e6:.0f} MB for {Needles(house.feeds.needles()).count} strings of {counts}"
    )


LEAKS = {  # which sources, where it is found, and kinds that are; a log's lines lose those with a check digit
    "a masker that masks nothing": ("mask_nothing", TEXT, "spool/", {"mobile", "bank_card"}),
    "a value in a debug line": ("log_value", ("mqtt",), "agent.log", set(c.ALL_MAKERS)),
    "a temporary file that was deleted at once": ("temp_value", ("zmq",), "tee/", set(c.ALL_MAKERS)),
    "pictures written anew with their faces": ("cover_nothing", PICTURES, "center.db", {"face"}),
}


@pytest.mark.parametrize(
    "leak", [pytest.param(k, marks=pytest.mark.slow if "pict" in k else ()) for k in LEAKS]
)
def test_each_way_to_leak_is_found_when_it_is_planted(open_house, leak):
    how, sources, where, wanted = LEAKS[leak]
    case = Case(faults.nothing, how, spool="compression: none")
    found, _ = live_through(open_house(case, sources), case)
    assert any(place.startswith(where) for place in found), found
    hits = set().union(*found.values())
    for source in sources:
        kinds = {hit.split()[1] for hit in hits if hit.startswith(f"{source} ")}
        # the log takes out what it knows
        assert kinds & wanted if how == "log_value" else kinds >= wanted, (source, kinds)


def test_a_core_would_have_been_written(tmp_path):
    """Only where this fails to write one does the case `core dump` prove less: then it is the limits alone."""
    code = "import os; os.abort()"
    shell = ["sh", "-c", f"ulimit -c unlimited; exec python3 -c '{code}'"]
    child = subprocess.Popen(shell, cwd=tmp_path)
    _, status = os.waitpid(child.pid, 0)
    child.returncode = -6
    if not os.WCOREDUMP(status):
        pytest.skip("this machine writes no cores at all")
