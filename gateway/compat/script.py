"""Start scripts, unchanged, in a process that serves what they would: `gateway run SCRIPT`, `gateway.run(application)`.

A script may come to its end in three ways: gateway.run(application), flup's WSGIServer(application).run(), web.py's
app.run(). Each is called in place, and what the script does after it is done.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Collection, Sequence
from typing import Any

from gateway import log
from gateway.app import script, webpy
from gateway.app.flup import Server, server_class, take_the_place_of_flup
from gateway.app.loader import LoadError, as_callable, is_asynchronous
from gateway.compat import flupserver
from gateway.compat.serving import FCGI_SOCKET, Served, by_cgi, by_hand, is_spawned, name_of, on_socket
from gateway.net import cgi
from gateway.net.listeners import fd_is_listening
from gateway.record import replace
from gateway.settings import ConfigError, Pool, Settings

_BEFORE_THE_SCRIPT = {  # settings of what the process is when it imports the application
    "user", "group", "env", "umask", "chdir", "app_dir", "process_priority", "process_dumpable", "rlimit_files",
    "rlimit_core", "rlimits",
}  # fmt: skip


def run_script(path: str, arguments: Sequence[str], settings: Settings, given: Collection[str] = ()) -> int:
    """Run the start script at `path`, serving in place what it offers; return the exit code.

    What is `given` of the settings comes before what the script says. Raises ConfigError where the script cannot be
    read or offers nothing; what the script raises, it raises.
    """
    (pool,) = settings.pools.values()
    overrides = {name: getattr(pool, name) for name in given if hasattr(pool, name)}
    path = _settle_in(path, settings, pool, given)
    serve_server = functools.partial(flupserver.serve, overrides=overrides)
    take_the_place_of_flup(serve_server)
    webpy.offer_instead_of_serving(functools.partial(_as_web_py_would, serve_server))
    if is_spawned() or "listen" in given or not webpy.PROTOCOLS.isdisjoint(arguments):
        webpy.production()
        if cgi.is_cgi():
            cgi.claim_output()  # before the script can print
    else:
        # Before the script's folder is searched: web.py's documentation calls its script code.py, which is also the
        # name of a module of the standard library that the debugger imports.
        importlib.import_module("werkzeug.debug")
    exit_code = 0

    def take(offered: Any) -> Any:
        nonlocal exit_code
        if isinstance(offered, Server):
            return serve_server(offered)
        exit_code = serve_as_started(offered, replace(Pool(), **overrides))
        return exit_code

    try:
        script.run(path, arguments, take)
    except script.NothingOffered as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        if error.filename != path:
            raise
        raise ConfigError(f"cannot read the script {path}: {error.strerror}") from error
    return exit_code


def _settle_in(path: str, settings: Settings, pool: Pool, given: Collection[str]) -> str:
    """Do what a master does before an application is imported, as far as it was asked for; return the path to run."""
    if settings.gateway.error_log != "stderr":
        log.open_file(settings.gateway.error_log)
    log.use_json(settings.gateway.error_log_format == "json")
    if _BEFORE_THE_SCRIPT.isdisjoint(given):
        return path
    from gateway.process import single

    path = os.path.abspath(path)
    single.settle_in(pool)
    return path


def _as_web_py_would(serve: Any, application: Any) -> Server:
    """What web.py makes of its application where it speaks FastCGI."""
    return server_class("fcgi", serve)(application, multiplexed=True, bindAddress=None, debug=False)


def serve_as_started(application: Any, pool: Pool | None = None) -> int:
    """Serve a WSGI application until this process is stopped, or its one CGI request answered; return the exit code.

    Raises ConfigError for an ASGI application, which needs an event loop in the place of all this, and for what is no
    application.
    """
    if is_asynchronous(application):
        raise ConfigError(
            f"{name_of(application)} is an ASGI application: serve it by gateway serve MODULE:CALLABLE, "
            "or by gateway run --max-children N SCRIPT"
        )
    try:
        application = as_callable(application, "the argument of gateway.run()")
    except LoadError as error:
        raise ConfigError(str(error)) from error
    served = Served(application=application, pool=pool or Pool())
    if fd_is_listening(0):
        on_socket(replace(served, pool=replace(served.pool, listen=FCGI_SOCKET)))
    elif served.pool.listen:
        on_socket(served)
    elif cgi.is_cgi():
        return 0 if by_cgi(replace(served, multiprocess=True)) else 1
    else:
        return by_hand(application)
    return 0
