"""The error log: one record is one line, stamped with time and process ID, control characters escaped."""

from __future__ import annotations

import os
import re
import time

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def escape(text: str) -> str:
    """Make `text` safe to stand in a line of a log or on a terminal: control characters become \\xNN."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def line(text: str) -> None:
    """Write one record to the error log, which is standard error; a log that takes no more never stops a request."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    record = f"{stamp}.{int(now * 1000) % 1000:03d} [{os.getpid()}] {escape(text)}\n"
    try:
        os.write(2, record.encode("utf-8", "backslashreplace"))
    except OSError:
        return


def lines(text: str) -> None:
    """Write each line of `text`, such as a traceback, as a record of its own."""
    for part in text.splitlines():
        line(part)


def open_file(path: str) -> None:
    """Let standard error, and with it the error log of this process and its children, go to `path`. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(fd, 2)
    os.close(fd)
