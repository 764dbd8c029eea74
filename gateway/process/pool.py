"""One pool in the master: carries out what `policy` decides, and tells it what happened."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

from gateway import log
from gateway.net.handover import Keep, State
from gateway.net.kept import KeptQueue
from gateway.net.orders import LEAVE, STOP
from gateway.process import adoption, lifecycle
from gateway.process.boards import Boards
from gateway.process.ends import cause_of_end, during, unanswered
from gateway.process.failures import Failures
from gateway.process.handles import BadMessage, Loop, WorkerHandle, Zygote, worker_channel
from gateway.process.lifecycle import Action
from gateway.process.lookout import Lookout
from gateway.process.output import PoolLogs
from gateway.process.pace import Pace, milliseconds
from gateway.process.policy import Phase, PoolPolicy
from gateway.process.scaling import Plan
from gateway.process.scoreboard import Scoreboard
from gateway.process.setup import Setup, Setups
from gateway.process.standin import StandIn
from gateway.process.status import of_pool
from gateway.process.task import Task

_HURRIED = 20  # ms between two looks while the master passes connections on
_TOLD = ("name", "leaving", "first_load", "reload_error")  # what the next master has to know of a pool, as it stands


class PoolRunner:
    """The processes of one pool."""

    def __init__(
        self,
        name: str,
        setups: Setups,
        *,
        loop: Loop,
        on_loaded: Callable[[int, str], None],
        handed: State | None = None,
    ) -> None:
        """`on_loaded` is called with a generation's number and, where its load was refused, the reason."""
        self.name = name
        self.setups = setups
        self.leaving = False  # removed from the settings: it ends when its last request has
        plan = Plan.of(setups.current.pool)
        self.policy = PoolPolicy(plan.scaling, start_timeout=plan.start_timeout, control_timeout=plan.control_timeout)
        self.first_load: bool | None = None  # whether any application could be loaded at the start; None: not known yet
        self.reload_error = ""
        self.changed_file = ""  # that the zygote has told of last
        self._logs = PoolLogs(name, loop)
        self._kept = KeptQueue.create() if handed is None else KeptQueue.take_over(handed["kept"])
        self._lookout = Lookout(name, loop, self._kept)
        self._take_up(setups.current)
        self._pace = Pace(loop)
        self._loop = loop
        self._on_loaded = on_loaded
        self._boards = Boards()
        self._stand_in: StandIn | None = None
        self._zygotes: dict[int, Zygote] = {}
        self._workers: dict[int, WorkerHandle] = {}
        self._failures: str = ""  # of the last load, with tracebacks
        self._told = Failures(name)
        if handed is not None:
            self._take_over(handed)

    # -- what the master says ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the first generation."""
        self._do(self.policy.start(milliseconds()))
        self._pace.look_in(self._lookout.pace)

    def reload(self, expect: Callable[[int], None], setup: Setup | None = None) -> None:
        """Load new code, and with it what has been set up; `expect` is told the generation that will hold both."""
        self._told.forget()
        generation, actions = self.policy.reload(milliseconds(), None if setup is None else Plan.of(setup.pool))
        if generation:
            expect(generation)
            self.setups.plan(generation, setup)
        self._do(actions)

    def hand_over(self, keep: Keep) -> State:
        """What the master that goes on needs to know; the zygotes end with this one."""
        return {
            **{name: getattr(self, name) for name in _TOLD},
            "setups": self.setups.hand_over(keep),
            "policy": adoption.give_up(self.policy),
            "kept": self._kept.hand_over(keep),
            "boards": self._boards.hand_over(keep),
            "workers": [worker.hand_over(keep) for worker in self._workers.values()],
            "zygotes": [zygote.pid for zygote in self._zygotes.values()],
            "outputs": self._logs.hand_over(keep),
            "lookout": self._lookout.hand_over(keep),
        }

    def _take_over(self, state: State) -> None:
        for name in _TOLD:
            setattr(self, name, state[name])
        self.policy = adoption.adopt(state["policy"], Plan.of(self.setups.current.pool))
        self._boards.take_over(state["boards"])
        for row in state["workers"]:
            self._employ(WorkerHandle.take_over(row, self._boards[row["generation"]]))
        self._logs.take_over(state["outputs"], self._workers)
        self._lookout.take_over(state["lookout"])
        self._pace.look_in(self._lookout.pace)

    def remove(self) -> None:
        """Stop gracefully, and let nobody connect any more."""
        self.leaving = True
        self._stop_looking()
        self._lookout.close()
        self.setups.close()
        self.drain()

    def drain(self) -> None:
        """Stop gracefully."""
        self._stop_looking()
        self._do(self.policy.drain(milliseconds()))

    def reopen_logs(self) -> str:
        """Open the log files anew by their names, for the workers as well; return what went wrong, or ""."""
        reasons = self._logs.reopen(self._workers.values()), self._lookout.deadlines.slowlog.reopen()
        return "; ".join(filter(None, reasons))

    def terminate(self) -> None:
        """Stop at once."""
        self._stop_looking()
        self._do(self.policy.terminate(milliseconds()))

    def adjust(self, by: int) -> None:
        """See `runner.Runner`."""
        self._do(self.policy.adjust(by, milliseconds()))

    def tick(self) -> None:
        """Let the policy look at its deadlines."""
        self._do(self.policy.tick(milliseconds()))

    def _stop_looking(self) -> None:
        self._pace.look_no_more()
        if self._lookout.deadlines.any:
            self._pace.look_in(self._lookout.pace)

    @property
    def next_look(self) -> int:
        """When `look` is due, on the policy's clock."""
        return self._pace.next_look

    def look(self, ceiling: int, lacking: int) -> None:
        """Look at what the workers do and what waits, and let the policy react; see `runner.Runner`."""
        now = milliseconds()
        passing_on = self.policy.phase is Phase.RUNNING and self.setups.pass_on(self._kept)
        pace = _HURRIED if passing_on else self._lookout.pace
        self._pace.look_in(min(pace, self._lookout.deadlines.look(self._workers)))
        if self.policy.phase is not Phase.RUNNING:
            return
        load = self._lookout.look(self._workers, self.policy, ceiling, lacking)
        self._lookout.expire(self._boards.all(), now)
        self._do(self.policy.observe(load, now))
        if not (self.policy.wanted or self._workers or load.queued or passing_on):
            # An ondemand pool without workers need not be looked at until a connection comes.
            self._pace.sleep([*(each.socket for each in self.setups.current.listeners), self._kept.taking])

    def owns(self, pid: object) -> bool:
        """Say whether a process is a worker or zygote of this pool."""
        workers, zygotes = self._workers.values(), self._zygotes.values()
        return any(worker.pid == pid for worker in workers) or any(zygote.process.pid == pid for zygote in zygotes)

    def reaped(self, pid: int, status: str) -> bool:
        """A child of the master has ended; return whether it was of this pool."""
        for slot, worker in self._workers.items():
            if worker.pid == pid:
                self._worker_ended(slot, status)
                return True
        for number, zygote in self._zygotes.items():
            if zygote.process.pid == pid:
                self._zygote_ended(number, status)
                return True
        return False

    @property
    def ended(self) -> bool:
        """Nothing of the pool is left."""
        return self.policy.phase is Phase.ENDED and not self._zygotes

    def close(self) -> None:
        """Free what the pool held."""
        self.setups.close()
        self._lookout.close()
        self._kept.close()
        self._logs.close()
        self._lookout.deadlines.slowlog.close()
        self._boards.close()

    def status(self) -> dict[str, Any]:
        """What `gateway status` shows of the pool."""
        return {
            **of_pool(self.name, self.setups.current, self.policy, self.reload_error),
            **self._lookout.status(self._workers, self.policy.workers),
        }

    # -- what the policy decides ---------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case lifecycle.SpawnZygote(generation):
                    self._spawn(generation)
                case lifecycle.DiscardZygote(generation):
                    self._discard(generation)
                case lifecycle.ForkWorker(generation, slot):
                    self._fork(generation, slot)
                case lifecycle.LetLeave(slot, replaced):
                    self._workers[slot].tell(LEAVE if replaced else STOP)
                case lifecycle.Terminate(slot):
                    self._workers[slot].signal(signal.SIGTERM)
                case lifecycle.Kill(slot):
                    self._kill(self._workers[slot])
                case lifecycle.Loaded(generation, error):
                    self._loaded(generation, error)
                case lifecycle.StandIn(wanted):
                    self._change_stand_in(wanted)
                case lifecycle.Ended():
                    pass  # `ended` shows it once the zygotes are reaped too

    def _spawn(self, generation: int) -> None:
        self._failures = ""
        try:
            setup = self.setups.of(generation)
            board = self._boards.add(generation, setup.scoreboard())
            with self._logs.catch() as (output, writing):
                output.process = zygote = Zygote(self._task(setup, board), setup.identity, writing, self.setups.start)
        except (OSError, subprocess.SubprocessError) as error:
            self._do(self.policy.zygote_gone(generation, f"cannot start a zygote: {error}", milliseconds()))
            return
        self._zygotes[generation] = zygote
        self._loop.watch(zygote.channel, lambda: self._hear_zygote(generation))

    def _task(self, setup: Setup, board: Scoreboard) -> Task:
        slowlog = self._lookout.deadlines.slowlog.for_workers(setup.pool.slowlog)
        return setup.task(self.name, board, self._kept, slowlog)

    def _change_stand_in(self, wanted: bool) -> None:
        if self._stand_in is not None:
            self._stand_in.end()
        setup, self._stand_in = self.setups.current, None
        if wanted:
            self._stand_in = StandIn(functools.partial(self._task, setup), setup.identity, self._loop, self._logs)

    def _take_up(self, setup: Setup) -> None:
        """Let what was set up for a generation be in force."""
        self._logs.take_up(setup.pool)
        self._lookout.take_up(setup.pool, setup.listeners)

    def _change_to(self, generation: int) -> None:
        """A generation has become the current one: what its reload has changed comes into force."""
        if self.setups.change_to(generation):
            self._stop_looking()
            self._take_up(self.setups.current)
            self._pace.wake_up()

    def _discard(self, generation: int) -> None:
        if zygote := self._zygotes.get(generation):
            self._loop.forget(zygote.channel)
            zygote.discard()

    def _fork(self, generation: int, slot: int) -> None:
        try:
            ours, theirs = worker_channel()
        except OSError as error:  # no descriptor or memory is left
            log.line(f"pool {self.name}: cannot start a worker: {error.strerror}", log.Level.ERROR)
            self._do(self.policy.worker_gone(slot, milliseconds()))
            return
        board = self._boards[generation]
        board.use(slot)
        worker = WorkerHandle(slot, generation, ours, board, time.monotonic(), self._lookout.limits.most_requests())
        with contextlib.suppress(OSError), theirs, self._logs.for_worker(worker) as logs:
            self._zygotes[generation].fork(slot, theirs, logs)
        # Where the zygote could not take it, no copy of the worker's end is left and the channel ends at once.
        self._employ(worker)

    def _employ(self, worker: WorkerHandle) -> None:
        self._workers[worker.slot] = worker
        self._loop.watch(worker.channel, functools.partial(self._hear_worker, worker.slot))

    def _kill(self, worker: WorkerHandle) -> None:
        worker.signal(signal.SIGKILL)
        if worker.pid:
            doing = during(worker.activities())
            log.line(f"pool {self.name}: {worker.who} killed, for it was not done in time{doing}", log.Level.WARNING)
        elif zygote := self._zygotes.get(worker.generation):
            log.line(f"pool {self.name}: its zygote starts no worker any more; killed", log.Level.ERROR)
            zygote.kill()

    def _loaded(self, generation: int, error: str) -> None:
        if error:
            self.reload_error = error if not self._failures else f"{error}\n{self._failures}"
            self._told.refuse(generation, error)
            if self.first_load is None:
                self.first_load = False
        else:
            self.reload_error = ""
            log.line(f"pool {self.name}: generation {generation} serves with {self.policy.wanted} workers")
        if self.setups.settle(generation, self._kept) and self.policy.phase is Phase.RUNNING:
            self._pace.wake_up()
        self._on_loaded(generation, self.reload_error)

    # -- what the processes say ----------------------------------------------------------------------------------------

    def _hear_zygote(self, generation: int) -> None:
        zygote = self._zygotes[generation]
        try:
            report = zygote.hear()
        except BadMessage as error:
            log.line(f"pool {self.name}: its zygote sent {error}; killed", log.Level.ERROR)
            zygote.kill()
            return
        if report is None:
            self._loop.forget(zygote.channel)  # its end is told by waitpid
            return
        if isinstance(report, str):
            self.changed_file = report
            return
        self._failures = f"{report.told}\n{report.traceback}".strip()
        self._told.tell(self._failures)
        if not self.first_load:
            count = self.setups.current.loads
            self.first_load = not count or len(report.failed) < count
        if report.error:
            self._do(self.policy.zygote_gone(generation, report.error, milliseconds()))
        else:
            actions = self.policy.zygote_ready(generation, report.failed, milliseconds())
            if self.policy.current is not None and self.policy.current.number == generation:
                self._change_to(generation)
            self._do(actions)

    def _zygote_ended(self, generation: int, status: str) -> None:
        zygote = self._zygotes.pop(generation)
        zygote.process.returncode = 0  # the master has reaped it already
        self._loop.forget(zygote.channel)
        zygote.channel.close()
        self._do(self.policy.zygote_gone(generation, f"its zygote {status}", milliseconds()))
        self._forget_boards()

    def _hear_worker(self, slot: int) -> None:
        worker = self._workers[slot]
        try:
            message = worker.hear(self._loop)
        except BadMessage as error:
            log.line(f"pool {self.name}: {worker.who} sent {error}; ended", log.Level.ERROR)
            worker.signal(signal.SIGKILL)
            if worker.pid:
                return
            message = None
        if message is None:
            self._loop.forget(worker.channel)
            if not worker.pid:  # it ended before it could say which process it was
                self._worker_ended(slot, "ended while it started")
        elif message.get("ready") is True and worker.pid:
            self._do(self.policy.worker_ready(slot, milliseconds()))
        elif isinstance(message.get("slow"), str):
            self._lookout.deadlines.note_slow(worker, message["slow"])
        elif message.get("leaving") is True:
            self._do(self.policy.worker_leaves(slot, milliseconds()))
        elif "error" in message:
            log.line(f"pool {self.name}: worker {worker.pid} cannot start: {message['error']}", log.Level.ERROR)
            self._told.tell(str(message.get("traceback", "")))

    def _worker_ended(self, slot: int, status: str) -> None:
        worker = self._workers.pop(slot)
        self._logs.drain(worker)
        self._loop.forget(worker.channel)
        worker.channel.close()
        activities = worker.activities()
        cause = cause_of_end(worker, status, self.policy, self._lookout.deadlines)
        if cause == "crashed":
            log.line(f"pool {self.name}: {worker.who} {status}{during(activities)}", log.Level.WARNING)
        requests = unanswered(activities, self.setups.current.pool.request_terminate_timeout, os.getpid())
        self._logs.note(requests, self._lookout.lose_line)
        self._lookout.worker_ended(worker, cause)
        self._do(self.policy.worker_gone(slot, milliseconds()))
        self._forget_boards()

    def _forget_boards(self) -> None:
        """Close the scoreboards of generations that are over."""
        needed = {worker.generation for worker in self._workers.values()} | set(self._zygotes)
        self._boards.keep_only(needed, self._lookout.generation_ended)
