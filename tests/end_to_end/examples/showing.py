"""Try every example behind every front-end, and write the page of it: `python -m tests.end_to_end.examples.showing`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tests.end_to_end.examples import frameworks, jsonstore, publisher
from tests.end_to_end.examples.outcome import Outcome

Trial = Callable[[Path], Iterator[Outcome]]
# What is tried, and by what name a test knows it. Each is given the folder of `frameworks.prepared` and starts what
# it needs once. A new example is a line here, and one in docs/examples.
TRIALS: Mapping[str, Trial] = {
    **frameworks.TRIALS,
    **jsonstore.TRIALS,
    **publisher.TRIALS,
}
_TITLE = """# Examples, behind each front-end

Written by `python -m tests.end_to_end.examples.showing`; each run of `tests/end_to_end/test_examples.py` tries all of
it anew, and compares. *Yes*: it was tried, and did what the example's page says; empty: it was not.
"""


def page(outcomes: Iterable[Outcome]) -> str:
    """The tables, in the order of the outcomes."""
    tables: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        tables.setdefault(outcome.table, []).append(outcome)
    return _TITLE + "".join(f"\n## {title}\n\n{_table(found)}" for title, found in tables.items())


def _table(outcomes: list[Outcome]) -> str:
    columns = list(dict.fromkeys(outcome.feature for outcome in outcomes))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for outcome in outcomes:
        rows.setdefault((outcome.example, outcome.front), {})[outcome.feature] = "no" if outcome.failure else "yes"
    cells = [["example", "front", *columns], ["---"] * (2 + len(columns))]
    examples = list(dict.fromkeys(outcome.example for outcome in outcomes))
    for names in sorted(rows, key=lambda names: examples.index(names[0])):  # those of an example beside each other
        cells.append([*names, *(rows[names].get(column, "") for column in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def all_outcomes() -> Iterator[Outcome]:
    with frameworks.prepared() as examples:
        for trial in TRIALS.values():
            yield from trial(examples)


if __name__ == "__main__":
    sys.stdout.write(page(all_outcomes()))
