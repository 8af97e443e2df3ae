"""`python -m benchmarks.plant MQTT_PORT MODBUS_PORT`: a broker and a device for an agent to be idle with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def plant() -> Iterator[tuple[int, int]]:
    """Run both in a process of their own; yield the ports of broker and device."""
    ports = _free_port(), _free_port()
    words = [sys.executable, "-m", "benchmarks.plant", *map(str, ports)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "broker and device do not start"
            yield ports
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def serve(mqtt_port: int, modbus_port: int) -> None:
    """Serve both until the process is ended; say `ready` on standard output."""
    from amqtt.broker import Broker
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    holding = SimData(0, values=[215, 100, 7, 9], datatype=DataType.REGISTERS)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{mqtt_port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    device = ModbusTcpServer([SimDevice(1, holding)], address=("127.0.0.1", modbus_port))
    await device.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
