"""Workers that die: killed one after the other under load, and a pool whose processes die while they start."""

from __future__ import annotations

import os
import random
import re
import signal
import statistics
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.faults.stage import journal, pace, serving, stage, zombies
from benchmarks.faults.verdicts import Report
from benchmarks.load import lost, milliseconds, p99, under_load, usual_load, waits
from tests.end_to_end.browsing import Timed
from tests.end_to_end.running import Master, Site
from tests.waiting import wait_until

_SEEN = re.compile(r"worker (\d+) was killed by signal 9 during POST \S*\?id=(\d+)&")
_RESET = re.compile(r"(?:prematurely closed connection|reset by peer).*POST /\?id=(\d+)&")
_EVERY = 0.1  # seconds between two kills


@dataclass
class Kills:
    """Whom a run has killed, and how long it took until there were as many workers as before."""

    pids: set[int] = field(default_factory=set)
    respawns: list[float] = field(default_factory=list)
    whole: float = 0.0  # seconds from the last kill until the pool was whole
    last: float = 0.0  # time.monotonic() of it

    def one(self, master: Master, choice: random.Random, workers: int) -> None:
        """Kill one worker, whether it is busy or not, and wait for its replacement."""
        victim = choice.choice(sorted(serving(master)))
        with suppress(ProcessLookupError):  # it may have ended since
            os.kill(victim, signal.SIGKILL)
        self.last = time.monotonic()
        self.pids.add(victim)
        wait_until(lambda: len(serving(master) - {victim}) >= workers, 20, "a replacement")
        self.respawns.append(time.monotonic() - self.last)


def kill_workers(master: Master, seconds: float, workers: int) -> Kills:
    """Kill one every 100 ms."""
    kills, choice = Kills(), random.Random(1)
    pace(0.5)
    start = time.monotonic()
    for number in range(int(seconds / _EVERY)):
        pace(start + number * _EVERY - time.monotonic())
        kills.one(master, choice, workers)
    wait_until(master.ready, 20, "a whole pool")
    kills.whole = time.monotonic() - kills.last
    return kills


def evidence(running: Site, killed: set[int], missing: list[Timed]) -> Counter[str]:
    """By what each lost request is known to have been in flight in a worker that was killed; "" for none.

    The journal; where the application had not begun yet, what the master saw in the scoreboard; where the worker had
    only just accepted, nginx, whose connection was reset: a queued one is not, for others hold the listener.
    """
    begun_by = journal(running).begun_by
    seen = {id.encode(): int(pid) for pid, id in _SEEN.findall(running.master.said)}
    reset = {id.encode() for id in _RESET.findall(running.program.said)}
    found: Counter[str] = Counter()
    for number in (answer.post.body for answer in missing):
        if number in begun_by:
            found["journal" if begun_by[number] in killed else ""] += 1
        elif number in seen:
            found["scoreboard" if seen[number] in killed else ""] += 1
        else:
            found["connection" if number in reset else ""] += 1
    return found


def killed_workers(seconds: float, workers: int = 24) -> Report:
    """L36: kill -9 a random worker every 100 ms."""
    report = Report("L36", f"kill -9 a random worker every 100 ms for {seconds:g} s")
    with stage({"max_children": workers}) as running:
        answers, kills = under_load(
            running.port, usual_load(seconds + 1), lambda: kill_workers(running.master, seconds, workers)
        )
        noted, missing = journal(running), lost(answers)
        proven = evidence(running, kills.pids, missing)
        respawns = sorted(kills.respawns)
        report.figures = {
            "sent": len(answers), "kills": len(kills.pids), "lost": len(missing),
            "statuses": {str(status): count for status, count in Counter(a.status for a in missing).items()},
            "in_flight_by": dict(proven), "respawn_ms": milliseconds(respawns), "wait_ms": milliseconds(waits(answers)),
        }  # fmt: skip
        report.at_most("lost, one request of each killed worker", len(missing), len(kills.pids))
        report.none("lost but not in flight in a killed worker", proven[""])
        report.none("run twice", sum(count > 1 for count in noted.runs.values()))
        report.none("lost but not answered 502 or 500", sum(a.status not in (500, 502) for a in missing))
        report.at_most("longest time to a 502 or 500", max((a.seconds for a in missing), default=0), 1, " s")
        report.at_most("median time to a new worker", statistics.median(respawns) * 1000, 100, " ms")
        report.at_most("p99 of the time to a new worker", p99(respawns) * 1000, 300, " ms")
        report.at_most("time to a whole pool after the last kill", kills.whole, 1, " s")
        report.none("zombies", zombies(running.master))
    return report
