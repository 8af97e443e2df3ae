"""`forebay receive`: the central receiver."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from forebay.clock import SystemClock
from forebay.config.loader import LoadedConfig, load_receiver
from forebay.config.receiver import ReceiverConfig
from forebay.log import Recent, set_up_as
from forebay.notify import Notifier

if TYPE_CHECKING:
    from forebay.page import Part
    from forebay.receive.server import Server


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
def receive_command(config: Path) -> int:
    """Run the receiver with the configuration CONFIG, until SIGTERM or Ctrl-C."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)  # before anything that takes time: a stop while starting is one, too
    signal.signal(signal.SIGINT, stop)
    loaded = load_receiver(config)
    set_up_as(loaded.config.log, loaded.base)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    recent = Recent(SystemClock())
    logging.getLogger("forebay").addHandler(recent)
    from forebay.central import build_server

    server = build_server(loaded, stopping)
    click.echo(f"listening on {server.endpoint}", err=True)
    web = _web(loaded, server, recent)
    notifier = Notifier()
    notifier.tell("READY=1", "STATUS=running")
    server.run(_feeding(notifier))
    notifier.tell("STOPPING=1")
    for part in web:
        part.stop()
    return 0


def _feeding(notifier: Notifier) -> Callable[[], None]:
    """Return what the loop calls in each turn: it feeds the watchdog now and then."""
    last = 0.0

    def feed() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= notifier.pause_s:
            last = now
            notifier.tell("WATCHDOG=1")

    return feed


def _web(loaded: LoadedConfig[ReceiverConfig], server: Server, recent: Recent) -> list[Part]:
    if loaded.config.web is None:
        return []
    from forebay.page import start_receiver_web

    return start_receiver_web(loaded, server, recent)
