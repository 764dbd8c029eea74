"""Workers that run ASGI: lifespan, deadlines, leaving, limits."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browsing import fetch, while_running, work
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    USER,
    Master,
    Settings,
    Site,
    alive,
    front,
    front_configuration,
    serving,
    site,
)  # fmt: skip
from tests.waiting import free_port, wait_until

ASGI = [{"name": "asynchronous", "app": "asynchronous:application"}]


@pytest.fixture
def browser() -> Iterator[ThreadPoolExecutor]:
    """What sends requests while the test looks on."""
    with ThreadPoolExecutor(8) as executor:
        yield executor


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GATEWAY, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def pids(settings: Settings, word: str) -> list[int]:
    return [int(line.split()[1]) for line in settings.journal() if line.startswith(f"{word} ")]


def asgi_site(place: Path, front_name: str = "nginx", **pool: Any) -> Any:
    return site(front_name, Settings(place, {"max_children": 1} | pool, ASGI))


# -- lifespan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preload", [True, False])
def test_lifespan_of_each_worker_and_of_the_probe(place: Path, preload: bool) -> None:
    settings = Settings(place, {"max_children": 2, "preload": preload}, ASGI)
    with serving(settings) as master:
        workers = {worker["pid"] for worker in master.workers()}
        started = pids(settings, "startup")
        assert workers < set(started)
        assert len(started) == 3, "two workers and the probe"
        assert pids(settings, "shutdown") == started[:1], "the probe's"
        master.signal(signal.SIGQUIT)
        assert master.wait() == 0
    assert set(pids(settings, "shutdown")) == set(started)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", ["its startup (lifespan) raised LookupError: at startup, on purpose", "asynchronous.py"]),
        ("failed", ["application 'asynchronous': lifespan.startup.failed: no database"]),
    ],
)
def test_reload_whose_startup_fails_is_refused(place: Path, how: str, said: list[str]) -> None:
    settings = Settings(place, {"max_children": 1}, ASGI)
    with serving(settings) as master:
        before = master.workers()[0]["pid"]
        (place / "gates" / "startup-fails").write_text(how)
        done = command("reload", settings.file)
        assert done.returncode == 1
        assert [text for text in said if text not in done.stderr] == []
        assert master.workers()[0]["pid"] == before


def test_startup_that_fails_at_the_very_first_start_is_tried_again(place: Path) -> None:
    settings = Settings(place, {"max_children": 1}, ASGI)
    (place / "gates" / "startup-fails").write_text("failed")
    with Master(settings) as master:
        wait_until(lambda: "lifespan.startup.failed: no database" in master.said)
        (place / "gates" / "startup-fails").unlink()
        master.wait_ready(40)


def test_application_without_lifespan(place: Path, front_name: str) -> None:
    application = [{"name": "without", "app": "asynchronous:without_lifespan", "interface": "asgi"}]
    with site(front_name, Settings(place, {"max_children": 1}, application)) as running:
        assert fetch(running.port, "/hello").text == "Hello\n"


# -- what is said of pools ---------------------------------------------------------------------------------------------


def test_pool_of_both_interfaces_is_refused(place: Path) -> None:
    applications = [
        {"name": "shop", "app": "everything:application", "bindings": [{"hostname": "a.example", "port": "*"}]},
        {"name": "api", "app": "asynchronous:application", "bindings": [{"hostname": "b.example", "port": "*"}]},
    ]
    done = command("check", Settings(place, {}, applications).file)
    assert done.returncode == 100
    assert (
        "application 'api' is one of ASGI, and 'shop' of the same pool one of WSGI: give one of them a pool of its own"
        in done.stderr
    )


def test_threads_are_refused(place: Path) -> None:
    done = command("check", Settings(place, {"threads": 2}, ASGI).file)
    assert done.returncode == 100
    assert "is one of ASGI, which has no use for threads" in done.stderr


# -- clients that leave ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "line"), [("silent", "cancelled"), ("listening", "http.disconnect")])
def test_client_that_leaves_while_nothing_is_sent(place: Path, path: str, line: str) -> None:
    """nginx tells at once, lighttpd 1.4.69 does not look at its client meanwhile."""
    with asgi_site(place) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=15) as client:
            client.sendall(f"GET /{path}?id=1 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            received = b""
            while b"begun" not in received:
                received += client.recv(4096)
        wait_until(lambda: f"{line} 1" in running.settings.journal())
        wait_until(lambda: running.master.workers("idle"))


# -- deadlines ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_site(place: Path) -> Iterator[Site]:
    """A request is slow after 0.3 s and ended after 1 s."""
    pool = {
        "slowlog": str(place / "slow.log"), "request_slowlog_timeout": 0.3, "request_terminate_timeout": 1.0,
        "access_log": str(place / "access.log"), "access_format": "%s %{REQUEST_URI}e",
    }  # fmt: skip
    with asgi_site(place, **pool) as running:
        yield running


def test_request_is_ended_and_the_worker_serves_on(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    settings = slow_site.settings
    pid = slow_site.master.workers()[0]["pid"]
    others = [browser.submit(fetch, slow_site.port, f"/hold?gate=g{n}") for n in range(3)]
    assert [(answer.result().status, answer.result().text) for answer in others] == [(504, "Gateway Timeout\n")] * 3
    wait_until(lambda: [worker["pid"] for worker in slow_site.master.workers("idle")] == [pid])
    slow_log = (settings.place / "slow.log").read_text()
    assert slow_log.count(": slow: GET ") == 3
    assert 'asynchronous.py", line' in slow_log
    assert "in gate" in slow_log
    [pool] = slow_site.master.status()["pools"]
    assert pool["slow_requests"] == 3
    ended = "/hold?gate=g1: ended: it has run for longer than request_terminate_timeout (1 s)"
    wait_until(lambda: ended in slow_site.master.said)
    wait_until(lambda: (settings.place / "access.log").read_text().count("504 /hold?gate=g") == 3)


def test_application_that_takes_no_notice_is_answered_for(slow_site: Site) -> None:
    assert fetch(slow_site.port, "/stubborn").status == 504
    wait_until(lambda: "not yet" in slow_site.settings.journal())
    assert fetch(slow_site.port, "/hello").status == 200
    slow_site.settings.open_gate("stubborn")


def test_answer_that_has_begun_is_cut(slow_site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", slow_site.port, timeout=15)
    connection.request("GET", "/silent?id=1")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()
    connection.close()
    wait_until(lambda: "cancelled 1" in slow_site.settings.journal())


def test_loop_that_is_held_up_is_killed(slow_site: Site) -> None:
    victim = slow_site.master.workers()[0]["pid"]
    assert fetch(slow_site.port, "/block?seconds=30").status == 502
    wait_until(lambda: not alive(victim))
    wait_until(slow_site.master.ready)
    assert "killed: request_terminate_timeout (1 s) could not end GET" in slow_site.master.said
    assert "in block" in (slow_site.settings.place / "slow.log").read_text()
    assert fetch(slow_site.port, "/hello").status == 200


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keepalive", [0, 8])
def test_no_more_than_max_concurrency_run_at_once(place: Path, browser: ThreadPoolExecutor, keepalive: int) -> None:
    settings = Settings(place, {"max_children": 1, "max_concurrency": 2}, ASGI)
    with site("nginx", settings, keepalive=keepalive) as running:
        assert fetch(running.port, "/hello").status == 200
        answers = [browser.submit(fetch, running.port, f"/hold?gate=g{n}") for n in range(5)]
        wait_until(lambda: len(settings.journal()) - len(pids(settings, "startup")) >= 3)
        began = [line.split()[1] for line in settings.journal() if line.startswith("running")]
        assert len(began) == 2
        for n in range(5):
            settings.open_gate(f"g{n}")
        assert {answer.result().text for answer in answers} == {"held\n"}
        assert fetch(running.port, "/hello").status == 200


def test_full_worker_leaves_requests_to_others(place: Path, browser: ThreadPoolExecutor) -> None:
    settings = Settings(place, {"max_children": 2, "max_concurrency": 1}, ASGI)
    with site("nginx", settings, keepalive=8) as running:
        for _ in range(10):
            assert fetch(running.port, "/hello").status == 200
        answers = [browser.submit(fetch, running.port, f"/hold?gate=g{n}") for n in range(2)]
        wait_until(lambda: len(set(pids_of_running(settings))) == 2, what="a request in each worker")
        settings.open_gate("g0")
        settings.open_gate("g1")
        assert {answer.result().text for answer in answers} == {"held\n"}


def pids_of_running(settings: Settings) -> list[int]:
    return [int(line.split()[2]) for line in settings.journal() if line.startswith("running")]


def test_worker_is_replaced_after_max_requests(place: Path) -> None:
    with asgi_site(place, max_requests=50) as running:
        first = running.master.workers()[0]["pid"]
        for _ in range(60):
            assert fetch(running.port, "/hello").status == 200
        wait_until(lambda: not alive(first))
        assert first in pids(running.settings, "shutdown")


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_reload_lets_requests_finish(place: Path, browser: ThreadPoolExecutor) -> None:
    with asgi_site(place) as running:
        old = running.master.workers()[0]["pid"]
        answer = browser.submit(fetch, running.port, "/hold?gate=g")
        wait_until(lambda: pids_of_running(running.settings))
        assert command("reload", running.settings.file).returncode == 0
        assert fetch(running.port, "/hello").text == "Hello\n"
        assert alive(old)
        running.settings.open_gate("g")
        assert answer.result().text == "held\n"
        wait_until(lambda: not alive(old))
        assert old in pids(running.settings, "shutdown")


def test_what_does_not_end_is_cut_on_leaving(place: Path) -> None:
    with asgi_site(place, process_control_timeout=2, access_log=str(place / "access.log")) as running:
        old = running.master.workers()[0]["pid"]
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=15)
        connection.request("GET", "/silent?id=1")
        response = connection.getresponse()
        assert response.readline() == b"begun\n"
        assert command("reload", running.settings.file).returncode == 0
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()
        connection.close()
        wait_until(lambda: "cancelled 1" in running.settings.journal())
        wait_until(lambda: not alive(old))
        assert old in pids(running.settings, "shutdown"), "in time"
        wait_until(lambda: "/silent" in (place / "access.log").read_text())


@pytest.mark.parametrize(("front_name", "keepalive"), [("nginx", 0), ("nginx", 16), ("lighttpd", 0)])
def test_reloads_under_load_lose_nothing(place: Path, front_name: str, keepalive: int) -> None:
    options = {"keepalive": keepalive} if front_name == "nginx" else {}
    settings = Settings(place, {"max_children": 2}, ASGI)

    def reloads() -> list[int]:
        codes = []
        for _ in range(4):
            threading.Event().wait(0.7)  # the rhythm of the reloads
            codes.append(command("reload", settings.file).returncode)
        return codes

    with site(front_name, settings, **options) as running:
        answers, codes = while_running(running.port, work(200, 0.6), reloads)
        assert codes == [0] * 4
        wrong = [(post.path, status, body[:80]) for post, status, body in answers if (status, body) != (200, post.body)]
        assert wrong == []
        ran = [line for line in settings.journal() if line.isdigit()]
        assert sorted(map(int, ran)) == list(range(len(answers))), "each once"


def test_access_log_is_reopened(place: Path) -> None:
    log = place / "access.log"
    with asgi_site(place, access_log=str(log), access_format="%m %{REQUEST_URI}e %s %{Content-Type}o") as running:
        assert fetch(running.port, "/hello").status == 200
        wait_until(lambda: log.read_text() == "GET /hello 200 text/plain; charset=utf-8\n")
        log.rename(place / "old.log")
        assert command("reopen-logs", running.settings.file).returncode == 0
        wait_until(log.exists)
        wait_until(
            lambda: fetch(running.port, "/raise_before").status == 500 and "/raise_before 500" in log.read_text()
        )


def test_counts_by_status(place: Path, browser: ThreadPoolExecutor) -> None:
    with asgi_site(place) as running:
        held = browser.submit(fetch, running.port, "/hold?gate=g")
        wait_until(lambda: pids_of_running(running.settings))
        for path in ("/hello", "/hello", "/nothing", "/raise_before"):
            fetch(running.port, path)
        [pool] = running.master.status()["pools"]
        counts = {row["class"]: row["count"] for row in pool["requests"]}
        assert counts == {"2xx": 2, "4xx": 1, "5xx": 1}
        assert sum(count for _, count in pool["run_time"]["buckets"]) == 4
        [worker] = running.master.workers("busy")
        assert (worker["uri"], worker["requests"]) == ("/hold?gate=g", 4)
        running.settings.open_gate("g")
        assert held.result().status == 200
        wait_until(lambda: running.master.workers("idle"))


# -- without a master --------------------------------------------------------------------------------------------------


def test_process_that_lighttpd_spawns(place: Path) -> None:
    port = free_port()
    script = place / "serve"
    user = f"--user {USER}" if USER else ""
    script.write_text(
        f"#!/bin/sh\nJOURNAL={place}/journal GATES={place}/gates PYTHONPATH={ENVIRONMENT['PYTHONPATH']} "
        f"exec {GATEWAY[0]} -m gateway serve asynchronous:application --app-dir {HERE} {user}\n"
    )
    script.chmod(0o755)
    settings = Settings(place, {}, ASGI)
    configuration = front_configuration("lighttpd", settings, port, bin_path=str(script))
    with front("lighttpd", place, configuration, port) as lighttpd:
        wait_until(lambda: fetch(port, "/hello").text == "Hello\n")
        assert fetch(port, "/state").text == "from the lifespan"
        [pid] = pids(settings, "startup")
        lighttpd.signal(signal.SIGTERM)
        wait_until(lambda: not alive(pid))  # before the test's own end ends whatever is left
    assert pids(settings, "shutdown") == [pid]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_uvloop_is_used_where_it_is_installed(place: Path, front_name: str, loop: str) -> None:
    hidden = place / "hidden"
    if loop == "asyncio":  # what is not to be imported
        hidden.mkdir()
        (hidden / "uvloop.py").write_text("raise ImportError('hidden by the test')\n")
    settings = Settings(place, {"max_children": 1, "env": {"JOURNAL": str(place / "journal"), "PYTHONPATH": str(hidden),
                                "GATES": str(place / "gates")}}, ASGI)  # fmt: skip
    with site(front_name, settings) as running:
        assert re.match(loop, fetch(running.port, "/loop").text)
        size = 3_000_000
        assert len(fetch(running.port, f"/download?size={size}").body) == size
        assert fetch(running.port, "/echo", "POST", body=os.urandom(size)).status == 200
