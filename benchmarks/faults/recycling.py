"""Workers that are replaced after so many requests."""

from __future__ import annotations

import functools
from collections import Counter

from benchmarks.faults.stage import WORKERS, Watch, journal, pool, stage
from benchmarks.faults.verdicts import Report
from benchmarks.load import RATE, lost, milliseconds, under_load, usual_load, waits
from tests.end_to_end.running import Master


def states(master: Master) -> dict[int, str]:
    """The state of each worker."""
    return {worker["pid"]: worker["state"] for worker in pool(master)["workers"]}


def recycled(seconds: float, max_requests: int) -> Report:
    """L44: max_requests with jitter."""
    report = Report("L44", f"max_requests = {max_requests} with jitter for {seconds:g} s")
    limits = {"max_requests": max_requests, "max_requests_jitter": max_requests // 2}
    with stage(limits) as running:
        with Watch(functools.partial(states, running.master)) as watch:
            answers, _ = under_load(running.port, usual_load(seconds), lambda: None)
        noted = journal(running)
    counted = [Counter(seen.values()) for seen in watch.seen]
    serving = [seen["idle"] + seen["busy"] + seen["retiring"] for seen in counted]
    replaced = len({pid for seen in watch.seen for pid in seen}) - WORKERS
    report.figures = {
        "sent": len(answers), "replaced": replaced, "wait_ms": milliseconds(waits(answers)),
        "most_leaving": max(seen["leaving"] for seen in counted), "looks": len(counted),
    }  # fmt: skip
    report.none("lost", len(lost(answers)))
    report.none("run twice", sum(count > 1 for count in noted.runs.values()))
    report.at_most("most workers retiring at once", max(seen["retiring"] for seen in counted), 1)
    report.at_least("fewest workers that serve", min(serving), WORKERS)
    report.at_least("workers replaced", replaced, seconds * RATE / max_requests / 4)
    return report
