"""A worker: a forked copy of the zygote that serves the pool's listeners until its channel says otherwise.

Messages to the master: `{"pid": n}` at once, `{"ready": true}` when it serves, `{"error": message, "traceback": text}`
before it exits because it cannot, `{"leaving": true}` when it leaves by itself, having ended a request that took too
long. One that runs ASGI looks at its deadlines itself: it says `{"ready": true, "deadlines": true}`, and
`{"slow": text}` for what belongs in the slow log. From the master: see `net.orders`.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NoReturn

from gateway import log
from gateway.app import loader
from gateway.app.dispatch import AnyDispatcher, Dispatcher, Failure
from gateway.app.interruption import Interruption
from gateway.net.accesslog import AccessLog, access_log, open_log
from gateway.net.blocking import Driver
from gateway.net.conversation import Board, Handler
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.orders import Control
from gateway.net.quick import QuickWay
from gateway.process import interrupting
from gateway.process.channel import Channel
from gateway.process.foreman import Foreman
from gateway.process.interrupting import Interrupter, OnSignal
from gateway.process.peers import allowed_clients, connection_factory, timeouts
from gateway.process.prctl import die_with, offer_to_oom_killer, score_for_oom_killer, set_dumpable
from gateway.process.scoreboard import Layout, Slot
from gateway.process.task import Task
from gateway.settings import Pool

if TYPE_CHECKING:
    from gateway.app.asyncdispatch import AsyncDispatcher
    from gateway.process.asgiworker import AsgiWorker

Load = Callable[[], tuple[AnyDispatcher, list[Failure]]]  # gives a pool's applications and what could not be loaded

_LONGEST_TRACEBACK = 8_000  # characters
_READY = b'{"ready": true}'
_READY_WITH_DEADLINES = b'{"ready": true, "deadlines": true}'


class Worker:
    """What the workers of a zygote are forks of: made once, as far as it is the same in all of them.

    Whatever a process changes, be it a count of references, it has for itself from then on, and no longer in common
    with others. So a worker does little between its fork and its first request: what it is made of is there by then.
    """

    def __init__(self, task: Task, load: Load) -> None:
        pool = task.pool
        self.known: Collection[str] = ()  # the names of what may fail to load in a worker, for it did in the probe
        self._task = task
        self._load = load
        self._loaded: tuple[AnyDispatcher, list[Failure]] | None = None
        self._driver: Driver | None = None  # where all requests run in the main thread
        self._oom_score = score_for_oom_killer()
        self._slot = Slot(task.scoreboard, Layout(pool.threads, task.hosts))
        log.call_on_loss(self._slot.rows[0].lose)
        self._access = None
        if pool.access_log:  # it leads nowhere until a worker is given the descriptor
            self._access = access_log(open_log(os.devnull), pool, task.name, self._slot.rows[0].lose)
        self._channel = Channel(self._access)
        self._listeners = [socket.socket(fileno=fd) for fd in task.listeners]
        self._kept = KeptQueue(*(socket.socket(fileno=fd) for fd in task.kept)) if task.kept else None

    def load(self) -> list[Failure]:
        """Load the applications, unless that is done, and make what serves them; return what could not be loaded.

        Raises LoadError.
        """
        if self._loaded is None:
            self._loaded = self._load()
            dispatcher = self._loaded[0]
            if isinstance(dispatcher, Dispatcher) and self._task.pool.threads == 1:
                row, interruption = self._slot.rows[0], Interruption()
                self._obey(Interrupter(row, interruption, self._channel.say_leaving).on_signal)
                self._driver = self._driver_factory(dispatcher)(self._channel, row, dispatcher, interruption)
        return self._loaded[1]

    def probe(self) -> list[Failure]:
        """Go all the way of a worker but for serving; return what could not be loaded. Raises LoadError."""
        failures = self.load()
        asgi = self._start()
        if asgi is not None:
            asgi.end()
        return failures

    def run(self, slot: int, channel: int, logs: Sequence[int]) -> NoReturn:
        """Serve as worker of `slot` until told to leave, then exit; to be called in a fork.

        Descriptors: `channel` to the master, `logs` for what it writes to standard output and error, and of the access
        log, if there is one.
        """
        self._settle_in(channel)
        for number in (1, 2):  # the master knows by now whose output it is
            os.dup2(logs[0], number)
        os.close(logs[0])
        self._slot.take(slot)
        if self._access is not None and len(logs) > 1:
            self._access.reopen(logs[1])
        try:
            for failure in self.load():
                if failure.name not in self.known:
                    raise loader.LoadError(failure.message, failure.traceback)
            asgi = self._start()
        except loader.LoadError as error:
            said = {"error": str(error), "traceback": error.traceback[-_LONGEST_TRACEBACK:]}
            self._channel.say(json.dumps(said).encode())
            sys.stderr.flush()
            os._exit(1)  # at once, whatever threads the application has begun
        if asgi is not None:
            self._serve_asgi(asgi)
        elif self._driver is not None:
            self._driver.watch()
            self._channel.say(_READY)
            self._driver.run()
        else:
            self._serve_in_threads()
        sys.exit(0)

    def _settle_in(self, channel: int) -> None:
        """Become a process of the pool, and tell the master which."""
        os.setpgid(0, 0)
        die_with(self._task.master)
        dumpable = self._task.pool.process_dumpable
        if not dumpable:
            set_dumpable(True)  # or the file that the next line writes would be root's
        offer_to_oom_killer(self._oom_score)
        if not dumpable:
            set_dumpable(False)
        try:
            self._channel.open(channel)
            self._channel.say(b'{"pid": %d}' % os.getpid())
        except OSError:
            os._exit(0)  # the master has given it up meanwhile

    def _start(self) -> AsgiWorker | None:
        """Do what else can fail before it serves; return what serves ASGI applications. Raises LoadError."""
        pool = self._task.pool
        if pool.on_worker_start:
            loader.call(pool.on_worker_start, "on_worker_start")
        assert self._loaded is not None
        if isinstance(self._loaded[0], Dispatcher):
            return None
        asgi = asgi_worker(pool, self._loaded[0])
        asgi.start()
        return asgi

    def _serve_asgi(self, asgi: AsgiWorker) -> None:
        self._obey(lambda *_: None)
        driver = asgi.make_driver(
            self._listeners,
            self._channel,
            self._slot.rows[0],
            self._channel.say_slow,
            kept=self._kept,
            access=self._access,
        )
        driver.watch()
        self._channel.say(_READY_WITH_DEADLINES)
        driver.run()
        asgi.end()

    def _serve_in_threads(self) -> None:
        assert self._loaded is not None
        dispatcher = self._loaded[0]
        assert isinstance(dispatcher, Dispatcher)
        make_driver = self._driver_factory(dispatcher)
        foreman = Foreman(self._channel, self._slot.rows, dispatcher, make_driver, self._channel.say_leaving)
        self._obey(foreman.on_signal)
        foreman.take_signals()
        self._channel.say(_READY)
        run_threads(foreman)

    def _driver_factory(self, dispatcher: Dispatcher) -> Callable[..., Driver]:
        return driver_factory(self._task.pool, dispatcher, self._listeners, self._access, self._kept)

    def _obey(self, on_interrupt: OnSignal) -> None:
        interrupting.obey(self._task.slowlog, self._task.pool.request_terminate_timeout, on_interrupt)


def run_threads(foreman: Foreman) -> None:
    """Serve in several threads; exit where that fails, or where one of them is left behind and may never end."""
    try:
        left_behind = foreman.run()
    except BaseException as error:
        log.lines("".join(traceback.format_exception(error)), log.Level.ERROR)
        os._exit(1)  # the other threads would go on, with nobody to tell them to leave
    if left_behind:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(0)


def driver_factory(
    pool: Pool,
    dispatcher: Dispatcher,
    listeners: Sequence[socket.socket],
    access: AccessLog | None,
    kept: KeptQueue | None = None,
) -> Callable[..., Driver]:
    """What makes the driver of each thread: all of them have the same listeners, kept queue and access log."""

    def make(control: Control, board: Board, handler: Handler, interruption: Interruption | None = None) -> Driver:
        quick = None
        if handler is dispatcher and pool.protocol == "fastcgi":
            quick = QuickWay.maker(dispatcher)
        return Driver(
            listeners,
            control,
            connection_factory(pool, dispatcher),
            handler,
            timeouts=timeouts(pool),
            board=board,
            gate=Gate(pool.queue_timeout, pool.protocol),
            kept=kept,
            access=access,
            allowed=allowed_clients(pool),
            interruption=interruption,
            quick=quick,
        )

    return make


def asgi_worker(pool: Pool, dispatcher: AsyncDispatcher) -> AsgiWorker:
    """What serves an ASGI pool."""
    from gateway.process.asgiworker import AsgiWorker  # and asyncio, which others do without

    return AsgiWorker(pool, dispatcher)
