"""When the master looks at a pool next: at its pace, or, while it has no workers, when a connection comes."""

from __future__ import annotations

import time
from collections.abc import Iterable

from gateway.process.handles import Loop, Source
from gateway.process.policy import NEVER


def milliseconds() -> int:
    """The policy's clock."""
    return time.monotonic_ns() // 1_000_000


class Pace:
    """The looks at one pool."""

    def __init__(self, loop: Loop) -> None:
        """No look yet."""
        self.next_look = NEVER
        self._loop = loop
        self._sources: list[Source] = []  # any of which ends a sleep

    def look_in(self, wait: int) -> None:
        """Look after so many milliseconds."""
        self.next_look = milliseconds() + wait

    def look_no_more(self) -> None:
        """Let nothing but other events concern the pool."""
        self.wake_up()
        self.next_look = NEVER

    def sleep(self, sources: Iterable[Source]) -> None:
        """Look when one of the sources can be read, and not before."""
        self.next_look = NEVER
        self._sources = list(sources)
        for source in self._sources:
            self._loop.watch(source, self.wake_up)

    def wake_up(self) -> None:
        """Look now."""
        self.next_look = milliseconds()
        for source in self._sources:
            self._loop.forget(source)
        self._sources = []
