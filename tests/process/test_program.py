"""How a signal is written; what `program` does is in tests/end_to_end/test_supervising.py."""

from __future__ import annotations

import signal

import pytest

from gateway.process.program import find_signal


@pytest.mark.parametrize("text", ["TERM", "term", "SIGTERM", "15"])
def test_a_signal(text: str) -> None:
    assert find_signal(text) == signal.SIGTERM


@pytest.mark.parametrize("text", ["", "SIG", "0", "4711", "-15", "TREM", "_BLOCK"])
def test_no_signal(text: str) -> None:
    with pytest.raises(ValueError, match="is no signal; write its name or number, as in TERM or 15"):
        find_signal(text)
