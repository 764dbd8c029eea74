"""The event loop of a worker, or of a process that was handed its socket, in the place of the blocking driver."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from gateway import log
from gateway.app.asyncdispatch import AsyncDispatcher
from gateway.net.accesslog import AccessLog
from gateway.net.eventloop import EventDriver, new_loop
from gateway.net.gate import Gate
from gateway.net.kept import KeptQueue
from gateway.net.lifespans import Lifespans
from gateway.net.orders import Control
from gateway.net.overdue import Overdue
from gateway.net.sharedboard import SharedRow
from gateway.process.peers import allowed_clients, connection_factory, timeouts
from gateway.settings import Pool

_MARGIN = 0.25  # of process_control_timeout, and at most
_LARGEST_MARGIN = 2.0  # seconds: what is left of it for lifespans to shut down when the last requests were ended


class AsgiWorker:
    """The event loop of a worker, with the lifespans of its applications."""

    def __init__(self, pool: Pool, dispatcher: AsyncDispatcher) -> None:
        self._pool = pool
        self._dispatcher = dispatcher
        self.loop = new_loop()
        self._lifespans = Lifespans(self.loop, dispatcher.lifespans)
        self._margin = min(_MARGIN * pool.process_control_timeout, _LARGEST_MARGIN)

    def start(self) -> None:
        """Let the applications start up. Raises LoadError."""
        try:
            self._lifespans.start()
        except BaseException:
            self._lifespans.end(0)
            raise

    def end(self) -> None:
        """Let the applications shut down, in what is left of process_control_timeout."""
        for lifespan in self._lifespans.end(self._margin):
            log.line(f"application {lifespan.name!r}: its shutdown (lifespan) takes too long", log.Level.WARNING)

    def make_driver(
        self,
        listeners: Sequence[socket.socket],
        control: Control,
        row: SharedRow,
        report: Callable[[str], None],
        *,
        kept: KeptQueue | None = None,
        access: AccessLog | None = None,
    ) -> EventDriver:
        """What serves; `report` takes a line about a slow request and its stack."""
        pool = self._pool
        return EventDriver(
            self.loop,
            listeners,
            control,
            connection_factory(pool, self._dispatcher),
            self._dispatcher,
            timeouts=timeouts(pool),
            row=row,
            gate=Gate(pool.queue_timeout, pool.protocol),
            protocol=pool.protocol,
            queue_timeout=pool.queue_timeout,
            overdue=Overdue(pool.request_slowlog_timeout, pool.request_terminate_timeout, report),
            most=pool.max_concurrency,
            patience=pool.process_control_timeout - self._margin,
            kept=kept,
            access=access,
            allowed=allowed_clients(pool),
        )
