"""One request from its head to the call of an ASGI application, or to its refusal; `dispatch` is the same for WSGI."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from typing import Any

from gateway import settings
from gateway.app.answer import REASONS
from gateway.app.asgi import AsyncExchange, Call, Log, refuse
from gateway.app.environ import Rejected
from gateway.app.errors import ErrorStream
from gateway.app.lifespan import Lifespan
from gateway.app.routing import Known, Router, Site
from gateway.app.scope import BASE, header_of, known, scope_of
from gateway.protocol.events import Limits, RequestHead

try:
    importlib.import_module("gateway.protocol.twin")  # which refuses interpreters for which nothing in C is built
    from gateway.app import _scope
except ImportError:  # not built for this interpreter, or not wanted
    _scope = None  # type: ignore[assignment]

_LIMITS = Limits()

Usual = tuple[dict[str, Any], Known, int | None]  # scope, what is bound, and the length of the body, if that is known
Whole = tuple[bool, dict[str, Any], Usual]  # whether the connection is to be kept, the environ, and what is usual of it


class AsyncDispatcher:
    """Answers requests with the ASGI applications bound to their host, port and path; see `dispatch.Dispatcher`."""

    def __init__(
        self,
        entries: Iterable[tuple[settings.Binding, Site]],
        *,
        errors: ErrorStream,
        log: Log,
        pool: str = "",
        authorizer: Site | None = None,
        **options: Any,
    ) -> None:
        """`authorizer` and `options` are the Router's. Raises BindingConflict and ValueError for bindings that cannot
        be.
        """
        entries = tuple(entries)
        self.base: dict[str, Any] = {"gateway.pool": pool}
        self.errors = errors
        self.log = log
        self._router = Router(entries, own=len(self.base), authorizer=authorizer, **options)
        self.max_body = self._router.max_body
        self._lifespans = {
            id(site.application): Lifespan(site.name, site.application, log)
            for site in (*(site for _, site in entries), authorizer)
            if site is not None and site.application is not None
        }
        self._c = _scope if self._router.port_from == "server" else None
        self._router.notes_hosts = self._c is not None
        self.whole = self._whole()

    def _whole(self) -> Callable[[bytes], Whole | None]:
        """What makes a scope of a FastCGI request of ID 1 that is whole, without body, and usual in all, and None of
        everything else.
        """
        if self._c is None:
            return lambda data: None
        limits = _LIMITS.params_size, _LIMITS.params_count, _LIMITS.name_size
        hosts, most = self._router.hosts, self.max_body
        return functools.partial(self._c.whole, self.base, limits, hosts, most, BASE, known, header_of)

    @property
    def lifespans(self) -> tuple[Lifespan, ...]:
        """One for each application."""
        return tuple(self._lifespans.values())

    def handle(self, head: RequestHead, exchange: AsyncExchange) -> Call | None:
        """What is to be run for a request; None where it is answered without any application. Raises nothing."""
        params = head.params
        if self._c is not None and head.plain and not head.repeats:
            usual = self._c.usual(params, self._router.hosts, self.max_body, BASE, known, header_of)
            if usual is not None:
                return self.handle_usual(usual, params, exchange)
        try:
            site, host, size = self._router.route(head)
        except Rejected as error:
            self.refuse(error.status, error.reason, exchange, head_only=params.get("REQUEST_METHOD") == "HEAD")
            return None
        assert site.application is not None
        return self.handle_usual(
            (scope_of(params), Known(site.application, "", site.label, host, ""), size), params, exchange
        )

    def handle_usual(self, usual: Usual, params: dict[str, Any], exchange: AsyncExchange) -> Call:
        """What is to be run for a request that is usual in all: see `whole`."""
        scope, (application, _, label, host, _), size = usual
        exchange.begin(params, host, label)
        state = self._lifespans[id(application)].state
        if state is not None:
            scope["state"] = state.copy()
        return Call(application, scope, size, self, exchange)

    def refuse(self, status: int, reason: str, exchange: AsyncExchange, *, head_only: bool = False) -> None:
        """Answer without any application; `reason` is for the log alone. Raises nothing."""
        self.log(f"answered {status} {REASONS[status]}: {reason}")
        refuse(exchange, status, head_only=head_only)
