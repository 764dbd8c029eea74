"""One request from its head to the call of an ASGI application, or to its refusal; `dispatch` is the same for WSGI."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from gateway import settings
from gateway.app.answer import REASONS
from gateway.app.asgi import AsyncExchange, Call, Log, refuse
from gateway.app.environ import Rejected
from gateway.app.errors import ErrorStream
from gateway.app.lifespan import Lifespan
from gateway.app.routing import Router, Site
from gateway.app.scope import BASE, header_of, known, scope_of
from gateway.protocol.events import RequestHead

try:
    importlib.import_module("gateway.protocol.twin")  # which refuses interpreters for which nothing in C is built
    from gateway.app._scope import usual
except ImportError:  # not built for this interpreter, or not wanted
    usual = None  # type: ignore[assignment]


class AsyncDispatcher:
    """Answers requests with the ASGI applications bound to their host, port and path; see `dispatch.Dispatcher`."""

    def __init__(
        self,
        entries: Iterable[tuple[settings.Binding, Site]],
        *,
        errors: ErrorStream,
        log: Log,
        pool: str = "",
        **options: Any,
    ) -> None:
        """`options` are the Router's. Raises BindingConflict and ValueError for bindings that cannot be."""
        entries = tuple(entries)
        self.base: dict[str, Any] = {"gateway.pool": pool}
        self.errors = errors
        self.log = log
        self._router = Router(entries, own=len(self.base), **options)
        self.max_body = self._router.max_body
        self._usual = usual if self._router.port_from == "server" else None
        self._router.notes_hosts = self._usual is not None
        self._lifespans = {
            id(site.application): Lifespan(site.name, site.application, log)
            for _, site in entries
            if site.application is not None
        }

    @property
    def lifespans(self) -> tuple[Lifespan, ...]:
        """One for each application."""
        return tuple(self._lifespans.values())

    def handle(self, head: RequestHead, exchange: AsyncExchange) -> Call | None:
        """What is to be run for a request; None where it is answered without any application. Raises nothing."""
        params = head.params
        found = None
        if self._usual is not None and head.plain and not head.repeats:
            found = self._usual(params, self._router.hosts, self.max_body, BASE, known, header_of)
        if found is not None:
            scope, site, size = found
            application = site.application
            exchange.begin(params, site.host, site.label)
        else:
            try:
                bound, host, size = self._router.route(head)
            except Rejected as error:
                self.refuse(error.status, error.reason, exchange, head_only=params.get("REQUEST_METHOD") == "HEAD")
                return None
            assert bound.application is not None
            application = bound.application
            exchange.begin(params, host, bound.label)
            scope = scope_of(params)
        state = self._lifespans[id(application)].state
        if state is not None:
            scope["state"] = state.copy()
        return Call(application, scope, size, self, exchange)

    def refuse(self, status: int, reason: str, exchange: AsyncExchange, *, head_only: bool = False) -> None:
        """Answer without any application; `reason` is for the log alone. Raises nothing."""
        self.log(f"answered {status} {REASONS[status]}: {reason}")
        refuse(exchange, status, head_only=head_only)
