"""Every fault of `python -m benchmarks.faults`, for seconds instead of minutes: the same must hold."""

from __future__ import annotations

import pytest

from benchmarks.faults.scenarios import SCENARIOS
from benchmarks.faults.verdicts import Report

pytestmark = pytest.mark.alone  # it measures, or has to be fast

SHORT = {name: scenario.short for name, scenario in SCENARIOS.items() if scenario.short is not None}


@pytest.mark.parametrize("name", SHORT)
def test_fault(name: str) -> None:
    """Counts hold at once. What is measured may be the fault of what else this machine does: it holds once in three."""
    for _ in range(3):
        report = SHORT[name]()
        print("\n".join(report.lines()), report.figures)
        assert [verdict for verdict in report.verdicts if not (verdict.holds or verdict.measured)] == []
        if report.holds:
            return
    assert [verdict for verdict in report.verdicts if not verdict.holds] == []


def test_what_does_not_hold_is_marked_within_80_columns() -> None:
    report = Report("X1", "a fault " * 20)
    report.at_most("a time that is described in more words than there is room for in one line", 0.5, 1, " s")
    report.at_least("workers", 3, 4)
    report.none("lost", 2)
    report.true("it serves", True)
    lines = list(report.lines())
    assert max(map(len, lines)) <= 80
    assert [line.startswith("  NOT ") for line in lines[1:]] == [False, True, True, False]
    assert not report.holds
