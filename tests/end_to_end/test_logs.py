"""Access log and error log behind nginx: what is in them, that rotating them loses nothing, and that none stops a
request.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browsing import Post, fetch, over_connections
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, Master, Settings, Site, serving, site
from tests.waiting import wait_until

NOISY = """
import ctypes, os, subprocess, sys

libc = ctypes.CDLL(None)

def application(environ, start_response):
    words = environ["QUERY_STRING"]
    if words == "c":
        libc.write(2, b"from C: \\x1b[31mred\\n<3>and a priority\\nno line feed", 47)
    elif words == "child":
        subprocess.run(["/bin/sh", "-c", "echo to standard output; echo to standard error >&2"])
    elif words == "long":
        os.write(1, b"x" * 20_000 + b"\\n")
    elif words == "flood":
        for number in range(20_000):
            print("flooding", number)
    elif words == "crash":
        os.write(2, b"last words")
        os._exit(3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def logging(place: Path, path: Path | str, access_format: str = "json", **pool: Any) -> Settings:
    return Settings(place, {"access_log": str(path), "access_format": access_format} | pool)


def noisy(place: Path) -> Settings:
    """An application that writes past its streams, in one worker."""
    (place / "noisy.py").write_text(NOISY)
    application = {"name": "noisy", "app": "noisy:application"}
    return Settings(place, {"app_dir": str(place), "max_children": 1}, [application])


def ask(settings: Settings, path: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """One request to the pool, without a front-end."""
    command = [*GATEWAY, "request", *options, str(settings.socket), path]
    return subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=60)


def leave(running: Site, path: str) -> None:
    """Ask for what never ends, and leave."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=15) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert b"200 OK" in client.recv(4096)


def test_each_request_has_its_line(place: Path) -> None:
    log = place / "access.log"
    with site("nginx", logging(place, log, max_body=1000)) as running:
        port = running.port
        fetch(port, "/nowhere")
        fetch(port, "/hello", "HEAD", User_Agent="caf\xe9")
        fetch(port, "/raise_before")
        ask(running.settings, "/echo", "-d", "x" * 5000)  # nginx itself would refuse it
        leave(running, "/endless?id=left")
        fetch(port, "/hello")
        wait_until(lambda: len(lines(log)) == 6)
        entries = [json.loads(line) for line in lines(log)]
    shown = {(entry["method"], entry["uri"], entry["status"], entry["complete"]) for entry in entries}
    assert shown == {
        ("GET", "/nowhere", 404, True),
        ("HEAD", "/hello", 200, True),
        ("GET", "/raise_before", 500, True),
        ("POST", "/echo", 413, True),
        ("GET", "/endless?id=left", 200, False),
        ("GET", "/hello", 200, True),
    }
    assert {entry["pool"] for entry in entries} == {"main"}
    sizes = {(entry["method"], entry["uri"]): entry["bytes"] for entry in entries}
    assert sizes["HEAD", "/hello"] == 0
    assert sizes["GET", "/hello"] > 0


def test_the_format_is_that_of_php_fpm(place: Path) -> None:
    log = place / "access.log"
    settings = logging(place, log, '%n %{HTTP_HOST}e "%m %r%Q%q" %s %{Content-Type}o', access_suppress_path="/hello")
    with site("nginx", settings) as running:
        fetch(running.port, "/hello", Host="a.example")
        fetch(running.port, "/write?x=1", Host="a.example")
        assert wait_until(lambda: lines(log))[0].startswith('main a.example "GET /write?x=1" 200 text/plain')
        assert len(lines(log)) == 1


def test_a_format_that_is_wrong_is_refused_at_the_start(place: Path) -> None:
    settings = logging(place, place / "access.log", "%R %{x}d")
    done = subprocess.run(
        [*GATEWAY, "serve", settings.file], capture_output=True, text=True, env=ENVIRONMENT, timeout=30
    )
    assert done.returncode == 100
    assert 'pools.main.access_format: "%{x}d": write one of: {seconds}' in done.stderr


def test_a_log_that_cannot_be_opened_is_refused_at_the_start(place: Path) -> None:
    settings = logging(place, place / "nowhere" / "access.log")
    done = subprocess.run(
        [*GATEWAY, "serve", settings.file], capture_output=True, text=True, env=ENVIRONMENT, timeout=30
    )
    assert done.returncode == 100
    assert f"pools.main: access_log: cannot open {place}/nowhere/access.log: No such file or directory" in done.stderr


def reopen(master: Master, by: str) -> None:
    if by == "signal":
        master.signal(signal.SIGUSR1)
    else:
        command = [*GATEWAY, "reopen-logs", str(master.settings.file)]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("by", ["signal", "command"])
def test_rotation_under_load_loses_no_line(place: Path, by: str) -> None:
    log = place / "access.log"
    posts = [Post(f"/echo?id={number}", b"x") for number in range(1500)]
    settings = logging(place, log, "%q")
    settings.more["gateway"] = {"error_log": str(place / "error.log")}
    settings.write()
    with site("nginx", settings) as running:
        answers: list[Any] = []
        load = threading.Thread(target=lambda: answers.extend(over_connections(running.port, posts, 8)))
        load.start()
        for number in range(3):
            wait_until(lambda: len(lines(log)) > 50 or not load.is_alive())
            log.rename(place / f"access.log.{number}")
            (place / "error.log").rename(place / f"error.log.{number}")
            reopen(running.master, by)
            wait_until(lambda: log.exists() and (place / "error.log").exists())
        load.join(60)
        assert {status for _, status, _ in answers} == {200}
        # A worker may have been handed the new file a moment after it was there.
        wait_until(lambda: fetch(running.port, "/hello?last").status == 200 and "last" in lines(log))
        running.master.stop()
        assert "gateway has stopped" in (place / "error.log").read_text()
    logged = [line for path in sorted(place.glob("access.log*")) for line in lines(path)]
    assert sorted(line for line in logged if line != "last") == sorted(f"id={number}" for number in range(1500))
    assert len(lines(place / "access.log.0")) > 50


def test_a_log_that_cannot_be_reopened_is_kept(place: Path) -> None:
    folder = place / "logs"
    folder.mkdir()
    with site("nginx", logging(place, folder / "access.log", "%q")) as running:
        folder.rename(place / "moved")
        command = [*GATEWAY, "reopen-logs", str(running.settings.file)]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
        assert done.returncode == 1
        assert f"pool main: cannot open {folder}/access.log: No such file or directory" in done.stderr
        fetch(running.port, "/hello?kept")
        wait_until(lambda: lines(place / "moved" / "access.log") == ["kept"])


def lost(master: Master) -> int:
    count: int = master.status()["pools"][0]["log_lines_lost"]
    return count


def test_a_full_disk_stops_no_request(place: Path) -> None:
    with site("nginx", logging(place, "/dev/full")) as running:
        assert [fetch(running.port, "/hello").status for _ in range(5)] == [200] * 5
        wait_until(lambda: lost(running.master) == 5)


def test_a_blocked_pipe_stops_no_request(place: Path) -> None:
    os.mkfifo(place / "pipe")
    with site("nginx", logging(place, place / "pipe", "%{HTTP_X}e", max_children=1)) as running:
        for _ in range(20):  # 80,000 bytes into a pipe that holds 65,536
            assert fetch(running.port, "/hello", X="x" * 4000).status == 200
        wait_until(lambda: lost(running.master) > 0)


def test_a_blocked_error_log_stops_no_request(place: Path) -> None:
    reading, writing = os.pipe()
    settings = noisy(place)
    command = [*GATEWAY, "serve", settings.file]
    with subprocess.Popen(command, stderr=writing, cwd=place, env=ENVIRONMENT, start_new_session=True) as process:
        os.close(writing)
        try:
            asking = Master.__new__(Master)
            asking.settings = settings
            wait_until(asking.ready, 20)
            for _ in range(3):
                assert ask(settings, "/?flood").returncode == 0
            assert wait_until(lambda: asking.status()["log_lines_lost"]) > 0
            os.set_blocking(reading, False)
            assert b"flooding 0" in os.read(reading, 1 << 20)
        finally:
            process.terminate()
            process.wait(15)
            os.close(reading)


def test_what_c_code_and_children_write_is_in_the_log_as_lines_of_the_worker(place: Path) -> None:
    settings = noisy(place)
    with serving(settings) as master:
        pid = ask(settings, "/?c").stdout.decode().splitlines()[-1]
        ask(settings, "/?child")
        ask(settings, "/?long")
        wait_until(lambda: master.said.count("x" * 3616 + "\n"))
        said = [line.partition(" [")[2] for line in master.said.splitlines()]
    assert rf"{pid}] from C: \x1b[31mred" in said
    assert f"{pid}] and a priority" in said
    assert f"{pid}] no line feedto standard output" in said
    assert f"{pid}] to standard error" in said
    assert [len(line) - len(f"{pid}] ") for line in said if line.endswith("xxx")] == [8192, 8192, 3616]


def test_the_last_words_of_a_worker_that_dies(place: Path) -> None:
    settings = noisy(place)
    with serving(settings) as master:
        pid = master.workers()[0]["pid"]
        ask(settings, "/?crash")
        wait_until(lambda: f"worker {pid} exited with status 3" in master.said)
        wait_until(lambda: f"[{pid}] last words\n" in master.said)


def test_nothing_that_is_printed_is_lost_while_the_log_takes_it(place: Path) -> None:
    settings = noisy(place)
    with serving(settings) as master:
        ask(settings, "/?flood")
        wait_until(lambda: "flooding 19999\n" in master.said)
        assert master.said.count("flooding ") == 20_000


def test_the_error_log_as_json(place: Path) -> None:
    settings = noisy(place)
    settings.more["gateway"] = {"error_log_format": "json"}
    settings.write()
    with serving(settings) as master:
        pid = master.workers()[0]["pid"]
        ask(settings, "/?c")
        wait_until(lambda: "from C" in master.said and "and a priority" in master.said)
        records = [json.loads(line) for line in master.said.splitlines()]
    spoken = {record["message"]: (record["pid"], record["level"]) for record in records}
    assert spoken["from C: \x1b[31mred"] == (pid, "notice")
    assert spoken["and a priority"] == (pid, "error")
    assert all(set(record) == {"time", "level", "pid", "message"} for record in records)
