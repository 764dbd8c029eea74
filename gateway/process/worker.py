"""A worker: a forked copy of the zygote that serves the pool's listeners until its channel says otherwise.

Messages to the master: `{"pid": n}` at once, `{"ready": true}` when it serves, `{"error": message, "traceback": text}`
before it exits because it cannot. From the master: `leave` when another
takes its place; anything else, or the end of the channel, is a stop (see `net.blocking`).
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from gateway import log
from gateway.app import loader
from gateway.app.dispatch import Dispatcher, Failure
from gateway.net.accesslog import AccessLog
from gateway.net.blocking import Driver
from gateway.net.conversation import Timeouts
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.process import interrupting
from gateway.process.channel import Channel
from gateway.process.launch import die_with, offer_to_oom_killer, set_dumpable
from gateway.process.scoreboard import Layout, Slot
from gateway.process.task import Task
from gateway.protocol.events import Connection
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from gateway.settings import Pool

Load = Callable[[], tuple[Dispatcher, list[Failure]]]  # gives a pool's applications and what could not be loaded

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
        channel.send(json.dumps({"pid": os.getpid()}).encode())
    except OSError:
        os._exit(0)  # the master has given it up meanwhile
    for number in (1, 2):  # the master knows by now whose output it is
        os.dup2(logs[0], number)
    os.close(logs[0])
    [board] = Slot(task.scoreboard, slot, Layout(task.pool.threads, task.hosts)).rows
    log.call_on_loss(board.lose)
    access = AccessLog(logs[1], task.pool, task.name, board.lose) if len(logs) > 1 else None
    try:
        dispatcher, _ = prepare(task, load)
    except loader.LoadError as error:
        report = {"error": str(error), "traceback": error.traceback[-_LONGEST_TRACEBACK:]}
        channel.send(json.dumps(report).encode())
        sys.stderr.flush()
        os._exit(1)  # at once, whatever threads the application has begun
    interruption = interrupting.obey(board, task.slowlog, task.pool.request_terminate_timeout)
    driver = Driver(
        [socket.socket(fileno=fd) for fd in task.listeners],
        Channel(channel, access),
        connection_factory(task.pool, dispatcher),
        dispatcher,
        timeouts=timeouts(task.pool),
        board=board,
        gate=Gate(task.pool.queue_timeout, task.pool.protocol),
        kept=KeptQueue(*(socket.socket(fileno=fd) for fd in task.kept)),
        access=access,
        allowed=allowed_clients(task.pool),
        interruption=interruption,
    )
    driver.watch()
    channel.send(json.dumps({"ready": True}).encode())
    driver.run()
    sys.exit(0)


def prepare(task: Task, load: Load) -> tuple[Dispatcher, list[Failure]]:
    """Do what can fail in a worker before it serves; also all that a probe does. Raises LoadError."""
    dispatcher, failures = load()
    if task.pool.on_worker_start:
        loader.call(task.pool.on_worker_start, "on_worker_start")
    connection_factory(task.pool, dispatcher)()
    allowed_clients(task.pool)
    return dispatcher, failures


def connection_factory(pool: Pool, dispatcher: Dispatcher) -> Callable[[], Connection]:
    """What makes the protocol side of an accepted connection."""
    engine = FastCGIConnection if pool.protocol == "fastcgi" else SCGIConnection
    return functools.partial(engine, dispatcher.base)


def timeouts(pool: Pool) -> Timeouts:
    """The pool's deadlines for peers, in seconds."""
    return Timeouts(pool.request_head_timeout, pool.request_body_timeout, pool.response_timeout, pool.keepalive_timeout)


def allowed_clients(pool: Pool) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """The addresses that may connect over TCP; empty where only this machine can reach the listener."""
    return [ipaddress.ip_address(text) for text in pool.listen_allowed_clients]
