"""What the master hands a zygote, as JSON on its standard input: the pool, its applications, inherited descriptors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import IO

from gateway.settings import Application, Pool, application_from_json, pool_from_json, to_json


@dataclass(frozen=True, slots=True)
class Task:
    """A zygote's work. Numbers are file descriptors that the zygote inherits; -1 and empty in a mere check."""

    name: str
    pool: Pool
    applications: tuple[Application, ...]
    master: int
    listeners: tuple[int, ...] = ()
    kept: tuple[int, ...] = ()
    scoreboard: int = -1

    def write(self, file: IO[bytes]) -> None:
        """Write it to be read by `read`."""
        file.write(json.dumps(to_json(self)).encode())

    @classmethod
    def read(cls, file: IO[bytes]) -> Task:
        """Read what `write` wrote."""
        data = json.load(file)
        applications = tuple(application_from_json(item) for item in data["applications"])
        fds = {key: tuple(data[key]) for key in ("listeners", "kept")}
        return cls(**{**data, **fds, "pool": pool_from_json(data["pool"]), "applications": applications})
