"""`forebay receive`: the central receiver."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click

from forebay.config.loader import load_receiver
from forebay.log import set_up


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
def receive_command(config: Path) -> int:
    """Run the receiver with the configuration CONFIG, until SIGTERM or Ctrl-C."""
    loaded = load_receiver(config)
    set_up(loaded.config.log.level, loaded.config.log.format)
    from forebay.central import build_server

    server = build_server(loaded)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    click.echo(f"listening on {server.endpoint}", err=True)
    server.run()
    return 0
