"""What each worker is doing and has done: a file in memory with a slot for each worker of a generation, written by the
worker, read but never trusted by the master.

    header   stale │ used │ accepted, idle │ …               two words for each thread of each slot
    slot     row of the first thread │ row of the second …  rounded up to pages, so that a worker maps its own alone
    row      words │ text of the request │ counters

A row is guarded by a sequence number, odd while it is being written: a reader that meets an odd or a changed number
reads again. The file's size is sealed, so that no worker can shrink it under another (SIGBUS).
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import mmap
import os
import struct
import sys
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.net.handover import Keep, State
from gateway.net.memory import anonymous_file
from gateway.record import Record, field

SLOTS = 16_384  # of a generation: memory is taken by those alone that have been used
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_CLASSES = len(CLASSES)
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # s, of histograms

_WORDS = 14  # 64-bit words at the head of a row
(
    _SEQUENCE, _BUSY, _SINCE, _REQUESTS, _LASTED, _RUN_SUM, _WAIT_SUM, _TEXT_SIZE, _LENGTH,
    _PID, _LOST, _SHED, _GONE, _MEANT,
) = range(_WORDS)  # fmt: skip
_BEGIN, _END = struct.Struct("=8Q"), struct.Struct("=6Q")  # from _BUSY on: what changes with each request, in one go
_TEXT_START = _WORDS * 8
_COUNTERS_START = 1024  # bytes; the text is what lies before
_LONGEST_TEXT = _COUNTERS_START - _TEXT_START
_BUCKETS = len(BOUNDS) + 1
_RUN = _COUNTERS_START // 8  # the first word of each kind of counter
_WAIT = _RUN + _BUCKETS
_ANSWERS = _WAIT + _BUCKETS  # by host, and by class of the status within it
_STALE, _USED, _ACCEPTED, _IDLE = range(4)  # words of the header; the last two of the first thread
_PER_THREAD = 2  # of them
_BOUNDS_NS = tuple(int(bound * 1e9) for bound in BOUNDS)
_READ_ATTEMPTS = 20
_WORTH_SHARING = 200_000  # ns that requests last where it is worth to hand a connection on
_FIELDS = 6  # of the text
_LARGEST = (1 << 64) - 1  # that a word holds


class Activity(Record):
    """What a row said when it was read. `seconds` counts from the last change of `busy`."""

    pid: int = 0
    busy: bool = False
    requests: int = 0
    seconds: float = 0.0
    method: str = ""
    host: str = ""
    application: str = ""
    address: str = ""  # of the client
    user: str = ""
    uri: str = ""
    length: int = 0  # bytes of the request's body
    lasted: float = 0.0  # seconds that the last request took
    ran: float = 0.0  # seconds that all have taken together
    shed: int = 0  # requests that it has turned away


NOTHING = Activity()


class Counts(Record, frozen=False):
    """What rows have counted, to be added up. The histograms' sums are in seconds."""

    requests: int = 0
    shed: int = 0
    gone: int = 0
    lost: int = 0
    run: list[int] = field(factory=lambda: [0] * _BUCKETS)
    run_sum: float = 0.0
    wait: list[int] = field(factory=lambda: [0] * _BUCKETS)
    wait_sum: float = 0.0
    answers: dict[tuple[str, str], int] = field(factory=dict)  # by host and class

    def add(self, other: Counts) -> None:
        """Add what others have counted."""
        self.requests += other.requests
        self.shed += other.shed
        self.gone += other.gone
        self.lost += other.lost
        self.run_sum += other.run_sum
        self.wait_sum += other.wait_sum
        self.run = [mine + theirs for mine, theirs in zip(self.run, other.run, strict=True)]
        self.wait = [mine + theirs for mine, theirs in zip(self.wait, other.wait, strict=True)]
        for key, count in other.answers.items():
            self.answers[key] = self.answers.get(key, 0) + count


class Layout(Record):
    """Where things are in the file, for so many threads in a worker and so many hosts that are counted apart."""

    threads: int
    hosts: int

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return (_ANSWERS + _CLASSES * self.hosts) * 8

    @property
    def slot(self) -> int:
        """Bytes of a slot."""
        return _whole_pages(self.threads * self.row)

    @property
    def header(self) -> int:
        """Bytes of the header."""
        return _whole_pages((_ACCEPTED + _PER_THREAD * SLOTS * self.threads) * 8)

    def start(self, slot: int) -> int:
        """Where a slot begins."""
        return self.header + slot * self.slot


def _whole_pages(size: int) -> int:
    return -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY


class Slot:
    """The worker's side: the rows of its threads, in memory that nobody else sees until they `take` their place."""

    def __init__(self, fd: int, layout: Layout) -> None:
        self.rows = tuple(row_type()(layout.row) for _ in range(layout.threads))
        self._fd, self._first, self._size, self._row = fd, layout.start(0), layout.slot, layout.row
        self._header = mmap.mmap(fd, layout.header)

    def take(self, index: int) -> tuple[Row, ...]:
        """Be those of the worker that this process is; return them."""
        slot = mmap.mmap(self._fd, self._size, offset=self._first + index * self._size)
        for n, row in enumerate(self.rows):
            row.move(slot, n * self._row, self._header, index * len(self.rows) + n)
        return self.rows


def row_type() -> type[Row]:
    """`Row`, or where it was built and wanted the one in C (`_row.c`), which does the same in a tenth of the time."""
    try:
        importlib.import_module("gateway.protocol.twin")  # which refuses interpreters for which nothing in C is built
        from gateway.process import _row
    except ImportError:
        return Row
    return _row.Row if _row.LAYOUT == (_WORDS, _COUNTERS_START, _CLASSES, _BOUNDS_NS) else Row


class Row:
    """One thread's row, of `size` bytes, and its words of the header: memory that nobody else sees, until it moves."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.move(bytearray(size), 0, bytearray((_ACCEPTED + _PER_THREAD) * 8), 0)

    def move(self, slot: bytearray | mmap.mmap, offset: int, header: bytearray | mmap.mmap, number: int) -> None:
        """Begin anew, `offset` bytes into a slot, as the thread of that number in the header."""
        self._header, self._number = memoryview(header).cast("Q"), _ACCEPTED + _PER_THREAD * number
        self._view = view = memoryview(slot)[offset : offset + self._size]
        self._words, self._text = words, _ = view.cast("Q"), view[_TEXT_START:_COUNTERS_START]
        self._requests = self._lasted = self._run_sum = self._wait_sum = self._since = 0
        words[_SEQUENCE] = sequence = words[_SEQUENCE] | 1  # a predecessor may have died while it wrote
        for word in (*range(_SEQUENCE + 1, _WORDS), *range(_RUN, len(words))):
            words[word] = 0
        words[_SINCE], words[_PID] = time.monotonic_ns(), os.getpid()
        words[_SEQUENCE] = self._sequence = sequence + 1
        self._idle = self._number + 1
        self._header[self._idle] = 1

    def accepted(self) -> bool:
        """A connection was taken from a listen queue; say whether it is known to have waited there for too long.

        The count goes on from worker to worker of this slot.
        """
        header = self._header
        header[self._number] += 1
        stale = header[_STALE]
        return bool(stale) and sum(self._others(_ACCEPTED)) <= stale

    def should_share(self) -> bool:
        """Say whether it helps to give another worker one of several requests that wait: a thread of another row waits
        for work, and the last request took longer than giving costs.
        """
        return self._lasted >= _WORTH_SHARING and sum(self._others(_IDLE)) > self._header[self._idle]

    def _others(self, word: int) -> memoryview:
        """A word of all threads that have been used, of this one too."""
        return self._header[word : _ACCEPTED + _PER_THREAD * min(self._header[_USED], len(self._header)) : _PER_THREAD]

    def begin(self, environ: Mapping[str, Any], host: str) -> None:
        """A request begins to run."""
        text = (
            f"{environ['REQUEST_METHOD']}\0{host}\0{environ['gateway.application']}\0{environ.get('REMOTE_ADDR', '')}"
            f"\0{environ.get('REMOTE_USER', '')}\0{environ['REQUEST_URI']}"
        ).encode("latin-1", "replace")[:_LONGEST_TEXT]
        length = environ.get("CONTENT_LENGTH")
        size = min(int(length), _LARGEST) if length else 0
        text_size = len(text)
        self._since = since = time.monotonic_ns()
        self._sequence = sequence = self._sequence + 2
        self._words[_SEQUENCE] = sequence - 1
        _BEGIN.pack_into(
            self._view, _BUSY * 8, 1, since,
            self._requests, self._lasted, self._run_sum, self._wait_sum, text_size, size,
        )  # fmt: skip
        self._text[:text_size] = text
        self._words[_SEQUENCE] = sequence
        self._header[self._idle] = 0

    def end(self, label: int, status: int, waited: float | None) -> None:
        """A request is over: the label of its host, its status, and for how many seconds it waited before, if known."""
        now = time.monotonic_ns()
        words, since = self._words, self._since
        self._requests = requests = self._requests + 1
        self._sequence = sequence = self._sequence + 2
        words[_SEQUENCE] = sequence - 1
        if since:  # else it was refused before it ran
            self._lasted = lasted = now - since
            self._since = 0
            self._run_sum += lasted
            words[_RUN + bisect_left(_BOUNDS_NS, lasted)] += 1
        if waited is not None:
            nanoseconds = int(waited * 1e9)
            self._wait_sum += nanoseconds
            words[_WAIT + bisect_left(_BOUNDS_NS, nanoseconds)] += 1
        words[_ANSWERS + label * _CLASSES + (status // 100 if status < 600 else _CLASSES) - 1] += 1
        _END.pack_into(self._view, _BUSY * 8, 0, now, requests, self._lasted, self._run_sum, self._wait_sum)
        words[_SEQUENCE] = sequence
        self._header[self._idle] = 1

    def resume(self, since: int) -> int:
        """See `net.sharedboard.SharedRow`."""
        before, self._since = self._since, since
        self._words[_BUSY], self._words[_SINCE], self._header[self._idle] = 1, since, 0
        return before

    def shed(self) -> None:
        """A request was answered 503 because it has waited for too long."""
        self._count(_SHED)

    def gone(self) -> None:
        """A request was not run because its client has left."""
        self._count(_GONE)

    def lose(self) -> None:
        """A line of a log is lost, in whatever thread: the word stands outside what the sequence number guards."""
        self._words[_LOST] += 1

    def is_meant(self) -> bool:
        """Say whether the request that runs is the one that the master has named last (`Scoreboard.mean`)."""
        return bool(self._words[_BUSY]) and self._words[_MEANT] == self._words[_REQUESTS] + 1

    def _count(self, word: int) -> None:
        words = self._words
        self._sequence = sequence = self._sequence + 2
        words[_SEQUENCE] = sequence - 1
        words[word] += 1
        words[_SEQUENCE] = sequence


class Scoreboard:
    """The master's side: the slots of a generation, to be read."""

    def __init__(self, threads: int, hosts: Sequence[str], *, fd: int = -1, used: int = 0) -> None:
        """`hosts` by label; `fd` and `used` of one that was handed over. Raises OSError."""
        self.layout = Layout(threads, len(hosts))
        self._hosts = tuple(hosts)
        self._used = used
        self.fd = fd if fd >= 0 else _sealed_file(self.layout.start(SLOTS))

    def hand_over(self, keep: Keep) -> State:
        """What makes it anew in the program that is executed in this one's place."""
        return {"threads": self.layout.threads, "hosts": self._hosts, "fd": keep(self.fd), "used": self._used}

    def use(self, slot: int) -> None:
        """A worker is about to have this slot."""
        self._used = max(self._used, (slot + 1) * self.layout.threads)
        self._write(_USED * 8, self._used)

    def read(self, slot: int, pid: int) -> tuple[Activity, ...]:
        """What the threads of a slot's worker are doing; NOTHING where another process has written it (a predecessor,
        while a new worker starts), and where a row is never at rest, as a worker that died while it wrote leaves it.
        """
        rows = (self._row(slot, thread, _COUNTERS_START) for thread in range(self.layout.threads))
        activities = (NOTHING if data is None else _activity(data) for data in rows)
        return tuple(found if found.pid == pid else NOTHING for found in activities)

    def counts(self, slot: int, pid: int) -> Counts:
        """What a slot's worker has counted."""
        counts = Counts()
        for thread in range(self.layout.threads):
            data = self._row(slot, thread, self.layout.row)
            if data is not None and memoryview(data)[:_TEXT_START].cast("Q")[_PID] == pid:
                counts.add(_counts(data, self._hosts))
        return counts

    def accepted(self) -> int:
        """How many connections all workers of the generation have taken from the listen queues."""
        data = os.pread(self.fd, self._used * 8 * _PER_THREAD, _ACCEPTED * 8)
        return sum(memoryview(data).cast("Q")[::_PER_THREAD])

    def leave(self, slot: int) -> None:
        """The worker of a slot has ended, whatever its rows say."""
        for thread in range(slot * self.layout.threads, (slot + 1) * self.layout.threads):
            self._write((_IDLE + _PER_THREAD * thread) * 8, 0)

    def mean(self, slot: int, thread: int, requests: int) -> None:
        """Name the request that follows the first `requests` ones of a thread, for a signal to be about it.

        The word stands outside what the sequence number guards.
        """
        row = self.layout.start(slot) + thread * self.layout.row
        self._write(row + _MEANT * 8, (requests + 1) % (1 << 64))

    def expire(self, accepted: int) -> None:
        """Let the connections up to this one, counted as `accepted` counts, be known to have waited for too long."""
        self._write(_STALE * 8, accepted)

    def close(self) -> None:
        """Close it; the workers' mappings stay."""
        os.close(self.fd)

    def _write(self, offset: int, word: int) -> None:
        os.pwrite(self.fd, word.to_bytes(8, sys.byteorder), offset)

    def _row(self, slot: int, thread: int, size: int) -> bytes | None:
        start = self.layout.start(slot) + thread * self.layout.row
        for _ in range(_READ_ATTEMPTS):
            # The kernel may copy the words of one read in any order, so the sequence number is read apart.
            before = os.pread(self.fd, 8, start)
            data = os.pread(self.fd, size, start)
            if before[0] % 2 == 0 and os.pread(self.fd, 8, start) == before:
                return data
        return None


def _sealed_file(size: int) -> int:
    with anonymous_file("scoreboard") as file:
        fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    with contextlib.suppress(AttributeError):  # seals are Linux's
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def _activity(data: bytes) -> Activity:
    words = struct.unpack_from(f"={_WORDS}Q", data)
    text = data[_TEXT_START : _TEXT_START + min(words[_TEXT_SIZE], _LONGEST_TEXT)].decode("latin-1")
    method, host, application, address, user, uri = [*text.split("\0", _FIELDS - 1), *[""] * _FIELDS][:_FIELDS]
    return Activity(
        pid=words[_PID],
        busy=bool(words[_BUSY]),
        requests=words[_REQUESTS],
        seconds=max(0.0, (time.monotonic_ns() - words[_SINCE]) / 1e9),
        method=method,
        host=host,
        application=application,
        address=address,
        user=user,
        uri=uri,
        length=words[_LENGTH],
        lasted=words[_LASTED] / 1e9,
        ran=words[_RUN_SUM] / 1e9,
        shed=words[_SHED],
    )


def _counts(data: bytes, hosts: Sequence[str]) -> Counts:
    words = memoryview(data).cast("Q")
    answers = {
        (host, name): count
        for label, host in enumerate(hosts)
        for number, name in enumerate(CLASSES)
        if (count := words[_ANSWERS + label * _CLASSES + number])
    }
    return Counts(
        requests=words[_REQUESTS] + bool(words[_BUSY]),
        shed=words[_SHED],
        gone=words[_GONE],
        lost=words[_LOST],
        run=list(words[_RUN:_WAIT]),
        run_sum=words[_RUN_SUM] / 1e9,
        wait=list(words[_WAIT:_ANSWERS]),
        wait_sum=words[_WAIT_SUM] / 1e9,
        answers=answers,
    )
