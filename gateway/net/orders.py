"""What a driver is told while it serves, and what tells it."""

from __future__ import annotations

from typing import Protocol

LEAVE = b"leave"  # told to a worker whose place another takes; anything else, or the end of the channel, is a stop
STOP = b"stop"
GO_ON = b"go on"


class Control(Protocol):
    """Where the driver is told to leave, once it is readable: a socket of the master's, or what stands for one."""

    def fileno(self) -> int:
        """The descriptor to wait for."""

    def recv(self, size: int, /) -> bytes:
        """What has come: `LEAVE`, `GO_ON` where nothing is to be done, anything else for a stop."""
