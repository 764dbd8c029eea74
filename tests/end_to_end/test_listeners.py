"""Where `gateway serve` listens: Unix sockets stale and live, TCP, and sockets that somebody else opened."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    USER,
    Master,
    Program,
    Settings,
    alive,
    descendants,
    serving,
)
from tests.waiting import free_port, wait_until

SERVE = [*GATEWAY, "serve", "everything:application", "--app-dir", str(HERE)] + (["--user", USER] if USER else [])


def ask(address: str | Path, path: str = "/hello", protocol: str = "fastcgi") -> str:
    """The answer of a pool, asked without a front-end."""
    command = [*GATEWAY, "request", "--protocol", protocol, str(address), f"http://localhost{path}"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def listening_socket(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "given.sock"))
        listener.listen(64)
        yield listener


def test_socket_has_the_mode_asked_for(place: Path) -> None:
    with serving(Settings(place, {"listen_mode": "0666"})):
        assert stat.S_IMODE((place / "pool.sock").stat().st_mode) == 0o666


def test_start_message_says_who_may_connect(place: Path) -> None:
    with serving(Settings(place)) as master:
        assert "0660" in master.said
        assert "may connect" in master.said


def test_stale_socket_is_reclaimed(place: Path) -> None:
    with serving(Settings(place)) as master:
        started = descendants(master.pid)
        master.signal(signal.SIGKILL)
        master.wait()
        wait_until(lambda: not any(map(alive, started)))
    assert (place / "pool.sock").is_socket()
    with serving(Settings(place)):
        assert "Hello" in ask(place / "pool.sock")


def test_live_socket_is_left_to_its_owner(place: Path) -> None:
    settings = Settings(place)
    with serving(settings):
        inode = settings.socket.stat().st_ino
        second = Program([*SERVE, "--listen", settings.socket], place / "second.log")
        assert second.wait() == 75
        assert len(second.said.splitlines()) == 1
        assert settings.socket.stat().st_ino == inode
        assert "Hello" in ask(settings.socket)


def test_other_file_at_the_path_is_left_alone(place: Path) -> None:
    (place / "pool.sock").write_text("precious")
    master = Master(Settings(place))
    assert master.wait() == 100
    assert (place / "pool.sock").read_text() == "precious"


def test_tcp(place: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with serving(Settings(place, {"listen": address})):
        assert "Hello" in ask(address)


def test_scgi(place: Path) -> None:
    with serving(Settings(place, {"protocol": "scgi"})):
        assert "Hello" in ask(place / "pool.sock", protocol="scgi")


def test_tcp_beyond_loopback_needs_a_list_of_clients(place: Path) -> None:
    master = Master(Settings(place, {"listen": f"0.0.0.0:{free_port()}"}))
    assert master.wait() == 100
    assert "listen_allowed_clients" in master.said


def test_socket_from_systemd(place: Path) -> None:
    """LISTEN_FDS=1 and LISTEN_PID, with the socket at descriptor 3 (sd_listen_fds(3))."""
    launch = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    with listening_socket(place) as listener:
        command = [sys.executable, "-c", launch, str(listener.fileno()), *SERVE, "--listen", "systemd"]
        command += ["--control", str(place / "control.sock")]
        program = Program(command, place / "log", pass_fds=[listener.fileno()], cwd=place)
        try:
            assert "Hello" in ask(place / "given.sock")
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        finally:
            program.stop()
    assert (place / "given.sock").is_socket()  # who made it removes it


def test_socket_on_descriptor_zero(place: Path) -> None:
    with listening_socket(place) as listener:
        program = Program(SERVE, place / "log", stdin=listener, cwd=place)
        try:
            assert "Hello" in ask(place / "given.sock")
            assert descendants(program.pid) == []
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        finally:
            program.stop()


def test_started_by_gateway_spawn(place: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gateway.spawn",
        "-s",
        str(place / "given.sock"),
        "-P",
        str(place / "pid"),
        "-M",
        "0600",
        "--",
        *SERVE,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=place, timeout=30)
    assert done.returncode == 0, done.stderr
    pid = int((place / "pid").read_text())
    try:
        assert str(pid) in done.stdout
        assert "Hello" in ask(place / "given.sock")
        assert stat.S_IMODE((place / "given.sock").stat().st_mode) == 0o600
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid))


def test_gateway_spawn_starts_any_program_several_times(place: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gateway.spawn",
        "-s",
        str(place / "given.sock"),
        "-F",
        "3",
        "-P",
        str(place / "pid"),
    ]
    done = subprocess.run(
        [*command, "--", *SERVE], capture_output=True, text=True, env=ENVIRONMENT, cwd=place, timeout=30
    )
    assert done.returncode == 0, done.stderr
    pids = [int(line) for line in (place / "pid").read_text().split()]
    assert len(pids) == 3
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not any(map(alive, pids)))


def test_silent_and_broken_peers_cost_no_worker(place: Path) -> None:
    with serving(Settings(place, {"max_children": 2, "request_head_timeout": 0.5})) as master:
        peers = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for number, peer in enumerate(peers):
            peer.connect(str(place / "pool.sock"))
            peer.sendall(
                (b"", b"GET / HTTP/1.0\r\n\r\n", b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01", b"\x01\x04\x00\x01")[
                    number % 4
                ]
            )
        pids = {worker["pid"] for worker in master.workers()}
        assert "Hello" in ask(place / "pool.sock")
        for peer in peers:
            peer.settimeout(10)
            with contextlib.suppress(ConnectionResetError):
                while peer.recv(4096):
                    pass
            peer.close()
        assert {worker["pid"] for worker in master.workers()} == pids
