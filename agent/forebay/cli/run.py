"""`forebay run`: the agent."""

from __future__ import annotations

import gc
import signal
import threading
from pathlib import Path
from types import FrameType

import click

from forebay.config.base import parse_duration
from forebay.config.findings import ConfigErrors
from forebay.config.loader import load_agent
from forebay.errors import ForebayError
from forebay.log import set_up
from forebay.preflight import preflight


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
def run_command(config: Path, once: bool, give_up_ns: int | None) -> int:
    """Run the agent with the configuration CONFIG.

    With --once the exit code is 0 only when the receiver has acknowledged everything.
    """
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)  # before anything that takes time: a stop while starting is one, too
    signal.signal(signal.SIGINT, stop)
    loaded = load_agent(config)
    set_up(loaded.config.log.level, loaded.config.log.format)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    from forebay.runtime import GIVE_UP_NS, Agent, harden_process

    harden_process()
    try:
        agent = Agent(loaded, once=once, give_up_ns=give_up_ns or GIVE_UP_NS, stopping=stopping)
    except ForebayError as error:
        findings = preflight(loaded)  # where in the file it comes from, if it does
        if findings:
            raise ConfigErrors(findings) from error
        raise

    gc.freeze()  # what is there now stays until the end: the collector need not walk it again and again
    agent.start()
    if not once:
        agent.wait()
        written = agent.stop()
        return 0 if written and not agent.failure else 1
    outcome = agent.drain()
    agent.stop()
    if not outcome.complete:
        click.echo(
            f"not everything was delivered ({outcome.undelivered} readings unacknowledged): {outcome.reason}",
            err=True,
        )
    return 0 if outcome.complete else 1
