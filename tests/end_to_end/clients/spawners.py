"""cgi-fcgi, and the programs that open a socket and start a pool on it: spawn-fcgi, multiwatch, systemd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    USER,
    Program,
    alive,
    children,
    descendants,
    listens,
    listens_at,
)
from tests.waiting import free_port, wait_until

CGI_FCGI = "cgi-fcgi (libfcgi 2.4.2)"
SPAWN_FCGI = "spawn-fcgi 1.6.4"
MULTIWATCH = "multiwatch 1.0.0"
SYSTEMD = "systemd-socket-activate (systemd 252)"
SERVE = [*GATEWAY, "serve", "everything:application", "--app-dir", str(HERE), *(["--user", USER] if USER else [])]
LONG = "x" * 100_000


def ask(address: str | Path, path: str = "/hello") -> str:
    """The body of a pool's answer, asked without a front-end."""
    command = [*GATEWAY, "request", str(address), f"http://localhost{path}"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cgi(address: str | Path, *options: str, body: bytes = b"", **variables: str) -> bytes:
    """The answer that cgi-fcgi prints to a request with these CGI variables."""
    environment = ENVIRONMENT | {
        "REQUEST_METHOD": "POST" if body else "GET", "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
    } | variables  # fmt: skip
    if body:
        environment["CONTENT_LENGTH"] = str(len(body))
    command = ["cgi-fcgi", *options, "-connect", str(address)]
    return subprocess.run(command, env=environment, input=body, capture_output=True, timeout=30, check=True).stdout


@feature(CGI_FCGI, "`-bind -connect` of a Unix socket, and of TCP")
def connecting(bench: Bench) -> Shown:
    body = bytes(range(256)) * 1_000
    for address in (bench.pool().socket, bench.tcp().replace("127.0.0.1", "localhost")):
        assert cgi(address, "-bind", PATH_INFO="/hello").endswith(b"\r\n\r\nHello\n")
        assert cgi(address, "-bind", PATH_INFO="/echo", body=body).partition(b"\r\n\r\n")[2] == body
    long = cgi(bench.pool().socket, "-bind", PATH_INFO="/variables", HTTP_X_LONG=LONG)
    assert f'"HTTP_X_LONG": "{LONG}"'.encode() in long
    return Shown("`GET`, `POST` of 256,000 bytes, a variable of 100,000 over several records of PARAMS", "all of it")


@feature(CGI_FCGI, "`-start -connect`")
def starting(bench: Bench) -> Shown:
    """It opens the socket, starts the program on it, and leaves."""
    folder = bench.folder()
    command = folder / "serve"
    command.write_text(f"#!/bin/sh\necho $$ >{folder}/pid\nexec {' '.join(SERVE)}\n")
    command.chmod(0o755)
    started = ["cgi-fcgi", "-start", "-connect", str(folder / "pool.sock"), str(command), "1"]
    subprocess.run(started, env=ENVIRONMENT, stdin=subprocess.DEVNULL, cwd=folder, timeout=30, check=True)
    wait_until((folder / "pid").exists)
    pid = int(wait_until((folder / "pid").read_text))
    try:
        assert ask(folder / "pool.sock").endswith("Hello\n")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid))
    return Shown("the program with its socket as descriptor 0", "it serves, and ends with SIGTERM")


@contextlib.contextmanager
def in_front(command: list[str], place: Path, ready: Path | int | str) -> Iterator[Program]:
    """A spawner that stays, once somebody listens at a path or port, or it has said some words; SIGTERM ends it."""
    program = Program(command, place / "spawner.log", cwd=place)
    try:
        conditions: dict[type, Callable[[Any], bool]] = {int: listens, str: lambda words: words in program.said}
        program.wait_for(lambda: conditions.get(type(ready), listens_at)(ready))
        yield program
    finally:
        program.stop()


def by_spawn_fcgi(bench: Bench, options: list[str], address: str | Path, count: int) -> None:
    """So many processes serve at an address, and each ends with SIGTERM."""
    place = bench.folder()
    command = ["spawn-fcgi", *options, "-P", str(place / "pid"), "--", *SERVE]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=place, timeout=30)
    assert done.returncode == 0, done.stderr
    pids = [int(line) for line in (place / "pid").read_text().split()]
    try:
        assert len(pids) == count
        answered: set[int] = set()
        waiting = set(pids)
        while waiting:  # a process that has stopped leaves the next request to the others
            answered.add(pid := int(ask(address, "/pid").splitlines()[-1]))
            if pid in waiting:
                os.kill(pid, signal.SIGTERM)
                wait_until(lambda pid=pid: not alive(pid), what="its end")
                waiting.discard(pid)
        assert answered == set(pids)
    finally:
        for pid in filter(alive, pids):
            os.kill(pid, signal.SIGKILL)


@feature(SPAWN_FCGI, "`-s PATH -M 0600 -F 2`")
def spawned_by_unix(bench: Bench) -> Shown:
    path = bench.folder() / "pool.sock"
    by_spawn_fcgi(bench, ["-s", str(path), "-M", "0600", "-F", "2"], path, 2)
    return Shown("two processes on one Unix socket; SIGTERM to each that has answered", "both answer, and end")


@feature(SPAWN_FCGI, "`-a 127.0.0.1 -p PORT`")
def spawned_by_tcp(bench: Bench) -> Shown:
    port = free_port()
    by_spawn_fcgi(bench, ["-a", "127.0.0.1", "-p", str(port)], f"127.0.0.1:{port}", 1)
    return Shown("a process on a TCP socket; SIGTERM", "it answers, and ends")


@feature(SPAWN_FCGI, "`-n -s PATH`, and a pool of two by `--max-children 2`")
def in_the_foreground(bench: Bench) -> Shown:
    place = bench.folder()
    path = place / "pool.sock"
    with in_front(["spawn-fcgi", "-n", "-s", str(path), "--", *SERVE, "--max-children", "2"], place, path) as program:
        assert ask(path).endswith("Hello\n")
        wait_until(lambda: len(descendants(program.pid)) == 3, what="zygote and workers")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    return Shown("a pool on the socket at descriptor 0; SIGTERM", "a master, zygote and two workers; exit code 0")


@feature(MULTIWATCH, "`spawn-fcgi -n -s PATH -- multiwatch -s TERM -f 2 -- gateway serve …`")
def watched(bench: Bench) -> Shown:
    place = bench.folder()
    path = place / "pool.sock"
    multiwatch = shutil.which("multiwatch") or ""  # spawn-fcgi does not search for it
    command = ["spawn-fcgi", "-n", "-s", str(path), "--", multiwatch, "-s", "TERM", "-f", "2", "--", *SERVE]
    with in_front(command, place, path) as program:
        wait_until(lambda: len(children(program.pid)) == 2, what="two processes")
        first = set(children(program.pid))
        assert ask(path).endswith("Hello\n")
        killed = first.pop()
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(set(children(program.pid)) - {killed}) == 2, what="another in its place")
        assert ask(path).endswith("Hello\n")
        last = children(program.pid)
        program.signal(signal.SIGTERM)
        program.wait()
        wait_until(lambda: not any(map(alive, last)), what="their end")
    return Shown("two processes; SIGKILL to one; SIGTERM to multiwatch", "both serve; another comes; all end")


def activation(*options: str) -> list[str]:
    """What opens sockets as systemd does, and starts the command after it at the first connection."""
    setting = [f"--setenv={name}={value}" for name, value in ENVIRONMENT.items()]
    return ["systemd-socket-activate", *setting, *options]


def activated(bench: Bench, flags: list[str], options: list[str], address: Path | int) -> None:
    place = bench.folder()
    command = [*activation(*options), *SERVE, *flags, "--control", str(place / "control.sock")]
    with in_front(command, place, address) as program:
        where = f"127.0.0.1:{address}" if isinstance(address, int) else address
        assert ask(where).endswith("Hello\n")
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.said


@feature(SYSTEMD, "a Unix socket")
def activated_by_unix(bench: Bench) -> Shown:
    path = bench.folder() / "pool.sock"
    activated(bench, [], ["-l", str(path)], path)
    return Shown("LISTEN_FDS=1 at the first connection, which waits meanwhile; SIGTERM", "`Hello`; exit code 0")


@feature(SYSTEMD, "a TCP socket by name, `--fdname=shop`")
def activated_by_name(bench: Bench) -> Shown:
    port = free_port()
    options = ["--fdname=shop", "-l", f"127.0.0.1:{port}"]
    activated(bench, ["--listen", "systemd:shop"], options, port)
    return Shown("LISTEN_FDNAMES=shop for `--listen systemd:shop`; SIGTERM", "`Hello`; exit code 0")
