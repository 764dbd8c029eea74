"""Who calls the control socket: each is listened to until its command is whole, the silent ones not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

from gateway import log
from gateway.net.control import Caller, Command, ControlError, ControlServer, OutOfDescriptors
from gateway.net.handover import Keep, State
from gateway.net.listeners import Listener, ListenError
from gateway.process.handles import Loop

_MOST_SILENT = 32
_PAUSE = 0.1  # seconds without accepting, where nothing is left to accept with: asking again at once would spin


class Callers:
    """Hands each command, with whoever waits for its answer, to `obey`."""

    def __init__(
        self, path: str, loop: Loop, obey: Callable[[Command, Caller], None], handed: State | None = None
    ) -> None:
        """Listen at `path`. Raises ListenError (AddressInUse when another master has this control socket)."""
        listener = None if handed is None else Listener.take_over(*handed["listener"])
        self._path = path
        self._server = ControlServer(path, listener)
        self._loop = loop
        self._obey = obey
        self._silent: list[Caller] = []  # that have not sent a whole command yet, the oldest first
        self._paused_until = 0.0  # on the monotonic clock; 0 for no pause
        loop.watch(self._server.socket, self._accept)
        for row in handed["silent"] if handed is not None else ():
            self._listen_to(Caller.take_over(*row))

    def hand_over(self, keep: Keep) -> State:
        """See `net.handover`."""
        return {"listener": self._server.hand_over(keep), "silent": [caller.hand_over(keep) for caller in self._silent]}

    def patience(self) -> float | None:
        """Seconds until `look` is needed; None where it is not."""
        return max(0.0, self._paused_until - time.monotonic()) if self._paused_until else None

    def look(self) -> None:
        """Take calls again after a pause."""
        if self._paused_until and time.monotonic() >= self._paused_until:
            self._paused_until = 0.0
            self._loop.watch(self._server.socket, self._accept)

    def listen_again(self) -> None:
        """Make the socket anew where its file is gone; where that fails, say why and go on."""
        loss = self._server.loss
        if not loss:
            return
        try:
            server = ControlServer(self._path)
        except ListenError as error:
            log.line(f"control socket: {error}", log.Level.ERROR)
            return
        self._loop.forget(self._server.socket)
        self._server.close()
        self._server = server
        self._paused_until = 0.0
        self._loop.watch(server.socket, self._accept)
        log.line(f"control socket: {self._path} {loss}: listening on it again", log.Level.WARNING)

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
        self._listen_to(caller)
        if len(self._silent) > _MOST_SILENT:
            oldest = self._silent[0]
            self._dismiss(oldest)
            oldest.reply({"ok": False, "error": "too many callers who say nothing"})

    def _listen_to(self, caller: Caller) -> None:
        self._loop.watch(caller.socket, lambda: self._hear(caller))
        self._silent.append(caller)

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
