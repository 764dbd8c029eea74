"""examples/: each behind each front-end, and the page that the tests write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.examples import frameworks
from tests.end_to_end.examples.outcome import Outcome
from tests.end_to_end.examples.showing import TRIALS, page
from tests.end_to_end.running import ROOT

PAGE = ROOT / "docs" / "reference" / "examples.md"


@pytest.fixture(scope="module")
def examples() -> Iterator[Path]:
    """A copy of the folder, in which the examples may write."""
    with frameworks.prepared() as folder:
        yield folder


@pytest.fixture(scope="module")
def outcomes() -> dict[str, list[Outcome]]:
    """What the trials have shown so far."""
    return {}


def of(trial: str, examples: Path, outcomes: dict[str, list[Outcome]]) -> list[Outcome]:
    """What a trial shows, which takes place once."""
    if trial not in outcomes:
        outcomes[trial] = list(TRIALS[trial](examples))
    return outcomes[trial]


@pytest.mark.parametrize("trial", TRIALS)
def test_every_feature_works(trial: str, examples: Path, outcomes: dict[str, list[Outcome]]) -> None:
    failures = {(it.example, it.front, it.feature): it.failure for it in of(trial, examples, outcomes) if it.failure}
    assert failures == {}, "\n".join(failures.values())


def test_the_page_shows_it(examples: Path, outcomes: dict[str, list[Outcome]]) -> None:
    shown = page(outcome for trial in TRIALS for outcome in of(trial, examples, outcomes))
    assert PAGE.read_text() == shown, f"run: python -m tests.end_to_end.examples.showing > {PAGE.relative_to(ROOT)}"
    for link in re.findall(r"\]\(([^)]+)\)", shown):
        assert (PAGE.parent / link).exists(), link
