"""The load of the benchmarks, and how its answers are judged: POSTs at a fixed rate, each on a connection of its own.

200 requests a second, 5 % of which take 600 ms, each with an id that the application notes in its journal. A request is
lost when its answer is anything but what the application answers, or does not come within 10 s. A wait is what an
answer took beyond the time it asked for.
"""

from __future__ import annotations

import asyncio
import collections
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.end_to_end.browsing import Post, Timed, timed

RATE = 200  # requests a second
SLOW = 0.6  # seconds that every twentieth of them takes
PATIENCE = 10.0  # seconds that a client waits

T = TypeVar("T")


def usual_load(seconds: float, *, rate: float = RATE, first: int = 0) -> list[Post]:
    """The requests of so many seconds, numbered from `first` on."""
    return [post(first + n, SLOW if n % 20 == 0 else 0.0, n / rate) for n in range(int(seconds * rate))]


def post(number: int, seconds: float, at: float, *, path: str = "/") -> Post:
    """A request that takes so many seconds, sent at `at` after the load's start."""
    return Post(f"{path}?id={number}&seconds={seconds}", b"%d" % number, at)


def asked_seconds(post: Post) -> float:
    """How long a request asked to take."""
    return float(post.path.rpartition("=")[2])


def is_right(answer: Timed) -> bool:
    """Whether it is what some version of the application answers, after the time that was asked for."""
    took_its_time = answer.seconds >= asked_seconds(answer.post)
    return answer.status == 200 and answer.body.partition(b" ")[0] == answer.post.body and took_its_time


def lost(answers: Iterable[Timed]) -> list[Timed]:
    """The answers that are not right."""
    return [answer for answer in answers if not is_right(answer)]


def waits(answers: Iterable[Timed]) -> list[float]:
    """What each right answer took beyond the time it asked for, in seconds, the shortest first."""
    return sorted(max(0.0, answer.seconds - asked_seconds(answer.post)) for answer in answers if is_right(answer))


def p99(ascending: Sequence[float]) -> float:
    """What 99 of 100 do not exceed."""
    return ascending[int(len(ascending) * 0.99)]


def milliseconds(ascending: Sequence[float]) -> dict[str, float]:
    """Median, p99 and longest of some seconds, in ms."""
    shown = {"median": statistics.median(ascending), "p99": p99(ascending), "longest": ascending[-1]}
    return {name: round(seconds * 1000, 1) for name, seconds in shown.items()}


def under_load(port: int, posts: list[Post], disturb: Callable[[], T]) -> tuple[list[Timed], T]:
    """Send the load while `disturb` runs in a thread; return the answers and what that returns."""

    async def both() -> tuple[list[Timed], T]:
        disturbing = asyncio.create_task(asyncio.to_thread(disturb))
        answers = await timed(port, posts, PATIENCE)
        return answers, await disturbing

    return asyncio.run(both())


@dataclass(frozen=True)
class Journal:
    """What the application has noted: which process began which request, and how often each was begun."""

    runs: collections.Counter[bytes]
    begun_by: dict[bytes, int]
    ended: frozenset[bytes]

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read its lines, `begin ID PID` and `end ID PID`."""
        rows = [line.split() for line in path.read_bytes().splitlines()]
        begun = [(number, int(pid)) for kind, number, pid in rows if kind == b"begin"]
        ended = frozenset(number for kind, number, _ in rows if kind == b"end")
        return cls(collections.Counter(number for number, _ in begun), dict(begun), ended)
