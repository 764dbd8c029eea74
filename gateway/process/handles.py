"""A zygote and a worker as the master sees them: process and channel. Nothing that comes over a channel is trusted."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any, Protocol

from gateway.net.handover import Keep, State
from gateway.net.memory import anonymous_file
from gateway.process.channel import ACCESS_LOG
from gateway.process.environment import environment
from gateway.process.identity import Identity
from gateway.process.launch import launch
from gateway.process.limits import bound
from gateway.process.scoreboard import Activity, Counts, Scoreboard
from gateway.process.spare import BOOT
from gateway.process.task import Task
from gateway.record import Record, replace

_LONGEST_MESSAGE = 200_000  # bytes
_LONGEST_PATH = 4_096  # characters
_LARGEST_PID = 2**31 - 1  # of the type pid_t
SCM_CREDENTIALS = getattr(socket, "SCM_CREDENTIALS", None)  # Linux
_CREDENTIALS = struct.Struct("iII")  # process, user and group of who has sent a message (unix(7), SCM_CREDENTIALS)


class Source(Protocol):
    """What can be watched: a socket, or the end of a pipe."""

    def fileno(self) -> int:
        """The descriptor; -1 when closed."""


class Loop(Protocol):
    """What the processes' handles need of the master's loop."""

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        """Call back whenever the source is readable."""

    def forget(self, source: Source) -> None:
        """Watch the source no longer."""

    def owns(self, pid: object) -> bool:
        """Say whether a process is known already, as a worker or zygote of any pool."""


class BadMessage(Exception):
    """A child sent something that is no message of its kind."""


def receive(channel: socket.socket, room: int = 0) -> dict[str, Any] | None:
    """Read one message; None at the end of the channel. Raises BadMessage, BlockingIOError.

    With `room` for it, and where the kernel says which process has sent it, that is the message's `pid`, whatever it
    claims to be. More room, or room on a channel without SO_PASSCRED, would let descriptors in.
    """
    try:
        data, ancillary, _, _ = channel.recvmsg(_LONGEST_MESSAGE, room)
    except ConnectionResetError:
        return None
    if not data:
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):  # of brackets in brackets in brackets
        message = None
    if not isinstance(message, dict):
        raise BadMessage(f"a message of {len(data)} bytes that is none")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SCM_CREDENTIALS) and "pid" in message:
            message["pid"], _, _ = _CREDENTIALS.unpack(content)
    return message


class Process(Protocol):
    """A zygote's process."""

    pid: int
    returncode: int | Any

    def wait(self) -> int:
        """Wait for its end, which the master does not: it reaps all its children itself."""


class Start(Protocol):
    """What starts a zygote's process, which finds its task on standard input; see `execute`."""

    def __call__(
        self, task: Task, identity: Identity | None, *, stdin: IO[bytes], output: int | None, channel: int
    ) -> Process:
        """Start it. Raises OSError or subprocess.SubprocessError."""


class Started:
    """A process that was started without `subprocess`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        """See `Process`."""
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def execute(
    task: Task, identity: Identity | None, *, stdin: IO[bytes], output: int | None, channel: int
) -> subprocess.Popen[bytes]:
    """Start a zygote in a fresh interpreter. Raises OSError or subprocess.SubprocessError."""
    pool = task.pool
    return launch(
        [pool.python or sys.executable, BOOT, "gateway.process.zygote", str(channel)],
        identity=identity,
        stdin=stdin,
        stdout=2 if output is None else output,
        stderr=output,
        pass_fds=[channel, *task.descriptors],
        env=environment(pool, identity),
        cwd=pool.app_dir or None,
        no_new_privileges=pool.no_new_privileges,
        umask=int(pool.umask, 8) if pool.umask else -1,
        as_master=functools.partial(bound, pool),
    )


class Zygote:
    """A running zygote."""

    def __init__(
        self, task: Task, identity: Identity | None, output: int | None = None, start: Start = execute
    ) -> None:
        """Start it. `output` is where all that it writes goes, to be relayed by the master; without one, to the
        master's own standard error. Raises OSError or subprocess.SubprocessError.
        """
        task = replace(task, relayed=output is not None)
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, anonymous_file("task") as file:
            task.write(file)
            file.seek(0)
            try:
                self.process: Process = start(task, identity, stdin=file, output=output, channel=theirs.fileno())
            except BaseException:
                self.channel.close()
                raise
        self.channel.setblocking(False)
        self._tells_of_files = task.pool.reload_on_change

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self.process.pid

    def hear(self) -> Report | str | None:
        """Read what it says: its report, or the name of a file that has changed, which is text for the log, nothing to
        be opened; None at its end. Raises BadMessage, BlockingIOError.
        """
        message = receive(self.channel)
        if message is None:
            return None
        if not self._tells_of_files or "changed" not in message:
            return Report.read(message)
        path = message["changed"]
        if not isinstance(path, str) or not 0 < len(path) <= _LONGEST_PATH:
            raise BadMessage("a change of something that is no file")
        return path

    def fork(self, slot: int, worker_end: socket.socket, logs: Sequence[int] = ()) -> bool:
        """Ask for a worker; False when the zygote can take no message, which its end will explain.

        `logs`: the writing end of its output and, if there is one, the access log (`output.PoolLogs.for_worker`).
        """
        try:
            socket.send_fds(self.channel, [json.dumps({"slot": slot}).encode()], [worker_end.fileno(), *logs])
        except OSError:
            return False
        return True

    def discard(self) -> None:
        """End it. Nothing is lost: it holds no request, and its workers are the master's own."""
        self.channel.close()
        self.kill()

    def kill(self) -> None:
        """Kill it; not by Popen.kill, which may reap it behind the back of the master."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)


class Report(Record):
    """What a zygote says of a load: the applications that failed, and why no worker could start, or ""."""

    failed: frozenset[str]
    told: str  # the failures' messages and tracebacks
    error: str
    traceback: str

    @classmethod
    def read(cls, message: dict[str, Any]) -> Report:
        """Read it from the zygote's message. Raises BadMessage."""
        rows = message.get("failures")
        error, traceback = message.get("error", ""), message.get("traceback", "")
        if not isinstance(rows, list) or not _are_texts(error, traceback):
            raise BadMessage("a report that is none")
        if not all(isinstance(r, dict) and _are_texts(*map(r.get, ("name", "message", "traceback"))) for r in rows):
            raise BadMessage("a report that is none")
        told = "\n".join(row["message"] + "\n" + row["traceback"] for row in rows).strip()
        return cls(frozenset(row["name"] for row in rows), told, error, traceback)


def _are_texts(*values: object) -> bool:
    return all(type(value) is str for value in values)


def worker_channel() -> tuple[socket.socket, socket.socket]:
    """Make a channel: the master's end, on which the kernel says who speaks, and the worker's. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    if SCM_CREDENTIALS is not None:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return ours, theirs


class WorkerHandle(Record, frozen=False):
    """A worker that was asked for; `pid` is 0 until it has reported and is known to be the master's own child.

    `channel` is the master's end of a `worker_channel`.
    """

    slot: int
    generation: int
    channel: socket.socket
    board: Scoreboard
    started: float = 0.0  # time.monotonic()
    most_requests: int = 0  # after which it is replaced; 0 for no limit
    pid: int = 0
    over: str = ""  # the limit that it is over
    keeps_deadlines: bool = False  # it looks at those of its requests itself

    def hand_over(self, keep: Keep) -> State:
        """See `net.handover`."""
        names = ("slot", "generation", "started", "most_requests", "pid", "over", "keeps_deadlines")
        return {"channel": keep(self.channel.fileno()), **{name: getattr(self, name) for name in names}}

    @classmethod
    def take_over(cls, state: State, board: Scoreboard) -> WorkerHandle:
        """See `net.handover`."""
        channel = socket.socket(fileno=state["channel"])
        channel.setblocking(False)
        return cls(**{**state, "channel": channel, "board": board})

    @property
    def who(self) -> str:
        """It, in a line of the log."""
        return f"worker {self.pid}" if self.pid else "a worker of unknown process ID"

    def activities(self) -> tuple[Activity, ...]:
        """What its threads are doing, as it says."""
        return self.board.read(self.slot, self.pid)

    def counts(self) -> Counts:
        """What it has counted, as it says."""
        return self.board.counts(self.slot, self.pid)

    def hear(self, loop: Loop) -> dict[str, Any] | None:
        """Read a message, and believe the process ID in it if that can be; None at the end of the channel.

        Raises BadMessage, BlockingIOError.
        """
        message = receive(self.channel, 0 if SCM_CREDENTIALS is None else socket.CMSG_SPACE(_CREDENTIALS.size))
        if message is not None and "pid" in message:
            if loop.owns(message["pid"]):
                raise BadMessage("the process ID of another")
            self.accept_pid(message["pid"])
        if message is not None and "ready" in message:
            self.keeps_deadlines = message.get("deadlines") is True
        return message

    def accept_pid(self, pid: object) -> None:
        """Believe a reported process ID only if the kernel says that it is this process's child (waitid(2)).

        Raises BadMessage.
        """
        if type(pid) is not int or not 1 < pid <= _LARGEST_PID or self.pid:
            raise BadMessage("a process ID that cannot be one")
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            raise BadMessage(f"process {pid}, which is not a child of the master") from None
        self.pid = pid

    def reopen_log(self, fd: int) -> None:
        """Let it write its access log to `fd` from here on; a worker that is gone need not."""
        with contextlib.suppress(OSError):
            socket.send_fds(self.channel, [ACCESS_LOG], [fd], socket.MSG_DONTWAIT)

    def tell(self, message: bytes) -> None:
        """Send a message; a worker that is gone misses it."""
        with contextlib.suppress(OSError):
            self.channel.send(message, socket.MSG_DONTWAIT)

    def signal(self, number: int) -> None:
        """Signal it, if its process ID is known; else end its channel, for both sides."""
        with contextlib.suppress(OSError):
            if self.pid:
                os.kill(self.pid, number)
            else:
                self.channel.shutdown(socket.SHUT_RDWR)
