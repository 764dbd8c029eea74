"""What makes the master reload by itself: `touch_reload`, and with `reload_on_change` what a zygote says of its modules
and the settings' own files.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from gateway.process.setup import Setups
from gateway.process.sources import Stamp, stamp
from gateway.settings import Pool, Settings

_EVERY = 1.0  # seconds from one look at the files to the next, and the least from one reload of a pool to the next


class Watched(Protocol):
    """A pool."""

    name: str
    setups: Setups
    leaving: bool
    changed_file: str  # that its zygote has told of; ""


class Triggers:
    """Looks at files once a second, if there is anything to look at."""

    def __init__(self) -> None:
        self._next_look = 0.0  # on the monotonic clock
        self._touched: dict[tuple[str, str], Stamp | None] = {}  # by pool and file
        self._last: dict[str, float] = {}  # when a pool was last reloaded for its code
        self._settings = _SettingsFiles()

    def patience(self, pools: Sequence[Watched]) -> float | None:
        """Seconds until `look` has something to do; None where only events can bring that."""
        waits = [self._wait(pool) for pool in pools if pool.changed_file]
        if any(_of(pool).touch_reload or _of(pool).reload_on_change for pool in pools):
            waits.append(self._next_look - time.monotonic())
        return max(0.0, min(waits)) if waits else None

    def look(self, pools: Sequence[Watched], settings: Settings) -> Iterator[tuple[str, str]]:
        """Give the name of each pool that is to be reloaded, "" for those whose settings have changed, and the file."""
        staying = [pool for pool in pools if not pool.leaving]
        for pool in staying:
            if pool.changed_file and self._wait(pool) <= 0:
                self._last[pool.name] = time.monotonic()
                path, pool.changed_file = pool.changed_file, ""
                yield pool.name, path
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _EVERY
            yield from self._touches(staying)
            if any(_of(pool).reload_on_change for pool in staying) and (path := self._settings.changed(settings)):
                yield "", path

    def _wait(self, pool: Watched) -> float:
        return self._last.get(pool.name, 0.0) + _EVERY - time.monotonic()

    def _touches(self, pools: Sequence[Watched]) -> Iterator[tuple[str, str]]:
        """A file that is missing is no touch: one that is written anew may be, for a moment."""
        before, self._touched = self._touched, {}
        for pool in pools:
            touched = ""
            for path in _of(pool).touch_reload:
                known = before.get((pool.name, path))
                found = stamp(path)
                self._touched[pool.name, path] = found or known
                if found and found != known and (pool.name, path) in before:
                    touched = path
            if touched:
                yield pool.name, touched


def _of(pool: Watched) -> Pool:
    """The settings in force."""
    return pool.setups.current.pool


class _SettingsFiles:
    """The settings file and those that it includes."""

    def __init__(self) -> None:
        self._known: dict[str, Stamp | None] | None = None  # as they are in force
        self._seen: dict[str, Stamp | None] = {}  # at the last look

    def changed(self, settings: Settings) -> str:
        """The name of one that has changed, come or gone, or "".

        All of them must have stayed the same for one look: half a file would be refused, or take a site away.
        """
        paths = [settings.source] if settings.source else []
        paths += [path for pattern in settings.included for path in sorted(glob.glob(pattern))]
        now = {path: stamp(path) for path in paths}
        known = self._known if self._known is not None else now
        settled, self._seen = now == self._seen, now
        if now == known or not settled:
            self._known = known
            return ""
        self._known = now
        return next(path for path in (*now, *known) if now.get(path) != known.get(path))
