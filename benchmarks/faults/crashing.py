"""Pools whose processes die, or raise, while they import: they must cost nothing but their own answers."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.faults.stage import WORKERS, cpu_seconds, everywhere, pace, prepare, second_pool, serving
from benchmarks.faults.verdicts import Report
from benchmarks.load import lost, milliseconds, under_load, usual_load, waits
from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import Site, alive, descendants, short_place, site
from tests.waiting import wait_until

_GOOD = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'good']\n"
_BROKEN = "import os\nwith open('starts', 'a') as starts:\n    starts.write('start\\n')\n"
_WAYS = {"raises": "raise RuntimeError('on purpose')\n", "dies": "os._exit(1)\n"}
_SETTLED = 4.0  # seconds after which starts are rare


@dataclass
class Look:
    """What is to be seen at one time, in seconds after the crash."""

    at: float
    starts: int
    cpu: float  # seconds, of the master and of what it has waited for
    lines: int  # of the log


class CrashingPool:
    """A pool that serves until its code is broken and its processes are killed."""

    def __init__(self, running: Site, way: str) -> None:
        self.running = running
        self.way = way
        self.folder = running.settings.place / way
        self.looks: list[Look] = []
        self.answers: list[tuple[float, int, float]] = []  # seconds after the crash, status, how long it took

    def crash(self) -> float:
        """Break its code and end its processes; return when that began."""
        (self.folder / "application.py").write_text(_BROKEN + _WAYS[self.way])
        mine = [pid for pid in descendants(self.running.master.pid) if self._runs(pid)]
        began = time.monotonic()
        for pid in mine:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, mine)), 20, "the end of its processes")
        return began

    def _runs(self, pid: int) -> bool:
        with suppress(OSError):
            return os.readlink(f"/proc/{pid}/cwd") == str(self.folder)
        return False

    def look(self, at: float) -> None:
        """Note what is to be seen, and what a client gets."""
        master = self.running.master
        starts = self.folder / "starts"
        count = len(starts.read_text().splitlines()) if starts.exists() else 0
        self.looks.append(Look(at, count, cpu_seconds(master.pid), len(master.said.splitlines())))

    def ask(self, began: float) -> None:
        """Send one request."""
        sent = time.monotonic()
        status = fetch(self.running.port, f"/{self.way}").status
        self.answers.append((sent - began, status, time.monotonic() - sent))

    def watch(self, seconds: float) -> None:
        """Crash, and look on."""
        pace(0.5)
        began = self.crash()
        while (at := time.monotonic() - began) < seconds:
            self.look(at)
            self.ask(began)
            pace(0.2)
        self.look(at)

    def between(self, first: float, last: float) -> Look:
        """What was new from the look at `first` seconds to the one at `last`."""
        a, b = (min(self.looks, key=lambda look: abs(look.at - at)) for at in (first, last))
        return Look(b.at - a.at, b.starts - a.starts, b.cpu - a.cpu, b.lines - a.lines)


def crash_loop(seconds: float, way: str = "raises") -> Report:
    """L38: an application that raises, or a process that dies, at import."""
    report = Report("L38", f"crash loop for {seconds:g} s: the code {way} at import")
    with short_place() as place:
        settings = prepare(place, {}, everywhere("broken", pool="broken", path=f"/{way}"))
        second_pool(settings, "broken", {"app_dir": str(place / way), "max_children": 2})
        (place / way).mkdir()
        (place / way / "application.py").write_text(_GOOD)
        with site("nginx", settings) as running:
            pool = CrashingPool(running, way)
            answers, _ = under_load(running.port, usual_load(seconds + 1), lambda: pool.watch(seconds))
            report.true("the other pool is whole", len(serving(running.master)) == WORKERS)
    early, later = pool.between(0, 10), pool.between(_SETTLED, seconds)
    first, *others = [took for _, status, took in pool.answers if status == 503]
    first_503 = pool.answers[0][0] + first
    log = {
        f"minute {n + 1}": pool.between(60 * n, min(60 * n + 60, seconds)).lines for n in range(-(-int(seconds) // 60))
    }
    report.figures = {
        "sent_to_the_other_pool": len(answers), "starts": [look.starts for look in pool.looks][-1],
        "cpu_percent_of_the_start": round(100 * early.cpu / early.at, 1),
        "503_ms": milliseconds(sorted(others)), "log_lines": log,
        "wait_of_the_other_pool_ms": milliseconds(waits(answers)),
    }  # fmt: skip
    report.none("lost in the other pool", len(lost(answers)))
    report.at_most("starts in the first 10 s", early.starts, 8)
    report.at_most("first 503 after the crash", first_503, 1, " s")
    report.at_most("longest 503 after that", max(others), 1, " s")
    report.none("answers of the broken pool other than 503", sum(status != 503 for _, status, _ in pool.answers))
    report.at_most("lines in the log in any minute", max(log.values()), 20)
    if seconds > 81:  # by then the pause between two starts has grown to 30 s
        report.at_most("processor", 100 * later.cpu / later.at, 5, " %")
        report.at_most("starts in the last 30 s", pool.between(seconds - 30, seconds).starts, 1)
    return report
