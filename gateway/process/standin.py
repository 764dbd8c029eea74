"""A pool's stand-in: a zygote without its applications and one worker, which answers 503 while none can start."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from gateway import log
from gateway.process.handles import BadMessage, Loop, WorkerHandle, Zygote, worker_channel
from gateway.process.identity import Identity
from gateway.process.output import PoolLogs
from gateway.process.scoreboard import Scoreboard
from gateway.process.task import Task
from gateway.record import replace
from gateway.settings import Application, Binding, Work, to_json

_APPLICATION = Application(name="stand-in", app="gateway.app.standin:application", bindings=(Binding(),))


class StandIn:
    """The two processes, from their start to their end; a stand-in that cannot start either is only logged."""

    def __init__(
        self, task_with: Callable[[Scoreboard], Task], identity: Identity | None, loop: Loop, logs: PoolLogs
    ) -> None:
        """`task_with` makes the pool's task with a scoreboard; the stand-in's own is read by nobody. Raises OSError."""
        self._board = Scoreboard(1, ["", "*"])
        task = task_with(self._board)
        self._name = task.name
        self._loop = loop
        self._logs = logs
        self._zygote: Zygote | None = None
        self._worker: WorkerHandle | None = None
        try:
            with logs.catch() as (output, writing):
                output.process = self._zygote = Zygote(_without_application(task), identity, writing)
        except (OSError, subprocess.SubprocessError) as error:
            log.line(f"pool {self._name}: cannot start a stand-in: {error}", log.Level.ERROR)
        else:
            loop.watch(self._zygote.channel, self._fork)

    def _fork(self) -> None:
        """The zygote has reported, or has ended: let it fork the worker."""
        assert self._zygote is not None
        self._loop.forget(self._zygote.channel)
        ours, theirs = worker_channel()
        self._worker = WorkerHandle(0, 0, ours, self._board)
        with theirs, self._logs.for_worker(self._worker) as logs:
            self._zygote.fork(self._worker.slot, theirs, logs)
        self._loop.watch(ours, self._hear)
        log.line(f"pool {self._name}: its workers cannot start; a stand-in answers 503", log.Level.ERROR)

    def _hear(self) -> None:
        assert self._worker is not None
        try:
            message = self._worker.hear(self._loop)
        except BadMessage:
            message = None
        if message is None:
            self._loop.forget(self._worker.channel)

    def end(self) -> None:
        """End both processes; the master reaps them."""
        self._board.close()
        if self._worker is not None:
            self._loop.forget(self._worker.channel)
            self._worker.channel.close()  # its end lets the worker finish what it has
        if self._zygote is not None:
            self._loop.forget(self._zygote.channel)
            self._zygote.discard()
            self._zygote.process.returncode = 0  # the master reaps it


def _without_application(task: Task) -> Task:
    """The pool's task without anything that is the application's: it may be what keeps the workers from starting."""
    pool = replace(
        task.pool,
        on_worker_start="",
        authorizer="",
        preload=True,
        app_dir="/",
        chdir="",
        threads=1,
        reload_on_change=False,
        rlimits={},
    )
    return replace(task, pool=pool, work=Work(applications=json.dumps([to_json(_APPLICATION)]), count=1))
