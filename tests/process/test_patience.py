"""Importing that takes too long raises where it hangs."""

from __future__ import annotations

import signal
import time
import traceback

import pytest

from gateway.process.patience import in_time


def hang() -> None:
    time.sleep(20)


def test_what_hangs_raises_there_before_its_time_is_over() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"start_timeout \(0\.5 s\)") as raised:
        in_time(hang, 0.5)()
    assert time.monotonic() - began >= 0.4
    assert "time.sleep(20)" in "".join(traceback.format_exception(raised.value))


def test_what_ends_in_time_is_returned_and_nothing_is_left() -> None:
    before = signal.getsignal(signal.SIGALRM)
    assert in_time(lambda: 7, 30)() == 7
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_an_alarm_of_the_applications_own_stays() -> None:
    def load() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 20)

    try:
        in_time(load, 30)()
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
