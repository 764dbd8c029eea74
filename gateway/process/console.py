"""The console's process as the master sees it: started, replaced, started again when it dies, ended; and answered.

It is a fresh interpreter that runs `gateway.console.main`. It can ask for the status and nothing else (`net.inquiry`),
and what it serves is never behind the traffic of a pool.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from gateway import log
from gateway.net import inquiry
from gateway.net.handover import Keep, State
from gateway.net.listeners import Listener, ListenError
from gateway.process.environment import environment
from gateway.process.handles import BadMessage, Loop, receive
from gateway.process.identity import Identity
from gateway.process.launch import launch
from gateway.process.output import Former, PoolLogs
from gateway.process.policy import NEVER
from gateway.process.spare import BOOT
from gateway.process.start import open_pool_listeners, pool_identity
from gateway.record import Record
from gateway.settings import ConfigError, Gateway, Pool

_MODULE = "gateway.console.main"
_WHERE_PACKAGES_ARE = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}  # web.py, for one
_FIRST_DELAY = 100  # ms before one that has died is started again, doubled each time
_LONGEST_DELAY = 30_000
_STEADY = 30_000  # ms of life after which a death counts as the first again
_START = 30_000  # ms to say that it serves
_LEAVE = 3_000  # ms to finish what it has


class _Process(Record, frozen=False):
    """A console from its start to its end; `deadline` is when it is killed."""

    popen: subprocess.Popen[bytes] | Former
    channel: socket.socket
    started: int  # ms, of the master's clock
    deadline: int
    ready: bool = False
    leaving: bool = False

    def hand_over(self, keep: Keep) -> State:
        """See `net.handover`."""
        times = {"started": self.started, "deadline": self.deadline}
        return {"pid": self.popen.pid, "channel": keep(self.channel.fileno()), "ready": self.ready, **times}

    @classmethod
    def take_over(cls, state: State) -> _Process:
        """See `net.handover`."""
        channel = socket.socket(fileno=state["channel"])
        channel.setblocking(False)
        return cls(Former(state["pid"]), channel, state["started"], state["deadline"], ready=state["ready"])

    def kill(self) -> None:
        """Kill it; the master reaps it."""
        self.deadline = NEVER
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.popen.pid, signal.SIGKILL)


class Console:
    """The console of a master, if its settings have `status_listen`; else nothing that ends when it is told to."""

    def __init__(
        self,
        gateway: Gateway,
        first: Pool,
        loop: Loop,
        status: Callable[[], dict[str, Any]],
        handed: State | None = None,
    ) -> None:
        """Find its user and open its listeners. Raises ConfigError and ListenError."""
        self._loop = loop
        self._status = status
        self._processes: list[_Process] = []  # the oldest first
        self._delay = _FIRST_DELAY
        self._start_at = NEVER
        self._ending = False
        self._pool = _as_pool(gateway, first)
        self._identity: Identity | None = None
        self._listeners: tuple[Listener, ...] = ()
        if self._pool.listen:
            self._identity = pool_identity(self._pool)
            taken = () if handed is None else (Listener.take_over(*row) for row in handed["listeners"])
            self._listeners = tuple(taken) or open_pool_listeners(self._pool, self._identity, {})
        self._logs = PoolLogs("console", loop)
        if handed is not None:
            self._take_over(handed)

    def hand_over(self, keep: Keep) -> State:
        """See `net.handover`."""
        return {
            "listeners": [listener.hand_over(keep) for listener in self._listeners],
            "outputs": self._logs.hand_over(keep),
            "processes": [process.hand_over(keep) for process in self._processes if not process.leaving],
        }

    def _take_over(self, state: State) -> None:
        self._logs.take_over(state["outputs"], {})
        self._start_at = _milliseconds()
        for row in state["processes"]:
            self._employ(_Process.take_over(row))

    def start(self) -> None:
        """Start it; where one runs, that leaves when the new one serves."""
        self._start_at = NEVER
        if not self._listeners or self._ending:
            return
        self._listen_again()
        for process in self._processes:
            if not process.ready:
                self._dismiss(process)
        try:
            process = self._launch()
        except (OSError, subprocess.SubprocessError) as error:
            log.line(f"cannot start the console: {error}", log.Level.ERROR)
            self._start_later()
            return
        self._employ(process)

    def _listen_again(self) -> None:
        """Make its socket anew where the file is gone; where that fails, say why and go on."""
        lost: dict[str, tuple[Listener, ...]]
        lost = {str(listener.address): (listener,) for listener in self._listeners if listener.loss}
        if lost:
            before = self._listeners
            try:
                self._listeners = open_pool_listeners(self._pool, self._identity, lost)
            except (ConfigError, ListenError) as error:
                log.line(f"the console: {error}", log.Level.ERROR)
                return
            for listener in before:
                listener.close()

    def _employ(self, process: _Process) -> None:
        self._processes.append(process)
        self._loop.watch(process.channel, lambda: self._hear(process))

    @property
    def deadline(self) -> int:
        """When `tick` is to be called, in the policy's milliseconds."""
        return min([self._start_at, *(process.deadline for process in self._processes)])

    def tick(self) -> None:
        """Do what is due."""
        now = _milliseconds()
        for process in self._processes:
            if now >= process.deadline:
                process.kill()
        if now >= self._start_at:
            self.start()

    def owns(self, pid: object) -> bool:
        """Say whether a process is the console."""
        return any(process.popen.pid == pid for process in self._processes)

    def reaped(self, pid: int, status: str) -> bool:
        """A child of the master has ended; return whether it was the console."""
        for process in self._processes:
            if process.popen.pid == pid:
                self._process_ended(process, status)
                return True
        return False

    def end(self) -> None:
        """Let it finish what it has; nothing where that was said already."""
        self._ending = True
        self._start_at = NEVER
        for process in self._processes:
            self._dismiss(process)

    @property
    def ended(self) -> bool:
        """It was told to end, and is gone."""
        return self._ending and not self._processes

    def close(self) -> None:
        """Free what it held."""
        for process in self._processes:
            process.channel.close()
        for listener in self._listeners:
            listener.close()
        self._logs.close()

    def _launch(self) -> _Process:
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            with theirs, self._logs.catch() as (output, writing):
                undo.callback(output.close)
                sockets = [listener.socket for listener in self._listeners]
                inquiry.hand_over(ours, sockets, self._pool.listen_allowed_clients)
                popen = launch(
                    [sys.executable, BOOT, _MODULE, str(theirs.fileno())],
                    identity=self._identity,
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    pass_fds=[theirs.fileno()],
                    env=environment(self._pool, self._identity) | _WHERE_PACKAGES_ARE,
                    cwd=self._pool.app_dir,
                    no_new_privileges=True,
                )
                popen.returncode = 0  # the master reaps every child itself
                output.process = popen
            undo.pop_all()
        ours.setblocking(False)
        return _Process(popen, ours, _milliseconds(), _milliseconds() + _START)

    def _hear(self, process: _Process) -> None:
        try:
            message = receive(process.channel)
            if message is None:
                self._loop.forget(process.channel)  # its end is told by waitpid
            elif message.get("ready") is True:
                self._has_started(process)
            else:
                self._answer(process, message.get("status"))
        except BadMessage as error:
            log.line(f"the console, process {process.popen.pid}, sent {error}; killed", log.Level.ERROR)
            self._loop.forget(process.channel)
            process.kill()

    def _has_started(self, process: _Process) -> None:
        process.ready = True
        process.deadline = NEVER
        for older in self._processes[: self._processes.index(process)]:
            self._dismiss(older)

    def _answer(self, process: _Process, number: object) -> None:
        if type(number) is not int:
            raise BadMessage("a message that is no question")
        try:
            inquiry.answer(process.channel, number, self._status())
        except OSError as error:
            log.line(f"the console cannot be answered: {error.strerror}", log.Level.WARNING)

    def _dismiss(self, process: _Process) -> None:
        if not process.leaving:
            process.leaving = True
            process.deadline = _milliseconds() + _LEAVE
            self._loop.forget(process.channel)
            with contextlib.suppress(OSError):  # whoever has connected to it is answered all the same
                inquiry.answer(process.channel, inquiry.LAST_WORD, self._status())
            process.channel.close()

    def _process_ended(self, process: _Process, status: str) -> None:
        self._processes.remove(process)
        self._logs.drain(process.popen)
        if process.leaving:
            return
        self._loop.forget(process.channel)
        process.channel.close()
        log.line(f"the console, process {process.popen.pid}, {status}", log.Level.WARNING)
        if all(other.leaving for other in self._processes):
            if _milliseconds() - process.started >= _STEADY:
                self._delay = _FIRST_DELAY
            self._start_later()

    def _start_later(self) -> None:
        self._start_at = _milliseconds() + self._delay
        self._delay = min(2 * self._delay, _LONGEST_DELAY)


def _as_pool(gateway: Gateway, first: Pool) -> Pool:
    """The console's user and listeners as those of a pool; what is not set is the first pool's."""
    return Pool(
        listen=(gateway.status_listen,) if gateway.status_listen else (),
        listen_mode=gateway.status_listen_mode,
        listen_group=first.listen_group,
        listen_allowed_clients=gateway.status_listen_allowed_clients,
        user=gateway.status_user or first.user,
        group="" if gateway.status_user else first.group,
        app_dir="/",
        clear_env=True,
    )


def _milliseconds() -> int:
    return time.monotonic_ns() // 1_000_000
