"""What an application prints, line by line: `wsgi.errors` (PEP 3333), and `sys.stdout` and `sys.stderr` of a worker."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Protocol

_LONGEST_LINE = 8_192  # characters; a longer one becomes several records
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != ord("\t")} | {
    code: f"\\u{code:04x}" for code in (0x2028, 0x2029)
}


class FrontEnd(Protocol):
    """What takes a line for the front-end's error log (`exchange.Exchange`)."""

    def stderr(self, text: str, /) -> None:
        """Take one line. Never raises."""


class _Line:
    """A line that has not been ended, and whose front-end it goes to as well."""

    __slots__ = ("exchange", "lock", "text")

    def __init__(self) -> None:
        self.exchange: FrontEnd | None = None
        self.text = ""
        # Reentrant, because a signal handler may print while its thread is in the middle of printing.
        self.lock = threading.RLock()


class ErrorStream(io.TextIOBase):
    """A text stream whose lines go to the error log and, while `exchange` is set, to the front-end's.

    Any thread may write to it. Those that have entered it, as threads that run requests beside others do, have a line
    and an exchange of their own; the others share one, and their lines mix where one writes a line in parts.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self.shared = _Line()  # of all threads that have none of their own
        self._own: dict[int, _Line] = {}  # by thread

    def enter(self) -> None:
        """Let the calling thread have a line and an exchange of its own from here on."""
        self._own[threading.get_ident()] = _Line()

    @property
    def exchange(self) -> FrontEnd | None:
        """The request that the calling thread runs."""
        return self._line().exchange

    @exchange.setter
    def exchange(self, exchange: FrontEnd | None) -> None:
        self._line().exchange = exchange

    def _line(self) -> _Line:
        return self._own.get(threading.get_ident(), self.shared) if self._own else self.shared

    def fileno(self) -> int:
        """Where the error log is as well: child processes and faulthandler write there without this stream."""
        return 2

    def writable(self) -> bool:
        """True, as for any open text file."""
        return True

    def write(self, text: str, /) -> int:
        """Take text; what ends in a line feed, or is over 8,192 characters, goes out. Raises TypeError for bytes."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        mine = self._line()
        with mine.lock:
            lines = (mine.text + text).split("\n")
            mine.text = lines.pop()
            for line in lines:
                self._emit(line, mine.exchange)
            if len(mine.text) > _LONGEST_LINE:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Let a line out that has not been ended."""
        mine = self._line()
        with mine.lock:
            line, mine.text = mine.text, ""
            if line:
                self._emit(line, mine.exchange)

    def close(self) -> None:
        """Flush: the stream outlives every application that closes it."""
        self.flush()

    def _emit(self, line: str, exchange: FrontEnd | None) -> None:
        escaped = line.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()
        for start in range(0, len(escaped) or 1, _LONGEST_LINE):
            part = escaped[start : start + _LONGEST_LINE]
            self._log(part)
            if exchange is not None:
                exchange.stderr(part)
