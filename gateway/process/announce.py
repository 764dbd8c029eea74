"""What the service manager is told of the master's life: ready, reloading, stopping, and that its loop still turns."""

from __future__ import annotations

import time
from collections.abc import Iterable

from gateway.net.handover import State
from gateway.net.notify import Notifier


class Announcer:
    """Joins what the pools report to one state of the service (sd_notify(3))."""

    def __init__(self, notifier: Notifier, pools: Iterable[str], handed: State | None = None) -> None:
        """`handed` is what another master has told already."""
        self._notifier = notifier
        self._outcomes: dict[str, str | None] = dict.fromkeys(pools)  # of each pool's last load; None: not known yet
        self._answering: set[str] = set()  # pools that have a worker or a stand-in
        self._started = False
        self._stopping = False
        self._next_sign = 0.0  # when the next sign of life is due, on the monotonic clock
        if handed is None:
            notifier.status(f"loading {', '.join(self._outcomes)}")
        else:
            self._outcomes, self._started = handed["outcomes"], handed["started"]

    def hand_over(self) -> State:
        """What the master that goes on has to know."""
        return {"outcomes": self._outcomes, "started": self._started}

    def loaded(self, pool: str, error: str, *, reloading: bool = False) -> None:
        """A pool's workers serve its new code, or there is a reason why not; READY follows once that is known of all
        pools, at least one of which serves, and unless a reload that was asked for is still under way (`reloading`).
        """
        if pool in self._outcomes:
            self._outcomes[pool] = error.partition("\n")[0]
            if not error:
                self._answering.add(pool)
        if not self._started:
            # A start at which nothing could be loaded is about to end, and must not look like one that went well.
            self._started = None not in self._outcomes.values() and bool(self._answering)
        if self._started and not reloading and not self._stopping:
            self._notifier.ready(self._summary())

    def unserved(self, pool: str, *, reloading: bool = False) -> None:
        """A pool's workers fail as they start, again and again, and a stand-in answers: a start waits no longer."""
        if pool in self._outcomes and pool not in self._answering:
            self._answering.add(pool)
            self.loaded(pool, self._outcomes[pool] or "its workers fail to start", reloading=reloading)

    def added(self, pool: str) -> None:
        """A reload has brought a pool: its outcome is not known yet."""
        self._outcomes[pool] = None

    def removed(self, pool: str) -> None:
        """A reload has taken a pool away; its end is still told to `loaded`."""
        del self._outcomes[pool]
        self._answering.discard(pool)

    def reloading(self) -> None:
        """A reload was asked for: the `loaded` that tells its outcome ends it."""
        if not self._stopping:
            self._notifier.reloading()

    def refused(self, reason: str, *, reloading: bool = False) -> None:
        """A reload is over before it began: there are no settings for it. A service manager that has asked by a signal
        (Type=notify-reload) would wait for it.
        """
        if self._started and not self._stopping:
            self._notifier.reloading()
            if not reloading:
                self._notifier.ready(f"{self._summary()}; reload refused: {reason.partition(chr(10))[0]}")

    def stopping(self) -> None:
        """The master was told to stop."""
        if not self._stopping:
            self._stopping = True
            self._notifier.stopping()

    def sign_of_life(self) -> float | None:
        """Called in each round of the loop: tell the watchdog, if it is time; return the seconds until it is again."""
        interval = self._notifier.watchdog_interval
        if interval is None:
            return None
        now = time.monotonic()
        if now >= self._next_sign:
            self._notifier.alive()
            self._next_sign = now + interval
        return self._next_sign - now

    def _summary(self) -> str:
        problems = [f"pool {pool}: {error}" for pool, error in self._outcomes.items() if error]
        return "; ".join([f"serving {', '.join(self._outcomes)}", *problems])
