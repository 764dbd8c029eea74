"""`gateway serve` before it serves, and settings read again: what becomes of a child that cannot read them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.running import children
from tests.waiting import wait_until

ROOT = str(Path(__file__).parent.parent)
AGAIN = """
import sys
from gateway import serving
from gateway.settings import ConfigError
%s
try:
    source = serving.Source(sys.argv[1:], "")
    source.take_up_again(source.begin_again().result())
except ConfigError as error:
    print(error)
"""


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A settings file that nobody ever writes."""
    os.mkfifo(tmp_path / "gateway.toml")
    return tmp_path / "gateway.toml"


def again(before: str, *words: str | Path) -> str:
    """Why settings cannot be read again, `before` which something was done."""
    command = [sys.executable, "-c", AGAIN % before, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, cwd=ROOT).stdout


def serve(*words: str | Path, prepared: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gateway", *map(str, words)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT, preexec_fn=prepared
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit code and what it has said."""
    said = process.communicate(timeout=30)[1]
    return process.returncode, said


def opened(fifo: Path) -> int | None:
    """A descriptor by which it is written, once somebody reads it."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def test_a_child_that_is_killed_is_told_of(fifo: Path) -> None:
    process = serve("serve", fifo)
    writing = wait_until(lambda: opened(fifo), 20)
    [reader] = [pid for pid in children(process.pid) if str(fifo) in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(reader, signal.SIGKILL)
    assert ended(process) == (111, "gateway: the settings could not be read: it was killed by signal 9\n")
    assert writing is not None
    os.close(writing)


@pytest.mark.parametrize("words", [["serve"], ["--", "serve"]])
def test_whoever_starts_it_may_ignore_how_children_end(tmp_path: Path, words: list[str]) -> None:
    process = serve(*words, tmp_path / "no.toml", prepared=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert ended(process) == (100, f"gateway: {tmp_path / 'no.toml'}: cannot be read: No such file or directory\n")


def test_settings_that_never_come_do_not_keep_the_master(fifo: Path) -> None:
    said = again("serving._PATIENCE = 0.3", fifo)
    assert said == "the settings could not be read: it took too long\n"


def test_code_that_has_changed_meanwhile_is_named_as_what_it_may_be(tmp_path: Path) -> None:
    said = again("sys.modules['gateway.config'] = None", tmp_path / "gateway.toml")
    first, *_, last = said.splitlines()
    assert first == (
        "the settings could not be read: where gateway was installed anew meanwhile, `gateway upgrade` takes that up"
    )
    assert last == "ModuleNotFoundError: import of gateway.config halted; None in sys.modules"


def test_what_is_wrong_with_them_is_said(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    assert again("", file) == f"{file}: cannot be read: No such file or directory\n"
