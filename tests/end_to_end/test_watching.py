"""`gateway status --watch` on a terminal and into a pipe, and `--openmetrics` of a running gateway."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.asking import parameters
from gateway.net.address import UnixAddress
from gateway.net.client import request
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, Master, Settings, serving
from tests.waiting import wait_until


@pytest.fixture
def master(place: Path) -> Iterator[Master]:
    with serving(Settings(place, {"max_children": 2})) as running:
        yield running


def ask(settings: Settings, path: str) -> int:
    with request(UnixAddress(str(settings.socket)), parameters(path, "GET", 0, [])) as answer:
        b"".join(answer.body)
        return answer.status


def status(settings: Settings, *options: str) -> str:
    command = [*GATEWAY, "status", str(settings.file), *options]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=True).stdout


def pool(master: Master) -> dict[str, int]:
    (found,) = master.status()["pools"]
    return dict(found)


def test_fields_of_a_pool_on_a_unix_socket(master: Master) -> None:
    settings = master.settings
    before = pool(master)
    assert (before["accepted_conn"], before["active_processes"], before["idle_processes"]) == (0, 0, 2)
    assert before["listen_queue_len"] == 511
    asking = [threading.Thread(target=ask, args=(settings, "/hold?gate=fields")) for _ in range(5)]
    for thread in asking[:2]:
        thread.start()
    wait_until(lambda: pool(master)["active_processes"] == 2)  # or more than three might be seen waiting
    for thread in asking[2:]:
        thread.start()
    found = wait_until(lambda: (p := pool(master))["listen_queue"] == 3 and p["active_processes"] == 2 and p)
    assert (found["accepted_conn"], found["idle_processes"], found["total_processes"]) == (2, 0, 2)
    settings.open_gate("fields")
    for thread in asking:
        thread.join(15)
    after = wait_until(lambda: (p := pool(master))["active_processes"] == 0 and p)
    assert (after["accepted_conn"], after["listen_queue"]) == (5, 0)
    assert (after["max_listen_queue"], after["max_active_processes"]) == (3, 2)
    assert abs(after["start_time"] + after["start_since"] - time.time()) < 5


def test_requests_of_a_worker_that_died_still_count(master: Master) -> None:
    assert ask(master.settings, "/hello") == 200
    wait_until(lambda: pool(master)["active_processes"] == 0)
    for worker in master.workers():
        os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: pool(master)["idle_processes"] == 2)
    assert pool(master)["accepted_conn"] == 1


def test_openmetrics_of_a_running_gateway(master: Master) -> None:
    assert ask(master.settings, "/hello") == 200
    families = text_string_to_metric_families(status(master.settings, "--openmetrics"))
    samples = {sample.name: sample for family in families for sample in family.samples}
    assert samples["gateway_pool_requests_total"].value == 1
    assert samples["gateway_pool_requests_total"].labels == {"pool": "main"}
    assert samples["gateway_pool_up"].value == 1


def test_watching_into_a_pipe_gives_lines(master: Master) -> None:
    command = [*GATEWAY, "status", str(master.settings.file), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=ENVIRONMENT) as run:
        assert run.stdout is not None
        lines = [run.stdout.readline() for _ in range(2)]
        run.send_signal(signal.SIGINT)
        assert run.wait(15) == 0
    for line in lines:
        assert re.fullmatch(r"\d\d:\d\d:\d\d main: 0 of 2 workers busy, 0 waiting, 0\.0 requests/s\n", line)


def read_until(terminal: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 15
    while wanted not in seen:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], seen
        seen += os.read(terminal, 65_536)
    return seen


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_watching_on_a_terminal_is_a_table_until_a_key(master: Master, key: bytes) -> None:
    command = [*GATEWAY, "request", str(master.settings.socket), "/hold?gate=watch"]
    asking = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    wait_until(lambda: master.workers("busy"))
    pid, terminal = pty.fork()
    if pid == 0:
        termios.tcsetwinsize(0, (24, 80))
        environment = {name: value for name, value in ENVIRONMENT.items() if name not in ("COLUMNS", "LINES")}
        command = [*GATEWAY, "status", str(master.settings.file), "--watch"]
        os.execve(command[0], command, environment | {"TERM": "xterm"})
    try:
        seen = read_until(terminal, b"/hold?gate=watch")
        os.write(terminal, key)
        with_end = seen + read_until(terminal, b"\x1b[?1049l")  # the screen that was there before is back
        _, code = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
        master.settings.open_gate("watch")
        asking.wait(15)
    assert code == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", re.sub(rb"\x1b\[[0-9;]*H", b"\n", with_end)).decode()
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert re.search(r"main +1 +1 +2 +2 +0 +1 +0\.0 +running", text)
