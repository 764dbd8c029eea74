"""The error log: one record is one line, stamped with time and process ID, control characters escaped.

Where standard error is the journal, which stamps lines itself, a record has its priority instead (sd-daemon(3)). What
the processes of a pool write goes through the master, which stamps it: see `relay`.
"""

from __future__ import annotations

import enum
import json
import os
import re
import select
import stat
import threading
import time
from collections.abc import Callable, Iterable

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_PRIORITY = re.compile(r"<([0-7])>")
_PIPE_BUF = 4096  # bytes that a pipe which is ready for writing takes without a wait (pipe(7))
_RELAY_PATIENCE = 100  # ms that a process of a pool waits for the master, once, before it goes on without its records


class Level(enum.IntEnum):
    """How much a record matters: the priorities of syslog(3) that are used here."""

    ERROR = 3  # something has failed, and somebody was or will be refused for it
    WARNING = 4  # it goes on, but not as it should
    NOTICE = 5


class _Output:
    """Where this process's records go: standard error, which is looked for anew each time, and in what form."""

    relayed = False  # standard error leads to the master, which stamps the records
    as_json = False
    patience = 0  # ms
    path = ""  # of the file that standard error is; "" where it is not one that was opened here
    lost = 0
    on_loss: Callable[[], None] | None = None
    lock = threading.RLock()  # there is room for one thread's record; reentrant, because a signal handler may log


def through_master() -> None:
    """From here on standard error is a pipe to the master (`process.output`)."""
    _Output.relayed = True
    _Output.patience = _RELAY_PATIENCE


def use_json(wanted: bool) -> None:
    """Write each record as a JSON object, or as text."""
    _Output.as_json = wanted


def call_on_loss(callback: Callable[[], None]) -> None:
    """Call back for each record that is lost because the log takes no more."""
    _Output.on_loss = callback


def lost() -> int:
    """How many records of this process were lost because the log took no more."""
    return _Output.lost


def escape(text: str) -> str:
    """Make `text` safe to stand in a line of a log or on a terminal: control characters become \\xNN."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def line(text: str, level: Level = Level.NOTICE) -> None:
    """Write one record to the error log, which is standard error; a log that takes no more never stops a request."""
    if _Output.relayed:
        _write(f"<{level.value}>{escape(text)}\n")
    else:
        _write(_record(text, level, os.getpid(), time.time()))


def lines(text: str, level: Level = Level.NOTICE) -> None:
    """Write each line of `text`, such as a traceback, as a record of its own."""
    for part in text.splitlines():
        line(part, level)


def relay(pid: int, texts: Iterable[str]) -> None:
    """Write what the process `pid` has written, a record for each line; one may begin with its priority, as in <4>."""
    now = time.time()
    records = []
    for text in texts:
        priority = _PRIORITY.match(text)
        level = Level(min(max(int(priority[1]), Level.ERROR), Level.NOTICE)) if priority else Level.NOTICE
        records.append(_record(text[3:] if priority else text, level, pid, now))
    _write("".join(records))


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


def _record(text: str, level: Level, pid: int, now: float) -> str:
    stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03d}"
    if _Output.as_json:
        return json.dumps({"time": stamp, "level": level.name.lower(), "pid": pid, "message": text}) + "\n"
    prefix = f"<{level.value}>" if to_journal() else f"{stamp} "
    return f"{prefix}[{pid}] {escape(text)}\n"


def _write(records: str) -> None:
    """Write to standard error without waiting for whoever reads it; what it does not take is lost."""
    data = records.encode("utf-8", "backslashreplace")
    with _Output.lock:
        _write_now(data)


def _write_now(data: bytes) -> None:
    try:
        size = len(data) if stat.S_ISREG(os.fstat(2).st_mode) else _PIPE_BUF
        room = select.poll()
        room.register(2, select.POLLOUT)
        for start in range(0, len(data), size):
            if not room.poll(_Output.patience):
                raise BlockingIOError("the log takes no more")
            os.write(2, data[start : start + size])
        _Output.patience = _RELAY_PATIENCE if _Output.relayed else 0
    except OSError:
        _Output.patience = 0
        _Output.lost += data.count(b"\n")
        if _Output.on_loss is not None:
            _Output.on_loss()


def open_file(path: str) -> None:
    """Let standard error, and with it the error log of this process and its children, go to `path`. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(fd, 2)
    os.close(fd)
    _Output.path = path


def reopen_file() -> None:
    """Open the error log anew by its name, if it is a file that was opened here. Raises OSError."""
    if _Output.path:
        open_file(_Output.path)
