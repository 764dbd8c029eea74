"""Serve an application in the process that runs its start script: on a socket, as CGI, or by hand.

A socket is served by a worker by itself (`process.single`), or, where flup would fork, by a pool whose workers are
forked from here (`process.forking`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from gateway import log
from gateway.app import webpy
from gateway.app.dispatch import Dispatcher, Failure, Site
from gateway.app.errors import ErrorStream
from gateway.app.exchange import Disconnected
from gateway.app.files import Files
from gateway.net import cgi
from gateway.net.listeners import fd_is_listening
from gateway.record import Record
from gateway.settings import Binding, ConfigError, Pool

FCGI_SOCKET = ("fd:0",)  # FastCGI 1.0 §2.2, FCGI_LISTENSOCK_FILENO


class Served(Record):
    """An application and how it is to be served."""

    application: Any
    pool: Pool
    bindings: tuple[Binding, ...] = (Binding(),)
    multiprocess: bool = False
    forks: bool = False
    name: str = ""  # of the application, in messages; by default what Python calls it

    def dispatcher(self, errors: ErrorStream, *, run_once: bool = False) -> Dispatcher:
        """What answers its requests. Raises ValueError for a binding that is none."""
        site = Site(self.name or name_of(self.application), self.application)
        dispatcher = Dispatcher(
            [(binding, site) for binding in self.bindings],
            errors=errors,
            log=log.line,
            files=Files(self.pool.x_accel, self.pool.x_sendfile),
            port_from=self.pool.port_from,
            unknown_host=self.pool.unknown_host,
            max_body=self.pool.max_body,
            multithread=self.pool.threads > 1 and not run_once,
            multiprocess=self.multiprocess,
        )
        dispatcher.base["wsgi.run_once"] = run_once
        return dispatcher


def name_of(application: Any) -> str:
    """What an application is called in messages."""
    return str(getattr(application, "__name__", type(application).__name__))


def is_spawned() -> bool:
    """Say whether somebody has started this process to serve: with a socket on fd 0, or for one CGI request."""
    return fd_is_listening(0) or cgi.is_cgi()


def on_socket(served: Served, on_start: Callable[[Callable[[bool], None]], object] = lambda stop: None) -> bool:
    """Serve what the pool listens on until a signal ends it; say whether that was SIGHUP.

    `on_start` is given what stops it, told whether to count as SIGHUP; not for a pool, which wants the main thread.
    Raises ListenError and ConfigError.
    """
    webpy.production()
    if served.forks:
        from gateway.process import forking

        if threading.current_thread() is not threading.main_thread():
            raise ConfigError(
                f"{served.name}: a server that forks is run in the main thread alone; take one with threads"
            )
        return forking.serve(served.name, served.pool, lambda: _load(served))
    from gateway.process import single

    errors = ErrorStream(log.line)
    return single.serve_until_stopped(served.pool, served.dispatcher(errors), errors, on_start)


def _load(served: Served) -> tuple[Dispatcher, list[Failure]]:
    assert isinstance(sys.stderr, ErrorStream)  # the worker's own
    return served.dispatcher(sys.stderr), []


def by_cgi(served: Served) -> bool:
    """Answer the one request that this process was started for; say whether the answer is whole."""
    webpy.production()
    errors = ErrorStream(log.line)
    dispatcher = served.dispatcher(errors, run_once=True)
    exchange = cgi.CgiExchange()
    os.environ.pop("HTTP_PROXY", None)  # a client's header, which libraries would take for the variable (httpoxy)
    with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
        result = dispatcher.handle(cgi.request_head(dispatcher.base), exchange)
    try:
        exchange.finish()
    except Disconnected:
        return False
    return result.complete


def by_hand(application: Any) -> int:
    """Serve with debugger and reloader, for whoever has started the script; return the exit code."""
    from gateway.front import development

    return development.run_alone(application, os.environ.get("GATEWAY_STATIC"))
