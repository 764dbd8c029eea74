"""Who calls the control socket: each is listened to until its command is whole, the silent ones not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway import log
from gateway.net.control import Caller, Command, ControlError, ControlServer, OutOfDescriptors
from gateway.process.handles import Loop

_MOST_SILENT = 32
_PAUSE = 0.1  # seconds without accepting, where nothing is left to accept with: asking again at once would spin


class Callers:
    """Hands each command, with whoever waits for its answer, to `obey`."""

    def __init__(self, path: str, loop: Loop, obey: Callable[[Command, Caller], None]) -> None:
        """Listen at `path`. Raises ListenError (AddressInUse when another master has this control socket)."""
        self._server = ControlServer(path)
        self._loop = loop
        self._obey = obey
        self._silent: list[Caller] = []  # that have not sent a whole command yet, the oldest first
        self._paused_until = 0.0  # on the monotonic clock; 0 for no pause
        loop.watch(self._server.socket, self._accept)

    def patience(self) -> float | None:
        """Seconds until `look` is needed; None where it is not."""
        return max(0.0, self._paused_until - time.monotonic()) if self._paused_until else None

    def look(self) -> None:
        """Take calls again after a pause."""
        if self._paused_until and time.monotonic() >= self._paused_until:
            self._paused_until = 0.0
            self._loop.watch(self._server.socket, self._accept)

    def close(self) -> None:
        """Stop listening and remove the socket's file."""
        self._server.close()

    def _accept(self) -> None:
        try:
            caller = self._server.accept(log.line)
        except OutOfDescriptors as error:
            log.line(f"control socket: cannot accept: {error}; trying again in {_PAUSE:g} s", log.Level.WARNING)
            self._paused_until = time.monotonic() + _PAUSE
            self._loop.forget(self._server.socket)
            return
        if caller is None:
            return
        self._loop.watch(caller.socket, lambda: self._hear(caller))
        self._silent.append(caller)
        if len(self._silent) > _MOST_SILENT:
            oldest = self._silent[0]
            self._dismiss(oldest)
            oldest.reply({"ok": False, "error": "too many callers who say nothing"})

    def _hear(self, caller: Caller) -> None:
        try:
            command = caller.read_command()
        except (ControlError, OSError) as error:
            self._dismiss(caller)
            caller.reply({"ok": False, "error": str(error)})
            return
        if command is not None:
            self._dismiss(caller)
            self._obey(command, caller)

    def _dismiss(self, caller: Caller) -> None:
        """Listen to a caller no longer."""
        self._loop.forget(caller.socket)
        self._silent.remove(caller)
