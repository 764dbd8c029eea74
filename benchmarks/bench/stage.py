"""Contenders, each a peer as a row wants it, running side by side behind one front-end."""

from __future__ import annotations

import collections
import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bench.fronts import Backend, configuration
from benchmarks.bench.meters import tree
from benchmarks.bench.peers import APPLICATIONS, Job, Peer, printable
from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import Program, front
from tests.waiting import free_port

_START_SECONDS = 30.0
_LOOKS = 10  # at a contender's processes in a row, 5 ms apart, that find the same ones


@dataclass(frozen=True)
class Scale:
    """How much is measured: seconds of each load, MiB of large bodies, times that each contender has its turn."""

    seconds: int = 1
    mebibytes: int = 1024
    repeats: int = 0  # 0: what the row says


@dataclass(frozen=True)
class Contender:
    """A peer in one of a row's settings."""

    name: str
    peer: Peer
    keep: int = 0  # connections that the front-end keeps to it
    connections: int = 4  # of the load that is put on it
    options: Mapping[str, Any] = field(default_factory=dict)  # of its Job
    headers: Mapping[str, str] = field(default_factory=dict)  # of the requests


class Stage:
    """The contenders of one row."""

    def __init__(self, place: Path, contenders: Sequence[Contender], scale: Scale) -> None:
        self.scale = scale
        self.commands: dict[str, str] = {}
        self._programs: dict[str, Program] = {}
        self._jobs: dict[str, Job] = {}
        self._ports = {contender.name: free_port() for contender in contenders}
        for number, contender in enumerate(contenders):
            folder = place / str(number)
            folder.mkdir()
            self._jobs[contender.name] = Job(folder, **contender.options)

    def backends(self, contenders: Sequence[Contender]) -> list[Backend]:
        """What the front-end has to know."""
        return [
            Backend(self.port(each), self._jobs[each.name].socket, each.peer.speaks, each.keep) for each in contenders
        ]

    def port(self, contender: Contender) -> int:
        """Where the front-end takes requests for it."""
        return self._ports[contender.name]

    def start(self, contender: Contender) -> Program:
        """Start its master, without waiting for anything."""
        job = self._jobs[contender.name]
        command = contender.peer.command(job)
        self.commands[contender.name] = printable(contender.peer, command, job)
        job.socket.unlink(missing_ok=True)
        program = Program(command, job.folder / "server.log", cwd=job.folder)
        self._programs[contender.name] = program
        return program

    def wait(self, contender: Contender) -> None:
        """Wait until it answers by way of the front-end, and has all its workers and nothing else under way.

        Raises AssertionError with what it has written.
        """
        program = self._programs[contender.name]
        program.wait_for(lambda: answers(self.port(contender)), _START_SECONDS)
        looks: collections.deque[frozenset[int]] = collections.deque(maxlen=_LOOKS)

        least = self._jobs[contender.name].workers + contender.peer.has_master

        def has_settled() -> bool:
            looks.append(frozenset(self.processes(contender)))
            return len(looks) == _LOOKS and len(set(looks)) == 1 and len(looks[0]) >= least

        program.wait_for(has_settled, _START_SECONDS)

    def stop(self, contender: Contender) -> None:
        """End it, if it runs: at once, for flup6's idle workers take no notice of SIGTERM."""
        if program := self._programs.pop(contender.name, None):
            program.signal(signal.SIGKILL)
            program.stop()

    def processes(self, contender: Contender) -> list[int]:
        """The IDs of its master and all below."""
        return tree(self._programs[contender.name].pid)


def answers(port: int) -> bool:
    """Whether a request is answered 200."""
    with contextlib.suppress(OSError):
        return fetch(port, "/").status == 200
    return False


@contextlib.contextmanager
def staged(front_name: str, place: Path, contenders: Sequence[Contender], scale: Scale) -> Iterator[Stage]:
    """The front-end runs; contenders are started on the stage, and end with it."""
    stage = Stage(place, contenders, scale)
    text = configuration(front_name, place, stage.backends(contenders), APPLICATIONS)
    with front(front_name, place, text, stage.port(contenders[0])):
        try:
            yield stage
        finally:
            for contender in contenders:
                stage.stop(contender)
