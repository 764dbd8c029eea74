"""A pool of what this very process has in memory: its zygote is a fork of it, not a fresh interpreter.

That is what flup's preforked servers are: a script makes its application and calls run(). Nothing is imported again, so
there is no new code to be had by a reload, and a hang-up ends the pool instead.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import IO, Any, NoReturn

from gateway.app.brief import brief
from gateway.process import signals, zygote
from gateway.process.handles import Started
from gateway.process.identity import Identity
from gateway.process.pool import PoolRunner
from gateway.process.prctl import close_all_but, die_with, open_descriptors
from gateway.process.setup import Setups
from gateway.process.signals import Order
from gateway.process.supervisor import Master
from gateway.process.task import Task
from gateway.process.worker import Load
from gateway.record import Record
from gateway.settings import Application, Binding, Pool, Settings

_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # there is no new code to be had by a reload
_Handler = Callable[[int, FrameType | None], Any] | int | None


def serve(name: str, pool: Pool, load: Load) -> bool:
    """Serve as the master of a pool until a signal ends it, and return whether that was SIGHUP. Each worker gets its
    dispatcher from `load`.

    Raises ConfigError, ListenError and OSError before anything serves.
    """
    sys.stdout.flush()  # or each process would write what is in its buffer
    fork = _Fork(load, open_descriptors(), {number: signal.getsignal(number) for number in signals.CAUGHT})
    settings = Settings(pools={name: pool}, applications=(Application(name=name, pool=name, bindings=(Binding(),)),))
    ended_by: list[int] = []

    def make_runner(name: str, setups: Setups, **options: Any) -> PoolRunner:
        setups.start = fork
        return PoolRunner(name, setups, **options)

    def order(number: int) -> Order | None:
        if number not in _ENDS:
            return signals.order(number)
        ended_by.append(number)
        return Order.DRAIN

    with contextlib.ExitStack() as resources:
        Master(brief(settings), resources, make_runner=make_runner, order=order).run()
    return ended_by[-1:] == [signal.SIGHUP]


class _Fork(Record):
    """See `handles.Start`; with what the process had before it became a master."""

    load: Load
    descriptors: frozenset[int]
    handlers: dict[signal.Signals, _Handler]

    def __call__(
        self, task: Task, identity: Identity | None, *, stdin: IO[bytes], output: int | None, channel: int
    ) -> Started:
        """See `handles.Start`."""
        master = os.getpid()
        pid = os.fork()
        if pid:
            return Started(pid)
        code: object = 1
        try:
            self._become_zygote(task, output, channel, master)
        except SystemExit as error:  # of a worker, too
            code = error.code or 0
        except BaseException:
            traceback.print_exc()
        finally:
            _leave(code if isinstance(code, int) else 1)

    def _become_zygote(self, task: Task, output: int | None, channel: int, master: int) -> NoReturn:
        """Give up what is the master's, without letting go of its objects: their descriptors may be others' by then."""
        os.setpgid(0, 0)
        die_with(master)
        signal.set_wakeup_fd(-1)
        for number, handler in self.handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not Python's
        os.dup2(2 if output is None else output, 1)
        if output is not None:
            os.dup2(output, 2)
        close_all_but({*self.descriptors, 0, 1, 2, channel, *task.descriptors})
        zygote.fork_from_here(task, channel, self.load)


def _leave(code: int) -> NoReturn:
    """End this process as the interpreter would, but for the frames of the master that are on its stack."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(code)
