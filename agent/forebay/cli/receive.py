"""`forebay receive`: the central receiver."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType

import click

from forebay.config.loader import LoadedConfig, load_receiver
from forebay.config.receiver import ReceiverConfig
from forebay.log import set_up


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
def receive_command(config: Path) -> int:
    """Run the receiver with the configuration CONFIG."""
    loaded = load_receiver(config)
    set_up(loaded.config.log.level, loaded.config.log.format)
    server = build_server(loaded)

    def stop(_number: int, _frame: FrameType | None) -> None:
        server.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    click.echo(f"listening on {server.endpoint}", err=True)
    server.run()
    return 0


def build_server(loaded: LoadedConfig[ReceiverConfig]):  # type: ignore[no-untyped-def]
    """Return a receiver as configured, bound and ready to run."""
    from forebay.clock import SystemClock
    from forebay.keys import read_secret
    from forebay.receive.server import Server, ServerOptions
    from forebay.receive.sqlite import SqliteSink
    from forebay.receive.zap import AllowList

    config = loaded.config
    key = read_secret(loaded.resolve(config.listen.key))
    sinks = [SqliteSink(loaded.resolve(sink.path)) for sink in config.sinks.values()]  # type: ignore[attr-defined]
    options = ServerOptions(config.center.id, config.listen.endpoint)
    return Server(options, key, AllowList(loaded.resolve(config.listen.allow)), sinks, SystemClock())
