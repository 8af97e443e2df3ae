"""What a service tells its manager, by sd_notify(3): datagrams to the socket named in NOTIFY_SOCKET, else nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

FEEDS_A_PERIOD = 3


class Notifier:
    """Tells the service manager how the service is. Never raises: a manager that is gone is no reason to stop."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        micros = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        self.watchdog_s = int(micros) / 1e6 if micros.isdigit() and mine else 0.0
        if self._address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    @property
    def pause_s(self) -> float:
        """Seconds between two looks."""
        return min(1.0, self.watchdog_s / FEEDS_A_PERIOD) if self.watchdog_s else 1.0

    def tell(self, *lines: str) -> None:
        """Send assignments such as `READY=1`."""
        if self._socket is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            self._socket.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, address)
        except OSError:
            return

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
