"""The console behind the real front-ends: never behind traffic, whatever the pools do, and there again when it dies."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.net import client, control
from gateway.net.address import UnixAddress
from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    USER,
    Master,
    Program,
    Settings,
    Site,
    alive,
    children,
    everybodys_copy,
    serving,
    short_place,
    site,
)  # fmt: skip
from tests.waiting import wait_until

PAGES = ("/status", "/status?json&full", "/status?html&full", "/ping", "/metrics")
OUTPUT = HERE.parent / "output"


def with_console(place: Path, pool: dict[str, Any] | None = None, **gateway: Any) -> Settings:
    """Settings whose console is at place/status.sock."""
    settings = Settings(place, pool or {})
    settings.more["gateway"] = {"status_listen": f"{place}/status.sock"} | gateway
    settings.write()
    return settings


def consoles(master: Program) -> list[int]:
    """The processes that are consoles of a master."""
    found = []
    for pid in children(master.pid):
        with contextlib.suppress(OSError):
            if b"gateway.console.main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def ask(place: Path, url: str) -> tuple[int, bytes]:
    """Ask the console itself, as a front-end does."""
    path, _, query = url.partition("?")
    params = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query}
    params |= {"REQUEST_URI": url, "SERVER_NAME": "x", "SERVER_PORT": "80"}
    with client.request(UnixAddress(f"{place}/status.sock"), params, [], timeout=10) as answer:
        return answer.status, b"".join(answer.body)


def pings(place: Path) -> bool:
    try:
        return ask(place, "/ping") == (200, b"pong")
    except OSError:
        return False


@contextlib.contextmanager
def saturated(running: Site) -> Iterator[int]:
    """Every worker asleep in a request and the listen queue full; gives how many connections wait in it."""
    holding = [threading.Thread(target=fetch, args=(running.port, "/hold?gate=full")) for _ in range(2)]
    for thread in holding:
        thread.start()
    wait_until(lambda: len(running.master.workers("busy")) == 2, what="busy workers")
    with contextlib.ExitStack() as waiting:
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sock = waiting.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
                sock.connect(str(running.settings.socket))
                count += 1
        yield count
    running.settings.open_gate("full")
    for thread in holding:
        thread.join(20)


def timed(port: int, url: str) -> float:
    """Seconds that an answer takes, which must be one."""
    began = time.monotonic()
    assert fetch(port, url).status == 200
    return time.monotonic() - began


def check_speed(port: int) -> None:
    """Check that each page takes less than 100 ms; of five tries one may meet a busy machine."""
    for url in PAGES:
        taken = sorted(timed(port, url) for _ in range(5))
        assert taken[3] < 0.1, (url, taken)


@pytest.mark.alone  # it has to be fast
def test_it_answers_at_once_while_a_pool_is_saturated(place: Path, front_name: str) -> None:
    settings = with_console(place, {"max_children": 2, "listen_backlog": 8})
    with site(front_name, settings) as running, saturated(running) as waiting:
        check_speed(running.port)
        wait_until(lambda: "max_children (2) is reached: more workers are needed" in running.master.said)
        assert waiting == 9  # one more than the limit: see net.queue
        text = fetch(running.port, "/status").text
        assert "\nlisten queue:         9\n" in text
        assert "\nlisten queue len:     8\n" in text
        assert "\nactive processes:     2\n" in text
        shown = json.loads(fetch(running.port, "/status?json&full&pool=main").text)
        assert (shown["listen queue"], shown["idle processes"]) == (9, 0)
        running_now = [process for process in shown["processes"] if process["state"] == "Running"]
        assert [(p["request method"], p["request uri"]) for p in running_now] == [("GET", "/hold?gate=full")] * 2
        assert all(process["request duration"] > 0 for process in running_now)
        metrics = fetch(running.port, "/metrics", Accept="application/openmetrics-text; version=1.0.0").text
        samples = {s.name: s.value for f in text_string_to_metric_families(metrics) for s in f.samples}
        assert samples["gateway_pool_listen_queue"] == 9
        assert fetch(running.port, "/ping").text == "pong"


def test_the_page_in_a_browser_while_a_pool_is_saturated(place: Path, front_name: str) -> None:
    with site(front_name, with_console(place, {"max_children": 2, "listen_backlog": 8})) as running, saturated(running):
        picture(running.port, front_name)


def picture(port: int, name: str) -> None:
    """A picture of the page, of the width of a laptop and of a telephone; it asks for nothing but itself."""
    OUTPUT.mkdir(exist_ok=True)
    for kind, width in (("wide", 1100), ("narrow", 500)):
        file = OUTPUT / f"console-{name}-{kind}.png"
        file.unlink(missing_ok=True)
        with short_place() as profile:
            subprocess.run(
                ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
                 "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
                 f"--user-data-dir={profile}/p", f"--window-size={width},900", f"--screenshot={file}",
                 f"http://127.0.0.1:{port}/status?html&full"],
                env=ENVIRONMENT | {"HOME": str(profile)}, check=True, timeout=60,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        assert len(file.read_bytes()) > 10_000  # a blank page is far smaller


def test_the_front_ends_let_this_machine_alone_ask(place: Path, front_name: str) -> None:
    with site(front_name, with_console(place)) as running:
        for url in PAGES:
            connection = http.client.HTTPConnection("127.0.0.1", running.port, source_address=("127.0.0.2", 0))
            with contextlib.closing(connection):
                connection.request("GET", url)
                assert connection.getresponse().status == 403, url
        assert fetch(running.port, "/gateway-console.fcgi/ping").text == "no such page\n"  # of the application
        assert fetch(running.port, "/statuses").text == "no such page\n"
        head = fetch(running.port, "/status?json", "HEAD")
        assert (head.status, head.body) == (200, b"")


def test_it_answers_while_a_pool_is_in_a_crash_loop(place: Path) -> None:
    settings = with_console(place)
    settings.applications.append({"name": "broken", "app": "everything:application", "pool": "broken"})
    broken = {"listen": f"{place}/broken.sock", "python": "/bin/false", "user": USER}
    settings.more["pools"] = {"broken": broken}
    settings.write()
    master = Master(settings)
    try:
        master.wait_for(lambda: "pool broken: generation 1 refused" in master.said)
        master.wait_for(lambda: pings(place))
        for _ in range(3):
            shown = json.loads(ask(place, "/status?json&pool=broken")[1])
            assert (shown["pool"], shown["idle processes"]) == ("broken", 0)
    finally:
        master.stop()


def test_killed_it_is_there_again_and_pools_take_no_notice(place: Path) -> None:
    with serving(with_console(place)) as master:
        workers = {worker["pid"] for worker in master.workers()}
        (first,) = wait_until(lambda: pings(place) and consoles(master))
        for _ in range(2):
            (pid,) = consoles(master)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in consoles(master) and pings(place), what="another console")
        assert {worker["pid"] for worker in master.workers()} == workers
        wait_until(lambda: f"the console, process {first}, was killed by signal 9" in master.said)


def test_a_reload_replaces_it_and_no_question_stays_unanswered(place: Path) -> None:
    with serving(with_console(place)) as master:
        (first,) = wait_until(lambda: pings(place) and consoles(master))
        answers: list[tuple[int, bytes]] = []
        replaced = threading.Event()

        def scrape() -> None:
            while not replaced.is_set():
                answers.append(ask(place, "/ping"))

        scraping = threading.Thread(target=scrape)
        scraping.start()
        try:
            assert control.call(str(master.settings.control), {"command": "reload"}, 30)["ok"]
            wait_until(lambda: consoles(master) and first not in consoles(master), what="another console alone")
        finally:
            replaced.set()
            scraping.join(10)
        assert set(answers) == {(200, b"pong")}
        reloaded = consoles(master)
        assert control.call(str(master.settings.control), {"command": "reload", "pool": "main"}, 30)["ok"]
        assert consoles(master) == reloaded


def test_it_is_the_last_to_end_and_says_so_meanwhile(place: Path) -> None:
    settings = with_console(place)
    with site("nginx", settings) as running:
        wait_until(lambda: pings(place))
        (pid,) = consoles(running.master)
        holding = threading.Thread(target=fetch, args=(running.port, "/hold?gate=end"))
        holding.start()
        wait_until(lambda: running.master.workers("busy"))
        running.master.signal(signal.SIGQUIT)
        wait_until(lambda: ask(place, "/ping")[0] == 503, what="the end's beginning")
        assert json.loads(ask(place, "/status?json&pool=main")[1])["active processes"] == 1
        settings.open_gate("end")
        holding.join(15)
        assert running.master.wait() == 0
        assert not alive(pid)
        assert not (place / "status.sock").exists()


def test_it_dies_with_a_master_that_is_killed(place: Path) -> None:
    with serving(with_console(place)) as master:
        (pid,) = wait_until(lambda: pings(place) and consoles(master))
        master.signal(signal.SIGKILL)
        wait_until(lambda: not alive(pid))


def test_it_holds_nothing_of_the_master(place: Path) -> None:
    """No variable, and no descriptor but its own."""
    with serving(with_console(place)) as master:
        (pid,) = wait_until(lambda: pings(place) and consoles(master))
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"SECRET" not in environment
        assert "NoNewPrivs:\t1" in Path(f"/proc/{pid}/status").read_text()
        # Three of them standard; its channel, its listener, its epoll set. A connection may just be about to be closed.
        wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) == 6)
        opened = {os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
        assert opened == {"/dev/null", "pipe", "socket", "anon_inode"}


def test_started_by_root_it_runs_as_another_user(place: Path) -> None:
    user = "nobody" if os.geteuid() == 0 else ""
    settings = with_console(place, status_user=user, status_listen_mode="0600")
    names = ("click", "jinja2", "markupsafe", "more_itertools", "msgspec", "multipart", "prometheus_client", "web")
    python, packages = everybodys_copy(place, *names)
    command = [python, *GATEWAY[1:], "serve", settings.file]
    environment = ENVIRONMENT | {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
    master = Program(command, place / "log", cwd=place, env=environment)
    try:
        master.wait_for(lambda: pings(place))
        (pid,) = consoles(master)
        owner = os.stat(place / "status.sock")
        assert owner.st_uid == os.stat(f"/proc/{pid}").st_uid
        assert owner.st_mode & 0o777 == 0o600
        if user:
            uids = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("Uid:"))
            assert set(uids.split()[1:]) == {str(owner.st_uid)} != {"0"}
            assert b"HOME=/nonexistent" in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        master.stop()


@pytest.mark.alone  # it measures
def test_a_storm_of_scrapes_asks_the_master_ten_times_a_second(place: Path) -> None:
    with serving(with_console(place)) as master:
        wait_until(lambda: pings(place))
        shown = {json.loads(ask(place, "/status?json&full&pool=main")[1])["processes"][0]["pid"] for _ in range(3)}
        assert shown <= {worker["pid"] for worker in master.workers()}
        before = cpu_seconds(master.pid)
        for _ in range(300):
            assert ask(place, "/metrics")[0] == 200
        assert cpu_seconds(master.pid) - before < 0.2


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
