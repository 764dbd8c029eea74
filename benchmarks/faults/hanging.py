"""Requests that hang: one of each kind beside the load, and all workers of one pool beside another pool's load."""

from __future__ import annotations

import functools
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.faults.stage import WORKERS, everywhere, pace, pool, prepare, second_pool, serving, stage
from benchmarks.faults.verdicts import Report, compare
from benchmarks.load import RATE, lost, milliseconds, under_load, usual_load, waits
from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import Site, alive, short_place, site
from tests.waiting import wait_until

_WAYS = {  # what hangs, and what its client gets: 504 from the gateway, 502 from nginx where only SIGKILL helps
    "a busy loop": ("/spin", 504),
    "time.sleep": ("/sleep", 504),
    "SIGSTOP": ("/sleep", 502),
    "C code that holds the GIL": ("/gil", 502),
}
_HANGING = 4  # workers of the pool that hangs as a whole


@dataclass(frozen=True)
class Hung:
    """What came of one request that hung. Seconds."""

    status: int
    took: float
    replaced: float  # from the end of its worker to a new one


def hang(running: Site, way: str) -> Hung:
    """Send one request that hangs, and wait for its end and for the new worker."""
    path, _ = _WAYS[way]
    pace(0.5)
    with ThreadPoolExecutor(1) as browser:
        began = time.monotonic()
        asking = browser.submit(fetch, running.port, f"/overdue{path}")
        victim = wait_until(lambda: hung_worker(running))
        if way == "SIGSTOP":
            os.kill(victim, signal.SIGSTOP)
        status = asking.result(30).status
        took = time.monotonic() - began
        wait_until(lambda: not alive(victim), 20, "the end of the worker")
        ended = time.monotonic()
        wait_until(lambda: len(serving(running.master) - {victim}) >= WORKERS, 20, "a new worker")
        return Hung(status, took, time.monotonic() - ended)


def hung_worker(running: Site) -> int:
    """The worker that runs the request; 0 for none."""
    found = (worker["pid"] for worker in pool(running.master)["workers"] if "overdue" in worker.get("uri", ""))
    return next(found, 0)


def hung_workers(deadline: float) -> Report:
    """L43: a worker that hangs, in each of four ways."""
    report = Report("L43", f"a hung worker, request_terminate_timeout = {deadline:g}")
    with stage({"request_terminate_timeout": deadline}, everywhere("overdue", app="overdue", path="/overdue")) as site:
        answers, count = [], 0
        for way, (_, status) in _WAYS.items():
            posts = usual_load(deadline + (1.8 if status == 502 else 0.8), first=count)
            came, hung = under_load(site.port, posts, functools.partial(hang, site, way))
            answers += came
            count += len(posts)
            report.figures[way] = {"ended_after_s": round(hung.took, 2), "replaced_in_ms": round(hung.replaced * 1000)}
            report.true(f"{way}: answered {status}", hung.status == status, str(hung.status))
            report.at_least(f"{way}: ended", hung.took, deadline, " s")
            report.at_most(f"{way}: ended", hung.took, deadline + 1, " s")
            report.at_most(f"{way}: a new worker", hung.replaced * 1000, 200, " ms")
    report.figures |= {"sent": len(answers), "wait_ms": milliseconds(waits(answers))}
    report.none("lost of the other requests", len(lost(answers)))
    return report


def hang_all(running: Site, seconds: float, deadline: float) -> list[int]:
    """Send requests that hang to the other pool, half as many again as it can end; return their statuses."""
    rate = 1.5 * _HANGING / deadline
    with ThreadPoolExecutor(int(rate * seconds)) as browsers:
        asking = []
        for _ in range(int(rate * seconds)):
            asking.append(browsers.submit(fetch, running.port, "/overdue/sleep"))
            pace(1 / rate)
        return [one.result(60).status for one in asking]


def hung_pool(seconds: float, deadline: float) -> Report:
    """O48: one application hangs on all its workers, which are ended again and again; the other pool has its load."""
    report = Report("O48", f"all workers of one pool hang for {seconds:g} s")
    values: dict[str, Any] = {"max_children": _HANGING, "request_terminate_timeout": deadline}
    with short_place() as place:
        settings = prepare(place, {}, everywhere("overdue", pool="hanging", app="overdue", path="/overdue"))
        second_pool(settings, "hanging", values)
        with site("nginx", settings) as running:
            alone, _ = under_load(running.port, usual_load(seconds), lambda: None)
            posts = usual_load(seconds, first=int(seconds * RATE))
            answers, statuses = under_load(running.port, posts, functools.partial(hang_all, running, seconds, deadline))
    report.figures = {
        "sent": len(answers), "wait_ms": milliseconds(waits(answers)), "wait_before_ms": milliseconds(waits(alone)),
        "hung": {str(status): statuses.count(status) for status in sorted(set(statuses))},
    }  # fmt: skip
    report.none("lost in the other pool", len(lost(answers)))
    compare(report, answers, alone, 1.5)
    return report
