"""What a hostile worker cannot do: end the master, harm another pool, or leave its processes behind."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from gateway.asking import parameters
from gateway.net import client
from gateway.net.address import UnixAddress
from tests.end_to_end.running import HERE, USER, Settings, alive, serving
from tests.end_to_end.test_pools import pools, reload, workers
from tests.waiting import wait_until


def with_a_hostile_pool(place: Path) -> Settings:
    settings = Settings(place, {"max_children": 2})
    settings.more["pools"] = {
        "bad": {"listen": str(place / "bad.sock"), "app_dir": str(HERE), "max_children": 2, "user": USER}
    }
    settings.applications.append({"name": "hostile", "app": "hostile:application", "pool": "bad"})
    settings.write()
    return settings


def ask(path: Path, url: str) -> str:
    with client.request(UnixAddress(str(path)), parameters(url, "GET", 0, ()), timeout=10) as answer:
        return b"".join(answer.body).decode()


def test_the_master_survives_garbage_from_its_workers(place: Path) -> None:
    settings = with_a_hostile_pool(place)
    with serving(settings) as master:
        for _ in range(5):
            with contextlib.suppress(client.RequestFailed):  # whatever it does to its own pool
                ask(place / "bad.sock", "/garbage")
            assert "bad" in pools(settings)
            assert ask(settings.socket, "/hello") == "Hello\n"
        assert master.pid == int(settings.pid_file.read_text())
        assert reload(settings).returncode == 0
        known = workers(settings, "bad")  # one that leaves may still answer
        assert int(ask(place / "bad.sock", "/pid")) in known | workers(settings, "bad")


def test_the_processes_of_a_killed_worker_end_with_it(place: Path) -> None:
    settings = with_a_hostile_pool(place)
    with serving(settings):
        worker, *children = map(int, ask(place / "bad.sock", "/children").split())
        assert all(map(alive, children))
        assert len(children) == 50
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, children)), what="the end of the worker's own processes")
