"""Serve an application as whatever this process was started as: a FastCGI program with its listener on fd 0, a CGI
program, or by hand (the development server).
"""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from gateway import log
from gateway.app import webpy
from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.app.exchange import Disconnected
from gateway.app.files import Files
from gateway.app.script import NothingOffered, capture
from gateway.net import cgi
from gateway.net.listeners import fd_is_listening
from gateway.settings import Binding, ConfigError, Pool


def run_script(path: str, arguments: list[str], pool: Pool | None = None) -> int:
    """Run the start script at `path` and serve the application that it ends with; return the exit code.

    Raises ConfigError where the script cannot be read or offers nothing; what the script raises, it raises.
    """
    webpy.offer_instead_of_serving()
    if fd_is_listening(0) or cgi.is_cgi():
        webpy.production()
    else:
        # Before the script's folder is searched: web.py's documentation calls its script code.py, which is also the
        # name of a module of the standard library that the debugger imports.
        importlib.import_module("werkzeug.debug")
    try:
        application = capture(path, arguments)
    except OSError as error:
        raise ConfigError(f"cannot read the script {path}: {error.strerror}") from error
    except NothingOffered as error:
        raise ConfigError(str(error)) from error
    return serve_as_started(application, pool)


def serve_as_started(application: Any, pool: Pool | None = None) -> int:
    """Serve a WSGI application until this process is stopped, or its one CGI request answered; return the exit code."""
    name = getattr(application, "__name__", type(application).__name__)
    if fd_is_listening(0):
        from gateway.process import single

        pool = pool or Pool()
        errors = ErrorStream(log.line)
        return single.serve_dispatcher(pool, _dispatcher(name, application, errors, pool), errors)
    if cgi.is_cgi():
        return _answer_cgi(name, application)
    from gateway.front import development

    development.run(application, static=os.environ.get("GATEWAY_STATIC"))
    return 0


def _dispatcher(name: str, application: Any, errors: ErrorStream, pool: Pool) -> Dispatcher:
    return Dispatcher(
        [(Binding(), Site(name, application))],
        errors=errors,
        log=log.line,
        port_from=pool.port_from,
        unknown_host=pool.unknown_host,
        max_body=pool.max_body,
        files=Files(pool.x_accel, pool.x_sendfile),
        multithread=pool.threads > 1,
        multiprocess=False,
    )


def _answer_cgi(name: str, application: Any) -> int:
    errors = ErrorStream(log.line)
    dispatcher = _dispatcher(name, application, errors, Pool())
    exchange = cgi.CgiExchange()
    with (
        contextlib.redirect_stdout(errors),
        contextlib.redirect_stderr(errors),
    ):  # standard output is the answer's alone
        result = dispatcher.handle(cgi.request_head(dispatcher.base), exchange)
    try:
        exchange.flush()
    except Disconnected:
        return 1
    return 0 if result.complete else 1
