"""What importing an application has left that no forked copy may share: threads, which fork(2) does not copy, and
connections, on which every copy would read and write the same stream.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator

from gateway.record import Record

_SOCKET = re.compile(r"socket:\[(\d+)\]")  # what a link of /proc/PID/fd says (proc(5))


class Remains(Record):
    """Something that was found, in words, and whether it forbids forking."""

    text: str
    unsafe: bool


class Census:
    """The threads and sockets that a process has before it imports an application; needs Linux's /proc."""

    def __init__(self) -> None:
        self._python = set(sys._current_frames())
        self._native = _tasks().keys()
        self._sockets = {inode for inode, _ in _sockets()}

    def added(self) -> list[Remains]:
        """What the process has now that it had not."""
        return [*self._threads(), *self._native_threads(), *self._connections()]

    def _threads(self) -> Iterator[Remains]:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident in sys._current_frames().keys() - self._python:
            yield Remains(f"the thread {names.get(ident, 'without a name')!r}", unsafe=True)

    def _native_threads(self) -> Iterator[Remains]:
        """Threads that Python knows nothing of: a C library's, which may survive fork(2) as OpenBLAS does."""
        known = {thread.native_id for thread in threading.enumerate()}
        new = {task: name for task, name in _tasks().items() if task not in self._native and task not in known}
        nameless = len(sys._current_frames().keys() - self._python - {t.ident for t in threading.enumerate()})
        for name, count in Counter(list(new.values())[nameless:]).items():
            yield Remains(f"{count} native thread{'s' * (count > 1)} {name!r}", unsafe=False)

    def _connections(self) -> Iterator[Remains]:
        seen = set(self._sockets)
        for inode, fd in _sockets():
            if inode not in seen and (peer := _peer(fd)):
                seen.add(inode)
                yield Remains(f"a connection to {peer}", unsafe=True)


def _tasks() -> dict[int, str]:
    """The name of each thread of this process, by its number."""
    tasks = {}
    with contextlib.suppress(FileNotFoundError):  # no Linux; or the thread has ended meanwhile
        for number in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{number}/comm") as name:
                tasks[int(number)] = name.read().strip()
    return tasks


def _sockets() -> Iterator[tuple[str, int]]:
    """Inode and descriptor of each open socket."""
    try:
        entries = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):  # the descriptor that lists them is closed by now
            if match := _SOCKET.fullmatch(os.readlink(f"/proc/self/fd/{entry}")):
                yield match[1], int(entry)


def _peer(fd: int) -> str:
    """Whom a socket is connected to; "" for nobody, and for datagrams, which copies can send side by side (syslog)."""
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            if sock.type == socket.SOCK_DGRAM:
                return ""
            name = sock.getpeername()
    except OSError:
        return ""
    if isinstance(name, tuple):
        return f"{name[0]}:{name[1]}"
    return (name if isinstance(name, str) else repr(name)) or "an unnamed Unix socket"
