"""One request from its head to its result: parameters → binding → application (docs/design.md "One request")."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from gateway import settings
from gateway.app.answer import REASONS
from gateway.app.bindings import Bindings, bindings_of, labels
from gateway.app.body import RequestBody
from gateway.app.environ import Rejected, host_and_port, mount, normalise, request_path
from gateway.app.errors import ErrorStream
from gateway.app.exchange import Exchange
from gateway.app.loader import LoadError, load
from gateway.app.wsgi import Application, FileWrapper, Result, refuse, run
from gateway.protocol.events import RequestHead

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """An application that is bound somewhere: its callable, or why there is none."""

    name: str
    application: Application | None
    error: str | None = None
    label: int = 0  # under which requests to its host are counted

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Failure:
    """An application that is not served, or not everywhere: a message, and its own traceback or ""."""

    name: str
    message: str
    traceback: str = ""


class Dispatcher:
    """Answers requests with the applications bound to their host, port and path.

    `base` is the environ that every request starts from; a connection decodes parameters over a copy of it.
    """

    def __init__(
        self,
        entries: Iterable[tuple[settings.Binding, Site]],
        *,
        errors: ErrorStream,
        log: Log,
        port_from: str = "server",
        unknown_host: int = 503,
        max_body: int = 0,
        multithread: bool = False,
        multiprocess: bool = True,
        pool: str = "",
    ) -> None:
        """`max_body` in bytes, 0 for no limit. Raises BindingConflict and ValueError for bindings that cannot be."""
        self.base: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": None,
            "wsgi.errors": errors,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            "gateway.pool": pool,
        }
        self._bindings = Bindings(entries)
        self.errors = errors
        self._log = log
        self._port_from = port_from
        self._unknown_host = unknown_host
        self._max_body = max_body or sys.maxsize

    def handle(self, head: RequestHead, exchange: Exchange) -> Result:
        """Answer one request. Raises nothing."""
        environ = head.params
        try:
            application = self._prepare(environ, head, exchange)
        except Rejected as error:
            return self.refuse(error.status, error.reason, exchange, head_only=environ.get("REQUEST_METHOD") == "HEAD")
        errors = self.errors
        errors.exchange = exchange
        try:
            return run(application, environ, exchange, log=self._log)
        finally:
            errors.flush()
            errors.exchange = None

    def _prepare(self, environ: dict[str, Any], head: RequestHead, exchange: Exchange) -> Application:
        """Complete the environ and find who gets it. Raises Rejected."""
        normalise(environ, head.repeats, len(self.base), plain=head.plain)
        host, port = host_and_port(environ, self._port_from)
        path, prefix = request_path(environ)
        found = self._bindings.find(host, port, path)
        if found is None:
            raise Rejected(self._unknown_host, f"nothing is bound to {host}:{port}")
        site, bound_prefix = found
        if site.application is None:
            raise Rejected(503, site.error or f"application {site.name!r} is not running")
        mount(environ, path, bound_prefix or prefix)
        environ["gateway.application"] = site.name
        length = environ.get("CONTENT_LENGTH")
        size = None if length is None else int(length)
        if size is not None and size > self._max_body:
            raise Rejected(413, f"CONTENT_LENGTH is {size}, max_body {self._max_body}")
        environ["wsgi.input"] = RequestBody(exchange, size, self._max_body)
        exchange.begin(environ, host, site.label)
        return site.application

    def refuse(self, status: int, reason: str, exchange: Exchange, *, head_only: bool = False) -> Result:
        """Answer without any application; `reason` is for the log alone. Raises nothing."""
        self._log(f"answered {status} {REASONS[status]}: {reason}")
        return refuse(exchange, status, head_only=head_only)


def build(
    applications: Iterable[settings.Application],
    *,
    errors: ErrorStream,
    log: Log,
    **options: Any,
) -> tuple[Dispatcher, list[Failure]]:
    """Load a pool's applications and bind them; `options` are the Dispatcher's.

    An application that fails to load answers 503 and leaves the others served. One that is alone and has no bindings
    answers everything.
    """
    applications = tuple(applications)
    label_of = labels(applications)
    failures: list[Failure] = []
    bindings: Bindings[Site] = Bindings(())
    entries: list[tuple[settings.Binding, Site]] = []
    for application in applications:
        site = _load_site(application, failures)
        if not application.bindings and len(applications) > 1:
            failures.append(Failure(site.name, f"application {site.name!r} has no bindings: nothing can reach it"))
        for binding in bindings_of(application, alone=len(applications) == 1):
            try:
                bindings.add(binding, site)
                entries.append((binding, dataclasses.replace(site, label=label_of.get(binding.hostname, 0))))
            except ValueError as error:
                failures.append(Failure(site.name, f"application {site.name!r}: {error}"))
    return Dispatcher(entries, errors=errors, log=log, **options), failures


def _load_site(application: settings.Application, failures: list[Failure]) -> Site:
    name = application.name or application.app or application.script or application.className
    try:
        return Site(name, load(application))
    except LoadError as error:
        failures.append(Failure(name, str(error), error.traceback))
        return Site(name, None, str(error))
