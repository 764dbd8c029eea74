"""How many workers a pool wants: PHP-FPM's static, dynamic and ondemand, decided from what is busy, idle and queued."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.record import Record
from gateway.settings import Pool, ProcessManager


class Scaling(Record):
    """A pool's settings for its number of workers. Times in milliseconds."""

    pm: ProcessManager
    max_children: int
    start_servers: int = 1
    min_spare_servers: int = 1
    max_spare_servers: int = 1
    idle_timeout: int = 10_000
    recycling_at_once: int = 1

    @classmethod
    def of(cls, pool: Pool) -> Scaling:
        """Read them from the pool's settings."""
        return cls(
            pool.pm,
            pool.max_children,
            pool.first_servers,
            pool.min_spare_servers,
            pool.max_spare_servers,
            int(pool.process_idle_timeout * 1000),
            pool.recycling_at_once,
        )

    @property
    def at_start(self) -> int:
        """How many workers a pool starts with."""
        return {
            ProcessManager.STATIC: self.max_children,
            ProcessManager.DYNAMIC: min(self.start_servers, self.max_children),
            ProcessManager.ONDEMAND: 0,
        }[self.pm]

    @property
    def least_spare(self) -> int:
        """How many idle workers there should at least be beside the busy ones."""
        return self.min_spare_servers if self.pm is ProcessManager.DYNAMIC else 0

    @property
    def most_spare(self) -> int:
        """How many idle workers there may at most be."""
        return {
            ProcessManager.STATIC: self.max_children,
            ProcessManager.DYNAMIC: self.max_spare_servers,
            ProcessManager.ONDEMAND: 0,
        }[self.pm]


class Plan(Record):
    """What a reload changes for the generation that it loads and for those after it. Times in milliseconds."""

    scaling: Scaling
    start_timeout: int
    control_timeout: int

    @classmethod
    def of(cls, pool: Pool) -> Plan:
        """Read it from the pool's settings."""
        return cls(Scaling.of(pool), int(pool.start_timeout * 1000), int(pool.process_control_timeout * 1000))


class Load(Record):
    """What was seen of a pool at one moment."""

    busy: int  # workers that run a request
    idle: Mapping[int, int]  # slot of each idle worker -> milliseconds since its last request
    queued: int  # connections that wait for a worker
    expired: Collection[int] = ()  # slots of workers that are over max_requests, max_memory or max_lifetime
    ceiling: int = 1 << 30  # how many workers `process_max` leaves to this pool
    lacking: int = 0  # workers that other pools need, and may not start under `process_max`
    free: int = 0  # threads of busy workers that run nothing
    threads: int = 1  # of a worker


def needed(scaling: Scaling, load: Load) -> int:
    """How many workers the load asks for, whatever the limits say."""
    # What is queued while somebody is idle is on its way to that worker.
    waiting = 0 if load.idle or load.free else -(-load.queued // load.threads)
    return load.busy + waiting + scaling.least_spare


def lacking(scaling: Scaling, load: Load, wanted: int) -> int:
    """How many workers over those that are `wanted` would run what waits; those that would be idle are not counted."""
    return max(0, min(needed(scaling, load) - scaling.least_spare, scaling.max_children) - wanted)


def dispensable(scaling: Scaling, load: Load, sought: int = 0) -> list[int]:
    """The slots of workers that have been idle for longer than `process_idle_timeout` and are over the spare ones.

    At once, but for the least spare ones, where other pools have requests for as many as are `sought`.
    """
    if load.queued:
        return []
    longest_idle = sorted(load.idle, key=lambda slot: load.idle[slot], reverse=True)
    over = len(longest_idle) - scaling.most_spare
    expired = [slot for slot in longest_idle[: max(0, over)] if load.idle[slot] >= scaling.idle_timeout]
    surplus = len(longest_idle) - scaling.least_spare
    return longest_idle[: max(len(expired), min(sought, surplus))]
