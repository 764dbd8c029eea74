"""Callers of the control socket, and a master that has no descriptor left for one."""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.net.control import Caller, Command
from gateway.process.callers import Callers
from gateway.process.handles import Source
from tests.waiting import wait_until


class Loop:
    """The least of a loop: it calls back what is readable, once for each turn."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        self.selector.register(source, selectors.EVENT_READ, callback)

    def forget(self, source: Source) -> None:
        self.selector.unregister(source)

    def owns(self, pid: object) -> bool:
        return False

    def turn(self) -> int:
        """Call back; return how many sources were readable."""
        ready = self.selector.select(0)
        for key, _ in ready:
            key.data()
        return len(ready)


class Desk:
    """A real control socket, whose commands are all answered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = Loop()
        self.heard: list[Command] = []
        self.callers = Callers(str(path), self.loop, self.obey)

    def obey(self, command: Command, caller: Caller) -> None:
        self.heard.append(command)
        caller.reply({"ok": True})

    def call(self, text: bytes = b"") -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(self.path))
        client.sendall(text)
        return client


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "control.sock")
    yield desk
    desk.callers.close()
    desk.loop.selector.close()


def test_a_command_is_given_on_with_its_caller(desk: Desk) -> None:
    with desk.call(b'{"command": ') as client:
        wait_until(lambda: desk.loop.turn() == 0)
        client.sendall(b'"status"}\n')
        wait_until(lambda: desk.loop.turn() == 0 and desk.heard)
        assert desk.heard == [{"command": "status"}]
        assert json.loads(client.recv(100)) == {"ok": True}


def test_what_is_no_command_is_answered_so(desk: Desk) -> None:
    with desk.call(b"{\n") as client:
        wait_until(lambda: desk.loop.turn() == 0)
        assert "not JSON" in json.loads(client.recv(1000))["error"]


def test_of_too_many_who_say_nothing_the_oldest_goes(desk: Desk) -> None:
    clients = [desk.call() for _ in range(33)]
    wait_until(lambda: desk.loop.turn() == 0)
    assert "too many callers" in json.loads(clients[0].recv(1000))["error"]
    for client in clients:
        client.close()
    wait_until(lambda: desk.loop.turn() == 0)


def test_without_descriptors_callers_wait_and_nothing_spins(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    assert desk.callers.patience() is None
    with desk.call(b'{"command": "status"}\n') as client:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            assert desk.loop.turn() == 1
            assert desk.loop.turn() == 0
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        patience = desk.callers.patience()
        assert patience is not None
        assert 0 < patience <= 0.1
        desk.callers.look()
        assert desk.loop.turn() == 0
        wait_until(lambda: desk.callers.patience() == 0)
        desk.callers.look()
        assert desk.callers.patience() is None
        wait_until(lambda: desk.loop.turn() == 0 and desk.heard)
        assert json.loads(client.recv(100)) == {"ok": True}
    assert "control socket: cannot accept: Too many open files; trying again in 0.1 s" in capfd.readouterr().err


def test_a_file_that_is_gone_is_made_again(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.callers.listen_again()
    assert capfd.readouterr().err == ""
    desk.path.unlink()
    desk.callers.listen_again()
    assert f"control socket: {desk.path} has been removed: listening on it again" in capfd.readouterr().err
    with desk.call(b'{"command": "status"}\n') as client:
        wait_until(lambda: desk.loop.turn() == 0 and desk.heard)
        assert json.loads(client.recv(100)) == {"ok": True}


def test_a_file_that_another_master_has_taken_is_left_to_it(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    desk.path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(desk.path))
        other.listen()
        desk.callers.listen_again()
        assert f"control socket: cannot listen on {desk.path}: another process serves it" in capfd.readouterr().err
        assert desk.path.exists()
