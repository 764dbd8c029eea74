"""A worker: a forked copy of the zygote that serves the pool's listeners until its channel says otherwise.

Messages to the master: `{"pid": n}` at once, `{"ready": true}` when it serves. From the master: `leave` when another
takes its place; anything else, or the end of the channel, is a stop (see `net.blocking`).
"""

from __future__ import annotations

import functools
import ipaddress
import json
import os
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from gateway.app.dispatch import Dispatcher
from gateway.net.blocking import Driver
from gateway.net.conversation import Timeouts
from gateway.net.kept import KeptQueue
from gateway.process.launch import die_with
from gateway.process.scoreboard import Slot
from gateway.process.task import Task
from gateway.protocol.events import Connection
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from gateway.settings import Pool


def run(task: Task, dispatcher: Dispatcher, slot: int, channel: socket.socket) -> NoReturn:
    """Serve as worker of `slot` until told to leave, then exit."""
    os.setpgid(0, 0)
    die_with(task.master)
    channel.send(json.dumps({"pid": os.getpid()}).encode())
    board = Slot(task.scoreboard, slot)
    dispatcher.on_request = board.busy
    prepare(task, dispatcher)
    driver = Driver(
        [socket.socket(fileno=fd) for fd in task.listeners],
        channel,
        connection_factory(task.pool, dispatcher),
        dispatcher,
        timeouts=timeouts(task.pool),
        board=board,
        kept=KeptQueue(*(socket.socket(fileno=fd) for fd in task.kept)),
        allowed=allowed_clients(task.pool),
    )
    driver.watch()
    channel.send(json.dumps({"ready": True}).encode())
    driver.run()
    sys.exit(0)


def prepare(task: Task, dispatcher: Dispatcher) -> None:
    """Do what can fail in a worker before it serves; also all that a probe does."""
    connection_factory(task.pool, dispatcher)()
    allowed_clients(task.pool)


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
