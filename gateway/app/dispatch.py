"""One request from its head to its result: parameters → binding → application (docs/design.md "One request")."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from gateway import settings
from gateway.app.answer import REASONS
from gateway.app.bindings import Bindings, bindings_of, labels
from gateway.app.body import RequestBody
from gateway.app.environ import Rejected, host_and_port, mount, normalise, request_path, server_name
from gateway.app.errors import ErrorStream
from gateway.app.exchange import Exchange
from gateway.app.files import Files
from gateway.app.loader import LoadError, load
from gateway.app.wsgi import Application, FileWrapper, Response, Result, go_on, refuse, run
from gateway.protocol.events import RequestHead

Log = Callable[[str], None]

_MOST_HOSTS = 1_000  # that are known to the quick way at a time, and
_MOST_PORTS = 16  # of each


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


class Known(NamedTuple):
    """What is bound to a host and port for every path, and is not to be looked for again."""

    application: Application
    name: str
    label: int
    host: str  # in canonical form
    server_name: str  # for a request without SERVER_NAME


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
        files: Files | None = None,
    ) -> None:
        """`max_body` in bytes, 0 for no limit; `files`: those that the front-end can send.

        Raises BindingConflict and ValueError for bindings that cannot be.
        """
        self.base: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": None,
            "wsgi.errors": errors,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": functools.partial(FileWrapper, files=files) if files else FileWrapper,
            "wsgi.input_terminated": True,
            "gateway.pool": pool,
        }
        self._bindings = Bindings(entries)
        self._bindings.compact()
        # For the quick way (`net.quick`): what is known of hosts, by HTTP_HOST and SERVER_PORT.
        self.hosts: dict[str, dict[str, Known]] = {}
        self.notes_hosts = False
        self.errors = errors
        self._log = log
        self.port_from = port_from
        self._unknown_host = unknown_host
        self.max_body = max_body or sys.maxsize

    def handle(self, head: RequestHead, exchange: Exchange) -> Result:
        """Answer one request. Raises nothing."""
        environ = head.params
        try:
            application = self._prepare(environ, head, exchange)
        except Rejected as error:
            return self.refuse(error.status, error.reason, exchange, head_only=environ.get("REQUEST_METHOD") == "HEAD")
        return self._run(exchange, run, application, environ, exchange)

    def go_on(self, response: Response, environ: dict[str, Any], outcome: Any) -> Result:
        """See `wsgi.go_on`. Raises nothing."""
        return self._run(response.exchange, go_on, response, environ, outcome)

    def _run(self, exchange: Exchange, answer: Callable[..., Result], *arguments: Any) -> Result:
        """Let what is printed meanwhile go to the front-end as well."""
        errors = self.errors
        before, errors.exchange = errors.exchange, exchange
        try:
            return answer(*arguments, errors, self._log)
        finally:
            errors.flush()
            errors.exchange = before

    def _prepare(self, environ: dict[str, Any], head: RequestHead, exchange: Exchange) -> Application:
        """Complete the environ and find who gets it. Raises Rejected."""
        normalise(environ, head.repeats, len(self.base), plain=head.plain)
        host, port = host_and_port(environ, self.port_from)
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
        if size is not None and size > self.max_body:
            raise Rejected(413, f"CONTENT_LENGTH is {size}, max_body {self.max_body}")
        environ["wsgi.input"] = RequestBody(exchange, size, self.max_body)
        exchange.begin(environ, host, site.label)
        if self.notes_hosts:
            self._note(environ, host, port)
        return site.application

    def _note(self, environ: dict[str, Any], host: str, port: int) -> None:
        """Let the quick way know what is bound to a host as it is written, if that is the same for each path.

        What there is to be known is the clients' to choose, so it is forgotten before it becomes much.
        """
        site = self._bindings.find_for_all_paths(host, port)
        text = environ.get("HTTP_HOST")
        if site is None or site.application is None or text is None:
            return
        if len(self.hosts) >= _MOST_HOSTS:
            self.hosts.clear()
        known = Known(site.application, site.name, site.label, host, server_name(environ))
        ports = self.hosts.setdefault(text, {})
        if len(ports) >= _MOST_PORTS:
            ports.clear()
        ports[environ["SERVER_PORT"]] = known

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
        labelled: dict[int, Site] = {}
        if not application.bindings and len(applications) > 1:
            failures.append(Failure(site.name, f"application {site.name!r} has no bindings: nothing can reach it"))
        for binding in bindings_of(application, alone=len(applications) == 1):
            try:
                bindings.add(binding, site)
                label = label_of.get(binding.hostname, 0)
                entries.append((binding, labelled.setdefault(label, dataclasses.replace(site, label=label))))
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
