"""What a module of this folder registers: features of a client, each with a function that shows it with the real
program; and the pools that they share.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.end_to_end.running import Master, Program, Settings, front, serving, short_place
from tests.waiting import free_port

KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "wsgi": ({}, "everything:application"),
    "asgi": ({"max_children": 1}, "asynchronous:application"),
    "scgi": ({"protocol": "scgi"}, "everything:application"),
    "small": ({"max_body": 1_000_000}, "everything:application"),
    "authorizer": ({"authorizer": "clients.guarding:application"}, "everything:application"),
    "authorizer of ASGI": (
        {"max_children": 1, "authorizer": "clients.guarding:asynchronous"},
        "asynchronous:application",
    ),
}
SHOWING = "clients.showing:application"  # answers every URL with what it was asked for


@dataclass(frozen=True)
class Shown:
    """What was sent, and what came out: the cells of a row, in Markdown, the same in every run."""

    sent: str
    came: str


class Bench:
    """Pools that are started when they are first asked for, and fronts before them; all end with it."""

    def __init__(self) -> None:
        self._running = contextlib.ExitStack()
        self._place = self._running.enter_context(short_place())
        self._pools: dict[str, Settings] = {}
        self._masters: dict[str, Master] = {}
        self._fronts: dict[str, int] = {}

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def folder(self) -> Path:
        """A new folder with a short path, which everybody may enter."""
        path = Path(tempfile.mkdtemp(dir=self._place))
        path.chmod(0o755)
        return path

    def pool(self, kind: str = "wsgi") -> Settings:
        """A running pool that every user may connect to. `kind`: a key of KINDS.

        It serves `everything.py` (ASGI: `asynchronous.py`); and `showing.py` for the host urls.example, with the
        binding's path "/" for root.example and below /app for mounted.example.
        """
        if kind not in self._pools:
            pool, app = KINDS[kind]
            shows = [
                {"hostname": "urls.example", "port": "*"},
                {"hostname": "root.example", "port": "*", "path": "/"},
                {"hostname": "mounted.example", "port": "*", "path": "/app"},
            ]
            applications: list[dict[str, Any]] = [{"name": "everything", "app": app}]
            if "everything" in app:
                applications.append({"name": "showing", "app": SHOWING, "bindings": shows})
            place = self.folder()
            listen = [str(place / "pool.sock"), f"127.0.0.1:{free_port()}"]
            settings = Settings(place, {"listen": listen, "listen_mode": "0666", **pool}, applications)
            self._masters[kind] = self._running.enter_context(serving(settings))
            self._pools[kind] = settings
        return self._pools[kind]

    def tcp(self, kind: str = "wsgi") -> str:
        """Where a pool of `kind` listens on 127.0.0.1 beside its socket, as HOST:PORT."""
        address: str = self.pool(kind).pool["listen"][1]
        return address

    def master(self, kind: str = "wsgi") -> Master:
        """Who runs the pool: its log (`said`) and its status."""
        self.pool(kind)
        return self._masters[kind]

    @contextlib.contextmanager
    def front(self, name: str, configure: Callable[[Path, int], str]) -> Iterator[tuple[int, Program]]:
        """A front that runs in a new folder; `configure(folder, port)` gives the text of its configuration."""
        place, port = self.folder(), free_port()
        with front(name, place, configure(place, port), port) as program:
            yield port, program

    def lasting_front(self, name: str, configure: Callable[[Path, int], str]) -> int:
        """The port of a front that is started when it is first asked for, and runs on."""
        if name not in self._fronts:
            self._fronts[name], _ = self._running.enter_context(self.front(name, configure))
        return self._fronts[name]


def line(cells: Iterable[str]) -> str:
    """A line of a table in Markdown."""
    return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |\n"


Show = Callable[[Bench], Shown]


@dataclass(frozen=True)
class Feature:
    """A row of the page: `show` drives the program, asserts what has to hold, and says what was sent and came out."""

    client: str
    what: str
    show: Show


FEATURES: list[Feature] = []


def feature(client: str, what: str) -> Callable[[Show], Show]:
    """Register the function below as the feature `what` of `client`, whose section of the page it will be in."""

    def register(show: Show) -> Show:
        FEATURES.append(Feature(client, what, show))
        return show

    return register
