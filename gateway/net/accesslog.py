"""The access log of a pool: one appended line a request, and never a wait; a line that finds no room is counted."""

from __future__ import annotations

import os
import resource
import select
import stat
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.app.accessformat import Entry, compile_format, encode, items, spends_cpu
from gateway.app.exchange import Result
from gateway.settings import Pool

_PIPE_BUF = 4096  # bytes that a pipe takes as a whole or not at all (pipe(7))
_SHORT_VALUE = 256  # characters: what is left of a value where a line would be longer than that
_FLAGS = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_RUSAGE_THREAD = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)  # Linux and FreeBSD have it

Began = tuple[float, float, float, float]  # time of day, clock, CPU time in user mode and in the kernel


def open_log(path: str) -> int:
    """Open a log file, or "stderr", so that no write waits where that can be had. Raises OSError."""
    if path != "stderr":
        return os.open(path, _access(path) | _FLAGS, 0o640)
    try:
        # Opened anew: O_NONBLOCK on the descriptor itself would change it for everyone who shares it.
        return os.open("/proc/self/fd/2", os.O_WRONLY | _FLAGS & ~os.O_CREAT)
    except OSError:  # a socket, or another user's
        return os.dup(2)


def _access(path: str) -> int:
    """A named pipe is opened for reading as well, so that it may be there before its reader."""
    try:
        return os.O_RDWR if stat.S_ISFIFO(os.stat(path).st_mode) else os.O_WRONLY
    except FileNotFoundError:
        return os.O_WRONLY


class AccessLog:
    """Writes the lines of one worker to a descriptor that the master has opened.

    The quick way of requests (`net/_log.h`) renders and writes lines by itself, as long as `is_plain`.
    """

    def __init__(self, fd: int, pool: Pool, name: str, on_drop: Callable[[], None]) -> None:
        """`on_drop` is called for each line that is lost. Raises ValueError for a format that is none."""
        self.fd = fd
        self._render = compile_format(pool.access_format, name)
        self.items = items(pool.access_format, name)
        self._cpu = spends_cpu(pool.access_format)
        self.suppressed = frozenset(pool.access_suppress_path)
        self._on_drop = on_drop
        self._torn = False  # a part of a line has been written, and nothing since
        self._is_file = self._may_wait = False
        self.is_plain = False  # a line is written by write(2) alone: it does not wait, and nothing is torn
        self._room = select.poll()
        self._look_at_descriptor()

    def reopen(self, fd: int) -> None:
        """Go on in another file; `fd` is closed. A line is in the one or in the other."""
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)
        self._look_at_descriptor()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)

    def begin(self) -> Began:
        """A request begins; `write` takes what this returns."""
        user, system = self._spent() if self._cpu else (0.0, 0.0)
        return time.time(), time.perf_counter(), user, system

    def write(self, began: Began, params: Mapping[str, Any], result: Result, *, complete: bool) -> None:
        """The request is over, and its answer `complete` as far as the front-end took it. Raises nothing."""
        seconds = time.perf_counter() - began[1]
        if self.suppressed and self._is_suppressed(params, result.status):
            return
        user, system = self._spent() if self._cpu else (0.0, 0.0)
        cpu = (user - began[2], system - began[3])
        entry = Entry(params, result.status, complete, result.head, result.size, began[0], seconds, cpu)
        if result.complete and (result.status in (204, 304) or params.get("REQUEST_METHOD") == "HEAD"):
            entry.complete = True  # a front-end may leave as soon as it has the head
        self.note(entry)

    def note(self, entry: Entry) -> None:
        """Write the line of a request that is over. Raises nothing."""
        line = encode(self._render(entry)) + b"\n"
        if not self._is_file and len(line) > _PIPE_BUF:
            line = self._shorter(entry)
        if not self._append(line):
            self._on_drop()

    def _spent(self) -> tuple[float, float]:
        """The CPU time of whatever runs requests, in user mode and in the kernel."""
        return os.times()[:2]

    def _is_suppressed(self, params: Mapping[str, Any], status: int) -> bool:
        """PHP-FPM's rule: a successful GET or HEAD without query and body."""
        return (
            200 <= status < 300
            and params.get("REQUEST_METHOD") in ("GET", "HEAD")
            and params.get("CONTENT_LENGTH", "0") == "0"
            and params.get("REQUEST_URI") in self.suppressed
        )

    def _shorter(self, entry: Entry) -> bytes:
        """The line with every value cut, so that a pipe takes it whole."""
        entry.params = {name: v[:_SHORT_VALUE] for name, v in entry.params.items() if isinstance(v, str)}
        return encode(self._render(entry))[: _PIPE_BUF - 1] + b"\n"

    def _append(self, line: bytes) -> bool:
        """Write a line; False where it is lost, or a part of it: then the next one begins on a line of its own."""
        if self._torn:
            line = b"\n" + line
        try:
            if self._may_wait and not self._room.poll(0):
                return False
            written = os.write(self.fd, line)
        except OSError:
            return False
        self._note_torn(written < len(line))
        return not self._torn

    def lose_rest(self) -> None:
        """A part of a line has been written from C."""
        self._note_torn(True)
        self._on_drop()

    def _note_torn(self, torn: bool) -> None:
        self._torn = torn
        self.is_plain = not (torn or self._may_wait)

    def _look_at_descriptor(self) -> None:
        self._is_file = stat.S_ISREG(os.fstat(self.fd).st_mode)
        self._may_wait = not self._is_file and os.get_blocking(self.fd)
        self._note_torn(False)
        self._room = select.poll()
        self._room.register(self.fd, select.POLLOUT)


class SharedAccessLog(AccessLog):
    """The access log of a worker in which several threads run requests."""

    def __init__(self, fd: int, pool: Pool, name: str, on_drop: Callable[[], None]) -> None:
        self._lock = threading.Lock()  # a line begins where the one before has ended, whole or not
        super().__init__(fd, pool, name, on_drop)

    def reopen(self, fd: int) -> None:
        """See `AccessLog.reopen`."""
        with self._lock:
            super().reopen(fd)

    def _append(self, line: bytes) -> bool:
        with self._lock:
            return super()._append(line)

    def _spent(self) -> tuple[float, float]:
        """The CPU time of the calling thread."""
        used = resource.getrusage(_RUSAGE_THREAD)
        return used.ru_utime, used.ru_stime


def access_log(fd: int, pool: Pool, name: str, on_drop: Callable[[], None]) -> AccessLog:
    """The access log of a worker of `pool`. Raises ValueError for a format that is none."""
    return (SharedAccessLog if pool.threads > 1 else AccessLog)(fd, pool, name, on_drop)
