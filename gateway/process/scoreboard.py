"""What each worker is doing: a shared mapping of one slot a worker, written by the worker, read but never trusted by
the master.

A slot is guarded by a sequence number, odd while it is being written: a reader that meets an odd or a changed number
reads again. The mapping's size is sealed, so that no worker can shrink it under the master (SIGBUS).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import sys
import tempfile
import time
from dataclasses import dataclass

_SLOT_SIZE = 1024  # bytes
_WORDS = 8  # 64-bit words at the head of a slot
_SEQUENCE, _BUSY, _REQUESTS, _SINCE, _TEXT_SIZE, _PID, _LOST, _MEANT = range(_WORDS)
_TEXT_START = _WORDS * 8
_LONGEST_TEXT = _SLOT_SIZE - _TEXT_START
_READ_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Activity:
    """What a slot said when it was read. `seconds` counts from the last change of `busy`."""

    pid: int
    busy: bool
    requests: int
    seconds: float
    method: str
    host: str
    uri: str
    lost: int = 0  # lines of logs that took no more

    def of(self, pid: int) -> Activity:
        """This, if the process `pid` has said it; else NOTHING: a new worker's slot is still its predecessor's."""
        return self if self.pid == pid else NOTHING


NOTHING = Activity(0, False, 0, 0.0, "", "", "")


def create(slots: int) -> int:
    """Make the mapping for a pool and return its file descriptor. Raises OSError."""
    fd = _anonymous_file()
    os.ftruncate(fd, slots * _SLOT_SIZE)
    with contextlib.suppress(AttributeError):  # seals are Linux's
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("gateway-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class Slot:
    """The worker's side of its own slot."""

    def __init__(self, fd: int, index: int) -> None:
        self._mapping = mmap.mmap(fd, (index + 1) * _SLOT_SIZE)
        start = index * _SLOT_SIZE
        view = memoryview(self._mapping)[start : start + _SLOT_SIZE]
        self._words = view[:_TEXT_START].cast("Q")
        self._text = view[_TEXT_START:]
        sequence = self._words[_SEQUENCE] | 1  # a predecessor may have died while it wrote
        self._words[_SEQUENCE] = sequence
        self._words[_BUSY] = self._words[_REQUESTS] = self._words[_TEXT_SIZE] = self._words[_MEANT] = 0
        self._words[_SINCE] = time.monotonic_ns()
        self._words[_PID] = os.getpid()
        self._words[_SEQUENCE] = sequence + 1

    def lose(self) -> None:
        """A line of a log is lost. The count goes on from worker to worker of this slot."""
        words = self._words
        sequence = words[_SEQUENCE]
        words[_SEQUENCE] = sequence + 1
        words[_LOST] += 1
        words[_SEQUENCE] = sequence + 2

    def busy(self, method: str, host: str, uri: str) -> None:
        """A request begins."""
        text = f"{method} {host} {uri}".encode("latin-1", "replace")[:_LONGEST_TEXT]
        words = self._words
        sequence = words[_SEQUENCE]
        words[_SEQUENCE] = sequence + 1
        words[_BUSY] = 1
        words[_SINCE] = time.monotonic_ns()
        words[_TEXT_SIZE] = len(text)
        self._text[: len(text)] = text
        words[_SEQUENCE] = sequence + 2

    def idle(self) -> None:
        """The request is over."""
        words = self._words
        sequence = words[_SEQUENCE]
        words[_SEQUENCE] = sequence + 1
        words[_BUSY] = 0
        words[_REQUESTS] += 1
        words[_SINCE] = time.monotonic_ns()
        words[_SEQUENCE] = sequence + 2

    def is_meant(self) -> bool:
        """Say whether the request that runs is the one that the master has named last (`Scoreboard.mean`)."""
        return bool(self._words[_BUSY]) and self._words[_MEANT] == self._words[_REQUESTS] + 1


class Scoreboard:
    """The master's side: all slots of a pool, to be read."""

    def __init__(self, slots: int) -> None:
        self.fd = create(slots)
        self._mapping = mmap.mmap(self.fd, slots * _SLOT_SIZE, prot=mmap.PROT_READ)

    def read(self, index: int) -> Activity:
        """Read one slot; NOTHING where it is never at rest, as a worker that died while it wrote leaves it."""
        start = index * _SLOT_SIZE
        for _ in range(_READ_ATTEMPTS):
            before = self._mapping[start : start + 8]
            data = self._mapping[start : start + _SLOT_SIZE]
            if data[:8] == before and before[0] % 2 == 0 and self._mapping[start : start + 8] == before:
                return _activity(data)
        return NOTHING

    def mean(self, index: int, requests: int) -> None:
        """Name the request that follows the first `requests` ones of a slot's worker, for a signal to be about it.

        It is the only word that the master writes, and it stands outside what the sequence number guards.
        """
        number = ((requests + 1) % (1 << 64)).to_bytes(8, sys.byteorder)
        os.pwrite(self.fd, number, index * _SLOT_SIZE + _MEANT * 8)

    def close(self) -> None:
        """Unmap and close."""
        self._mapping.close()
        os.close(self.fd)


def _activity(data: bytes) -> Activity:
    words = memoryview(data)[:_TEXT_START].cast("Q")
    size = min(words[_TEXT_SIZE], _LONGEST_TEXT)
    method, _, rest = data[_TEXT_START : _TEXT_START + size].decode("latin-1").partition(" ")
    host, _, uri = rest.partition(" ")
    seconds = max(0.0, (time.monotonic_ns() - words[_SINCE]) / 1e9)
    return Activity(words[_PID], bool(words[_BUSY]), words[_REQUESTS], seconds, method, host, uri, words[_LOST])
