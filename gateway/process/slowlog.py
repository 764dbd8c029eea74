"""A pool's slow log: the master writes the lines about requests, and relays the stacks that workers write below them.

Workers have a pipe to the master instead of the file, so that the master alone has to open it anew.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

from gateway import log
from gateway.net.accesslog import open_log
from gateway.net.handover import Keep
from gateway.process.handles import Loop

_AT_ONCE = 16_384  # bytes


class SlowLog:
    """The file, and the pipe that the stacks come by."""

    def __init__(self, loop: Loop) -> None:
        """A log without a file, until `use`: its lines go to the error log."""
        self._loop = loop
        self._path = ""
        self._file = -1
        self._reading = -1
        self._writing = -1

    def use(self, path: str) -> str:
        """Write to `path`, "" for the error log, from here on; return why that cannot be, or ""."""
        try:
            new = open_log(path) if path else -1
        except OSError as error:
            return f"cannot open {path}: {error.strerror}"
        if self._file >= 0:
            os.close(self._file)
        self._path, self._file = path, new
        return ""

    def reopen(self) -> str:
        """Open the file anew by its name; return why that cannot be, or ""."""
        return self.use(self._path)

    def for_workers(self, path: str) -> int:
        """What workers write their stacks to where the log is `path`: a descriptor, or -1 for the error log.

        Raises OSError.
        """
        if not path:
            return -1
        if self._writing < 0:
            self._reading, self._writing = os.pipe()
            os.set_blocking(self._reading, False)
            self._loop.watch(self, self.hear)
        return self._writing

    def hand_over(self, keep: Keep) -> list[int]:
        """The pipe, if there is one, for the master that goes on with the workers which have it."""
        return [keep(fd) for fd in (self._reading, self._writing) if fd >= 0]

    def take_over(self, pipe: Sequence[int]) -> None:
        """Go on with the pipe that was handed over."""
        if pipe:
            self._reading, self._writing = pipe
            self._loop.watch(self, self.hear)

    def fileno(self) -> int:
        """The descriptor to watch."""
        return self._reading

    def hear(self) -> None:
        """Relay what has come of stacks."""
        if self._reading >= 0:
            with contextlib.suppress(BlockingIOError):
                self._write(os.read(self._reading, _AT_ONCE).decode("ascii", "backslashreplace"))

    def line(self, text: str) -> None:
        """Write the line about a request."""
        if self._file < 0:
            log.line(text, log.Level.WARNING)
        else:
            self.hear()
            self._write(f"\n{time.strftime('%Y-%m-%d %H:%M:%S')} {log.escape(text)}\n")

    def lines(self, text: str) -> None:
        """Write a stack below such a line."""
        self._write(f"{text.rstrip()}\n")

    def close(self) -> None:
        """Close everything."""
        if self._reading >= 0:
            self.hear()
            self._loop.forget(self)
            os.close(self._reading)
            os.close(self._writing)
            self._reading = self._writing = -1
        self.use("")

    def _write(self, text: str) -> None:
        if self._file < 0:  # it was changed by a reload while workers of the old settings are still there
            log.lines(text, log.Level.WARNING)
            return
        escaped = "\n".join(map(log.escape, text.split("\n")))
        with contextlib.suppress(OSError):  # a log that takes no more never stops anything
            os.write(self._file, escaped.encode("utf-8", "backslashreplace"))
