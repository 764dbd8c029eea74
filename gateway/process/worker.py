"""A worker: a forked copy of the zygote that serves the pool's listeners until its channel says otherwise.

Messages to the master: `{"pid": n}` at once, `{"ready": true}` when it serves, `{"error": message, "traceback": text}`
before it exits because it cannot, `{"leaving": true}` when it leaves by itself, having ended a request that took too
long. One that runs ASGI looks at its deadlines itself: it says `{"ready": true, "deadlines": true}`, and
`{"slow": text}` for what belongs in the slow log. From the master: see `net.orders`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from gateway import log
from gateway.app import loader
from gateway.app.dispatch import AnyDispatcher, Dispatcher, Failure
from gateway.app.interruption import Interruption
from gateway.net.accesslog import AccessLog, access_log
from gateway.net.blocking import Driver
from gateway.net.conversation import Board, Handler
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.orders import Control
from gateway.net.quick import QuickWay
from gateway.process import interrupting
from gateway.process.channel import Channel
from gateway.process.foreman import Foreman
from gateway.process.interrupting import Interrupter
from gateway.process.peers import allowed_clients, connection_factory, timeouts
from gateway.process.prctl import die_with, offer_to_oom_killer, set_dumpable
from gateway.process.scoreboard import Layout, Slot
from gateway.process.task import Task
from gateway.settings import Pool

if TYPE_CHECKING:
    from gateway.app.asyncdispatch import AsyncDispatcher
    from gateway.process.asgiworker import AsgiWorker

Load = Callable[[], tuple[AnyDispatcher, list[Failure]]]  # gives a pool's applications and what could not be loaded

_LONGEST_TRACEBACK = 8_000  # characters


def run(task: Task, load: Load, slot: int, channel: socket.socket, logs: Sequence[int]) -> NoReturn:
    """Serve as worker of `slot` until told to leave, then exit.

    `logs`: descriptors for what it writes to standard output and error, and of the access log, if there is one.
    """
    os.setpgid(0, 0)
    die_with(task.master)
    set_dumpable(True)  # or the file that the next line writes would be root's
    offer_to_oom_killer()
    set_dumpable(task.pool.process_dumpable)
    try:
        _say(channel, pid=os.getpid())
    except OSError:
        os._exit(0)  # the master has given it up meanwhile
    for number in (1, 2):  # the master knows by now whose output it is
        os.dup2(logs[0], number)
    os.close(logs[0])
    rows = Slot(task.scoreboard, slot, Layout(task.pool.threads, task.hosts)).rows
    log.call_on_loss(rows[0].lose)
    access = access_log(logs[1], task.pool, task.name, rows[0].lose) if len(logs) > 1 else None
    try:
        dispatcher, _ = prepare(task, load)
        asgi = None if isinstance(dispatcher, Dispatcher) else asgi_worker(task.pool, dispatcher)
        if asgi is not None:
            asgi.start()
    except loader.LoadError as error:
        _say(channel, error=str(error), traceback=error.traceback[-_LONGEST_TRACEBACK:])
        sys.stderr.flush()
        os._exit(1)  # at once, whatever threads the application has begun
    listeners = [socket.socket(fileno=fd) for fd in task.listeners]
    kept = KeptQueue(*(socket.socket(fileno=fd) for fd in task.kept))
    if asgi is not None:
        interrupting.obey(task.slowlog, task.pool.request_terminate_timeout, lambda *_: None)
        report = functools.partial(_say_slow, channel)
        asgi_driver = asgi.make_driver(listeners, Channel(channel, access), rows[0], report, kept=kept, access=access)
        asgi_driver.watch()
        _say(channel, ready=True, deadlines=True)
        asgi_driver.run()
        asgi.end()
        sys.exit(0)
    assert isinstance(dispatcher, Dispatcher)
    make_driver = driver_factory(task.pool, dispatcher, listeners, access, kept)
    say_leaving = functools.partial(_say_leaving, channel)
    if len(rows) > 1:
        foreman = Foreman(Channel(channel, access), rows, dispatcher, make_driver, say_leaving)
        interrupting.obey(task.slowlog, task.pool.request_terminate_timeout, foreman.on_signal)
        _say(channel, ready=True)
        run_threads(foreman)
    else:
        interruption = Interruption()
        interrupter = Interrupter(rows[0], interruption, say_leaving)
        interrupting.obey(task.slowlog, task.pool.request_terminate_timeout, interrupter.on_signal)
        driver = make_driver(Channel(channel, access), rows[0], dispatcher, interruption)
        driver.watch()
        _say(channel, ready=True)
        driver.run()
    sys.exit(0)


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


def _say(channel: socket.socket, **message: Any) -> None:
    channel.send(json.dumps(message).encode())


def _say_leaving(channel: socket.socket) -> None:
    with contextlib.suppress(OSError):  # a master that does not listen finds out by itself
        channel.send(json.dumps({"leaving": True}).encode(), socket.MSG_DONTWAIT)


def _say_slow(channel: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):
        channel.send(json.dumps({"slow": text[:_LONGEST_TRACEBACK]}).encode(), socket.MSG_DONTWAIT)


def driver_factory(
    pool: Pool,
    dispatcher: Dispatcher,
    listeners: Sequence[socket.socket],
    access: AccessLog | None,
    kept: KeptQueue | None = None,
) -> Callable[..., Driver]:
    """What makes the driver of each thread: all of them have the same listeners, kept queue and access log."""

    def make(control: Control, board: Board, handler: Handler, interruption: Interruption | None = None) -> Driver:
        interruption = interruption or Interruption()
        quick = None
        if handler is dispatcher and pool.protocol == "fastcgi":
            quick = QuickWay.maker(dispatcher, board, interruption, access, pool.queue_timeout)
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


def probe(task: Task, load: Load) -> list[Failure]:
    """Go all the way of a worker but for serving; return what could not be loaded. Raises LoadError."""
    dispatcher, failures = prepare(task, load)
    if not isinstance(dispatcher, Dispatcher):
        worker = asgi_worker(task.pool, dispatcher)
        worker.start()
        worker.end()
    return failures


def asgi_worker(pool: Pool, dispatcher: AsyncDispatcher) -> AsgiWorker:
    """What serves an ASGI pool."""
    from gateway.process.asgiworker import AsgiWorker  # and asyncio, which others do without

    return AsgiWorker(pool, dispatcher)


def prepare(task: Task, load: Load) -> tuple[AnyDispatcher, list[Failure]]:
    """Do what can fail in a worker before it serves. Raises LoadError."""
    dispatcher, failures = load()
    if task.pool.on_worker_start:
        loader.call(task.pool.on_worker_start, "on_worker_start")
    connection_factory(task.pool, dispatcher)()
    allowed_clients(task.pool)
    return dispatcher, failures
