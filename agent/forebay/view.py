"""How the running agent is, as one plain object: for `status`, the local page, metrics and the support bundle.

Names, counts and states only; never a data value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forebay import __version__
from forebay.log import Recent
from forebay.spool.forecast import file_bytes, full_in_s
from forebay.spool.reader import equations_hold
from forebay.supervise import Unit
from forebay.telemetry import process_facts

if TYPE_CHECKING:
    from forebay.runtime import Agent


def snapshot(agent: Agent, recent: Recent | None = None) -> dict[str, Any]:
    """Return the facts of now."""
    config, now = agent.loaded.config, agent.clock.monotonic_ns()
    with agent.looking:  # lookers come in threads of their own, and the reader is for one at a time
        ledger = agent.reader.ledger()
        batches, readings, size = agent.reader.counts()
        rate = agent.reader.rate(agent.spool.store.uptime_ns())
    taken = file_bytes(agent.spool.folder)
    folder, condition = agent.spool.folder, agent.spool.writer.condition
    return {
        "gateway": config.gateway.id,
        "site": config.gateway.site,
        "version": __version__,
        "boot": agent.boot,
        "running": True,
        "uptime_s": round((now - agent.started_ns) / 1e9, 3),
        "clock": str(agent.clock.state()),
        "process": process_facts(),
        "config": {
            "path": str(agent.loaded.path),
            "digest": agent.loaded.digest,
            "safe_mode": agent.safe_mode,
        },
        "policy": {"name": agent.policy[0], "hash": agent.policy[1]},
        "stuck": agent.stuck,
        "pipelines": {name: _pipeline(unit, now) for name, unit in agent.units.items()},
        "spool": {
            "dir": str(folder),
            "state": condition.state,
            "detail": condition.detail,
            "pending_batches": batches,
            "pending_readings": readings,
            "pending_bytes": size,
            "file_bytes": taken,
            "max_bytes": config.spool.max_bytes,
            "full_in_s": full_in_s(config.spool.max_bytes, taken, rate),
        },
        "link": _link(agent),
        "streams": ledger,
        "balanced": all(equations_hold(entry) for entry in ledger.values()),
        "troubles": recent.entries() if recent else [],
    }


def _pipeline(unit: Unit, now: int) -> dict[str, Any]:
    worker, runner = unit.worker, unit.runner
    return {
        "source": runner.name,
        "stream": worker.options.stream,
        "lane": str(worker.options.lane),
        "reading": unit.is_reading(),
        "working": unit.is_working(),
        "trouble": unit.failed or runner.trouble,
        "restarts": unit.restarts,
        "source_restarts": runner.restarts,
        "queue_items": len(worker.queue),
        "queue_bytes": worker.queue.nbytes,
        "idle_s": round((now - worker.last_progress_ns) / 1e9, 3),
        "steps": list(worker.step_names()),
        "reports": worker.reports(),
    }


def _link(agent: Agent) -> dict[str, Any]:
    linkage = agent.link
    if linkage is None or linkage.forwarder is None:
        return {"state": "none", "endpoint": "", "reason": "there is no `forward` section", "store": "",
                "delivered_batches": 0}  # fmt: skip
    link = linkage.forwarder.link
    return {
        "state": link.state,
        "endpoint": link.endpoint,
        "reason": link.reason,
        "store": link.store,
        "delivered_batches": linkage.delivered,
    }
