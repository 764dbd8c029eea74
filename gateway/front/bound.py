"""Applications and their bindings as one WSGI application, for Werkzeug's server: hosts, ports and paths are dispatched
by the router of the pools, and what an application raises goes on to whoever calls this, a debugger.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response
from werkzeug.wsgi import get_input_stream

from gateway.app import loader
from gateway.app.bindings import bindings_of, place
from gateway.app.dispatch import Failure
from gateway.app.environ import Rejected
from gateway.app.routing import Router, Site
from gateway.app.tracebacks import own_frames
from gateway.protocol.events import RequestHead, Role
from gateway.settings import Application, Binding, Pool

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Entries = Sequence[tuple[Binding, Site]]
_ASGI = "it is an ASGI application, and this server runs WSGI alone: `gateway up` shows it"


def failing(error: Exception) -> WSGIApplication:
    """An application in the place of one that could not be loaded: it raises why, for the debugger to show."""
    if error.__cause__ is not None:
        error.__cause__.with_traceback(own_frames(error.__cause__))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise error.with_traceback(None)

    return application


@dataclass(slots=True)
class Loaded:
    """What is bound where, and what could not be loaded, which raises its reason where it is bound."""

    entries: list[tuple[Binding, Site]]
    failures: list[Failure]

    @property
    def works(self) -> bool:
        """Whether any application could be loaded."""
        return len({id(site) for _, site in self.entries}) > len(self.failures)


def load(applications: Iterable[Application]) -> Loaded:
    """Load the applications, web.py's with what it does for development."""
    applications = tuple(applications)
    loaded = Loaded([], [])
    for application in applications:
        name = loader.name_of(application)
        try:
            found = loader.load(application, production=False)
            if loader.interface_of(found, application) == loader.ASGI:
                raise loader.LoadError(f"application {name!r}: {_ASGI}")
        except loader.LoadError as error:
            loaded.failures.append(Failure(name, str(error), error.traceback))
            found = failing(error)
        site = Site(name, found)
        loaded.entries += [(binding, site) for binding in bindings_of(application, alone=len(applications) == 1)]
    return loaded


class Bound:
    """A WSGI application that answers each request by the application that its host, port and path are bound to."""

    def __init__(self, entries: Entries, pool: Pool) -> None:
        """`pool` says how hosts are compared, and how large a body may be. Raises ValueError as `Router` does."""
        self._unknown_host = pool.unknown_host
        bound = (f"{place(binding)} is bound to {site}" for binding, site in entries)
        self._where = "".join(f"{line}\n" for line in bound)
        self._router = Router(
            entries, own=0, port_from=pool.port_from, unknown_host=pool.unknown_host, max_body=pool.max_body
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        __traceback_hide__ = True  # Werkzeug's debugger then leaves this frame out
        params = dict(_parameters(environ))
        body = get_input_stream(environ)
        try:
            site, _, _ = self._router.route(RequestHead(1, Role.RESPONDER, False, params, []))
        except Rejected as refused:
            text = f"{refused.reason}\n"
            if refused.status == self._unknown_host:
                text += self._where
            return Response(text, refused.status, mimetype="text/plain")(environ, start_response)
        own = {name: value for name, value in environ.items() if "." in name}
        assert site.application is not None
        answer: Iterable[bytes] = site.application({**own, **params, "wsgi.input": body}, start_response)
        return answer


def _parameters(environ: WSGIEnvironment) -> Iterator[tuple[str, str]]:
    """What a front-end would have sent."""
    yield "REQUEST_SCHEME", environ["wsgi.url_scheme"]
    # Werkzeug takes the path of a Unix socket for a pair of name and port.
    is_unix = environ["SERVER_NAME"] == "/"
    unknown = {"SERVER_NAME": "localhost", "SERVER_PORT": "", "REMOTE_ADDR": "", "REMOTE_PORT": ""} if is_unix else {}
    for name, value in environ.items():
        if "." not in name and isinstance(value, str | int):
            yield name, unknown.get(name, str(value))


def only(application: Any) -> WSGIApplication:
    """An application that answers everything."""
    return Bound([(Binding(), Site("application", application))], Pool(max_body=0))
