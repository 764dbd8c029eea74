"""flup's server classes (flup 1.0.3, flup6 1.1.1): their parameters, and of an application given to one what is to be
served. What a parameter means to a pool is `compat`'s matter; this is also all that a pool's own workers need.

The modules of flup differ in protocol and concurrency alone: MODULES says how, and one class serves them all.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, ClassVar

from gateway.app.answer import error_answer
from gateway.app.flupimitation import with_environ, with_error_page, with_flup6s_errors
from gateway.app.imports import change, change_or_make
from gateway.app.script import offer
from gateway.record import Record, field

FCGI_RESPONDER, FCGI_AUTHORIZER, FCGI_FILTER = 1, 2, 3  # FastCGI 1.0 §8
CONSTANTS = {
    "FCGI_LISTENSOCK_FILENO": 0, "FCGI_KEEP_CONN": 1, "FCGI_RESPONDER": FCGI_RESPONDER,
    "FCGI_AUTHORIZER": FCGI_AUTHORIZER, "FCGI_FILTER": FCGI_FILTER, "FCGI_REQUEST_COMPLETE": 0,
    "FCGI_CANT_MPX_CONN": 1, "FCGI_OVERLOADED": 2, "FCGI_UNKNOWN_ROLE": 3, "FCGI_MAX_CONNS": "FCGI_MAX_CONNS",
    "FCGI_MAX_REQS": "FCGI_MAX_REQS", "FCGI_MPXS_CONNS": "FCGI_MPXS_CONNS",
}  # fmt: skip


class NoDefault:
    """`scriptName` where none is given."""


_FASTCGI: dict[str, Any] = {
    "bindAddress": None, "umask": None, "multiplexed": False, "debug": True, "roles": (FCGI_RESPONDER,),
    "forceCGI": False,
}  # fmt: skip
_SCGI: dict[str, Any] = {
    "bindAddress": ("localhost", 4000), "umask": None, "allowedServers": None, "loggingLevel": 20,
    "debug": True,
}  # fmt: skip
_MANY = {"multithreaded": True, "multiprocess": False}
_OF_THREADS = {"minSpare": 1, "maxSpare": 5, "maxThreads": 0xFFFFFFFF}
_OF_PROCESSES = {"minSpare": 1, "maxSpare": 5, "maxChildren": 50, "maxRequests": 0, "timeout": None, "sockTimeout": 0}
_NOBODYS = {"jobClass": None, "jobArgs": ()}  # flup itself drops them


class Module(Record):
    """One module of flup: what it speaks, whether it forks or has threads, and what its WSGIServer takes."""

    protocol: str
    forks: bool
    threads: bool
    positional: Mapping[str, Any]
    by_keyword: Mapping[str, Any] = field(factory=dict)

    @property
    def signature(self) -> inspect.Signature:
        """That of its WSGIServer."""
        kind = inspect.Parameter
        first = [kind("application", kind.POSITIONAL_OR_KEYWORD)]
        more = [kind(name, kind.POSITIONAL_OR_KEYWORD, default=default) for name, default in self.positional.items()]
        rest = [kind(name, kind.KEYWORD_ONLY, default=default) for name, default in self.by_keyword.items()]
        return inspect.Signature([*first, *more, *rest])


_ENVIRON: dict[str, Any] = {"environ": None}
_NAMED: dict[str, Any] = {"scriptName": NoDefault, **_ENVIRON}
MODULES = {
    "fcgi": Module("fastcgi", False, True, {**_ENVIRON, **_MANY, **_FASTCGI}, {**_OF_THREADS, **_NOBODYS}),
    "fcgi_fork": Module("fastcgi", True, False, {**_ENVIRON, **_FASTCGI}, {**_MANY, **_OF_PROCESSES, **_NOBODYS}),
    "fcgi_single": Module("fastcgi", False, False, {**_ENVIRON, **_FASTCGI}, {**_MANY, **_NOBODYS}),
    "scgi": Module("scgi", False, True, {**_NAMED, **_MANY, **_SCGI}, {**_OF_THREADS, **_NOBODYS}),
    "scgi_fork": Module("scgi", True, False, {**_NAMED, **_SCGI}, {**_MANY, **_OF_PROCESSES, **_NOBODYS}),
}

# What subclasses of flup's servers override, and this engine does not call. Not to say so would change what is served.
_NOT_CALLED = {
    "handler": "put it into WSGI around the application",
    "_sanitizeEnv": "put it into WSGI around the application",
    "_isClientAllowed": "name the addresses in FCGI_WEB_SERVER_ADDRS, or in allowedServers",
    "_child": "call it before run()",
    "_mainloopPeriodic": "start a thread of your own",
    "_setupSocket": "let bindAddress say where to listen",
}

Serve = Callable[["Server"], bool]


class _NoThreadPool:
    """What stands for flup's, whose limits CherryPy changes when it stops."""

    maxSpare = _idleCount = 0


class Server:
    """A WSGIServer. Its attributes are those of flup's; made by `server_class`."""

    module: ClassVar[Module]
    serve: ClassVar[Serve]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take flup's parameters. Raises TypeError for others, and ValueError for what cannot be."""
        bound = self.module.signature.bind(*arguments, **options)
        self.given = frozenset(bound.arguments)  # those that the script names
        bound.apply_defaults()
        self.options = bound.arguments
        self.application: Callable[..., Iterable[bytes]] = self.options["application"]
        self.environ: Mapping[str, Any] = self.options["environ"] or {}
        self.debug = self.options["debug"]
        self.forceCGI: bool = self.options.get("forceCGI", False)
        self.roles: Iterable[int] = self.options.get("roles", (FCGI_RESPONDER,))
        self.multithreaded: bool = self.module.threads and bool(self.options["multithreaded"])
        self.multiprocess: bool = self.module.forks or bool(self.options["multiprocess"])
        self._stop: Callable[[bool], None] = lambda hang_up: None
        self._threadPool = _NoThreadPool()
        self._check()

    def _check(self) -> None:
        if FCGI_RESPONDER not in self.roles and FCGI_AUTHORIZER not in self.roles:
            raise ValueError(f"roles={self.roles!r}: gateway answers responders (1) and authorizers (2)")
        low, high = self.options.get("minSpare", 1), self.options.get("maxSpare", 5)
        if low < 1 or high < low:
            raise ValueError(f"minSpare={low}, maxSpare={high}: at least 1, and maxSpare no less")
        for name, remedy in _NOT_CALLED.items():
            if hasattr(type(self), name):
                raise TypeError(f"{type(self).__qualname__}.{name}() would not be called by gateway: {remedy}")

    def run(self) -> bool:
        """Serve until a signal ends it; True if that was SIGHUP."""
        return bool(offer(self, functools.partial(type(self).serve, self)))

    def stop_by(self, stop: Callable[[bool], None]) -> None:
        """It serves, and `stop` would end it, told whether run() is then to return True."""
        self._stop = stop

    def _exit(self, reload: bool = False) -> None:
        """End run(), which returns `reload`; flup has it for subclasses. Not of a pool's workers."""
        self._stop(reload)

    def __setattr__(self, name: str, value: Any) -> None:
        """CherryPy stops flup's servers, which it runs in a thread, by `_keepGoing = False`."""
        if name == "_keepGoing" and not value:
            self._stop(False)
        super().__setattr__(name, value)

    def error(self, req: Any) -> None:
        """Called where the application has raised before its answer began, in the `except` of that: a subclass writes
        another answer, in CGI form, to `req.stdout`.
        """
        head, body = error_answer(500)
        req.stdout.write(head + b"\r\n" + body)

    def wsgifunc(self) -> Callable[..., Iterable[bytes]]:
        """The application with what the server adds to it (the name is web.py's, whose applications have it too)."""
        application = self.application
        if type(self).error is not Server.error:
            application = with_error_page(application, self)
        if self.environ:
            application = with_environ(application, self.environ)
        return with_flup6s_errors(application)


def server_class(module: str, serve: Serve) -> type[Server]:
    """The WSGIServer of flup's `module`, which serves by calling `serve` unless somebody runs the script (`offer`)."""
    declared = MODULES[module]
    names = {
        "module": declared,
        "serve": staticmethod(serve),
        "__signature__": declared.signature,
        "__module__": f"flup.server.{module}",
        "__doc__": f"flup.server.{module}.WSGIServer on the engine of gateway.",
    }
    return type("WSGIServer", (Server,), names)


def take_the_place_of_flup(serve: Serve) -> None:
    """Put these classes into flup's modules as they are imported; where flup lacks, its modules are made.

    What else is in them stays flup's own. Trac's copy of flup, `trac.web._fcgi`, is flup's as well.
    """
    change_or_make("flup", _keep, package=True)
    change_or_make("flup.server", _keep, package=True)
    change_or_make("flup.server.fcgi_base", _complete)
    for name in MODULES:
        change_or_make(f"flup.server.{name}", functools.partial(_put, server=server_class(name, serve)))
    for name in ("ajp", "ajp_fork"):
        change_or_make(f"flup.server.{name}", _refuse)
    change("trac.web._fcgi", functools.partial(_put, server=server_class("fcgi", serve)))


def _keep(module: ModuleType) -> None:
    """A package has nothing to be changed."""


def _complete(module: ModuleType) -> None:
    for name, value in CONSTANTS.items():
        module.__dict__.setdefault(name, value)


def _put(module: ModuleType, server: type[Server]) -> None:
    module.__dict__["WSGIServer"] = server
    module.__dict__.setdefault("NoDefault", NoDefault)
    _complete(module)


def _refuse(module: ModuleType) -> None:
    raise ImportError(f"{module.__name__}: gateway does not speak AJP; let Apache speak FastCGI, with mod_proxy_fcgi")
