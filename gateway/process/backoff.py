"""When a pool may start something next: after failures ever later, and never too much at once. No clock is in it."""

from __future__ import annotations

_FIRST_BACKOFF = 100  # ms, doubled with each failed start in a row
_LONGEST_BACKOFF = 30_000  # ms
_STARTS_PER_SECOND = 50  # a death after READY is replaced at once, but no more often than this
_BREAKER_AFTER = 200  # ms for which starts have failed: it is time for somebody else to answer
_BREAKER_WINDOW = 30_000  # ms that a failed start is remembered


class Backoff:
    """The starts of one pool. Times are milliseconds of any clock that never goes back."""

    def __init__(self) -> None:
        self.failures = 0  # in a row
        self._recent_failures: list[int] = []
        self._not_before = 0
        self._recent_starts: list[int] = []

    def started(self, now: int) -> None:
        """A worker was asked for."""
        self._recent_starts.append(now)

    def failed(self, now: int) -> bool:
        """A start has failed: delay the next; return whether they have failed for long."""
        self.failures += 1
        self._not_before = now + min(_FIRST_BACKOFF << min(self.failures - 1, 16), _LONGEST_BACKOFF)
        self._recent_failures = [*(t for t in self._recent_failures if t > now - _BREAKER_WINDOW), now]
        return now - self._recent_failures[0] >= _BREAKER_AFTER

    def served(self) -> None:
        """A worker is READY: whatever failed before does not count any more."""
        self.failures = 0
        self._recent_failures.clear()

    def go_on(self) -> None:
        """A generation has been loaded: what it starts need not wait."""
        self._not_before = 0

    def earliest(self, now: int, max_children: int) -> int:
        """When the next start may be."""
        self._recent_starts = [start for start in self._recent_starts if start > now - 1000]
        if len(self._recent_starts) < max(_STARTS_PER_SECOND, 2 * max_children):
            return self._not_before
        return max(self._not_before, self._recent_starts[0] + 1001)
