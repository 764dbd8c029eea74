"""The channel between the master and the console, a SOCK_SEQPACKET pair of which each has one end.

From the master comes first `{"allowed": [IP address, …]}` with the listeners beside it (SCM_RIGHTS), and then answers.
The console says `{"ready": true}` when it serves, and asks by `{"status": n}`. The answer is `{"status": n}` with a
file beside it that holds JSON: so the master never waits for a console that reads slowly, however much there is to say.
The end of the channel is the other's end; a console that is to leave gets an answer to no question before, and gives
that to whoever still asks it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Any

from gateway.net.acceptor import IpAddress
from gateway.net.memory import anonymous_file
from gateway.net.orders import GO_ON

_LONGEST_MESSAGE = 4_096  # bytes
_MOST_LISTENERS = 253  # descriptors in one message: SCM_MAX_FD of <net/scm.h>
_PATIENCE = 1.0  # seconds that the master has for its answer
LAST_WORD = 0  # in place of a question's number, which are counted from 1
_SHARED = 0.1  # seconds that an answer is good for: however many ask here, the master is asked ten times a second

Status = dict[str, Any]


class NoAnswer(Exception):
    """The master has not said what it was asked. `str()` is one line."""


def hand_over(channel: socket.socket, listeners: Sequence[socket.socket], allowed: Sequence[str]) -> None:
    """Give the console what it serves; the first message. Raises OSError."""
    descriptors = [listener.fileno() for listener in listeners]
    socket.send_fds(channel, [json.dumps({"allowed": [*allowed]}).encode()], descriptors)


def answer(channel: socket.socket, number: int, status: Status) -> None:
    """Answer the question `number` on a non-blocking channel; a console that takes no more misses it.

    Raises OSError when there is no file or memory for it.
    """
    with anonymous_file("status") as file, contextlib.suppress(BlockingIOError, ConnectionError):
        file.write(json.dumps(status).encode())
        file.flush()
        socket.send_fds(channel, [json.dumps({"status": number}).encode()], [file.fileno()])


class Inquirer:
    """The console's end; also what its driver listens to (`net.blocking.Control`)."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)  # recv_fds takes flags but leaves them out (CPython 3.11)
        self._asked = 0
        self._known: Status = {}
        self._known_until = 0.0
        self._last_word: Status | None = None

    def take_over(self) -> tuple[list[socket.socket], list[IpAddress]]:
        """Wait for the listeners, and whom they may let in over TCP (empty for all). Raises NoAnswer."""
        select.select([self._socket], [], [])
        message, fds, _, _ = socket.recv_fds(self._socket, _LONGEST_MESSAGE, _MOST_LISTENERS)
        if not message:
            raise NoAnswer("the master has ended")
        for fd in fds:
            os.set_inheritable(fd, False)
        return [socket.socket(fileno=fd) for fd in fds], [*map(ipaddress.ip_address, json.loads(message)["allowed"])]

    def ready(self) -> None:
        """Say that the console serves."""
        self._say({"ready": True})

    def status(self) -> Status:
        """What the master says of itself and its pools, at most 100 ms ago. Raises NoAnswer."""
        if time.monotonic() >= self._known_until:
            self._known = self._ask()
            self._known_until = time.monotonic() + _SHARED
        return self._known

    def fileno(self) -> int:
        """See `net.blocking.Control`."""
        return self._socket.fileno()

    def recv(self, size: int, /) -> bytes:
        """See `net.blocking.Control`: an answer that came too late is nothing to the driver, the end is."""
        try:
            return b"" if self._receive() is None else GO_ON
        except BlockingIOError:
            return GO_ON  # it was read meanwhile

    def _ask(self) -> Status:
        self._asked += 1
        with contextlib.suppress(ConnectionError):  # what it has said before its end can be read all the same
            self._say({"status": self._asked})
        deadline = time.monotonic() + _PATIENCE
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            received = self._receive()
            if received is None:
                if self._last_word is None:
                    raise NoAnswer("the master has ended")
                return self._last_word
            number, status = received
            if number == self._asked:
                return status
        raise NoAnswer(f"the master has not answered within {_PATIENCE:g} s")

    def _say(self, message: dict[str, Any]) -> None:
        """Raises NoAnswer, and ConnectionError where the master has ended the channel."""
        try:
            self._socket.send(json.dumps(message).encode())
        except BlockingIOError as error:
            raise NoAnswer("the master reads no more questions") from error

    def _receive(self) -> tuple[int, Status] | None:
        """Read one answer with its number; None at the end of the channel. Raises BlockingIOError."""
        try:
            message, fds, _, _ = socket.recv_fds(self._socket, _LONGEST_MESSAGE, 1)
        except ConnectionResetError:  # told once, before what the master has said: it ended with a question unread
            message, fds, _, _ = socket.recv_fds(self._socket, _LONGEST_MESSAGE, 1)
        if not message:
            return None
        with open(fds[0], "rb") as file:
            file.seek(0)  # where it stands is shared with the master, who has written it
            number, status = json.loads(message)["status"], json.load(file)
        if number == LAST_WORD:
            self._last_word = status
        return number, status
