"""What the processes of a pool write to their standard output and error (C code and programs that the application
starts, too), caught by the master; and the pool's access log, which the master opens for them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from gateway import log
from gateway.app.accessformat import Entry
from gateway.net.accesslog import AccessLog, open_log
from gateway.net.handover import Keep, State
from gateway.process.handles import Loop, WorkerHandle
from gateway.record import Record
from gateway.settings import Pool

_AT_ONCE = 16_384  # bytes read in one round of the master's loop
_MOST_ROUNDS = 16  # of what an ended process has left: more than a pipe holds
_NO_SLOT = -1  # of a process that is no worker
_LONGEST_LINE = 8_192  # bytes; a longer one becomes several records


class Process(Protocol):
    """Whose output it is."""

    @property
    def pid(self) -> int:
        """Its process ID, 0 as long as it is not known."""


class Former(Record):
    """A process that another master has started."""

    pid: int


class Output:
    """The reading end of a process's output, which becomes records of the error log with the process's ID."""

    def __init__(self, fd: int, on_end: Callable[[Output], None]) -> None:
        self.process: Process | None = None
        self._fd = fd
        self._partial = b""
        self._ended = False  # its process has
        self._on_end = on_end
        os.set_blocking(fd, False)

    def fileno(self) -> int:
        """The descriptor to watch; -1 when closed."""
        return self._fd

    def hand_over(self, keep: Keep) -> State:
        """See `net.handover`."""
        partial = self._partial.decode("latin-1")
        slot = self.process.slot if isinstance(self.process, WorkerHandle) else _NO_SLOT
        return {"fd": keep(self._fd), "partial": partial, "ended": self._ended, "pid": self._pid(), "slot": slot}

    @classmethod
    def take_over(cls, state: State, on_end: Callable[[Output], None], process: Process) -> Output:
        """Go on reading what `process` writes."""
        output = cls(state["fd"], on_end)
        output.process, output._ended, output._partial = process, state["ended"], state["partial"].encode("latin-1")
        return output

    def hear(self) -> None:
        """Relay what has come, as far as it is known whose it is."""
        if self._pid() or self._ended:
            self._read()

    def drain(self) -> None:
        """Relay what is left of a process that has ended; what it has started may still write."""
        self._ended = True
        for _ in range(_MOST_ROUNDS):
            if not self._read():
                break
        self._end_line()

    def close(self) -> None:
        """Relay what is left, and close."""
        if self._fd >= 0:
            self.drain()
        if self._fd >= 0:
            self._end()

    def _pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def _read(self) -> bool:
        """Read once; False when nothing more is there."""
        if self._fd < 0:
            return False
        try:
            data = os.read(self._fd, _AT_ONCE)
        except BlockingIOError:
            return False
        if not data:
            self._end_line()
            self._end()
            return False
        *whole, self._partial = (self._partial + data).split(b"\n")
        while len(self._partial) > _LONGEST_LINE:
            whole.append(self._partial[:_LONGEST_LINE])
            self._partial = self._partial[_LONGEST_LINE:]
        self._relay(whole)
        return True

    def _relay(self, lines: list[bytes]) -> None:
        pieces = [line[at : at + _LONGEST_LINE] for line in lines for at in range(0, len(line) or 1, _LONGEST_LINE)]
        if pieces:
            log.relay(self._pid(), [piece.decode("utf-8", "backslashreplace") for piece in pieces])

    def _end_line(self) -> None:
        rest, self._partial = self._partial, b""
        if rest:
            self._relay([rest])

    def _end(self) -> None:
        self._on_end(self)
        os.close(self._fd)
        self._fd = -1


class PoolLogs:
    """The outputs of one pool's processes, and its access log."""

    def __init__(self, name: str, loop: Loop) -> None:
        """A pool without an access log, until `take_up`."""
        self._name = name
        self._loop = loop
        self._outputs: dict[int, Output] = {}  # by the descriptor
        self._path = ""
        self._access = -1

    @contextlib.contextmanager
    def catch(self) -> Iterator[tuple[Output, int]]:
        """Give an output that is read from here on, and its writing end for the process. Raises OSError."""
        reading, writing = os.pipe()
        output = self._outputs[reading] = Output(reading, self._forget)
        self._loop.watch(output, output.hear)
        try:
            yield output, writing
        except BaseException:
            output.close()  # nobody will write to it: it would be at its end, and readable, for ever
            raise
        finally:
            os.close(writing)

    def hand_over(self, keep: Keep) -> list[State]:
        """The outputs, for the master that goes on."""
        return [output.hand_over(keep) for output in self._outputs.values()]

    def take_over(self, states: Iterable[State], workers: Mapping[int, WorkerHandle]) -> None:
        """Go on with outputs that were handed over, of these workers, by slot, and of other processes."""
        for state in states:
            worker = workers.get(state["slot"])
            process = worker if worker is not None and worker.pid == state["pid"] else Former(state["pid"])
            output = self._outputs[state["fd"]] = Output.take_over(state, self._forget, process)
            self._loop.watch(output, output.hear)

    @contextlib.contextmanager
    def for_worker(self, worker: WorkerHandle) -> Iterator[list[int]]:
        """Give what a new worker gets: the writing end of its output and, if there is one, the access log.

        Raises OSError.
        """
        with self.catch() as (output, writing):
            output.process = worker
            yield [writing] if self._access < 0 else [writing, self._access]

    def drain(self, process: Process) -> None:
        """Relay what a process that has ended had still to say."""
        for output in list(self._outputs.values()):
            if output.process is process:
                output.drain()

    def take_up(self, pool: Pool) -> None:
        """Let requests be logged as the pool's settings say, from the next worker on."""
        self._pool = pool
        if error := self._use(pool.access_log):
            log.line(f"pool {self._name}: access log: {error}", log.Level.ERROR)

    def _use(self, path: str) -> str:
        """Log requests to `path`, "" for no log; return why that cannot be, or "": then it stays as it was."""
        try:
            new = open_log(path) if path else -1
        except OSError as error:
            return f"cannot open {path}: {error.strerror}"
        if self._access >= 0:
            os.close(self._access)
        self._path, self._access = path, new
        return ""

    def note(self, entries: Iterable[Entry], on_drop: Callable[[], None]) -> None:
        """Write the lines about requests whose worker has ended before it could; see `AccessLog` for `on_drop`."""
        if self._access >= 0:
            access = AccessLog(self._access, self._pool, self._name, on_drop)
            for entry in entries:
                access.note(entry)

    def reopen(self, workers: Iterable[WorkerHandle]) -> str:
        """Open the access log anew by its name, for these workers as well; return why that cannot be, or ""."""
        error = self._use(self._path)
        if self._path and not error:
            for worker in workers:
                worker.reopen_log(self._access)
        return error

    def close(self) -> None:
        """Relay what is left of all outputs, and close everything."""
        for output in list(self._outputs.values()):
            output.close()
        if self._access >= 0:
            os.close(self._access)
            self._access = -1

    def _forget(self, output: Output) -> None:
        self._loop.forget(output)
        del self._outputs[output.fileno()]
