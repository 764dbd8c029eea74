"""What the master hands a zygote, as JSON on its standard input: the pool, its work, inherited descriptors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO

from gateway.record import Record, replace
from gateway.settings import Pool, Work, pool_from_json, to_json, work_from_json


class Task(Record):
    """A zygote's work. Numbers are file descriptors that the zygote inherits; -1 and empty in a mere check."""

    name: str
    pool: Pool
    work: Work
    master: int
    listeners: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    scoreboard: int = -1
    hosts: int = 1  # that the scoreboard counts apart
    slowlog: int = -1  # also where it is the error log
    relayed: bool = False  # standard output and error lead to the master, which stamps what comes

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that the zygote inherits beside its channel and the standard ones."""
        return tuple(fd for fd in (*self.listeners, *self.kept, self.scoreboard, self.slowlog) if fd >= 0)

    def with_descriptors(self, numbers: Sequence[int]) -> Task:
        """The task in a process that has `descriptors` under other numbers, given in the same order."""
        found = dict(zip(self.descriptors, numbers, strict=True))
        return replace(
            self,
            listeners=tuple(found[fd] for fd in self.listeners),
            kept=tuple(found[fd] for fd in self.kept),
            scoreboard=found.get(self.scoreboard, -1),
            slowlog=found.get(self.slowlog, -1),
        )

    def write(self, file: IO[bytes]) -> None:
        """Write it to be read by `read`."""
        file.write(json.dumps(to_json(self)).encode())

    @classmethod
    def read(cls, file: IO[bytes]) -> Task:
        """Read what `write` wrote."""
        data = json.load(file)
        fds = {key: tuple(data[key]) for key in ("listeners", "kept")}
        return cls(**{**data, **fds, "pool": pool_from_json(data["pool"]), "work": work_from_json(data["work"])})
