"""An MQTT broker and a Modbus server for the memory benchmark, in a process of their own.

`python -m benchmarks.field_devices MQTT_PORT MODBUS_PORT` prints `up` when both answer and runs until its standard
input is closed.
"""

from __future__ import annotations

import asyncio
import logging
import sys


async def _serve(mqtt_port: int, modbus_port: int) -> None:
    from amqtt.broker import Broker
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{mqtt_port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    words = [SimData(0, values=list(range(100, 120)), datatype=DataType.REGISTERS)]
    device = SimDevice(1, (bits, bits, words, words))
    server = ModbusTcpServer([device], address=("127.0.0.1", modbus_port))
    await server.serve_forever(background=True)
    print("up", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.shutdown()
    await broker.shutdown()


def main() -> None:
    """Serve until nobody wants it any more."""
    for name in ("amqtt", "transitions", "pymodbus.logging"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))


if __name__ == "__main__":
    main()
