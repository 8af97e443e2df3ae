"""`forebay receive`: the central receiver."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType

import click

from forebay.config.loader import load_receiver
from forebay.log import set_up


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
    set_up(loaded.config.log.level, loaded.config.log.format)
    for warning in loaded.warnings:
        click.echo(f"warning: {warning}", err=True)
    from forebay.central import build_server

    server = build_server(loaded, stopping)
    click.echo(f"listening on {server.endpoint}", err=True)
    server.run()
    return 0
