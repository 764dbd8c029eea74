"""A worker by itself, with its listener on fd 0, as lighttpd and spawn-fcgi start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.net.driving import Front, listening, whole
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SCRIPT = """
import signal, sys, time
import gateway

handled = 0

def handle(number, frame):
    global handled
    handled += 1

signal.signal(signal.SIGUSR2, handle)

def application(environ, start_response):
    if environ["QUERY_STRING"] == "wait":
        write = start_response("200 OK", [])
        write(b"begun")
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass
    else:
        start_response("200 OK", [])
    return [str(handled).encode()]

sys.exit(gateway.run(application))
"""


def close_outputs() -> None:
    os.close(1)
    os.close(2)


@contextlib.contextmanager
def spawned(path: Path, before: Callable[[], None] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with listening(path) as listener:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=listener,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            preexec_fn=before,
        )
    with process:
        yield process
        process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_a_stop_signal_ends_it_well(path: Path) -> None:
    with spawned(path) as process, Front(path) as front:
        assert front.ask(keep=True).body == b"0"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert front.read() == b""


@pytest.mark.parametrize("start", [lambda path: spawned(path), lambda path: served(path, path.parent)])
def test_it_does_not_interrupt_who_sends_it_a_request(
    path: Path, start: Callable[[Path], contextlib.AbstractContextManager[subprocess.Popen[bytes]]]
) -> None:
    """A start script's as well as that of `gateway serve`."""
    with start(path) as process, Front(path) as front:
        assert front.ask(keep=True).complete
        policy = os.sched_getscheduler(process.pid)
    assert policy == os.SCHED_BATCH


def test_a_running_request_finishes_and_repeated_signals_change_nothing(path: Path) -> None:
    with spawned(path) as process, Front(path) as front:
        front.send(whole(QUERY_STRING="wait"))
        assert front.socket.recv(1)
        for _ in range(5):
            process.send_signal(signal.SIGTERM)
        assert b"begun" in front.read()
        assert process.wait(10) == 0


def test_a_signal_of_the_application_is_its_own(path: Path) -> None:
    with spawned(path) as process, Front(path) as front:
        assert front.ask(keep=True).body == b"0"
        process.send_signal(signal.SIGUSR2)
        wait_until(lambda: front.ask(keep=True).body == b"1")
        assert process.poll() is None


def test_outputs_that_the_spawner_has_closed_are_no_connections(path: Path) -> None:
    with spawned(path, close_outputs) as process, Front(path) as front:
        assert front.ask(keep=True).complete
        assert {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (1, 2)} == {os.devnull}
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


@contextlib.contextmanager
def served(path: Path, folder: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """A lone worker of `gateway serve`, with a settings file."""
    code = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"
    (folder / "lone.py").write_text(code)
    application = {"name": "lone", "app": "lone:application", "bindings": [{"hostname": "*", "port": "*"}]}
    pool = {"app_dir": str(folder), "access_log": str(folder / "log"), "access_format": "%m", "user": str(os.geteuid())}
    tables = {"gateway": settings, "pools": {"main": pool}, "applications": [application]}
    (folder / "s.json").write_text(json.dumps(tables))
    with listening(path) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", str(folder / "s.json")],
            stdin=listener,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        )
    with process:
        yield process
        process.kill()


def test_usr1_reopens_the_log_files(path: Path, tmp_path: Path) -> None:
    access, errors = tmp_path / "log", tmp_path / "errors"
    with served(path, tmp_path, error_log=str(errors)) as process, Front(path) as front:
        assert front.ask(keep=True).body == b"x"
        wait_until(lambda: access.read_text() == "GET\n")
        access.rename(tmp_path / "log.1")
        errors.rename(tmp_path / "errors.1")
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: access.exists() and errors.exists())
        assert front.ask(keep=True).body == b"x"
        wait_until(lambda: access.read_text() == "GET\n")
        assert process.poll() is None


def test_a_log_that_cannot_be_opened_anew_goes_on(path: Path, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with served(path, tmp_path, error_log=str(errors), error_log_format="json") as process, Front(path) as front:
        assert front.ask(keep=True).body == b"x"
        wait_until(lambda: (tmp_path / "log").read_text() == "GET\n")
        (tmp_path / "log").rename(tmp_path / "log.1")
        (tmp_path / "log").mkdir()
        process.send_signal(signal.SIGUSR1)
        wait_until(errors.read_text)
        record = json.loads(errors.read_text().splitlines()[-1])
        assert (record["level"], record["message"]) == ("error", f"cannot open {tmp_path / 'log'} anew: Is a directory")
        assert front.ask(keep=True).body == b"x"
        wait_until(lambda: (tmp_path / "log.1").read_text() == "GET\nGET\n")


def test_a_lone_worker_has_an_access_log_too(path: Path, tmp_path: Path) -> None:
    code = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n"
    (tmp_path / "lone.py").write_text(code)
    command = [sys.executable, "-m", "gateway", "serve", "lone:application", "--app-dir", str(tmp_path)]
    command += ["--user", str(os.geteuid()), "--access-log", str(tmp_path / "log"), "--access-format", "%m %s"]
    with listening(path) as listener:
        process = subprocess.Popen(command, stdin=listener, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)})
    with process, Front(path) as front:
        assert front.ask().body == b"x"
        wait_until(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text() == "GET 200\n")
        process.terminate()
        assert process.wait(10) == 0
