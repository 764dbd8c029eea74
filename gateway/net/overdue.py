"""Deadlines of the requests that an event loop runs, which looks at them itself (docs/design.md "Deadlines")."""

from __future__ import annotations

from collections.abc import Callable

from gateway import log
from gateway.app.tracebacks import stack_of_coroutine
from gateway.net.asyncexchange import LinkExchange

_NEVER = float("inf")


class Overdue:
    """Finds what is due about a request: its body, its client, and how long it runs."""

    def __init__(self, slow: float, terminate: float, report: Callable[[str], None]) -> None:
        """`slow` and `terminate`: seconds, 0 for never. `report` takes a line about a slow request and its stack."""
        self._slow = slow or _NEVER
        self._terminate = terminate or _NEVER
        self._report = report
        self.earliest = min(filter(None, (slow, terminate)), default=0.0)

    def look(self, exchange: LinkExchange, now: float) -> float:
        """Do what is due; return when something will be (time.monotonic)."""
        if now >= exchange.body_deadline:
            exchange.time_out_body()
        if now >= exchange.cancel_at:
            cancel(exchange)
        if now >= exchange.since + self._terminate:
            self._log(exchange, f"ended: it has run for longer than request_terminate_timeout ({self._terminate:g} s)")
            self.end(exchange, 504)
            exchange.since = _NEVER
        elif now >= exchange.since + self._slow and not exchange.reported:
            exchange.reported = True
            self._report(f"slow: {_name(exchange)} after {now - exchange.since:.1f} s\n{_stack(exchange)}")
        slow = _NEVER if exchange.reported else self._slow
        deadline = exchange.since + min(slow, self._terminate)
        return min(deadline, exchange.body_deadline, exchange.cancel_at)

    def end(self, exchange: LinkExchange, status: int) -> None:
        """Answer for the application, or cut what it has sent, and cancel its task."""
        if exchange.call is not None:
            exchange.call.end_early(status)
        cancel(exchange)

    def _log(self, exchange: LinkExchange, what: str) -> None:
        log.lines(f"{_name(exchange)}: {what}\n{_stack(exchange)}", log.Level.WARNING)


def cancel(exchange: LinkExchange) -> None:
    """Cancel the task that runs the application."""
    exchange.cancel_at = _NEVER
    if exchange.task is not None:
        exchange.cancelled = True
        exchange.task.cancel()


def _name(exchange: LinkExchange) -> str:
    return exchange.call.line if exchange.call is not None else ""


def _stack(exchange: LinkExchange) -> str:
    return stack_of_coroutine(exchange.task.get_coro()) if exchange.task is not None else ""
