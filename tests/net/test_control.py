"""The control socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.net.control import Caller, ControlError, ControlServer, call
from tests.waiting import wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControlServer]:
    server = ControlServer(str(tmp_path / "control.sock"))
    yield server
    server.close()


def caller_of(server: ControlServer) -> Caller:
    server.socket.setblocking(True)
    caller = server.accept(pytest.fail)
    assert caller is not None
    caller.socket.setblocking(True)
    return caller


def test_a_command_is_answered(server: ControlServer, tmp_path: Path) -> None:
    seen = []

    def answer() -> None:
        caller = caller_of(server)
        while (command := caller.read_command()) is None:
            pass
        seen.append(command)
        caller.reply({"ok": True})

    thread = threading.Thread(target=answer)
    thread.start()
    assert call(str(tmp_path / "control.sock"), {"command": "status"}, 5) == {"ok": True}
    thread.join()
    assert seen == [{"command": "status"}]


def test_only_the_owner_may_connect(server: ControlServer, tmp_path: Path) -> None:
    assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", [b"{\n", b"[]\n", b"x" * 5000, b""])
def test_what_is_no_command_is_refused(server: ControlServer, tmp_path: Path, text: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control.sock"))
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        caller = caller_of(server)
        with pytest.raises(ControlError):
            wait_until(caller.read_command)
        caller.socket.close()


def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="no gateway answers there"):
        call(str(tmp_path / "nothing.sock"), {"command": "status"}, 1)


def test_a_master_that_is_silent_is_one_line(server: ControlServer, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match=r"did not answer within 0\.05 seconds"):
        call(str(tmp_path / "control.sock"), {"command": "status"}, 0.05)


def test_a_master_that_ends_before_it_answers_is_one_line(server: ControlServer, tmp_path: Path) -> None:
    def hang_up() -> None:
        caller = caller_of(server)
        while caller.read_command() is None:
            pass
        caller.socket.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(ControlError, match="ended before it answered"):
        call(str(tmp_path / "control.sock"), {"command": "status"}, 5)
    thread.join()
