"""A row of the scoreboard for a worker that runs many requests at once: it shows the oldest of them, and counts all."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from gateway.net.conversation import Board


class SharedRow(Board, Protocol):
    """Where that is shown (`process.scoreboard.Row`)."""

    def resume(self, since: int, /) -> int:
        """What is shown runs, and does so since `since` (time.monotonic_ns; 0 for what never ran): the next `end` goes
        by that. Return what it was before.
        """


class SharedBoard:
    """The requests that run in one worker, in the order in which they began."""

    def __init__(self, row: SharedRow) -> None:
        self._row = row
        self._running: dict[object, tuple[Mapping[str, Any], str, int]] = {}
        self._shown: object = None
        self._begin = row.begin
        self._end = row.end
        self.accepted = row.accepted
        self.shed = row.shed
        self.gone = row.gone

    def begin(self, request: object, environ: Mapping[str, Any], host: str) -> None:
        """See `Board.begin`."""
        running = self._running
        running[request] = environ, host, time.monotonic_ns()
        if len(running) == 1:
            self._shown = request
            self._begin(environ, host)

    def end(self, request: object, label: int, status: int, waited: float | None) -> None:
        """See `Board.end`."""
        found = self._running.pop(request, None)
        if not self._running:
            self._end(label, status, waited)
        elif request is self._shown:
            self._end(label, status, waited)
            self._shown, (environ, host, since) = next(iter(self._running.items()))
            self._begin(environ, host)
            self._row.resume(since)
        else:
            shown = self._row.resume(found[2] if found is not None else 0)
            self._end(label, status, waited)
            self._row.resume(shown)
