"""Bad links between agent and receiver, as processes: nothing lost, nothing twice, nothing changed.

FOREBAY_LINK_FAULTS (360 in the long run), FOREBAY_LINK_SEED.
"""

from __future__ import annotations

import os
import random
import signal
import time

import planted
import pytest
from live import Live, set_endpoints, wait_until
from plant import free_port, kill, rows_of
from proxy import Faults, Proxy
from results import record

SEED = int(os.environ.get("FOREBAY_LINK_SEED", "20261"))
FAULTS = int(os.environ.get("FOREBAY_LINK_FAULTS", "360"))
HERE = ".venv/bin/python -m pytest tests/system/test_link_faults.py"


@pytest.fixture
def proxy(plant):
    with Proxy(("127.0.0.1", plant.port), SEED) as made:
        yield made


KINDS = ("cut", "lossy", "reorder", "flip", "slow", "late", "half-open up", "half-open down", "refused")


def strike(proxy: Proxy, kind: str, rng: random.Random) -> None:
    """Begin one fault."""
    match kind:
        case "cut":
            proxy.cut()
        case "lossy":
            proxy.faults = Faults(lossy=rng.uniform(0.02, 0.3))
        case "reorder":
            proxy.faults = Faults(reorder=rng.uniform(0.02, 0.3))
        case "flip":
            proxy.faults = Faults(flip=rng.uniform(0.02, 0.3))
        case "slow":
            proxy.faults = Faults(rate=rng.uniform(2_000, 20_000))
        case "late":
            proxy.faults = Faults(latency_s=rng.uniform(0.02, 0.2))
        case "refused":
            proxy.faults = Faults(refuse=True)
            proxy.cut()
        case _:
            proxy.faults = Faults(half_open=kind.split()[1])


def under_faults(plant, proxy: Proxy, faults: int, rows_each: int, longest_s: float) -> tuple[Live, float]:
    """Run through seeded faults with data on its way in each; return the run and the worst recovery."""
    rng = random.Random(SEED)
    live = Live(plant, rows_each * (faults + 1), SEED, canaries=True)
    set_endpoints(plant, [proxy.port])
    plant.start_receiver()
    plant.start_agent()
    live.write(rows_each)
    live.wait_stored()
    worst = 0.0
    for number in range(faults):
        strike(proxy, KINDS[number % len(KINDS)], rng)
        live.write(rows_each)
        time.sleep(rng.uniform(0.2, 1.0) * longest_s)
        proxy.faults = Faults()
        if number % 3 == 0:  # else the next fault meets the recovery from this one
            worst = max(worst, live.wait_stored())
    worst = max(worst, live.wait_stored())
    return live, worst


def test_nine_kinds_of_bad_link_lose_and_double_nothing(plant, proxy):
    live, _ = under_faults(plant, proxy, len(KINDS), 200, 0.4)
    live.end()
    planted.check(plant)
    assert proxy.counts.connections > 3


@pytest.mark.torture
def test_an_hour_of_bad_links_loses_and_doubles_nothing(plant, proxy):
    """360 faults, one for every ten seconds of an hour; each lasts up to a second and a half here."""
    live, worst = under_faults(plant, proxy, FAULTS, 400, 1.5)
    verdict = live.end()
    planted.check(plant)
    record(
        "link",
        "link cut, lossy, reordering, flipping bits, slow, late, half-open, refusing: seeded, one after the other",
        f"FOREBAY_LINK_FAULTS={FAULTS} {HERE} -m torture -k an_hour_of_bad_links",
        FAULTS,
        verdict,
        recovery_s=worst,
    )


def test_a_frozen_receiver_is_found_and_the_data_delivered_when_it_thaws(plant):
    live = Live(plant, 3_000, SEED)
    receiver = plant.start_receiver()
    plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    receiver.send_signal(signal.SIGSTOP)
    live.write(2_000)
    found = wait_until(lambda: "link is down" in plant.log(), lambda: plant.log()[-2000:])
    receiver.send_signal(signal.SIGCONT)
    recovery = live.wait_stored()
    verdict = live.end()
    record(
        "frozen",
        "receiver frozen (SIGSTOP), then thawed",
        f"{HERE} -k frozen_receiver",
        1,
        verdict,
        recovery_s=recovery,
        note=f"found after {found:.1f} s",
    )


def test_an_agent_whose_address_changes_goes_on(plant):
    """The path changes under the connection, as when a modem dials in again: old packets go nowhere."""
    live = Live(plant, 3_000, SEED)
    with Proxy(("127.0.0.1", plant.port), SEED) as first:
        port = first.port
        set_endpoints(plant, [port])
        plant.start_receiver()
        plant.start_agent()
        live.write(1_000)
        live.wait_stored()
        first.faults = Faults(half_open="up")
        live.write(1_000)
        wait_until(lambda: "link is down" in plant.log(), lambda: plant.log()[-2000:])
    with Proxy(("127.0.0.1", plant.port), SEED, port=port):
        live.write(1_000)
        recovery = live.wait_stored()
        verdict = live.end()
    record(
        "address",
        "address of the gateway changed under the connection",
        f"{HERE} -k address_changes",
        1,
        verdict,
        recovery_s=recovery,
    )


def test_of_two_receivers_one_may_die_for_good(plant):
    """Both share the store; the agent goes to the second when the first is gone, and back is no duty."""
    live = Live(plant, 3_000, SEED)
    second = free_port()
    set_endpoints(plant, [plant.port, second])
    text = (plant.folder / "receiver.yaml").read_text()
    other = text.replace(str(plant.port), str(second))
    (plant.folder / "second.yaml").write_text(other)
    first = plant.start_receiver()
    plant._start("second", "receive", "second.yaml")
    wait_until(lambda: "listening on" in plant.log("second"), lambda: plant.log("second"))
    plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    live.write(1_000)
    kill(first)
    recovery = live.wait_stored()
    live.write(1_000)
    live.wait_stored()
    verdict = live.end()
    assert "gateway connected" in plant.log("second")
    record(
        "failover",
        "one of two receivers with one store killed for good",
        f"{HERE} -k one_may_die",
        1,
        verdict,
        recovery_s=recovery,
    )


def test_a_receiver_with_another_store_is_refused_after_a_restart_of_the_agent(plant):
    live = Live(plant, 2_000, SEED)
    receiver = plant.start_receiver()
    agent = plant.start_agent()
    live.write(1_000)
    live.wait_stored()
    kill(agent)
    kill(receiver)
    for path in plant.folder.glob("center.db*"):
        path.rename(path.with_name(path.name.replace("center", "kept")))
    receiver = plant.start_receiver()  # the same key and address, and an empty store
    plant.start_agent()
    live.write(1_000)
    wait_until(lambda: "keeps its data in store" in plant.log(), lambda: plant.log()[-2000:])
    assert live.stored() == 0
    assert rows_of(plant.sink, "SELECT count(*) FROM marks") == [(0,)]


@pytest.mark.slow
def test_a_link_too_slow_for_one_wait_delivers_all_the_same(plant, proxy):
    """A window of it takes longer than `ack_timeout`: sent again and again it would never arrive."""
    live = Live(plant, 20_000, SEED)
    text = (plant.folder / "agent.yaml").read_text()
    (plant.folder / "agent.yaml").write_text(
        text.replace("ack_timeout: 5s", "ack_timeout: 500ms").replace("linger: 20ms", "linger: 5s")
    )
    set_endpoints(plant, [proxy.port])
    live.write(20_000)
    proxy.faults = Faults(rate=6_000)
    plant.start_receiver()
    plant.start_agent()
    live.wait_stored()
    live.end()
