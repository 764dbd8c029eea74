"""Reloads under load: each request is run exactly once and answered, whether the new code is good or broken."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.end_to_end.browsing import Post, at_pace, fetch
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, Settings, Site, serving, site
from tests.waiting import wait_until

SECONDS = 20
RATE = 200  # requests a second, 5 % of which last 600 ms


@pytest.fixture
def settings(place: Path) -> Settings:
    """A pool whose application is a copy that a test may break."""
    shutil.copy(HERE / "everything.py", place / "everything.py")
    return Settings(place, {"app_dir": str(place), "max_children": 16})


async def reload(running: Site) -> tuple[int, str]:
    """Run `gateway reload`; its exit code and what it said."""
    command = [*GATEWAY, "reload", str(running.settings.file)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRONMENT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, said.decode()


async def reload_under_load(running: Site, posts: list[Post]) -> tuple[list[tuple[Post, int, bytes]], list[int], str]:
    """The load, with a reload every three seconds; the last one is of a broken application."""
    load = asyncio.create_task(at_pace(running.port, posts))
    codes, said = [], ""
    for _ in range(5):
        await asyncio.sleep(3)  # the rhythm of the reloads
        codes.append((await reload(running))[0])
    source = running.settings.place / "everything.py"
    source.write_text(source.read_text() + "\nraise RuntimeError('broken on purpose')\n")
    code, said = await reload(running)
    return await load, [*codes, code], said


def test_reloads_lose_and_repeat_nothing(settings: Settings, front_name: str) -> None:
    posts = [
        Post(f"/work?id={n}&seconds={0.6 if n % 20 == 0 else 0}", b"%d" % n, n / RATE) for n in range(SECONDS * RATE)
    ]
    with site(front_name, settings) as running:
        answers, codes, said = asyncio.run(reload_under_load(running, posts))
        assert codes == [0, 0, 0, 0, 0, 1]
        assert "RuntimeError: broken on purpose" in said
        wrong = [(post.path, status, body[:80]) for post, status, body in answers if (status, body) != (200, post.body)]
        assert wrong == []
        assert sorted(settings.journal(), key=int) == [str(n) for n in range(SECONDS * RATE)]
        assert fetch(running.port, "/hello").status == 200
        wait_until(running.master.ready, what="one generation left")
        assert len(running.master.workers()) == 16


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_signal_loads_new_code(settings: Settings, number: signal.Signals) -> None:
    with serving(settings) as master:
        before = {worker["pid"] for worker in master.workers()}
        master.signal(number)
        wait_until(lambda: master.ready() and not before & {worker["pid"] for worker in master.workers()}, 20)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("def broken(:", "SyntaxError"),
        ("import module_that_is_not_there", "ModuleNotFoundError"),
        ("del application", "application"),
        ("time.sleep(60)", "    time.sleep(60)\n"),
    ],
)
def test_broken_code_is_refused_and_the_next_good_reload_works(settings: Settings, broken: str, complaint: str) -> None:
    source = settings.place / "everything.py"
    good = source.read_text()
    if "sleep" in broken:
        settings.pool["start_timeout"] = 5  # which is how long it takes
        settings.write()
    with serving(settings) as master:
        before = sorted(worker["pid"] for worker in master.workers())
        source.write_text(f"{good}\n{broken}\n")
        refused = run_reload(settings)
        assert (refused.returncode, complaint in refused.stderr + refused.stdout) == (1, True), refused
        assert sorted(worker["pid"] for worker in master.workers()) == before
        source.write_text(good)
        assert run_reload(settings).returncode == 0
        assert not set(before) & {worker["pid"] for worker in master.workers("idle")}


def run_reload(settings: Settings) -> subprocess.CompletedProcess[str]:
    command = [*GATEWAY, "reload", str(settings.file)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def test_request_that_runs_during_a_reload_finishes(settings: Settings, front_name: str) -> None:
    with site(front_name, settings) as running:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(fetch(running.port, "/hold?gate=reload").text))
        asking.start()
        wait_until(lambda: "running reload" in settings.journal())
        assert run_reload(settings).returncode == 0
        assert answers == []
        settings.open_gate("reload")
        asking.join(15)
        assert answers == ["held\n"]
