"""The error log: one record is one line, stamped with time and process ID, control characters escaped.

Where standard error is the journal, which stamps lines itself, a record has its priority instead (sd-daemon(3)).
"""

from __future__ import annotations

import enum
import os
import re
import time

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class Level(enum.IntEnum):
    """How much a record matters: the priorities of syslog(3) that are used here."""

    ERROR = 3  # something has failed, and somebody was or will be refused for it
    WARNING = 4  # it goes on, but not as it should
    NOTICE = 5


def escape(text: str) -> str:
    """Make `text` safe to stand in a line of a log or on a terminal: control characters become \\xNN."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def line(text: str, level: Level = Level.NOTICE) -> None:
    """Write one record to the error log, which is standard error; a log that takes no more never stops a request."""
    record = f"{_prefix(level)}[{os.getpid()}] {escape(text)}\n"
    try:
        os.write(2, record.encode("utf-8", "backslashreplace"))
    except OSError:
        return


def lines(text: str, level: Level = Level.NOTICE) -> None:
    """Write each line of `text`, such as a traceback, as a record of its own."""
    for part in text.splitlines():
        line(part, level)


def to_journal() -> bool:
    """Say whether standard error is the journal: JOURNAL_STREAM is its device and inode (systemd.exec(5))."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        status = os.fstat(2)  # asked anew each time: `open_file` and a redirection lead elsewhere
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


def _prefix(level: Level) -> str:
    if to_journal():
        return f"<{level.value}>"
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    return f"{stamp}.{int(now * 1000) % 1000:03d} "


def open_file(path: str) -> None:
    """Let standard error, and with it the error log of this process and its children, go to `path`. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(fd, 2)
    os.close(fd)
