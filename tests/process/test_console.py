"""The console's process in a loop of the test's own: started, started again, replaced, killed, ended."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.net import client
from gateway.net.address import UnixAddress
from gateway.process import console
from gateway.process.console import Console
from gateway.process.handles import Source
from gateway.process.policy import NEVER
from gateway.settings import ConfigError, Gateway, Pool
from tests.end_to_end.running import short_place

STATUS: dict[str, Any] = {"version": "1.2.3", "pid": 1, "started": 0.0, "pools": []}


class Turning:
    """The master's loop, for the console alone."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, callback)

    def forget(self, source: Source) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(source)

    def owns(self, pid: object) -> bool:
        return False

    def turn(self, console: Console, until: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Go round until something is true."""
        deadline = time.monotonic() + seconds
        while not (value := until()):
            assert time.monotonic() < deadline, f"still waiting for {until}"
            for key, _ in self._selector.select(0.005):
                with contextlib.suppress(BlockingIOError):
                    key.data()
            console.tick()
            with contextlib.suppress(ChildProcessError):
                while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
                    console.reaped(ended.si_pid, f"has ended with {ended.si_status}")
        return value


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as place:
        yield place


def make(place: Path, loop: Turning, **more: Any) -> Console:
    user = "root" if os.geteuid() == 0 else ""
    gateway = Gateway(status_listen=f"{place}/status.sock", **more)
    return Console(gateway, Pool(user=user), loop, lambda: STATUS)


@contextlib.contextmanager
def started(place: Path) -> Iterator[tuple[Console, Turning]]:
    loop = Turning()
    running = make(place, loop)
    running.start()
    try:
        yield running, loop
    finally:
        running.end()
        loop.turn(running, lambda: running.ended)
        running.close()
    assert not (place / "status.sock").exists()


def processes(running: Console) -> list[int]:
    return [process.popen.pid for process in running._processes]


def ready(running: Console) -> list[int]:
    return [process.popen.pid for process in running._processes if process.ready and not process.leaving]


def ping(place: Path, running: Console, loop: Turning) -> bytes:
    """Its answer to /ping, for which it asks the loop."""
    params = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/ping", "SERVER_NAME": "x"}
    params |= {"SERVER_PORT": "80", "REQUEST_URI": "/ping", "QUERY_STRING": ""}
    answers: list[bytes] = []

    def ask() -> None:
        with client.request(UnixAddress(f"{place}/status.sock"), params, [], timeout=10) as answer:
            answers.append(b"".join(answer.body))

    asking = threading.Thread(target=ask)
    asking.start()
    loop.turn(running, lambda: answers)
    asking.join(10)
    return answers[0]


def test_without_an_address_there_is_none_and_it_ends_at_once() -> None:
    loop = Turning()
    none = Console(Gateway(), Pool(), loop, lambda: STATUS)
    none.start()
    assert (processes(none), none.deadline, none.ended) == ([], NEVER, False)
    none.end()
    assert none.ended


def test_mistakes_are_named(place: Path) -> None:
    with pytest.raises(ConfigError, match="user 'nobody-of-this-name' does not exist"):
        make(place, Turning(), status_user="nobody-of-this-name")


def test_one_that_dies_is_started_again_later_each_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_MODULE", "gateway.console.nothing")
    waits: list[int] = []

    def waiting() -> bool:
        at = running._start_at
        if at != NEVER and at not in waits:
            waits.append(at)
            assert at - console._milliseconds() <= running._delay // 2
        return running._delay == 1_600

    with started(place) as (running, loop):
        loop.turn(running, waiting)
    assert len(waits) == 4


def test_a_new_one_takes_the_place_of_the_old_once_it_serves(place: Path) -> None:
    with started(place) as (running, loop):
        (first,) = loop.turn(running, lambda: ready(running))
        running.start()
        assert running.owns(first)
        assert len(processes(running)) == 2
        assert ready(running) == [first]
        loop.turn(running, lambda: first not in processes(running))
        (second,) = ready(running)
        assert second != first


def test_a_socket_file_that_is_gone_is_made_again(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = place / "status.sock"
    with started(place) as (running, loop):
        (first,) = loop.turn(running, lambda: ready(running))
        path.unlink()
        path.write_text("another's")
        running.start()
        assert "the console: cannot listen on" in capfd.readouterr().err
        path.unlink()
        running.start()
        loop.turn(running, lambda: first not in processes(running))
        assert f"{path} has been removed: listening on it again" in capfd.readouterr().err
        assert ping(place, running, loop) == b"pong"


def test_of_many_reloads_one_is_left(place: Path) -> None:
    with started(place) as (running, loop):
        for _ in range(5):
            running.start()
        loop.turn(running, lambda: len(ready(running)) == len(processes(running)) == 1)


def test_a_new_one_that_cannot_start_leaves_the_old(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(place) as (running, loop):
        first = loop.turn(running, lambda: ready(running))
        monkeypatch.setattr(console, "_MODULE", "gateway.console.nothing")
        running.start()
        loop.turn(running, lambda: len(processes(running)) == 1)
        assert (ready(running), running.deadline) == (first, NEVER)


def test_one_that_is_stuck_is_killed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "stuck.py").write_text("import time\ndef main(fd): time.sleep(1000)\n")
    monkeypatch.setattr(console, "_MODULE", "stuck")
    monkeypatch.setattr(console, "_WHERE_PACKAGES_ARE", {"PYTHONPATH": str(place)})
    monkeypatch.setattr(console, "_START", 300)
    with started(place) as (running, loop):
        (first,) = processes(running)
        loop.turn(running, lambda: first not in processes(running))


@pytest.mark.parametrize("said", ['{"reload": 1}', '{"status": "1"}', "no JSON"])
def test_one_that_asks_for_something_else_is_killed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], said: str
) -> None:
    source = f"import os, time\ndef main(fd):\n    os.write(fd, {said.encode()})\n    time.sleep(1000)\n"
    monkeypatch.setattr(console, "_MODULE", "rogue")
    monkeypatch.setattr(console, "_WHERE_PACKAGES_ARE", {"PYTHONPATH": str(place)})
    (place / "rogue.py").write_text(source)
    with started(place) as (running, loop):
        (first,) = processes(running)
        loop.turn(running, lambda: first not in processes(running))
    assert "; killed\n" in capfd.readouterr().err


def test_it_answers_while_the_loop_turns(place: Path) -> None:
    with started(place) as (running, loop):
        loop.turn(running, lambda: ready(running))
        assert ping(place, running, loop) == b"pong"
