"""Metrics in Prometheus' text exposition format 0.0.4.

Written here and not by `prometheus_client`: that costs 7 MB of a gateway's memory for a page of text. The tests
read the output with that library's parser.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = dict[str, str]


class Metric(NamedTuple):
    """A family: name, `counter` or `gauge`, help, samples."""

    name: str
    kind: str
    help: str
    samples: list[tuple[Labels, float]]


def render(metrics: Iterable[Metric]) -> str:
    """Return the exposition."""
    lines: list[str] = []
    for metric in metrics:
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        lines += [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


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
    yield from _streams(facts["streams"])
    yield from _spool(facts["spool"])
    yield from _link(facts["link"])
    yield from _pipelines(facts["pipelines"])


def _one(name: str, text: str, value: float) -> Metric:
    return Metric(name, "gauge", text, [({}, float(value))])


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


def _spool(spool: dict[str, Any]) -> Iterator[Metric]:
    yield _one("forebay_spool_bytes", "Size of the spool's files.", spool["file_bytes"])
    yield _one("forebay_spool_limit_bytes", "Quota of the spool.", spool["max_bytes"])
    yield _one("forebay_spool_pending_batches", "Batches that wait.", spool["pending_batches"])
    states = [({"state": state}, float(spool["state"] == state)) for state in ("ok", "full", "failing")]
    yield Metric("forebay_spool_state", "gauge", "1 for the state that the spool is in.", states)


def _link(link: dict[str, Any]) -> Iterator[Metric]:
    yield _one("forebay_link_up", "1 while the receiver answers.", link["state"] == "up")
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
    yield _one("forebay_receiver_gateways", "Gateways heard since the start.", len(facts["gateways"]))
    yield Metric(
        "forebay_receiver_batches_stored_total", "counter", "Batches stored since the start.",
        [({}, float(facts["stored_batches"]))],
    )  # fmt: skip
