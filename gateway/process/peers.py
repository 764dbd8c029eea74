"""What a pool's settings say of its workers' peers: what they speak, who may connect, how long they may take."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable

from gateway.app.dispatch import AnyDispatcher, Dispatcher
from gateway.net.acceptor import IpAddress
from gateway.net.conversation import Timeouts
from gateway.protocol.events import Connection
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.protocol.scgi import SCGIConnection
from gateway.settings import Pool


def connection_factory(pool: Pool, dispatcher: AnyDispatcher) -> Callable[[], Connection]:
    """What makes the protocol side of an accepted connection. Those to ASGI applications multiplex."""
    if pool.protocol != "fastcgi":
        return functools.partial(SCGIConnection, dispatcher.base)
    if isinstance(dispatcher, Dispatcher):
        return functools.partial(FastCGIConnection, dispatcher.base)
    most = pool.max_concurrency
    return functools.partial(FastCGIConnection, dispatcher.base, multiplex=True, max_conns=most, max_reqs=most)


def timeouts(pool: Pool) -> Timeouts:
    """The pool's deadlines for peers, in seconds."""
    return Timeouts(pool.request_head_timeout, pool.request_body_timeout, pool.response_timeout, pool.keepalive_timeout)


def allowed_clients(pool: Pool) -> list[IpAddress]:
    """The addresses that may connect over TCP; empty where only this machine can reach the listener."""
    return [ipaddress.ip_address(text) for text in pool.listen_allowed_clients]
