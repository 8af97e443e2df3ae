"""What an agent or a receiver tells of itself: one list of figures for Prometheus, OpenTelemetry and the own stream.

Counts, states and sizes only; names of streams, steps and pipelines are the only texts, and no data value is among
them. Everything is made from one snapshot, the `facts` of view.py.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from forebay.blocks import Type

_STATM = Path("/proc/self/statm")
_CLOCKS = ("synced", "unsynced", "stepped")
_SPOOL_STATES = ("ok", "full", "failing")
_LINK_STATES = ("up", "down", "held", "none")

Labels = dict[str, str]
Samples = list[tuple[Labels, float]]


class Metric(NamedTuple):
    """A family: name, `counter` or `gauge`, help, samples."""

    name: str
    kind: str
    help: str
    samples: Samples


def metrics_of(kind: str, facts: dict[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of a snapshot of `agent` or `receiver`."""
    return agent_metrics(facts) if kind == "agent" else receiver_metrics(facts)


def agent_metrics(facts: dict[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of an agent's snapshot."""
    yield Metric(
        "forebay_build_info", "gauge", "Version of the agent.",
        [({"version": facts["version"], "gateway": facts["gateway"]}, 1)],
    )  # fmt: skip
    yield _one("forebay_uptime_seconds", "Time since the agent started.", facts["uptime_s"])
    yield _one(
        "forebay_safe_mode", "1 while an older configuration runs.", bool(facts["config"]["safe_mode"])
    )
    yield _one("forebay_stuck", "1 while a part does not move.", bool(facts["stuck"]))
    yield _states("forebay_clock_state", "1 for how good the wall clock is.", _CLOCKS, facts["clock"])
    yield from _process(facts["process"])
    yield from _streams(facts["streams"])
    yield from _models(facts["streams"])
    yield from _spool(facts["spool"])
    yield from _link(facts["link"])
    yield from _pipelines(facts["pipelines"])


def _one(name: str, text: str, value: float) -> Metric:
    return Metric(name, "gauge", text, [({}, float(value))])


def _states(name: str, text: str, states: tuple[str, ...], now: str) -> Metric:
    return Metric(name, "gauge", text, [({"state": state}, float(now == state)) for state in states])


def _process(process: dict[str, Any]) -> Iterator[Metric]:
    """Yield what each Prometheus client library tells of its process, under the names that they agreed on."""
    yield _one("process_resident_memory_bytes", "Resident memory size in bytes.", process["rss_bytes"])
    seconds: Samples = [({}, float(process["cpu_s"]))]
    yield Metric("process_cpu_seconds_total", "counter", "User and system CPU time in seconds.", seconds)


def _streams(streams: dict[str, Any]) -> Iterator[Metric]:
    for kind, text in (
        ("read", "Readings read."),
        ("guarded", "Readings that the guard kept back."),
        ("accepted", "Readings made durable."),
        ("delivered", "Readings acknowledged by the receiver."),
    ):
        samples = [({"stream": name}, float(entry[kind])) for name, entry in streams.items()]
        yield Metric(f"forebay_readings_{kind}_total", "counter", text, samples)
    pending = [({"stream": name}, float(entry["pending"])) for name, entry in streams.items()]
    yield Metric("forebay_readings_pending", "gauge", "Readings that wait in the spool.", pending)
    for kind, label, text in (
        ("filtered", "step", "Readings that a step took out on purpose."),
        ("rejected", "reason", "Readings that were broken."),
        ("evicted", "reason", "Readings deleted for lack of room."),
        ("dead_lettered", "reason", "Readings that the receiver refused for good."),
        ("quarantined", "reason", "Readings set aside as damaged."),
    ):
        samples = [
            ({"stream": name, label: reason}, float(count))
            for name, entry in streams.items()
            for reason, count in entry[kind].items()
        ]
        yield Metric(f"forebay_readings_{kind}_total", "counter", text, samples)


def _models(streams: dict[str, Any]) -> Iterator[Metric]:
    """Yield what models did; the decisions about candidates are one family."""
    told = [
        (event, {"stream": name, "model": model}, float(count))
        for name, entry in streams.items()
        for model, events in entry["models"].items()
        for event, count in events.items()
    ]
    for event, name, text in (
        ("gave", "forebay_model_results_total", "Rows, windows or pictures with a result."),
        ("failed", "forebay_model_failures_total", "Rows, windows or pictures on which the model failed."),
    ):
        yield Metric(name, "counter", text, [(labels, n) for e, labels, n in told if e == event])
    decisions = [(labels | {"event": e}, n) for e, labels, n in told if e not in ("gave", "failed")]
    yield Metric(
        "forebay_model_events_total", "counter", "Begins of service and decisions of the gate.", decisions
    )


def _spool(spool: dict[str, Any]) -> Iterator[Metric]:
    yield _one("forebay_spool_bytes", "Size of the spool's files.", spool["file_bytes"])
    yield _one("forebay_spool_limit_bytes", "Quota of the spool.", spool["max_bytes"])
    yield _one("forebay_spool_pending_batches", "Batches that wait.", spool["pending_batches"])
    yield _states(
        "forebay_spool_state", "1 for the state that the spool is in.", _SPOOL_STATES, spool["state"]
    )
    full: Samples = [] if spool["full_in_s"] is None else [({}, float(spool["full_in_s"]))]
    text = "Time until the spool is full at the rate that data comes to wait; absent while nothing waits."
    yield Metric("forebay_spool_full_in_seconds", "gauge", text, full)


def _link(link: dict[str, Any]) -> Iterator[Metric]:
    yield _one("forebay_link_up", "1 while the receiver answers.", link["state"] == "up")
    yield _states("forebay_link_state", "1 for the state that the link is in.", _LINK_STATES, link["state"])
    yield Metric(
        "forebay_batches_delivered_total", "counter", "Batches acknowledged since the link was configured.",
        [({}, float(link.get("delivered_batches", 0)))],
    )  # fmt: skip


def _pipelines(pipelines: dict[str, Any]) -> Iterator[Metric]:
    for key, kind, name, text in (
        ("restarts", "counter", "forebay_pipeline_restarts_total", "How often a pipeline was built anew."),
        (
            "source_restarts",
            "counter",
            "forebay_source_restarts_total",
            "How often a source was started again.",
        ),
        ("queue_bytes", "gauge", "forebay_pipeline_queue_bytes", "Bytes between source and worker."),
        ("idle_s", "gauge", "forebay_pipeline_idle_seconds", "Time since the worker last moved."),
        ("reading", "gauge", "forebay_source_up", "1 while the source runs."),
    ):
        samples = [({"pipeline": p}, float(entry[key])) for p, entry in pipelines.items()]
        yield Metric(name, kind, text, samples)


def receiver_metrics(facts: dict[str, Any]) -> Iterator[Metric]:
    """Yield the metrics of a receiver's snapshot."""
    yield Metric(
        "forebay_build_info", "gauge", "Version of the receiver.",
        [({"version": facts["version"], "center": facts["center"]}, 1)],
    )  # fmt: skip
    yield _one("forebay_uptime_seconds", "Time since the receiver started.", facts["uptime_s"])
    yield from _process(facts["process"])
    yield _one("forebay_receiver_gateways", "Gateways heard since the start.", len(facts["gateways"]))
    yield Metric(
        "forebay_receiver_batches_stored_total", "counter", "Batches stored since the start.",
        [({}, float(facts["stored_batches"]))],
    )  # fmt: skip


def process_facts() -> dict[str, Any]:
    """Return memory and CPU time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        pages = 0
    size = pages * os.sysconf("SC_PAGE_SIZE") or used.ru_maxrss * 1024
    return {"rss_bytes": size, "cpu_s": round(used.ru_utime + used.ru_stime, 3)}


# -- the own stream -----------------------------------------------------------------------------------------


class Figure(NamedTuple):
    """One field of a row about the agent. Counts carry a unit: a long bare number could be somebody's identifier."""

    name: str
    type: Type
    unit: str
    description: str
    value: Any


def agent_row(facts: dict[str, Any]) -> list[Figure]:
    """Return the health of an agent as one row: states as true or false, ledger sums over all streams."""
    spool, link, clock, units = facts["spool"], facts["link"], facts["clock"], facts["pipelines"].values()
    share = 100 * spool["file_bytes"] / spool["max_bytes"]
    sums = [_sums(entry) for entry in facts["streams"].values()]
    return [
        Figure("uptime", Type.F64, "s", "time since the agent started", facts["uptime_s"]),
        Figure("rss", Type.I64, "B", "resident memory", facts["process"]["rss_bytes"]),
        Figure("cpu_time", Type.F64, "s", "CPU time since the agent started", facts["process"]["cpu_s"]),
        _flag("clock_synced", "the wall clock is synchronised", clock == "synced"),
        _flag("clock_stepped", "the wall clock jumped and is not synchronised since", clock == "stepped"),
        _flag("safe_mode", "an older configuration runs", bool(facts["config"]["safe_mode"])),
        _flag("stuck", "a part does not move", bool(facts["stuck"])),
        _flag("balanced", "the ledger balances", facts["balanced"]),
        _flag("link_up", "the receiver answers", link["state"] == "up"),
        _flag("link_held", "the receiver refuses for a reason that does not pass", link["state"] == "held"),
        _count("link_batches", "batches", "acknowledged since the link was built", link["delivered_batches"]),
        _flag("spool_ok", "the spool takes what comes", spool["state"] == "ok"),
        _count("spool_bytes", "B", "size of the spool's files", spool["file_bytes"]),
        Figure("spool_percent", Type.F64, "%", "share of the spool's quota in use", round(share, 3)),
        _count("spool_full_in", "s", "until the spool is full at the rate of now", spool["full_in_s"]),
        _count("spool_batches", "batches", "that wait in the spool", spool["pending_batches"]),
        _count("queue_bytes", "B", "between sources and workers", sum(p["queue_bytes"] for p in units)),
        _count("pipelines", "pipelines", "that are configured", len(units)),
        _count("sources_down", "sources", "that do not run", sum(not p["reading"] for p in units)),
        _count("troubled", "pipelines", "that have a trouble now", sum(bool(p["trouble"]) for p in units)),
        _count("restarts", "restarts", "of pipelines since the agent started",
               sum(p["restarts"] for p in units)),
        _count("source_restarts", "restarts", "of sources since their pipelines were built",
               sum(p["source_restarts"] for p in units)),
        *(_count(name, "readings", text, sum(s[name] for s in sums)) for name, text in _LEDGER.items()),
    ]  # fmt: skip


def stream_rows(facts: dict[str, Any]) -> list[list[Figure]]:
    """Return the ledger, one row a stream, named in the field `about`."""
    return [
        [
            Figure("about", Type.STR, "", "the stream that the row counts", name),
            *(_count(key, "readings", text, _sums(entry)[key]) for key, text in _LEDGER.items()),
        ]
        for name, entry in facts["streams"].items()
    ]


def model_rows(facts: dict[str, Any]) -> list[list[Figure]]:
    """Return what the ledger counts of models, one row a stream and model."""
    return [
        [
            Figure("about", Type.STR, "", "the stream that the model looks at", name),
            Figure("model", Type.STR, "", "the model, its version and hash", model),
            *(_count(event, unit, text, events.get(event, 0)) for event, unit, text in _EVENTS),
        ]
        for name, entry in facts["streams"].items()
        for model, events in entry["models"].items()
    ]


_EVENTS = (
    ("gave", "results", "rows, windows or pictures with a result"),
    ("failed", "results", "rows, windows or pictures on which the model failed"),
    ("serves", "times", "that it began to serve"),
    ("promoted", "times", "that it took over from the model before"),
    ("confirmed", "times", "that it passed its probation"),
    ("rejected", "times", "that it was set aside as a candidate"),
    ("rolled_back", "times", "that the model before took over again"),
)


_LEDGER = {
    "read": "read",
    "filtered": "that a step took out on purpose",
    "guarded": "that the guard kept back",
    "rejected": "that were broken",
    "accepted": "made durable",
    "delivered": "acknowledged by the receiver",
    "pending": "that wait in the spool",
    "evicted": "deleted for lack of room",
    "dead_lettered": "that the receiver refused for good",
    "quarantined": "set aside as damaged",
}


def _sums(entry: dict[str, Any]) -> dict[str, int]:
    """Return a stream's ledger with the reasons added up."""
    return {k: sum(v.values()) if isinstance(v := entry[k], dict) else int(v) for k in _LEDGER}


def _flag(name: str, description: str, value: bool) -> Figure:
    return Figure(name, Type.BOOL, "", description, bool(value))


def _count(name: str, unit: str, description: str, value: int | None) -> Figure:
    return Figure(name, Type.I64, unit, description, value)
