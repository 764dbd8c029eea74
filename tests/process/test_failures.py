"""What is told of a pool's failed starts, with a clock of the test's own."""

from __future__ import annotations

import pytest

from gateway.process import failures
from gateway.process.failures import Failures


class Clock:
    def __init__(self) -> None:
        self.now = 5_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(failures, "milliseconds", clock)
    return clock


def told(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The texts of the lines, without time and process."""
    return [line.split("] ", 1)[1] for line in capfd.readouterr().err.splitlines()]


def test_refusals_for_one_reason_are_told_once_a_second(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    pool = Failures("main")
    for generation, clock.now in enumerate((5_000, 5_100, 5_999, 6_000, 9_000), 1):
        pool.refuse(generation, "cannot load shop")
    assert told(capfd) == [f"pool main: generation {number} refused: cannot load shop" for number in (1, 4, 5)]


def test_another_reason_is_told_at_once(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    pool = Failures("main")
    for generation, error in enumerate(("cannot load shop", "cannot load wiki", "cannot load shop"), 1):
        pool.refuse(generation, error)
    assert len(told(capfd)) == 3


def test_a_traceback_is_told_once_until_new_code_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    pool = Failures("main")
    for text in ("Traceback\nLookupError\n", "Traceback\nLookupError\n", "another\n"):
        pool.tell(text)
    assert told(capfd) == ["Traceback", "LookupError", "another"]
    pool.forget()
    pool.tell("another\n")
    assert told(capfd) == ["another"]
