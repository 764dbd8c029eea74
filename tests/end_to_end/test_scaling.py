"""Pools that grow and shrink, workers that are replaced at a limit, and a pool whose workers cannot start."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch, while_running, work
from tests.end_to_end.running import HERE, USER, Master, Settings, Site, descendants, serving, site
from tests.waiting import wait_until


def in_background(running: Site, path: str, count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=fetch, args=(running.port, path)) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.alone  # it has to be fast
def test_a_burst_has_its_workers_within_a_second_and_they_go_when_idle(place: Path) -> None:
    pool = {"pm": "dynamic", "max_children": 64, "start_servers": 2, "process_idle_timeout": 1}
    with site("nginx", Settings(place, pool)) as running:
        assert len(running.master.workers()) == 2
        began = time.monotonic()
        burst = in_background(running, "/hold?gate=burst", 64)
        wait_until(lambda: len(running.master.workers("busy")) == 64, 5, "64 busy workers")
        took = time.monotonic() - began
        running.settings.open_gate("burst")
        for thread in burst:
            thread.join(15)
        print(f"64 workers from 2 in {took * 1000:.0f} ms")
        assert took < 1
        wait_until(lambda: len(running.master.workers()) <= 3, 10, "the spare workers alone")


def test_an_ondemand_pool_has_no_worker_until_a_request_comes(place: Path) -> None:
    with site("nginx", Settings(place, {"pm": "ondemand", "process_idle_timeout": 0.5})) as running:
        wait_until(lambda: running.master.workers() == [], what="the end of every worker")
        for _ in range(2):
            assert fetch(running.port, "/hello").status == 200
            wait_until(lambda: running.master.workers() == [], what="the end of every worker")


def test_process_max_holds_for_all_pools_together(place: Path) -> None:
    settings = Settings(place, {"pm": "ondemand", "max_children": 8})
    settings.more["gateway"] = {"process_max": 3}
    settings.write()
    with site("nginx", settings) as running:
        requests = in_background(running, "/hold?gate=max", 8)
        wait_until(lambda: len(running.master.workers("busy")) == 3)
        running.settings.open_gate("max")
        for thread in requests:
            thread.join(15)
        assert len(running.master.workers()) <= 3


def test_idle_workers_of_one_pool_make_room_for_another_that_process_max_leaves_none(place: Path) -> None:
    dynamic = {"pm": "dynamic", "max_children": 4, "start_servers": 4, "max_spare_servers": 4}
    settings = Settings(place, dynamic)
    environment = {"JOURNAL": f"{place}/journal", "GATES": f"{place}/gates"}
    shop = {"listen": f"{place}/shop.sock", "app_dir": str(HERE), "user": USER, "env": environment}
    settings.more["pools"] = {"shop": shop | {"pm": "ondemand", "max_children": 3, "process_idle_timeout": 60}}
    settings.more["gateway"] = {"process_max": 4}
    settings.applications.append({"name": "shop", "app": "everything:application", "pool": "shop"})
    settings.applications[1]["bindings"] = [{"hostname": "shop.example", "port": "*"}]
    settings.write()

    def busy(running: Site, pool: int) -> int:
        return sum(worker["state"] == "busy" for worker in running.master.status()["pools"][pool]["workers"])

    def fill(running: Site, pool: int, count: int, gate: str, host: str) -> None:
        """Let a pool have so many workers, each with a request, while the other has idle ones."""
        with ThreadPoolExecutor(count) as threads:
            held = [threads.submit(fetch, running.port, f"/hold?gate={gate}", Host=host) for _ in range(count)]
            try:
                wait_until(lambda: busy(running, pool) >= count, what=f"{count} busy workers")
            finally:
                settings.open_gate(gate)
            assert [request.result(15).status for request in held] == [200] * count

    with site("nginx", settings) as running:

        def steps() -> None:
            fill(running, 1, 3, "first", "shop.example")  # of main's four idle workers min_spare_servers stays

        answers, _ = while_running(running.port, work(50), steps, more=20)
        assert [(post.path, status) for post, status, body in answers if (status, body) != (200, post.body)] == []
        fill(running, 0, 4, "back", "localhost")
        fill(running, 1, 3, "again", "shop.example")
        assert sum(pool["wanted"] for pool in running.master.status()["pools"]) <= 4


def pids(running: Site) -> set[int]:
    return {worker["pid"] for worker in running.master.workers()}


@pytest.mark.parametrize(
    "limit", [{"max_requests": 50, "max_requests_jitter": 10}, {"max_lifetime": 0.5}, {"max_memory": 1_000_000}]
)
def test_workers_over_a_limit_are_replaced_and_nothing_is_lost(place: Path, limit: dict[str, float]) -> None:
    with site("nginx", Settings(place, limit)) as running:

        def replaced(known: set[int]) -> set[int]:
            """The workers, once all of those are gone."""
            return wait_until(lambda: not known & (now := pids(running)) and now, 20)

        answers, _ = while_running(running.port, work(200), lambda: replaced(replaced(pids(running))))
        assert [(post.path, status) for post, status, body in answers if (status, body) != (200, post.body)] == []
        assert sorted(running.settings.journal(), key=int) == [str(n) for n in range(len(answers))]


def broken_interpreter(place: Path) -> Path:
    """A Python that dies at once when a file says so."""
    script = place / "python"
    script.write_text(f'#!/bin/sh\n[ -e {place}/broken ] && exit 3\nexec {os.path.realpath("/proc/self/exe")} "$@"\n')
    script.chmod(0o755)
    return script


def zygote_pids(master: Master) -> list[int]:
    return sorted(set(descendants(master.pid)) - {worker["pid"] for worker in master.workers()})


def test_a_pool_that_can_start_nothing_goes_on_with_the_workers_it_has(place: Path) -> None:
    settings = Settings(place, {"python": str(broken_interpreter(place)), "app_dir": str(HERE)})
    with serving(settings) as master:
        (place / "broken").touch()
        before = {worker["pid"] for worker in master.workers()}
        for pid in zygote_pids(master):
            os.kill(pid, 9)
        wait_until(lambda: master.said.count("refused: its zygote exited with status 3") >= 3)
        assert {worker["pid"] for worker in master.workers()} == before
        (place / "broken").unlink()
        wait_until(lambda: not before & {worker["pid"] for worker in master.workers("idle")} and master.ready(), 30)
