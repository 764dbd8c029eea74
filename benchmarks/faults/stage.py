"""Where the faults happen: the gateway behind an nginx with the bundled configuration, and what can be seen of both."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.load import Journal
from benchmarks.peers import HERE
from gateway.net import control
from tests.end_to_end.running import (
    USER,
    Master,
    Settings,
    Site,
    alive,
    descendants,
    processes,
    proportional_size,
    session,
    short_place,
    site,
    stat,
)
from tests.waiting import wait_until

WORKERS = 16
OVERDUE = Path(__file__).parents[2] / "tests" / "end_to_end" / "overdue.py"
_SERVING = ("idle", "busy")
_TICKS = os.sysconf("SC_CLK_TCK")


def everywhere(name: str, *, pool: str = "main", app: str = "application", path: str = "") -> dict[str, Any]:
    """An application for every host, under a path."""
    bindings = [{"hostname": "*", "port": "*", "path": path}]
    return {"name": name, "app": f"{app}:application", "pool": pool, "bindings": bindings}


def prepare(place: Path, pool: dict[str, Any], *more: dict[str, Any]) -> Settings:
    """Put the application, and one that hangs, in place; `more` are further applications."""
    shutil.copy(HERE / "application.py", place)
    shutil.copy(OVERDUE, place)
    return Settings(place, {"app_dir": str(place), "max_children": WORKERS} | pool, [everywhere("main"), *more])


@contextlib.contextmanager
def stage(pool: dict[str, Any] | None = None, *more: dict[str, Any]) -> Iterator[Site]:
    """One pool that serves, behind nginx."""
    with short_place() as place, site("nginx", prepare(place, pool or {}, *more)) as running:
        yield running


def second_pool(settings: Settings, name: str, values: Mapping[str, Any]) -> None:
    """Give the settings another pool; its application is one of those that `prepare` was given."""
    pool = {"listen": str(settings.place / f"{name}.sock"), "app_dir": str(settings.place), "user": USER}
    settings.more.setdefault("pools", {})[name] = pool | dict(values)
    settings.write()


def journal(running: Site) -> Journal:
    """What the first pool's application has noted."""
    return Journal.read(running.settings.place / "journal")


def pool(master: Master, name: str = "main") -> dict[str, Any]:
    """One pool as `gateway status` shows it."""
    status = control.call(str(master.settings.control), {"command": "status"}, 5)
    found: dict[str, Any] = next(pool for pool in status["pools"] if pool["name"] == name)
    return found


def serving(master: Master, name: str = "main") -> set[int]:
    """The workers that take requests."""
    return {worker["pid"] for worker in pool(master, name)["workers"] if worker["state"] in _SERVING}


def settled(count: Callable[[], int], wanted: int) -> int:
    """What is counted once it is as wanted, or after a while: a process may just be about to be another, or gone."""
    try:
        wait_until(lambda: count() == wanted, 5)
    except AssertionError:
        return count()
    return wanted


def zombies(master: Master) -> int:
    """Processes below the master that nobody waits for."""

    def count() -> int:
        parents = {master.pid, *descendants(master.pid)}
        return sum(fields[0] == "Z" and int(fields[1]) in parents for _, fields in processes())

    return settled(count, 0)


def masters(master: Master) -> int:
    """How many processes of its session are what the master is; what it starts is so until it is executed."""
    return settled(lambda: _alike(master), 1)


def _alike(master: Master) -> int:
    command = Path(f"/proc/{master.pid}/cmdline").read_bytes()
    found = 0
    for pid in session(master.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += Path(f"/proc/{pid}/cmdline").read_bytes() == command
    return found


def left_over(started: list[int]) -> int:
    """How many of some processes go on running."""
    return settled(lambda: sum(map(alive, started)), 0)


def descriptors(pid: int) -> int:
    """The files that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def size(master: Master) -> int:
    """Memory of the master and everything below it, in KiB (PSS)."""
    return sum(proportional_size(pid) for pid in (master.pid, *descendants(master.pid)))


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and of those of its children that it has waited for (proc(5))."""
    fields = stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


class Watch:
    """Looks at something again and again, in a thread, while a fault goes on."""

    def __init__(self, look: Callable[[], Any], every: float = 0.02) -> None:
        """`every` in seconds."""
        self.seen: list[Any] = []
        self._look = look
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self.seen.append(self._look())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def pace(seconds: float) -> None:
    """Let time pass: the rhythm of a fault, not a wait for something."""
    time.sleep(max(0.0, seconds))
