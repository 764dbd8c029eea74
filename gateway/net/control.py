"""The control socket: one JSON object a line in each direction, on a Unix socket of mode 0600 whose peer must be root
or the user of the master.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from gateway.net.address import UnixAddress
from gateway.net.handover import Keep
from gateway.net.listeners import Listener, SocketFile, open_listeners

_LONGEST_COMMAND = 4096  # bytes
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_REPLY_SECONDS = 2.0  # a caller that does not read its answer is dropped after this

Command = dict[str, Any]


class ControlError(Exception):
    """No running master could be asked. `str()` is one line."""


class OutOfDescriptors(Exception):
    """Nothing is left to accept a caller with, who goes on waiting. `str()` is the system's reason."""


def call(path: str, command: Command, timeout: float) -> Command:
    """Send one command to the master at `path` and wait up to `timeout` seconds for its reply. Raises ControlError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            sock.connect(path)
            sock.sendall(json.dumps(command).encode() + b"\n")
            with sock.makefile("rb") as stream:
                answer = stream.readline()
        except TimeoutError as error:
            raise ControlError(f"{path}: the master did not answer within {timeout:g} seconds") from error
        except OSError as error:
            raise ControlError(
                f"{path}: no gateway answers there ({error.strerror}); name it with --control"
            ) from error
    if not answer.endswith(b"\n"):
        raise ControlError(f"{path}: the master ended before it answered")
    reply: Command = json.loads(answer)
    return reply


class Caller:
    """One connection to the control socket, as the master sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._read = b""

    def hand_over(self, keep: Keep) -> tuple[int, str]:
        """See `handover`."""
        return keep(self.socket.fileno()), self._read.decode("latin-1")

    @classmethod
    def take_over(cls, fd: int, read: str) -> Caller:
        """See `handover`."""
        caller = cls(socket.socket(fileno=fd))
        caller.socket.setblocking(False)
        caller._read = read.encode("latin-1")
        return caller

    def read_command(self) -> Command | None:
        """Read what has come: a command once its line is complete. Raises ControlError for what is none, at the end."""
        data = self.socket.recv(_LONGEST_COMMAND)
        self._read += data
        text, newline, _ = self._read.partition(b"\n")
        if not newline:
            if not data or len(self._read) >= _LONGEST_COMMAND:
                raise ControlError("the caller left, or sent no command")
            return None
        try:
            command = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ControlError(f"not JSON: {error}") from error
        if not isinstance(command, dict):
            raise ControlError("a command is a JSON object")
        return command

    def reply(self, answer: Command) -> None:
        """Send the answer and end the conversation; a caller that has left misses it."""
        try:
            self.socket.settimeout(_REPLY_SECONDS)
            self.socket.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            return
        finally:
            self.socket.close()


class ControlServer:
    """The listening side, driven by the master's loop."""

    def __init__(self, path: str, listener: Listener | None = None) -> None:
        """`listener` was handed over. Raises ListenError (AddressInUse when another master has this control socket)."""
        self._listener = listener or open_listeners(UnixAddress(path), file=SocketFile(mode=0o600))[0]
        self.socket = self._listener.socket
        self.hand_over = self._listener.hand_over

    def accept(self, refuse: Callable[[str], None]) -> Caller | None:
        """Take the next caller; one of a foreign user is turned away and reported through `refuse`.

        Raises OutOfDescriptors.
        """
        try:
            sock, _ = self.socket.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise OutOfDescriptors(error.strerror) from error
            return None  # it left before its turn
        pid, uid, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()):
            refuse(f"control socket: process {pid} of user {uid} turned away")
            sock.close()
            return None
        sock.setblocking(False)
        return Caller(sock)

    @property
    def loss(self) -> str:
        """See `Listener.loss`."""
        return self._listener.loss

    def close(self) -> None:
        """Stop listening and remove the socket's file."""
        self._listener.close()
