"""More requests than the workers can answer."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from benchmarks.faults.stage import stage
from benchmarks.faults.verdicts import Report
from benchmarks.load import is_right, milliseconds, p99, post, under_load
from tests.end_to_end.browsing import Post, Timed, over_connections

_WORKERS = 4
_SERVICE = 0.05  # seconds that each request takes
_TIMES = 3  # the capacity
_QUEUE_TIMEOUT = 0.5  # seconds
_AFTER = 2.5  # seconds of half the capacity that follow
_NORMAL = 0.1  # seconds that an answer may take beyond that, where there is no overload
_SHORT_BACKLOG = 8


def requests(rate: float, seconds: float, *, first: int, start: float = 0.0) -> list[Post]:
    """Equal requests at a fixed rate, from `start` on."""
    return [post(first + n, _SERVICE, start + n / rate) for n in range(int(rate * seconds))]


def measured_capacity(port: int, seconds: float) -> float:
    """How many requests a second the pool answers when as many wait as there are workers."""
    posts = requests(_WORKERS / _SERVICE, seconds, first=0)
    began = time.monotonic()
    over_connections(port, posts, 2 * _WORKERS)
    return len(posts) / (time.monotonic() - began)


def refused(answer: Timed) -> bool:
    """Whether it says that there is too much to do, and when to come again."""
    return answer.status == 503 and "retry-after" in answer.headers


def time_to_normal(answers: list[Timed], start: float) -> float:
    """Seconds after `start` from which on all answers are right, and 19 of 20 without a wait."""
    for number, answer in enumerate(answers):
        took = sorted(later.seconds for later in answers[number:])
        if all(map(is_right, answers[number:])) and took[int(len(took) * 0.95)] <= _SERVICE + _NORMAL:
            return answer.post.at - start
    return float("inf")


def overloaded(seconds: float, alone: float) -> Report:
    """O47: three times the capacity, with `queue_timeout`; half of it for `alone` seconds before is the usual."""
    report = Report("O47", f"{_TIMES} x capacity for {seconds:g} s, queue_timeout = {_QUEUE_TIMEOUT:g}")
    with stage({"max_children": _WORKERS, "queue_timeout": _QUEUE_TIMEOUT}) as running:
        capacity = measured_capacity(running.port, alone)
        usual, _ = under_load(running.port, requests(capacity / 2, alone, first=500), lambda: None)
        burst = requests(_TIMES * capacity, seconds, first=1_000)
        after = requests(capacity / 2, _AFTER, first=1_000 + len(burst), start=seconds)
        answers, _ = under_load(running.port, burst + after, lambda: None)
    during, afterwards = answers[: len(burst)], answers[len(burst) :]
    accepted = sorted(answer.seconds for answer in during if is_right(answer))
    in_time = sum(is_right(answer) and answer.post.at + answer.seconds <= seconds for answer in during)
    service = sorted(answer.seconds for answer in usual if is_right(answer))
    report.figures = {
        "sent": len(during), "capacity_a_second": round(capacity, 1), "accepted": len(accepted),
        "accepted_ms": milliseconds(accepted), "service_ms": milliseconds(service), "statuses": statuses(during),
        "statuses_with_a_full_backlog": full_backlog(capacity),
    }  # fmt: skip
    report.at_least("goodput, of the capacity", in_time / seconds / capacity, 0.9, " x")
    limit = _QUEUE_TIMEOUT + p99(service)
    report.at_most("p99 of accepted, queue_timeout + service", p99(accepted) * 1000, round(limit * 1000), " ms")
    report.none("the rest, not 503 with Retry-After", sum(not is_right(a) and not refused(a) for a in during))
    report.at_most("time to normal after the burst", time_to_normal(afterwards, seconds), 2, " s")
    return report


def statuses(answers: list[Timed]) -> dict[str, int]:
    """How often each came."""
    return {str(status): count for status, count in sorted(Counter(a.status for a in answers).items())}


def full_backlog(capacity: float) -> dict[str, Any]:
    """What nginx answers when the kernel's queue is full and nothing is shed."""
    with stage({"max_children": _WORKERS, "listen_backlog": _SHORT_BACKLOG}) as running:
        answers, _ = under_load(running.port, requests(_TIMES * capacity, 1, first=0), lambda: None)
    return statuses(answers)
