"""How a worker starts: `on_worker_start`, the stand-in while none can, and applications that cannot be forked."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.asking import parameters
from gateway.net.address import UnixAddress
from gateway.net.client import RequestFailed, request
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    USER,
    Master,
    Program,
    Settings,
    descendants,
    serving,
)
from tests.waiting import wait_until


@pytest.fixture
def settings(place: Path) -> Settings:
    application = {"name": "hooked", "app": "hooked:application"}
    return Settings(place, {"on_worker_start": "hooked:connect", "max_children": 2}, [application])


def ask(settings: Settings) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of one answer of the pool, whoever gives it; status 0 when there is none."""
    try:
        with request(UnixAddress(str(settings.socket)), parameters("/", "GET", 0, []), timeout=10) as answer:
            return answer.status, dict(answer.headers), b"".join(answer.body).decode()
    except RequestFailed:
        return 0, {}, ""


def processes(settings: Settings) -> tuple[int, int, int, str]:
    """Of an answer of the application: who answered, who imported it, who called the hook; its threads."""
    status, _, body = ask(settings)
    assert status == 200
    answered, imported, connected, threads = body.split()
    return int(answered), int(imported), int(connected), threads


def refused(settings: Settings) -> dict[str, str]:
    """The headers of a stand-in's answer, or none if that is not who answers."""
    status, headers, _ = ask(settings)
    return headers if status == 503 else {}


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GATEWAY, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


@pytest.mark.parametrize("preload", [True, False])
def test_each_worker_calls_the_hook(settings: Settings, preload: bool) -> None:
    settings.pool["preload"] = preload
    settings.write()
    with serving(settings):
        answered, imported, connected, _ = processes(settings)
        assert connected == answered
        assert (imported == answered) is not preload


def test_failing_hooks_are_stood_in_for_until_their_cause_is_gone(settings: Settings) -> None:
    with serving(settings) as master:
        settings.open_gate("no-database")
        for worker in master.workers():
            os.kill(worker["pid"], signal.SIGKILL)
        headers = master.wait_for(lambda: refused(settings), 20)
        assert int(headers["Retry-After"]) > 0
        wait_until(lambda: "ConnectionError: no database" in master.said and 'hooked.py", line' in master.said)
        assert not master.workers("idle", "busy")
        (settings.place / "gates" / "no-database").unlink()
        master.wait_for(master.ready, 40)
        wait_until(lambda: ask(settings)[0] == 200)
        workers = {worker["pid"] for worker in master.workers()}
        wait_until(lambda: len(set(descendants(master.pid)) - workers) == 1, what="the end of the stand-in")
        assert [ask(settings)[0] for _ in range(20)] == [200] * 20


@pytest.fixture
def without_database(settings: Settings) -> Iterator[Master]:
    settings.open_gate("no-database")
    master = Master(settings)
    yield master
    master.stop()


def test_hook_that_fails_at_the_very_first_start_is_tried_again(without_database: Master) -> None:
    settings = without_database.settings
    assert without_database.wait_for(lambda: refused(settings), 20)["Retry-After"]
    wait_until(lambda: "ConnectionError: no database" in without_database.said)
    (settings.place / "gates" / "no-database").unlink()
    without_database.wait_for(without_database.ready, 40)
    wait_until(lambda: ask(settings)[0] == 200)


def test_reload_whose_hook_fails_is_refused(settings: Settings) -> None:
    with serving(settings) as master:
        before = sorted(worker["pid"] for worker in master.workers())
        settings.open_gate("no-database")
        done = command("reload", settings.file)
        assert done.returncode == 1
        assert "on_worker_start: hooked:connect raised ConnectionError" in done.stderr
        assert "ConnectionError: no database" in done.stderr.splitlines()[-1]
        assert sorted(worker["pid"] for worker in master.workers()) == before


def test_check_names_a_hook_that_fails(settings: Settings) -> None:
    settings.pool["on_worker_start"] = "hooked:conect"
    settings.write()
    done = command("check", settings.file)
    assert done.returncode == 100
    assert "pool main: on_worker_start: module 'hooked' has no 'conect': did you mean 'connect'?" in done.stderr


def test_thread_of_an_import_makes_each_worker_import(settings: Settings) -> None:
    settings.open_gate("start-a-thread")
    with serving(settings) as master:
        answered, imported, _, threads = processes(settings)
        assert (imported, threads) == (answered, "MainThread,heartbeat")
        warning = "pool main: importing its applications left the thread 'heartbeat', so each worker imports"
        wait_until(lambda: warning in master.said)
        assert command("reload", settings.file).returncode == 0
        assert processes(settings)[3] == "MainThread,heartbeat"


def test_connection_of_an_import_makes_each_worker_import(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (settings.place / "gates" / "connect").write_text(str(port))
        with serving(settings) as master:
            answered, imported, _, _ = processes(settings)
            assert imported == answered
            warning = f"importing its applications left a connection to 127.0.0.1:{port}, so each worker"
            wait_until(lambda: warning in master.said)


def test_preload_is_off_without_a_warning_where_the_operator_says_so(settings: Settings) -> None:
    settings.open_gate("start-a-thread")
    settings.pool["preload"] = False
    settings.write()
    with serving(settings) as master:
        answered, imported, _, threads = processes(settings)
        assert (imported, threads) == (answered, "MainThread,heartbeat")
        assert "importing its applications" not in master.said


@pytest.mark.parametrize("broken", [False, True])
def test_worker_without_master_calls_the_hook_too(settings: Settings, broken: bool) -> None:
    if broken:
        settings.open_gate("no-database")
    arguments = ["hooked:application", "--app-dir", str(HERE), "--on-worker-start", "hooked:connect"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(settings.socket))
        listener.listen()
        program = Program(
            [*GATEWAY, "serve", *arguments, *(["--user", USER] if USER else [])],
            settings.place / "gateway.log",
            env=ENVIRONMENT | {"GATES": str(settings.place / "gates")},
            stdin=listener,
        )
    try:
        if broken:
            assert program.wait() == 111
            assert "on_worker_start: hooked:connect raised ConnectionError" in program.said
        else:
            answered, _, connected, _ = processes(settings)
            assert answered == connected == program.pid
    finally:
        program.stop()
