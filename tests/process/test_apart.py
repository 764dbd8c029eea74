"""Work in a child: what comes back, and how it ends. In a process of its own, which alone is to fork."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, sys
from gateway.process.apart import Apart
for number in (signal.SIGUSR1, signal.SIGQUIT):
    signal.signal(number, lambda *_: None)
def work():
    %s
print(repr(Apart(work).result()), os.getpid())
"""


def outcome(work: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT % work], capture_output=True, text=True, check=True, timeout=30)
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


@pytest.mark.parametrize(("number", "code"), [("SIGKILL", "-9"), ("SIGQUIT", "-3"), ("SIGINT", "-2")])
def test_one_that_is_killed_gives_its_signal(number: str, code: str) -> None:
    """And a child says nothing of Ctrl-C at a terminal, which its parent has as well."""
    assert outcome(f"os.kill(os.getpid(), signal.{number}); signal.pause()") == (code, "")


def test_a_signal_for_the_parent_to_act_on_does_not_end_it() -> None:
    assert outcome("os.kill(os.getpid(), signal.SIGUSR1); return {'a': 1}") == (repr({"a": 1}), "")


def test_one_that_cannot_be_had_leaves_nothing_behind() -> None:
    script = """
import os, resource
from gateway.process.apart import Apart
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
if not os.getuid():
    os.setuid(65534)  # nothing limits root
free = os.dup(0)
os.close(free)
try:
    Apart(dict)
except OSError as error:
    print(error.strerror, os.dup(0) - free)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("Resource temporarily unavailable 0\n", "")


def test_what_one_has_said_that_is_killed_before_the_end_is_nothing() -> None:
    """A pipe holds 64 KiB: it waits in the middle of its answer until it is read."""
    script = """
import array, fcntl, os, signal, termios, time
from gateway.process.apart import Apart
apart, waiting = Apart(lambda: {"a": "b" * 1_000_000}), array.array("i", [0])
while waiting[0] < 65_536:
    time.sleep(0.001)
    fcntl.ioctl(apart, termios.FIONREAD, waiting)
os.kill(apart.pid, signal.SIGKILL)
print(apart.result())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("-9\n", "")
