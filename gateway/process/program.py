"""A pool whose workers are copies of a foreign program, with the listening socket as their fd 0 (FastCGI 1.0 §2.2).

The decisions are `policy`'s. What is a zygote there is here the first copy of a generation, on trial: if it still runs
after a first look, the generation is sound and the copy becomes its first worker; if it has ended by then, the
generation is refused. Such a program says nothing to the master, so READY means here, too, that it runs.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from gateway import log
from gateway.net.queue import QueueGauge
from gateway.process import lifecycle
from gateway.process.environment import environment
from gateway.process.handles import Loop
from gateway.process.identity import Identity
from gateway.process.launch import launch
from gateway.process.lifecycle import Action, WorkerState
from gateway.process.output import PoolLogs
from gateway.process.pace import milliseconds
from gateway.process.policy import NEVER, Phase, PoolPolicy
from gateway.process.scaling import Plan
from gateway.process.setup import Setup, Setups
from gateway.process.status import of_pool
from gateway.record import Record

_LOOK_EVERY = 1_000  # ms between two looks at the listen queue


class Program(Record):
    """What to run, as whom, the signal at which it finishes what it has and exits, and how to know that it runs."""

    argv: tuple[str, ...]
    identity: Identity | None
    kill_signal: int
    first_look: int  # ms; if it cannot run, it has ended by then


def find_signal(text: str) -> int:
    """Read the name or number of a signal: TERM, SIGTERM, 15. Raises ValueError."""
    try:
        return signal.Signals(int(text)) if text.isdigit() else signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"]
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is no signal; write its name or number, as in TERM or 15") from None


class Copy(Record, frozen=False):
    """One process of the program. On trial it has no slot yet."""

    generation: int
    process: subprocess.Popen[bytes]
    slot: int | None
    started: int  # ms, as the deadline
    deadline: int  # of its first look; of a discarded copy: when it is killed
    discarded: bool = False  # it was on trial, and its generation is over

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self.process.pid

    def signal(self, number: int) -> None:
        """Signal the program itself; not by Popen, which may reap it behind the back of the master."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Signal what is there of it and of the processes that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class ProgramRunner:
    """The processes of one pool of a foreign program; see `runner.Runner`."""

    def __init__(
        self, name: str, setups: Setups, *, program: Program, loop: Loop, on_loaded: Callable[[int, str], None]
    ) -> None:
        """`on_loaded` is called with a generation's number and, where it was refused, the reason."""
        self.name = name
        self.setups = setups
        self.leaving = False
        self.changed_file = ""  # a foreign program's is not known
        plan = Plan.of(setups.current.pool)
        self.policy = PoolPolicy(plan.scaling, start_timeout=plan.start_timeout, control_timeout=plan.control_timeout)
        self.first_load: bool | None = None
        self.reload_error = ""
        self.next_look = NEVER
        self._program = program
        self._on_loaded = on_loaded
        self._logs = PoolLogs(name, loop)
        self._gauge = QueueGauge([listener.socket for listener in setups.current.listeners])
        self._started = time.time()
        self._most_waiting = 0
        self._copies: dict[int, Copy] = {}  # by process ID

    # -- what the master says ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """See `runner.Runner`."""
        self.next_look = milliseconds()
        self._do(self.policy.start(milliseconds()))

    def reload(self, expect: Callable[[int], None], setup: Setup | None = None) -> None:
        """Replace every copy by a new one, if the first of those runs; see `runner.Runner`."""
        generation, actions = self.policy.reload(milliseconds(), None if setup is None else Plan.of(setup.pool))
        if generation:
            expect(generation)
            self.setups.plan(generation, setup)
        self._do(actions)

    def remove(self) -> None:
        """See `runner.Runner`."""
        self.leaving = True
        self._gauge.close()
        self._gauge = QueueGauge([])
        self.setups.close()
        self.drain()

    def drain(self) -> None:
        """See `runner.Runner`."""
        self._do(self.policy.drain(milliseconds()))

    def terminate(self) -> None:
        """See `runner.Runner`."""
        self._do(self.policy.terminate(milliseconds()))
        for copy in self._copies.values():
            if copy.discarded:
                copy.signal_group(signal.SIGKILL)

    def adjust(self, by: int) -> None:
        """See `runner.Runner`."""
        self._do(self.policy.adjust(by, milliseconds()))

    def tick(self) -> None:
        """See `runner.Runner`."""
        self._do(self.policy.tick(milliseconds()))

    def look(self, ceiling: int, lacking: int) -> None:
        """See `runner.Runner`; the number of copies is fixed, so that neither changes anything."""
        now = milliseconds()
        for copy in [copy for copy in self._copies.values() if now >= copy.deadline]:
            copy.deadline = NEVER
            self._due(copy, now)
        self._most_waiting = max(self._most_waiting, self._gauge.read().waiting)
        self.next_look = min([now + _LOOK_EVERY, *(copy.deadline for copy in self._copies.values())])

    def _due(self, copy: Copy, now: int) -> None:
        if copy.discarded:
            copy.signal_group(signal.SIGKILL)
        elif copy.slot is not None:
            self._do(self.policy.worker_ready(copy.slot, now))
        else:
            self.first_load = True
            actions = self.policy.zygote_ready(copy.generation, frozenset(), now)
            if self.setups.change_to(copy.generation):
                self._gauge.close()
                self._gauge = QueueGauge([listener.socket for listener in self.setups.current.listeners])
            self._do(actions)

    def reopen_logs(self) -> str:
        """See `runner.Runner`; what a program logs is its own."""
        return ""

    def owns(self, pid: object) -> bool:
        """See `runner.Runner`."""
        return pid in self._copies

    def reaped(self, pid: int, status: str) -> bool:
        """See `runner.Runner`."""
        copy = self._copies.pop(pid, None)
        if copy is None:
            return False
        copy.process.returncode = 0  # the master has reaped it already
        # What it has left behind would go on accepting.
        copy.signal_group(signal.SIGKILL if self.policy.phase is Phase.ENDING else self._program.kill_signal)
        self._logs.drain(copy.process)
        now, candidate = milliseconds(), self.policy.candidate
        if copy.slot is not None:
            self._tell_end(copy, status)
            self._do(self.policy.worker_gone(copy.slot, now))
        elif candidate is not None and candidate.number == copy.generation:
            self.first_load = True  # it can be executed; the next may do better
            reason = f"{self._program.argv[0]} {status} as it started; the error log has what it said"
            self._do(self.policy.zygote_gone(copy.generation, reason, now))
        return True

    def _tell_end(self, copy: Copy, status: str) -> None:
        assert copy.slot is not None
        state = self.policy.workers[copy.slot].state
        if state not in (WorkerState.LEAVING, WorkerState.KILLED):
            when = " as it started" if state is WorkerState.STARTING else ""
            level = log.Level.NOTICE if status == "exited with status 0" else log.Level.WARNING
            log.line(f"pool {self.name}: process {copy.pid} {status}{when}", level)

    @property
    def ended(self) -> bool:
        """See `runner.Runner`."""
        return self.policy.phase is Phase.ENDED and not self._copies

    def close(self) -> None:
        """See `runner.Runner`."""
        self.setups.close()
        self._gauge.close()
        self._logs.close()

    def status(self) -> dict[str, Any]:
        """See `runner.Runner`. What only a worker of gateway's own can tell, its requests, is left out."""
        queue = self._gauge.read()
        self._most_waiting = max(self._most_waiting, queue.waiting)
        return {
            **of_pool(self.name, self.setups.current, self.policy, self.reload_error),
            "program": shlex.join(self._program.argv),
            "start_time": round(self._started),
            "start_since": int(time.time() - self._started),
            "listen_queue": queue.waiting,
            "max_listen_queue": self._most_waiting,
            "listen_queue_len": queue.limit,
            "total_processes": len(self._copies),
            "workers": [self._worker(copy) for copy in sorted(self._copies.values(), key=lambda copy: copy.started)],
        }

    def _worker(self, copy: Copy) -> dict[str, Any]:
        unslotted = WorkerState.LEAVING if copy.discarded else WorkerState.STARTING
        state = self.policy.workers[copy.slot].state if copy.slot is not None else unslotted
        seconds = (milliseconds() - copy.started) / 1000
        return {"pid": copy.pid, "state": state.value, "generation": copy.generation, "seconds": round(seconds, 3)}

    # -- what the policy decides ---------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        """Carry actions out, and those that follow from them."""
        waiting = deque(actions)
        while waiting:
            waiting.extend(self._carry_out(waiting.popleft()))

    def _carry_out(self, action: Action) -> Iterable[Action]:
        match action:
            case lifecycle.SpawnZygote(generation):
                return self._try(generation)
            case lifecycle.DiscardZygote(generation):
                self._discard(generation)
            case lifecycle.ForkWorker(generation, slot):
                return self._start(generation, slot)
            case lifecycle.LetLeave(slot, _):
                self._at(slot).signal(self._program.kill_signal)
            case lifecycle.Terminate(slot):
                self._at(slot).signal(signal.SIGTERM)
            case lifecycle.Kill(slot):
                self._at(slot).signal_group(signal.SIGKILL)
            case lifecycle.Loaded(generation, error):
                self._loaded(generation, error)
            case lifecycle.StandIn() | lifecycle.Ended():
                pass  # nothing can answer in a foreign program's place: what comes waits in the queue
        return ()

    def _at(self, slot: int) -> Copy:
        return next(copy for copy in self._copies.values() if copy.slot == slot)

    def _on_trial(self, generation: int) -> Copy | None:
        """The generation's copy that is in no slot yet, if there is one."""
        on_trial = (copy for copy in self._copies.values() if copy.slot is None and not copy.discarded)
        return next((copy for copy in on_trial if copy.generation == generation), None)

    def _try(self, generation: int) -> Iterable[Action]:
        try:
            self._launch(generation, None)
        except OSError as error:
            if self.first_load is None:
                self.first_load = False
            return self.policy.zygote_gone(generation, f"cannot start {error}", milliseconds())
        return ()

    def _discard(self, generation: int) -> None:
        copy = self._on_trial(generation)
        if copy is not None:
            copy.discarded = True
            copy.deadline = milliseconds() + self.policy.control_timeout
            self.next_look = min(self.next_look, copy.deadline)
            copy.signal(self._program.kill_signal)

    def _start(self, generation: int, slot: int) -> Iterable[Action]:
        tried = self._on_trial(generation)
        if tried is not None:
            tried.slot = slot
            return self.policy.worker_ready(slot, milliseconds())
        try:
            self._launch(generation, slot)
        except OSError as error:
            log.line(f"pool {self.name}: cannot start {error}", log.Level.ERROR)
            return self.policy.worker_gone(slot, milliseconds())
        return ()

    def _launch(self, generation: int, slot: int | None) -> None:
        """Start a copy. Raises OSError, whose text names what could not be done."""
        setup = self.setups.of(generation)
        listener = setup.listeners[0].socket
        # Programs wait in accept(2), and whether that waits belongs to the socket, not to a process. Said once: copies
        # that run may have changed it.
        if not listener.getblocking():
            listener.setblocking(True)
        try:
            with self._logs.catch() as (output, writing):
                output.process = process = launch(
                    self._program.argv,
                    identity=self._program.identity,
                    stdin=listener.fileno(),
                    stdout=writing,
                    stderr=writing,
                    env=environment(setup.pool, self._program.identity),
                    cwd=setup.pool.app_dir or None,
                )
        except (OSError, subprocess.SubprocessError) as error:
            what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
            raise OSError(f"{self._program.argv[0]}: {what}") from error
        now = milliseconds()
        copy = Copy(generation, process, slot, started=now, deadline=now + self._program.first_look)
        self._copies[process.pid] = copy
        self.next_look = min(self.next_look, copy.deadline)

    def _loaded(self, generation: int, error: str) -> None:
        self.reload_error = error
        if error:
            log.line(f"pool {self.name}: generation {generation} refused: {error}", log.Level.ERROR)
        else:
            log.line(f"pool {self.name}: generation {generation} serves with {self.policy.wanted} processes")
        # A reload changes the listener only where its file had gone; a program takes no connection but from a listener.
        self.setups.settle(generation, None)
        self._on_loaded(generation, error)
