"""One request from its head to the call of an ASGI application, or to its refusal; `dispatch` is the same for WSGI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway import settings
from gateway.app.answer import REASONS
from gateway.app.asgi import AsyncExchange, Call, Log, refuse
from gateway.app.environ import Rejected
from gateway.app.errors import ErrorStream
from gateway.app.lifespan import Lifespan
from gateway.app.routing import Router, Site
from gateway.app.scope import scope_of
from gateway.protocol.events import RequestHead


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
        try:
            site, host, size = self._router.route(head)
        except Rejected as error:
            self.refuse(error.status, error.reason, exchange, head_only=params.get("REQUEST_METHOD") == "HEAD")
            return None
        exchange.begin(params, host, site.label)
        scope = scope_of(params)
        state = self._lifespans[id(site.application)].state
        if state is not None:
            scope["state"] = state.copy()
        return Call(site.application, scope, size, self, exchange)

    def refuse(self, status: int, reason: str, exchange: AsyncExchange, *, head_only: bool = False) -> None:
        """Answer without any application; `reason` is for the log alone. Raises nothing."""
        self.log(f"answered {status} {REASONS[status]}: {reason}")
        refuse(exchange, status, head_only=head_only)
