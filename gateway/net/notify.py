"""Tells the service manager what the service does: sd_notify(3) and sd_watchdog_enabled(3), without libsystemd."""

from __future__ import annotations

import contextlib
import os
import socket
import time

from gateway import log

_LONGEST_STATUS = 500  # characters; systemd drops a message of more than 4,096 bytes
_PATIENCE = 1.0  # seconds that a change of state waits for room in the manager's queue; it is told only once


class Notifier:
    """The way to the service manager. Nothing here raises: a service does not depend on who watches it.

    `address` is a path, or a name after "@" (abstract, unix(7)); with any other there is nobody to tell.
    """

    def __init__(self, address: str = "", watchdog_usec: int = 0) -> None:
        self._address = address
        self._watchdog_usec = watchdog_usec if address else 0
        # Kept open: a sign of life must get through when the process has run out of descriptors, too.
        self._socket = _open(address)

    @classmethod
    def from_environment(cls) -> Notifier:
        """What NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say; they are removed, for no child is to speak for us."""
        address, usec, pid = (os.environ.pop(n, "") for n in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        ours = pid in ("", str(os.getpid()))
        return cls(address, int(usec) if ours and usec.isascii() and usec.isdigit() else 0)

    def environment(self) -> dict[str, str]:
        """The variables by which a program that this process executes in its own place finds the manager again."""
        variables = {"NOTIFY_SOCKET": self._address} if self._address else {}
        return variables | ({"WATCHDOG_USEC": str(self._watchdog_usec)} if self._watchdog_usec else {})

    @property
    def watchdog_interval(self) -> float | None:
        """Seconds from one `alive` to the next, half of what the manager waits for; None where it asks for none."""
        return self._watchdog_usec / 2_000_000 or None

    def ready(self, status: str = "") -> None:
        """The service is up, or its reload is over."""
        self._send("READY=1", *_status(status), patience=_PATIENCE)

    def reloading(self) -> None:
        """A reload begins, which `ready` ends; the time tells Type=notify-reload which reload is meant."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", patience=_PATIENCE)

    def stopping(self) -> None:
        """The service begins to stop."""
        self._send("STOPPING=1", patience=_PATIENCE)

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(*_status(text))

    def alive(self) -> None:
        """Give a sign of life, for the watchdog."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Tell nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str, patience: float = 0.0) -> None:
        if self._socket is None or not assignments:
            return
        with contextlib.suppress(OSError):
            self._socket.settimeout(patience)
            self._socket.sendto("\n".join(assignments).encode("utf-8", "backslashreplace"), _sockaddr(self._address))


def _status(text: str) -> list[str]:
    return [f"STATUS={log.escape(text)[:_LONGEST_STATUS]}"] if text else []


def _open(address: str) -> socket.socket | None:
    if not address.startswith(("/", "@")):
        return None
    try:
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None


def _sockaddr(address: str) -> bytes:
    return b"\0" + os.fsencode(address[1:]) if address.startswith("@") else os.fsencode(address)
