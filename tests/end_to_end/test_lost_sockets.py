"""Socket files that somebody else has removed or replaced: a reload makes them again, and who waits is served."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.net import control
from gateway.protocol.client import encode_request, encode_stdin
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, Master, Settings, serving, short_place
from tests.waiting import wait_until

AGAIN = "has been removed: listening on it again (mode 0606: "


@pytest.fixture(scope="module")
def master() -> Iterator[Master]:
    with short_place() as place:
        (place / "everything.py").write_text((HERE / "everything.py").read_text())
        pool = {"app_dir": str(place), "max_children": 2, "listen_mode": "0606"}
        with serving(Settings(place, pool)) as master:
            yield master


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [*GATEWAY, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def ask(master: Master, path: str = "/hello") -> str:
    """The body of the pool's answer, or what went wrong."""
    done = run("request", master.settings.socket, f"http://localhost{path}")
    return done.stdout.partition("\n\n")[2] or done.stderr


def reload(master: Master) -> tuple[int, str]:
    done = run("reload", master.settings.file)
    return done.returncode, done.stderr


def waiting(master: Master) -> int:
    """How many connections no worker has accepted."""
    queue: int = master.status()["pools"][0]["listen_queue"]
    return queue


def test_a_reload_makes_a_file_again_that_was_removed_and_serves_who_waits(master: Master) -> None:
    settings = master.settings
    with ThreadPoolExecutor(5) as threads:
        held = [threads.submit(ask, master, "/hold?gate=lost") for _ in range(2)]
        wait_until(lambda: len(master.workers("busy")) == 2)
        queued = [threads.submit(ask, master) for _ in range(3)]
        wait_until(lambda: waiting(master) == 3)
        settings.socket.unlink()
        assert "No such file" in ask(master)
        assert reload(master) == (0, "")
        assert f"{settings.socket} {AGAIN}" in master.said
        assert [request.result(15) for request in queued] == ["Hello\n"] * 3
        assert ask(master) == "Hello\n"
        settings.open_gate("lost")
        assert all(request.result(15) for request in held)
    assert stat.S_IMODE(settings.socket.stat().st_mode) == 0o606
    inode = settings.socket.stat().st_ino
    assert reload(master) == (0, "")
    assert settings.socket.stat().st_ino == inode


def test_more_that_wait_than_fit_between_two_processes_are_served(master: Master) -> None:
    settings = master.settings
    params = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/hello", "PATH_INFO": "/hello", "SERVER_PROTOCOL": "HTTP/1.1"}
    request = encode_request("fastcgi", params) + encode_stdin("fastcgi", b"")
    with ThreadPoolExecutor(2) as threads, contextlib.ExitStack() as fronts:
        held = [threads.submit(ask, master, "/hold?gate=many") for _ in range(2)]
        wait_until(lambda: len(master.workers("busy")) == 2)
        queued = [fronts.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(400)]
        for front in queued:
            front.settimeout(15)
            front.connect(str(settings.socket))
            front.sendall(request)
        settings.socket.unlink()
        assert reload(master) == (0, "")
        assert sum(b"Hello" in front.recv(1000) for front in queued) == 400
        settings.open_gate("many")
        assert all(request.result(15) for request in held)


def test_a_file_that_another_server_has_taken_is_left_to_it_until_that_ends(master: Master) -> None:
    settings = master.settings
    settings.socket.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(settings.socket))
        other.listen()
        inode = settings.socket.stat().st_ino
        code, said = reload(master)
        assert code == 1
        assert f"cannot listen on {settings.socket}: another process serves it; stop that one" in said
        assert settings.socket.stat().st_ino == inode
    assert reload(master) == (0, "")
    assert f"{settings.socket} has been replaced: listening on it again (mode 0606: " in master.said
    assert ask(master) == "Hello\n"


def test_a_reload_that_is_refused_makes_the_file_too_and_the_old_workers_serve_it(master: Master) -> None:
    module = master.settings.place / "everything.py"
    sound = module.read_text()
    master.settings.socket.unlink()
    module.write_text("raise RuntimeError('broken on purpose')\n")
    assert reload(master)[0] == 1
    inode = master.settings.socket.stat().st_ino
    assert [ask(master) for _ in range(3)] == ["Hello\n"] * 3
    assert reload(master)[0] == 1
    assert ask(master) == "Hello\n"
    assert master.settings.socket.stat().st_ino == inode
    module.write_text(sound)
    master.settings.pool["listen_mode"] = "0666"
    master.settings.write()
    assert reload(master) == (0, "")
    made = master.settings.socket.stat()
    assert (made.st_ino, stat.S_IMODE(made.st_mode)) == (inode, 0o666)
    assert ask(master) == "Hello\n"


def test_an_upgrade_makes_the_file_again(master: Master) -> None:
    master.settings.socket.unlink()
    done = run("upgrade", master.settings.file)
    assert (done.returncode, done.stderr) == (0, "")
    assert ask(master) == "Hello\n"
    inode = master.settings.socket.stat().st_ino
    assert reload(master) == (0, "")
    assert master.settings.socket.stat().st_ino == inode


def test_a_signal_makes_every_file_again_when_the_control_socket_is_gone_too(master: Master) -> None:
    settings = master.settings
    settings.control.unlink()
    settings.socket.unlink()
    with pytest.raises(control.ControlError):
        master.status()
    master.signal(signal.SIGHUP)
    wait_until(lambda: settings.control.exists() and settings.socket.exists() and master.ready())
    assert f"control socket: {settings.control} has been removed: listening on it again" in master.said
    assert stat.S_IMODE(settings.control.stat().st_mode) == 0o600
    assert ask(master) == "Hello\n"
    assert sorted(name for name in os.listdir(settings.place) if "sock" in name) == ["control.sock", "pool.sock"]
