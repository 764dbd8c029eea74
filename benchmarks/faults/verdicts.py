"""What came of one fault: figures, and for each thing that must hold whether it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.load import p99
from tests.end_to_end.browsing import Timed


@dataclass(frozen=True)
class Verdict:
    """One thing that must hold; `claim` has its number and unit."""

    claim: str
    figure: float | str
    holds: bool
    measured: bool = False  # with a unit: how it comes out depends on what else the machine does


@dataclass
class Report:
    """One fault under its name in the list of faults."""

    name: str
    fault: str
    figures: dict[str, Any] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether everything does."""
        return all(verdict.holds for verdict in self.verdicts)

    def at_most(self, what: str, figure: float, limit: float, unit: str = "") -> None:
        """A figure must not exceed a limit."""
        self.verdicts.append(Verdict(f"{what}: at most {limit:g}{unit}", round(figure, 3), figure <= limit, bool(unit)))

    def at_least(self, what: str, figure: float, limit: float, unit: str = "") -> None:
        """A figure must not be less than a limit."""
        self.verdicts.append(
            Verdict(f"{what}: at least {limit:g}{unit}", round(figure, 3), figure >= limit, bool(unit))
        )

    def none(self, what: str, number: int) -> None:
        """There must not be any."""
        self.verdicts.append(Verdict(f"{what}: none", number, number == 0))

    def true(self, what: str, holds: bool, figure: str = "") -> None:
        """Something must be so; `figure` is what was seen."""
        self.verdicts.append(Verdict(what, figure or ("yes" if holds else "no"), holds))

    def lines(self) -> Iterator[str]:
        """The report as lines of at most 80 columns."""
        yield f"{self.name}  {self.fault}"[:80]
        for verdict in self.verdicts:
            mark = "    " if verdict.holds else "NOT "
            yield f"  {mark}{verdict.claim[:60]:60} {verdict.figure!s:>12.12}"


def compare(report: Report, answers: list[Timed], alone: list[Timed], factor: float) -> None:
    """The p99 of the time to an answer must be less than `factor` times that of the load alone."""
    ours, theirs = (p99(sorted(answer.seconds for answer in part)) for part in (answers, alone))
    report.at_most("p99 of the time to an answer, beside the load alone", ours / theirs, factor, " x")
