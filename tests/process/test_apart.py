"""Work in a child: what comes back, and how it ends. In a process of its own, which alone is to fork."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from gateway.process.apart import Apart
signal.signal(signal.SIGUSR1, lambda *_: None)
def work():
    %s
print(repr(Apart(work).result()), os.getpid())
"""


def outcome(work: str, before: str = "") -> tuple[str, str]:
    script = before + SCRIPT % work
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.rpartition(" ")[0], done.stderr


def test_what_json_can_write_comes_back() -> None:
    assert outcome("return {'a': [1, 'b' * 200_000]}")[0] == repr({"a": [1, "b" * 200_000]})


def test_an_exit_code_is_for_what_has_been_said_already() -> None:
    assert outcome("print('help'); return 0")[0] == "help\n0"
    assert outcome("return 100") == ("100", "")


def test_what_is_raised_there_is_shown() -> None:
    given, said = outcome("raise LookupError('no such thing')")
    assert given == "101"
    assert said.endswith("LookupError: no such thing\n")


@pytest.mark.parametrize(("number", "code"), [("SIGKILL", "-9"), ("SIGUSR1", "-10")])
def test_one_that_is_killed_gives_its_signal(number: str, code: str) -> None:
    assert outcome(f"os.kill(os.getpid(), signal.{number}); signal.pause()")[0] == code


def test_where_nobody_is_told_of_ends_an_answer_still_comes() -> None:
    ignored = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    assert outcome("return {'a': 1}", ignored)[0] == "{'a': 1}"
    assert outcome("return 3", ignored)[0] == "101"
