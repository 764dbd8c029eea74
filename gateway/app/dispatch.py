"""One request from its head to its result: parameters → binding → application (docs/design.md "One request")."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway import settings
from gateway.app.answer import REASONS
from gateway.app.bindings import Bindings, bindings_of, labels
from gateway.app.body import RequestBody
from gateway.app.environ import Rejected
from gateway.app.errors import ErrorStream
from gateway.app.exchange import Exchange, Result
from gateway.app.files import Files
from gateway.app.loader import ASGI, LoadError, interface_of, load, name_of
from gateway.app.routing import Router
from gateway.app.routing import Site as Site
from gateway.app.wsgi import Application, FileWrapper, Response, go_on, refuse, run
from gateway.protocol.events import RequestHead
from gateway.record import Record

if TYPE_CHECKING:
    from gateway.app.asyncdispatch import AsyncDispatcher

Log = Callable[[str], None]


class Failure(Record):
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
        multithread: bool = False,
        multiprocess: bool = True,
        pool: str = "",
        files: Files | None = None,
        **options: Any,
    ) -> None:
        """`files`: those that the front-end can send; `options` are the Router's.

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
        self.router = Router(entries, own=len(self.base), **options)
        self.errors = errors
        self._log = log

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
        site, host, size = self.router.route(head)
        environ["wsgi.input"] = RequestBody(exchange, size, self.router.max_body)
        exchange.begin(environ, host, site.label)
        assert site.application is not None
        return site.application

    def refuse(self, status: int, reason: str, exchange: Exchange, *, head_only: bool = False) -> Result:
        """Answer without any application; `reason` is for the log alone. Raises nothing."""
        self._log(f"answered {status} {REASONS[status]}: {reason}")
        return refuse(exchange, status, head_only=head_only)


AnyDispatcher: TypeAlias = "Dispatcher | AsyncDispatcher"


def build(
    applications: Iterable[settings.Application],
    *,
    errors: ErrorStream,
    log: Log,
    multithread: bool = False,
    multiprocess: bool = True,
    files: Files | None = None,
    authorizer: str = "",
    **options: Any,
) -> tuple[AnyDispatcher, list[Failure]]:
    """Load a pool's applications, and the MODULE:CALLABLE of its authorizer, and bind them; `options` are those of
    either dispatcher, the others are WSGI's.

    An application that fails to load answers 503 and leaves the others served. One that is alone and has no bindings
    answers everything. The first that can be loaded decides whether the pool is one of WSGI or of ASGI.
    """
    applications = tuple(applications)
    failures: list[Failure] = []
    guard = (settings.Application(name="authorizer", app=authorizer),) * bool(authorizer)
    interface, sites = _load_sites((*applications, *guard), multithread, failures)
    if guard:
        options["authorizer"] = sites.pop()
    entries = _entries(applications, sites, _refused(applications, sites, failures))
    if interface == ASGI:
        from gateway.app.asyncdispatch import AsyncDispatcher

        return AsyncDispatcher(entries, errors=errors, log=log, **options), failures
    return Dispatcher(
        entries, errors=errors, log=log, multithread=multithread, multiprocess=multiprocess, files=files, **options
    ), failures


def _refused(applications: Sequence[settings.Application], sites: Sequence[Site], failures: list[Failure]) -> set[int]:
    """Note what cannot be bound where it should be; return the identities of these bindings."""
    bindings: Bindings[Site] = Bindings(())
    refused = set()
    for application, site in zip(applications, sites, strict=True):
        if not application.bindings and len(applications) > 1:
            failures.append(Failure(site.name, f"application {site.name!r} has no bindings: nothing can reach it"))
        for binding in bindings_of(application, alone=len(applications) == 1):
            try:
                bindings.add(binding, site)
            except ValueError as error:
                failures.append(Failure(site.name, f"application {site.name!r}: {error}"))
                refused.add(id(binding))
    return refused


def _entries(
    applications: Sequence[settings.Application], sites: Sequence[Site], refused: Collection[int]
) -> Iterator[tuple[settings.Binding, Site]]:
    """What is bound, one after the other: there may be ten thousand."""
    label_of = labels(applications)
    for application, site in zip(applications, sites, strict=True):
        labelled: dict[int, Site] = {}
        for binding in bindings_of(application, alone=len(applications) == 1):
            label = label_of.get(binding.hostname, 0)
            if label not in labelled:
                labelled[label] = Site(site.name, site.application, site.error, label)
            if id(binding) not in refused:
                yield binding, labelled[label]


def _load_sites(
    applications: Iterable[settings.Application], multithread: bool, failures: list[Failure]
) -> tuple[str, list[Site]]:
    """The pool's interface, "" where no application can be loaded, and its sites."""
    interface = first = ""
    sites = []
    for application in applications:
        name = name_of(application)
        try:
            found = load(application)
            its = interface_of(found, application)
            if interface and its != interface:
                raise LoadError(
                    f"application {name!r} is one of {its.upper()}, and {first!r} of the same pool one of "
                    f"{interface.upper()}: give one of them a pool of its own"
                )
            if its == ASGI and multithread:
                raise LoadError(
                    f"application {name!r} is one of ASGI, which has no use for threads: leave `threads` out of the "
                    "pool; max_concurrency bounds how many requests it runs at once"
                )
            interface, first = its, first or name
            sites.append(Site(name, found))
        except LoadError as error:
            failures.append(Failure(name, str(error), error.traceback))
            sites.append(Site(name, None, str(error)))
    return interface, sites
