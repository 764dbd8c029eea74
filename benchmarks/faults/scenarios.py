"""The faults by their names, and how long each goes on: in full, or short enough for every run of the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults.crashing import crash_loop
from benchmarks.faults.hanging import hung_pool, hung_workers
from benchmarks.faults.killing import killed_workers
from benchmarks.faults.overload import overloaded
from benchmarks.faults.recycling import recycled
from benchmarks.faults.reloading import broken_reloads, many_reloads, reload_beside_a_slow_request, signal_storms
from benchmarks.faults.verdicts import Report


@dataclass(frozen=True)
class Scenario:
    """One fault at its two lengths."""

    full: Callable[[], Report]
    short: Callable[[], Report] | None = None


SCENARIOS = {
    "L36": Scenario(lambda: killed_workers(60), lambda: killed_workers(2)),
    "L38": Scenario(lambda: crash_loop(120), lambda: crash_loop(3)),
    "L38b": Scenario(lambda: crash_loop(120, "dies")),
    "L39": Scenario(lambda: broken_reloads(10), lambda: broken_reloads(2)),
    "L40": Scenario(lambda: many_reloads(60, 20, baseline=20), lambda: many_reloads(2, 2, baseline=1)),
    "L41": Scenario(lambda: signal_storms(5, 10), lambda: signal_storms(1, 1)),
    "L43": Scenario(lambda: hung_workers(5), lambda: hung_workers(1)),
    "L44": Scenario(lambda: recycled(60, 100), lambda: recycled(2, 40)),
    "O47": Scenario(lambda: overloaded(60, alone=4), lambda: overloaded(1.5, alone=0.5)),
    "O48": Scenario(lambda: hung_pool(20, 2), lambda: hung_pool(1.5, 0.4)),
    "4s": Scenario(lambda: reload_beside_a_slow_request(4), lambda: reload_beside_a_slow_request(1.5)),
}
