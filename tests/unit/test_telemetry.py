"""What an agent tells of itself: the same figures on every way, and no room for a data value."""

from __future__ import annotations

import json
import resource
from typing import Any

import numpy as np
import pytest
from sample_facts import FACTS

from forebay import quality as q
from forebay.blocks import Block, Type
from forebay.config.fields import FieldOptions
from forebay.config.sources_live import AgentOptions
from forebay.errors import ConfigError
from forebay.mask import Guard, Masker, load_policy
from forebay.sources.agent import AgentSource
from forebay.sources.context import SourceContext
from forebay.telemetry import agent_metrics, agent_row, model_rows, process_facts, stream_rows


def facts(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(FACTS)) | changes


def sampled(context: SourceContext, options: AgentOptions, samples: int = 1) -> list[Block]:
    """Return the blocks of so many samples, taken without waiting."""
    source, out = AgentSource(options, context), []

    def emit(chunk) -> bool:
        out.extend(chunk.blocks)
        return len(out) < samples

    source._stop.wait = lambda _seconds: False  # type: ignore[method-assign]
    source.run(emit, None)
    return out


def cells(block: Block, row: int = 0) -> dict[str, Any]:
    return {
        field.name: column.to_list(field.type)[row]
        for field, column in zip(block.schema.fields, block.columns, strict=True)
    }


def test_a_row_about_the_agent_says_states_and_sums():
    row = {figure.name: figure.value for figure in agent_row(facts())}
    assert row["uptime"] == 12.5
    assert row["link_up"] is True
    assert row["clock_synced"] is True
    assert row["clock_stepped"] is False
    assert row["spool_percent"] == 50
    assert row["spool_full_in"] == 90
    assert row["read"] == 10
    assert row["filtered"] == 2
    assert row["rejected"] == 1
    assert row["evicted"] == 0
    assert row["restarts"] == 1
    assert row["sources_down"] == row["troubled"] == 0


def test_states_that_are_not_well_are_seen():
    link = FACTS["link"] | {"state": "held"}
    pipelines = {"pump": FACTS["pipelines"]["pump"] | {"reading": False, "trouble": "no such file"}}
    bad = facts(clock="stepped", stuck="a pipeline", link=link, pipelines=pipelines, balanced=False)
    row = {figure.name: figure.value for figure in agent_row(bad)}
    assert (row["link_up"], row["link_held"]) == (False, True)
    assert (row["clock_synced"], row["clock_stepped"]) == (False, True)
    assert (row["stuck"], row["balanced"]) == (True, False)
    assert (row["sources_down"], row["troubled"]) == (1, 1)


def test_no_count_stands_without_a_unit():
    """A long bare number is searched for identifiers, and a counter may grow into what looks like one."""
    for figure in [*agent_row(facts()), *stream_rows(facts())[0], *model_rows(facts())[0]]:
        assert figure.type in (Type.BOOL, Type.STR) or figure.unit, figure.name


@pytest.mark.parametrize("policy", ["base", "strict"])
def test_a_count_that_looks_like_a_telephone_number_passes_the_guard(policy):
    entry = FACTS["streams"]["pump"] | {"read": 13_800_138_000}
    context = SourceContext("me", "me", facts=lambda: facts(streams={"pump": entry}))
    (block,) = sampled(context, AgentOptions())
    loaded = load_policy(policy, None)
    guarded = Guard(loaded).check(Masker(loaded).apply(block))
    assert cells(guarded)["read"] == 13_800_138_000
    assert cells(guarded)["link_up"] is True


def test_every_sample_is_a_block_of_the_stream_with_what_the_pipeline_declares():
    context = SourceContext("me", "health", {"rss": FieldOptions(description="mine")}, facts=facts)
    first, second = sampled(context, AgentOptions(), samples=2)
    assert first.stream == "health"
    assert first.schema == second.schema
    assert first.schema.fields[first.schema.index("rss")].description == "mine"
    assert first.rows == 1
    assert cells(first)["rss"] == 4096


def test_a_prediction_that_there_is_not_is_a_null():
    spool = FACTS["spool"] | {"full_in_s": None}
    (block,) = sampled(SourceContext("me", "me", facts=lambda: facts(spool=spool)), AgentOptions())
    column = block.columns[block.schema.index("spool_full_in")]
    assert int(column.quality[0]) == q.NULL


def test_about_streams_gives_one_row_a_stream_told_apart_by_its_name():
    streams = {"pump": FACTS["streams"]["pump"], "yard": FACTS["streams"]["pump"] | {"read": 99}}
    context = SourceContext("me", "me", facts=lambda: facts(streams=streams))
    (block,) = sampled(context, AgentOptions(about="streams"))
    assert block.schema.key == "about"
    assert [cells(block, row)["about"] for row in range(2)] == ["pump", "yard"]
    assert [cells(block, row)["read"] for row in range(2)] == [10, 99]
    assert np.all(np.diff(block.time) == 0)
    assert sampled_nothing(AgentOptions(about="streams"))


@pytest.mark.parametrize("policy", ["base", "strict"])
def test_about_models_gives_one_row_a_stream_and_model_and_passes_every_policy(policy):
    context = SourceContext("me", "me", facts=facts)
    (block,) = sampled(context, AgentOptions(about="models"))
    loaded = load_policy(policy, None)
    guarded = Guard(loaded).check(Masker(loaded).apply(block))
    row = cells(guarded)
    assert (row["about"], row["model"]) == ("pump", "sensor-anomaly@1.0.0#96dbe81b")
    assert (row["gave"], row["failed"], row["serves"], row["promoted"]) == (7, 1, 2, 1)
    assert row["rolled_back"] == row["rejected"] == row["confirmed"] == 0
    assert sampled_nothing(AgentOptions(about="models"))


def test_metrics_tell_what_models_gave_and_what_was_decided():
    told = {metric.name: metric.samples for metric in agent_metrics(facts())}
    who = {"stream": "pump", "model": "sensor-anomaly@1.0.0#96dbe81b"}
    assert told["forebay_model_results_total"] == [(who, 7.0)]
    assert told["forebay_model_failures_total"] == [(who, 1.0)]
    assert told["forebay_model_events_total"] == [
        (who | {"event": "serves"}, 2.0),
        (who | {"event": "promoted"}, 1.0),
    ]


def sampled_nothing(options: AgentOptions) -> bool:
    """Tell whether an agent that has read nothing yet gives no block."""
    source = AgentSource(options, SourceContext("me", "me", facts=lambda: facts(streams={})))
    turns = iter([False, False, True])
    source._stop.wait = lambda _seconds: next(turns)  # type: ignore[method-assign]
    out: list[Any] = []
    source.run(lambda chunk: bool(out.append(chunk)) or True, None)
    return not out


def test_outside_of_a_running_agent_it_says_so():
    with pytest.raises(ConfigError, match="no running agent"):
        AgentSource(AgentOptions(), SourceContext("me", "me"))


def test_memory_and_cpu_time_are_those_of_this_process():
    now = process_facts()
    assert 4 * 1024**2 < now["rss_bytes"] <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    before = now["cpu_s"]
    sum(range(2_000_000))
    assert process_facts()["cpu_s"] > before > 0
