"""What the log is told of a pool's failed starts: a crash loop fails in the same way again and again."""

from __future__ import annotations

from gateway import log
from gateway.process.pace import milliseconds

_BETWEEN_REFUSALS = 1_000  # ms between two lines that differ in the generation's number alone


class Failures:
    """Those of one pool."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self.forget()

    def forget(self) -> None:
        """Somebody has asked for new code: what is told from here on is told anew."""
        self._traceback = self._refusal = ""
        self._refused_at = 0

    def tell(self, traceback: str) -> None:
        """Log a traceback, but not the same again."""
        if traceback != self._traceback:
            self._traceback = traceback
            log.lines(traceback, log.Level.ERROR)

    def refuse(self, generation: int, error: str) -> None:
        """Log that a generation is refused, but not for the same reason several times in a second."""
        now = milliseconds()
        if error != self._refusal or now >= self._refused_at + _BETWEEN_REFUSALS:
            self._refusal, self._refused_at = error, now
            log.line(f"pool {self._pool}: generation {generation} refused: {error}", log.Level.ERROR)
