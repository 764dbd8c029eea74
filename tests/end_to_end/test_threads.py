"""Workers with several threads: each runs a request at a time, beside the others."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.browsing import Post, fetch, over_connections
from tests.end_to_end.running import GATEWAY, HERE, USER, Program, Settings, Site, alive, site
from tests.net.driving import Answer, Front, listening
from tests.waiting import wait_until

AS_USER = ["--user", USER] if USER else []
THREADED = [{"name": "threaded", "app": "threaded:application"}]


@pytest.fixture
def one_worker(place: Path) -> Iterator[Site]:
    """One worker with four threads."""
    pool = {"max_children": 1, "threads": 4, "on_worker_start": "threaded:start", "access_log": str(place / "access")}
    with site("nginx", Settings(place, pool, THREADED)) as running:
        yield running


def fetch_together(running: Site, paths: list[str]) -> list[str]:
    with ThreadPoolExecutor(len(paths)) as executor:
        return [answer.text for answer in executor.map(lambda path: fetch(running.port, path), paths)]


def test_a_worker_runs_as_many_requests_at_once_as_it_has_threads(one_worker: Site) -> None:
    said = fetch_together(one_worker, ["/meet"] * 4)
    (pid,) = {answer.partition(" ")[0] for answer in said}
    expected = [(int(pid), thread, 1) for thread in range(4)]  # a request is counted when it has been answered
    wait_until(
        lambda: [(row["pid"], row["thread"], row["requests"]) for row in one_worker.master.workers()] == expected
    )
    access = one_worker.settings.place / "access"
    assert wait_until(lambda: len(access.read_text().splitlines()) == 4)


def test_the_application_is_told_and_the_hook_has_the_main_thread(one_worker: Site) -> None:
    said = fetch(one_worker.port, "/").text
    assert re.fullmatch(r"\d+ requests \['MainThread'\] \(True, True\)", said)


def test_what_requests_print_at_once_does_not_mix(one_worker: Site) -> None:
    fetch_together(one_worker, [f"/tell?id={name}" for name in "abcd"])
    for name in "abcd":
        line = f"{name} one, {name} two"
        wait_until(lambda line=line: one_worker.master.said.count(f"] {line}\n") == 1)  # type: ignore[misc]
        (told,) = [entry for entry in one_worker.program.said.splitlines() if line in entry]
        assert f"/tell?id={name} " in told


def test_every_body_is_the_right_one(place: Path) -> None:
    with site("nginx", Settings(place, {"max_children": 1, "threads": 4}), keepalive=16) as running:
        posts = [Post("/echo", b"%d:" % n + bytes([n % 256]) * (n * 7919 % 70_000)) for n in range(800)]
        answers = over_connections(running.port, posts, 16)
        wrong = [(post.body[:8], status) for post, status, body in answers if (status, body) != (200, post.body)]
        assert (wrong, len(answers)) == ([], 800)
        wait_until(lambda: sum(row["requests"] for row in running.master.workers()) == 800)


def test_new_log_files_reach_workers_with_threads(one_worker: Site) -> None:
    access = one_worker.settings.place / "access"
    fetch(one_worker.port, "/1")
    wait_until(access.read_text)
    access.rename(access.with_suffix(".1"))
    one_worker.master.signal(signal.SIGUSR1)
    # The file is there before the worker has it.
    wait_until(lambda: fetch(one_worker.port, "/2").status == 200 and access.exists() and "/2" in access.read_text())
    fetch_together(one_worker, ["/meet"] * 4)
    wait_until(lambda: access.read_text().count("/meet") == 4)


def test_a_graceful_stop_lets_every_thread_finish(place: Path) -> None:
    with site("nginx", Settings(place, {"max_children": 1, "threads": 4})) as running, ThreadPoolExecutor(4) as asking:
        answers = [asking.submit(fetch, running.port, f"/hold?gate={n}") for n in range(4)]
        wait_until(lambda: len(running.settings.journal()) == 4)
        running.master.signal(signal.SIGQUIT)
        for n in range(4):
            running.settings.open_gate(str(n))
        assert [answer.result(15).status for answer in answers] == [200] * 4
        assert running.master.wait() == 0


@pytest.mark.alone  # it has to be fast
def test_a_stop_waits_for_a_stuck_thread_no_longer_than_it_is_told(place: Path) -> None:
    pool = {"max_children": 1, "threads": 4, "process_control_timeout": 1.0}
    with site("nginx", Settings(place, pool)) as running, ThreadPoolExecutor(1) as asking:
        answer = asking.submit(fetch, running.port, "/hold?gate=never")
        wait_until(running.settings.journal)
        began = time.monotonic()
        running.master.signal(signal.SIGQUIT)
        assert running.master.wait() == 0
        assert 0.9 < time.monotonic() - began < 4
        assert answer.result(15).status == 502


def test_a_process_that_was_handed_its_socket_has_threads_too(place: Path) -> None:
    with listening(place / "s") as listener:
        command = [*GATEWAY, "serve", "threaded:application", "--threads", "4", "--app-dir", HERE, *AS_USER]
        program = Program(command, place / "log", stdin=listener)
    try:
        with ThreadPoolExecutor(4) as asking:
            said = [answer.body for answer in asking.map(lambda n: ask(place / "s"), range(4))]
        assert {line.split()[0] for line in said} == {b"%d" % program.pid}
        assert all(line.endswith(b"(True, False)") for line in said)
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    finally:
        program.stop()


def ask(path: Path) -> Answer:
    with Front(path) as front:
        return front.ask(PATH_INFO="/meet", REQUEST_URI="/meet")


def test_a_worker_ends_with_its_master(one_worker: Site) -> None:
    (pid, *_) = {row["pid"] for row in one_worker.master.workers()}
    os.kill(one_worker.master.pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), what="the end of the worker")
