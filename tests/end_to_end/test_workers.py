"""Workers: replaced when they die, gone when the master is, small, and clean of what is not theirs."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import (
    ENVIRONMENT,
    HERE,
    ROOT,
    Master,
    Settings,
    Site,
    alive,
    descendants,
    interpreter_for,
    private_size,
    processes,
    proportional_size,
    serving,
    site,
    stat,
)  # fmt: skip
from tests.waiting import wait_until


@pytest.fixture
def master(place: Path) -> Iterator[Master]:
    with serving(Settings(place)) as running:
        yield running


def new_worker(master: Master, known: set[int]) -> bool:
    return bool({worker["pid"] for worker in master.workers("idle")} - known)


@pytest.mark.alone  # it has to be fast
def test_killed_worker_is_replaced_by_a_ready_one(master: Master) -> None:
    times, pace = [], threading.Event()
    for _ in range(25):
        victim = master.workers("idle")[0]["pid"]
        known = {worker["pid"] for worker in master.workers()}
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        wait_until(partial(new_worker, master, known), 5, "a new worker")
        times.append(time.monotonic() - began)
        wait_until(master.ready)
        pace.wait(began + 0.05 - time.monotonic())  # faster deaths than that are held back on purpose
    print(f"replaced in {statistics.median(times) * 1000:.0f} ms (median), {max(times) * 1000:.0f} ms (longest)")
    assert statistics.median(times) < 0.1
    assert max(times) < 0.3


@pytest.mark.alone  # it has to be fast
def test_death_of_the_master_ends_every_process(master: Master) -> None:
    started = descendants(master.pid)
    assert len(started) >= 5  # four workers and the zygote
    master.signal(signal.SIGKILL)
    master.wait()
    wait_until(lambda: not any(map(alive, started)), 1, "the end of workers and zygote")


def test_no_zombies(master: Master) -> None:
    for worker in master.workers():
        os.kill(worker["pid"], signal.SIGKILL)
    wait_until(master.ready)
    parents = {master.pid, *descendants(master.pid)}
    wait_until(lambda: not [pid for pid, fields in processes() if fields[0] == "Z" and int(fields[1]) in parents])


def test_zygote_that_dies_costs_nothing(place: Path) -> None:
    with site("nginx", Settings(place)) as running:
        workers = {worker["pid"] for worker in running.master.workers()}
        for pid in set(descendants(running.master.pid)) - workers:
            os.kill(pid, signal.SIGKILL)
        for _ in range(20):
            assert fetch(running.port, "/hello").status == 200
        victim = workers.pop()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: running.master.ready() and victim not in {w["pid"] for w in running.master.workers()}, 20)


def test_zygote_that_has_stopped_is_replaced(place: Path) -> None:
    with serving(Settings(place, {"max_children": 2, "start_timeout": 1})) as master:
        workers = {worker["pid"] for worker in master.workers()}
        (zygote,) = set(descendants(master.pid)) - workers
        os.kill(zygote, signal.SIGSTOP)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        master.wait_for(lambda: master.ready() and master.status()["pools"][0]["generation"] > 1, 20)
        assert not alive(zygote)
        wait_until(lambda: "pool main: its zygote starts no worker any more; killed" in master.said)


def test_signals_give_a_static_pool_more_and_fewer_workers(place: Path) -> None:
    with serving(Settings(place, {"max_children": 2})) as master:
        for number, expected in ((signal.SIGTTOU, 1), (signal.SIGTTOU, 1), (signal.SIGTTIN, 2), (signal.SIGTTIN, 2)):
            master.signal(number)
            wait_until(lambda: master.ready() and len(master.workers()) == expected)  # noqa: B023  waited for at once
        assert master.said.count("workers are wanted") == 2


def spent(pid: int) -> float:
    """Seconds of processor time that a process has used (proc(5), stat)."""
    fields = stat(pid)
    assert fields is not None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.alone  # it measures
def test_master_without_descriptors_does_not_spin(master: Master) -> None:
    used = set(map(int, os.listdir(f"/proc/{master.pid}/fd")))
    limits = resource.prlimit(master.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(master.pid, resource.RLIMIT_NOFILE, (min(set(range(len(used) + 1)) - used), limits[1]))
    with contextlib.ExitStack() as callers:
        for _ in range(8):  # who say nothing, and hold what was free after all
            callers.enter_context(socket.socket(socket.AF_UNIX)).connect(str(master.settings.control))
        wait_until(lambda: "control socket: cannot accept: Too many open files" in master.said)
        before, begun = spent(master.pid), master.said.count("cannot accept")
        wait_until(lambda: master.said.count("cannot accept") >= begun + 10)  # which takes a second
        assert spent(master.pid) - before < 0.2
    resource.prlimit(master.pid, resource.RLIMIT_NOFILE, limits)
    wait_until(master.ready, 5)


def process_of(running: Site) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(fetch(running.port, "/process").body)
    return shown


def of_every_interpreter() -> set[str]:
    """The files that are loaded before anything is imported, because an installed .pth file says so."""
    script = "import sys; print(*(getattr(m, '__file__', None) for m in sys.modules.values()), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.splitlines())


def test_worker_is_the_masters_child_and_imports_no_installed_package(everything: Site) -> None:
    shown = process_of(everything)
    assert shown["ppid"] == everything.master.pid
    installed = {path for path in shown["modules"] if "site-packages" in path or "dist-packages" in path}
    assert installed - of_every_interpreter() == set()


def test_requests_do_not_change_the_environment(everything: Site) -> None:
    first = {everything_pid["pid"]: everything_pid["environ"] for everything_pid in [process_of(everything)]}
    fetch(everything.port, "/hello", X_Ld_Preload="x", Proxy="http://evil.example/")
    for _ in range(20):
        shown = process_of(everything)
        assert first.setdefault(shown["pid"], shown["environ"]) == shown["environ"]
        assert not [name for name in shown["environ"] if name.startswith(("HTTP_", "wsgi"))]


def test_status_shows_the_running_request(place: Path) -> None:
    with site("nginx", Settings(place)) as running:
        asking = threading.Thread(target=fetch, args=(running.port, "/hold?gate=shown"))
        asking.start()
        (busy,) = wait_until(lambda: running.master.workers("busy"))
        assert (busy["method"], busy["uri"]) == ("GET", "/hold?gate=shown")
        assert busy["host"].startswith("127.0.0.1")
        running.settings.open_gate("shown")
        asking.join(15)
        wait_until(lambda: sum(worker["requests"] for worker in running.master.workers()) == 1)  # counted when answered


@pytest.mark.alone  # it measures
def test_size_of_one_worker_beside_a_bare_interpreter(place: Path) -> None:
    bare = subprocess.Popen(
        [sys.executable, "-I", "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert bare.stdin is not None
    assert bare.stdout is not None
    with bare, serving(Settings(place, {"max_children": 1})) as master:
        bare.stdout.readline()
        parts = {pid: proportional_size(pid) for pid in (master.pid, *descendants(master.pid))}
        interpreter = proportional_size(bare.pid)
        print(
            f"PSS: bare interpreter {interpreter} KiB; gateway serve with one worker {sum(parts.values())} KiB {parts}"
        )
        bare.stdin.close()
        assert sum(parts.values()) < 60_000


def test_a_worker_has_little_for_itself_alone(place: Path) -> None:
    """What it runs of the gateway between its fork and its requests, and for these, beside a fork that does nothing."""
    (place / "plain.py").write_text(
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '6')])\n"
        "    return iter([b'Hello\\n'])\n"
    )
    settings = Settings(
        place, {"max_children": 1, "app_dir": str(place)}, [{"name": "plain", "app": "plain:application"}]
    )
    fork = "import gc, os; gc.freeze(); child = os.fork(); child and print(child, flush=True); input()"
    bare = subprocess.Popen(
        [sys.executable, "-I", "-c", fork], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert bare.stdin is not None
    assert bare.stdout is not None
    with bare, site("nginx", settings) as running:
        least = private_size(int(bare.stdout.readline()))
        (worker,) = running.master.workers()
        idle = private_size(worker["pid"])
        for _ in range(30):
            assert fetch(running.port, "/").body == b"Hello\n"
        used = private_size(worker["pid"])
        print(f"Private_Dirty: bare fork {least} KiB; a worker {idle} KiB, {used} KiB after 30 requests")
        bare.stdin.close()
        assert idle < least + 1_200
        assert used < least + 2_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_a_worker_costs_no_service(place: Path, number: signal.Signals) -> None:
    with site("nginx", Settings(place)) as running:
        os.kill(running.master.workers("idle")[0]["pid"], number)
        for _ in range(20):
            assert fetch(running.port, "/hello").status == 200
        wait_until(running.master.ready)


def test_privileges_are_dropped(place: Path) -> None:
    """As root, workers get the user's ids and groups and cannot go back; as anybody else, another user is refused."""
    shutil.copytree(ROOT / "gateway", place / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "everything.py", place)
    pool = {"user": "nobody", "app_dir": str(place), "env": {}, "python": interpreter_for("nobody")}
    if os.geteuid():
        master = Master(Settings(place, pool))
        assert (master.wait(), "nobody" in master.said) == (100, True)
        return
    expected = pwd.getpwnam("nobody")
    with site("nginx", Settings(place, pool), source=place) as running:
        shown = process_of(running)
        assert (shown["uids"], shown["gids"]) == ([expected.pw_uid] * 3, [expected.pw_gid] * 3)
        assert 0 not in shown["groups"]
        status = Path(f"/proc/{shown['pid']}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert "SECRET" not in shown["environ"]
