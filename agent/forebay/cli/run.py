"""`forebay run`: the agent."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from forebay.clock import SystemClock
from forebay.config.agent import AgentConfig
from forebay.config.base import parse_duration
from forebay.config.findings import ConfigErrors, Severity
from forebay.config.loader import LoadedConfig, load_agent
from forebay.errors import ConfigError, ForebayError
from forebay.log import Recent, set_up_as
from forebay.preflight import preflight

if TYPE_CHECKING:
    from forebay.operations import Operations
    from forebay.page import Part
    from forebay.runtime import Agent

log = logging.getLogger("forebay.agent")

Loaded = LoadedConfig[AgentConfig]


def _duration(ctx: click.Context, _param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if not ctx.params.get("once"):
        raise click.BadParameter("goes with --once only")
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--once", is_flag=True, is_eager=True, help="Drain finite sources, deliver everything, then end."
)
@click.option(
    "--give-up",
    "give_up_ns",
    metavar="DURATION",
    callback=_duration,
    help="With --once: end when nothing was acknowledged for so long (30s).",
)
@click.option(
    "--safe-mode",
    is_flag=True,
    help="When CONFIG is bad, run the one that ran last; where there is none, only spool, link and status.",
)
def run_command(config: Path, once: bool, give_up_ns: int | None, safe_mode: bool) -> int:
    """Run the agent with the configuration CONFIG.

    With --once the exit code is 0 only when the receiver has acknowledged everything. SIGHUP reads CONFIG again.
    """
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)  # before anything that takes time: a stop while starting is one, too
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    if safe_mode and once:
        raise click.BadParameter("--safe-mode is for a service, not for --once")
    recent = Recent(SystemClock())
    logging.getLogger("forebay").addHandler(recent)
    agent = _start(config, once, give_up_ns, stopping, safe_mode=safe_mode)
    if once:
        return _run_once(agent)
    return _serve(agent, recent)


def _start(
    config: Path, once: bool, give_up_ns: int | None, stopping: threading.Event, *, safe_mode: bool
) -> Agent:
    try:
        loaded = _load(config)
        return _build(loaded, once=once, give_up_ns=give_up_ns, stopping=stopping)
    except ConfigError as error:
        if not safe_mode:
            raise
        return _start_safely(config, error, stopping)


def _load(config: Path) -> Loaded:
    loaded = load_agent(config)
    set_up_as(loaded.config.log, loaded.base)
    for found in loaded.warnings:
        word = "note" if found.severity is Severity.INFO else "warning"
        click.echo(f"{word}: {found}", err=True)
    return loaded


def _build(
    loaded: Loaded,
    *,
    stopping: threading.Event,
    once: bool = False,
    give_up_ns: int | None = None,
    why_safe: str = "",
    bare: bool = False,
) -> Agent:
    """Return the agent, started."""
    from forebay.runtime import GIVE_UP_NS, Agent, harden_process

    harden_process()
    give_up_ns = give_up_ns or GIVE_UP_NS
    try:
        agent = Agent(
            loaded, once=once, give_up_ns=give_up_ns, stopping=stopping, safe_mode=why_safe, bare=bare
        )
    except ForebayError as error:
        findings = preflight(loaded)  # where in the file it comes from, if it does
        if findings:
            raise ConfigErrors(findings) from error
        raise
    gc.collect()  # frozen garbage would stay, too: it was a megabyte
    gc.freeze()  # what is there now stays until the end: the collector need not walk it again and again
    agent.start()
    return agent


def _start_safely(config: Path, error: ConfigError, stopping: threading.Event) -> Agent:
    """Run the configuration that ran last, or only spool and link where there is none or it is bad, too."""
    from forebay.lastgood import LastGood, salvaged, spool_folder

    why = f"{config} is bad: {str(error).splitlines()[0]}"
    try:
        loaded = LastGood(spool_folder(config)).load()
    except ConfigError as none:
        bare = salvaged(config)
        _say_safe(bare, error, f"{none}: only spool, link and status run")
        return _start_bare(bare, why, stopping)
    _say_safe(loaded, error, "the configuration that ran last runs")
    try:
        return _build(loaded, stopping=stopping, why_safe=why)
    except ConfigError as worse:
        log.error("safe mode: pipelines cannot run, only spool and link do: %s", worse)
        return _build(loaded, stopping=stopping, why_safe=why, bare=True)


def _say_safe(loaded: Loaded, error: ConfigError, what: str) -> None:
    """Tell of safe mode where its log goes: a machine without a journal has only the configured file."""
    set_up_as(loaded.config.log, loaded.base)
    for line in str(error).splitlines():
        log.error("bad configuration: %s", line)
    log.error("safe mode: %s; mend the file, then: forebay reload", what)


def _start_bare(loaded: Loaded, why: str, stopping: threading.Event) -> Agent:
    """Run spool, link and status of what the bad configuration says of them."""
    try:
        return _build(loaded, stopping=stopping, why_safe=why, bare=True)
    except ConfigError as worse:
        if loaded.config.forward is None:
            raise
        log.error("safe mode: there is no link: %s", worse)
        alone = replace(loaded, config=loaded.config.model_copy(update={"forward": None}))
        return _build(alone, stopping=stopping, why_safe=why, bare=True)


def _run_once(agent: Agent) -> int:
    outcome = agent.drain()
    agent.stop()
    if not outcome.complete:
        click.echo(
            f"not everything was delivered ({outcome.undelivered} readings unacknowledged): {outcome.reason}",
            err=True,
        )
    return 0 if outcome.complete else 1


def _serve(agent: Agent, recent: Recent) -> int:
    from forebay.lastgood import WELL_AFTER_NS, LastGood

    operations, web = _operations(agent, recent), _web(agent, recent)
    last_good = LastGood(agent.spool.folder)

    def on_hangup(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=_reload, args=(agent,), name="reload", daemon=True).start()

    def keep() -> None:
        if not agent.safe_mode and agent.clock.monotonic_ns() - agent.started_ns > WELL_AFTER_NS:
            last_good.keep(agent.loaded)

    signal.signal(signal.SIGHUP, on_hangup)
    agent.wait(on_look=keep)
    for part in web:
        part.stop()
    if operations is not None:
        operations.stop()
    written = agent.stop()
    return 0 if written and not agent.failure else 1


def _operations(agent: Agent, recent: Recent) -> Operations | None:
    """Return what answers `forebay status` and its like; data flows without it, too."""
    from forebay.operations import Operations

    try:
        operations = Operations(agent, recent)
    except OSError as error:
        log.error("no local socket: status, reload and tap do not work error=%s", error.strerror)
        return None
    operations.start()
    return operations


def _web(agent: Agent, recent: Recent) -> list[Part]:
    if agent.loaded.config.web is None:
        return []
    from forebay.page import start_agent_web

    return start_agent_web(agent, recent)


def _reload(agent: Agent) -> None:
    try:
        agent.reload(lambda: load_agent(agent.loaded.path))
    except ForebayError as error:
        for line in str(error).splitlines():
            log.error("the configuration was not reloaded, the old one goes on: %s", line)
