"""When a worker has served long enough: max_requests (with jitter), max_memory, max_lifetime."""

from __future__ import annotations

import os
import time

from gateway.process.handles import WorkerHandle
from gateway.settings import Pool

_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_TICKS = os.sysconf("SC_CLK_TCK")  # a second


class Limits:
    """A pool's limits on its workers."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.any = bool(pool.max_requests or pool.max_memory or pool.max_lifetime)

    def most_requests(self) -> int:
        """Draw the number of requests for a new worker, so that those of one start do not end together; 0: no limit."""
        if not self._pool.max_requests:
            return 0
        import random  # and what it is made of: no pool without such a limit needs it

        return self._pool.max_requests + random.randint(0, self._pool.max_requests_jitter)

    def exceeded(self, worker: WorkerHandle, requests: int) -> str:
        """The name of the limit that a worker is over, or ""."""
        if worker.most_requests and requests >= worker.most_requests:
            return "max_requests"
        if self._pool.max_lifetime and time.monotonic() - worker.started >= self._pool.max_lifetime:
            return "max_lifetime"
        if self._pool.max_memory and resident_memory(worker.pid) > self._pool.max_memory:
            return "max_memory"
        return ""


def resident_memory(pid: int) -> int:
    """The bytes that a process holds in memory (proc(5), statm); 0 for one that is gone."""
    try:
        return int(_read(pid, "statm").split()[1]) * _PAGE
    except OSError:
        return 0


def most_memory(pid: int) -> int:
    """The most bytes that a process has held in memory (proc(5), status, VmHWM); 0 for one that is gone."""
    try:
        lines = _read(pid, "status").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def processor_time(pid: int) -> float:
    """The seconds of processor time that a process has used (proc(5), stat); 0 for one that is gone."""
    try:
        fields = _read(pid, "stat").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _read(pid: int, name: str) -> str:
    with open(f"/proc/{pid}/{name}") as file:
        return file.read()
