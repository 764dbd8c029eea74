"""What the master needs of a pool, whether its workers are Python's (`pool`) or a foreign program's (`program`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gateway.process.handles import Loop
from gateway.process.policy import PoolPolicy
from gateway.process.setup import Setup, Setups


class Runner(Protocol):
    """What the master needs of a pool, whatever its workers are."""

    name: str
    setups: Setups
    policy: PoolPolicy
    leaving: bool  # removed from the settings: it ends when its last request has
    first_load: bool | None  # whether anything of it could be started at the start; None: not known yet
    changed_file: str  # of its code, which is a reason to reload it

    @property
    def next_look(self) -> int:
        """When `look` is due, on the policy's clock."""

    def start(self) -> None:
        """Load the first generation."""

    def reload(self, expect: Callable[[int], None], setup: Setup | None = None) -> None:
        """Load anew what has been set up; `expect` is told the generation that will hold it."""

    def remove(self) -> None:
        """Stop gracefully, and let nobody connect any more."""

    def drain(self) -> None:
        """Stop gracefully."""

    def terminate(self) -> None:
        """Stop at once."""

    def adjust(self, by: int) -> None:
        """Have so many workers more or fewer (`PoolPolicy.adjust`)."""

    def tick(self) -> None:
        """Let the policy look at its deadlines."""

    def look(self, ceiling: int, lacking: int) -> None:
        """Look at the workers and at what waits.

        `ceiling` is how many workers process_max leaves to this pool, `lacking` how many it keeps from the others.
        """

    def reopen_logs(self) -> str:
        """Open the log files anew by their names; return what went wrong, or ""."""

    def owns(self, pid: object) -> bool:
        """Say whether a process is one of this pool's."""

    def reaped(self, pid: int, status: str) -> bool:
        """A child of the master has ended; return whether it was of this pool."""

    def status(self) -> dict[str, Any]:
        """What `gateway status` shows of the pool."""

    @property
    def ended(self) -> bool:
        """Nothing of the pool is left."""

    def close(self) -> None:
        """Free what the pool held."""


class MakeRunner(Protocol):
    """What gives a pool its runner; see `pool.PoolRunner`."""

    def __call__(self, name: str, setups: Setups, *, loop: Loop, on_loaded: Callable[[int, str], None]) -> Runner:
        """Make it; nothing runs yet."""
