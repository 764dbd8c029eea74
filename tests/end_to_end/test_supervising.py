"""`gateway-spawn --supervise` with real FastCGI programs: php-cgi, one in C on libfcgi, a lone `gateway serve`."""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.net import client, control
from gateway.net.address import UnixAddress, parse_address
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, USER, Program, alive, children, session
from tests.end_to_end.test_watching import read_until
from tests.waiting import free_port, wait_until

SPAWN = [sys.executable, "-m", "gateway.spawn"]
EVERYBODYS = "/usr/bin/python3"  # an interpreter that every user may run
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


class Supervised(Program):
    """`gateway-spawn --supervise` with any program."""

    def __init__(self, place: Path, argv: Sequence[str | Path], *flags: str, **environment: str) -> None:
        self.place = place
        self.socket = place / "p.sock"
        self.control = place / "p-control.sock"
        command = [*SPAWN, "--supervise", "-s", self.socket, *flags, "--", *argv]
        super().__init__(command, place / "log", cwd=place, env=ENVIRONMENT | environment)

    def pool(self) -> dict[str, Any]:
        """What its pool's status is."""
        pool: dict[str, Any] = control.call(str(self.control), {"command": "status"}, 5)["pools"][0]
        return pool

    def pids(self, generation: int | None = None) -> set[int]:
        """The processes that serve, of one generation or of any."""
        workers = [worker for worker in self.pool()["workers"] if worker["state"] == "ready"]
        return {worker["pid"] for worker in workers if generation in (None, worker["generation"])}

    def is_whole(self) -> bool:
        """Whether just the processes run that should."""
        try:
            pool = self.pool()
        except control.ControlError:
            return False
        return [worker["state"] for worker in pool["workers"]] == ["ready"] * pool["wanted"]

    def wait_whole(self) -> Supervised:
        self.wait_for(self.is_whole)
        return self

    def ask(self, milliseconds: int = 0) -> int:
        """Send a request that lasts so long; which process has answered. Raises RequestFailed."""
        return ask(self.socket, milliseconds)

    def wait_busy(self, requests: int) -> None:
        """Wait until so many requests have been accepted and are not answered."""
        wait_until(lambda: self.connections() == requests and not self.pool()["listen_queue"])

    def connections(self) -> int:
        """How many there are, also those that nobody has accepted yet (/proc/net/unix)."""
        rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
        name = f"{self.place}/.{self.pid:x}"  # by which the socket was bound, before it was moved to its path
        return sum(row[-1] == name and row[3] != "00010000" for row in rows)  # the flag of a listener

    def gateway(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `gateway` with this control socket."""
        command = [*GATEWAY, arguments[0], "--control", str(self.control), *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENVIRONMENT)


def parameters(milliseconds: int | Path) -> dict[str, str]:
    """Of a request that lasts so long, or, of the program in C alone, until there is a file."""
    return {
        "SCRIPT_FILENAME": str(HERE / "answering.php"), "REDIRECT_STATUS": "200", "QUERY_STRING": str(milliseconds),
        "REQUEST_METHOD": "GET", "REQUEST_URI": "/", "SCRIPT_NAME": "", "PATH_INFO": "/", "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "localhost", "SERVER_PORT": "80",
    }  # fmt: skip


def ask(path: Path, milliseconds: int | Path) -> int:
    with client.request(UnixAddress(str(path)), parameters(milliseconds), timeout=30) as answer:
        assert answer.status == 200
        return int(b"".join(answer.body))


class Asked(threading.Thread):
    """A request in a thread of its own."""

    def __init__(self, path: Path, milliseconds: int | Path) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.milliseconds = milliseconds
        self.answered_by = 0
        self.start()

    def run(self) -> None:
        with contextlib.suppress(client.RequestFailed):
            self.answered_by = ask(self.path, self.milliseconds)

    def answer(self) -> int:
        """The process that has answered; 0 when none has."""
        self.join(30)
        return self.answered_by


@contextlib.contextmanager
def load(path: Path, clients: int = 6) -> Iterator[list[str]]:
    """Clients that ask as fast as they are answered, while the context lasts; gives an entry for each answer: what was
    wrong with it, or "".
    """
    stop = threading.Event()
    outcomes: list[str] = []

    def run() -> None:
        while not stop.is_set():
            try:
                ask(path, 5)
                outcomes.append("")
            except (client.RequestFailed, ValueError, AssertionError) as error:
                outcomes.append(repr(error))

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


@pytest.fixture(scope="session")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("libfcgi") / "answering"
    subprocess.run(["gcc", "-O1", "-Wall", "-o", program, HERE / "answering.c", "-lfcgi"], check=True, timeout=60)
    return str(program)


@pytest.fixture(params=["php-cgi", "libfcgi", "gateway"])
def program(request: pytest.FixtureRequest, c_program: str) -> list[str]:
    """The command of each program."""
    user = ["--user", USER] if USER else []
    serve = [*GATEWAY, "serve", "--app-dir", str(HERE), *user, "answering:application"]
    argv: list[str] = {"php-cgi": ["php-cgi"], "libfcgi": [c_program], "gateway": serve}[request.param]
    return argv


@pytest.fixture
def supervise(place: Path) -> Iterator[Any]:
    """Starts supervisors, and ends them with whatever they have started."""
    started: list[Supervised] = []

    def start(argv: Sequence[str | Path], *flags: str, **environment: str) -> Supervised:
        started.append(Supervised(place, argv, *flags, **environment))
        return started[-1]

    yield start
    for supervised in started:
        below = children(supervised.pid)
        supervised.stop()
        wait_until(lambda below=below: not any(alive(pid) for pid in below))


def script(place: Path, text: str) -> Path:
    """A program in the shell, moved to its place as a whole."""
    path = place / "program"
    new = place / "program.new"
    new.write_text(f"#!/bin/sh\n{text}\n")
    new.chmod(0o755)
    new.rename(path)
    return path


@pytest.mark.alone  # it has to be fast
def test_a_killed_process_is_replaced_at_once(supervise: Any, program: list[str]) -> None:
    supervised = supervise(program, "-F", "3").wait_whole()
    before = supervised.pids()
    assert len(before) == 3
    asked = subprocess.run(
        ["cgi-fcgi", "-bind", "-connect", str(supervised.socket)],
        env=ENVIRONMENT | parameters(0), capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    head, _, body = asked.stdout.replace("\r\n", "\n").partition("\n\n")
    assert "text/" in head
    assert int(body) in before
    os.kill(killed := min(before), signal.SIGKILL)
    after = wait_until(lambda: len(now := supervised.pids() - {killed}) == 3 and now, 2)
    assert before - after == {killed}
    assert f"process {killed} was killed by signal 9" in supervised.said


def test_a_reload_under_load_loses_nothing(supervise: Any, program: list[str]) -> None:
    supervised = supervise(program, "-F", "3").wait_whole()
    slow = Asked(supervised.socket, 1500)
    supervised.wait_busy(1)
    with load(supervised.socket) as outcomes:
        for generation in (2, 3):
            enough = len(outcomes) + 100
            done = supervised.gateway("reload")
            assert (done.returncode, done.stderr) == (0, "")
            assert len(supervised.pids(generation)) == 3
            wait_until(lambda enough=enough: len(outcomes) > enough)
    assert [outcome for outcome in outcomes if outcome] == []
    assert slow.answer() > 0
    supervised.wait_for(supervised.is_whole)
    assert len(supervised.pids(3)) == 3


def test_a_reload_makes_a_socket_file_again_that_is_gone(supervise: Any, program: list[str]) -> None:
    supervised = supervise(program, "-F", "2").wait_whole()
    supervised.socket.unlink()
    done = supervised.gateway("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{supervised.socket} has been removed: listening on it again" in supervised.said
    assert {ask(supervised.socket, 0) for _ in range(5)} <= supervised.pids(2)
    supervised.wait_for(supervised.is_whole)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_signals_reload_too(supervise: Any, c_program: str, number: signal.Signals) -> None:
    supervised = supervise([c_program], "-F", "2").wait_whole()
    before = supervised.pids()
    supervised.signal(number)
    supervised.wait_for(lambda: len(supervised.pids(2)) == 2)
    supervised.wait_for(supervised.is_whole)
    assert not before & supervised.pids()


def test_a_program_that_fails_is_started_again_with_growing_delays(supervise: Any, place: Path, c_program: str) -> None:
    starts = place / "starts"
    supervised = supervise([script(place, f"date +%s.%N >> {starts}; echo no database; exit 1")], "-F", "4")
    supervised.wait_for(lambda: starts.exists() and len(starts.read_text().split()) >= 6)
    times = [float(line) for line in starts.read_text().split()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.8, 1.6), strict=False)), pauses
    assert sum(time < times[0] + 3 for time in times) <= 6
    waiting = Asked(supervised.socket, 0)
    wait_until(lambda: supervised.pool()["listen_queue"] == 1)
    assert not supervised.pool()["up"]
    script(place, f"exec {c_program}")
    done = supervised.gateway("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert waiting.answer() in supervised.pids()
    assert supervised.pool()["up"]
    assert re.search(r"\[\d+\] no database$", supervised.said, re.MULTILINE)
    assert "program exited with status 1 as it started" in supervised.said


def test_a_program_that_breaks_while_it_runs_is_started_again_when_it_is_mended(
    supervise: Any, place: Path, c_program: str
) -> None:
    supervised = supervise([script(place, f"exec {c_program}")], "-F", "2").wait_whole()
    script(place, "exit 3")
    for pid in supervised.pids():
        os.kill(pid, signal.SIGKILL)
    supervised.wait_for(lambda: "exited with status 3 as it started" in supervised.said)
    waiting = Asked(supervised.socket, 0)
    script(place, f"exec {c_program}")
    supervised.wait_for(supervised.is_whole)
    assert waiting.answer() in supervised.pids()


def test_a_reload_to_a_broken_program_is_refused(supervise: Any, place: Path, c_program: str) -> None:
    path = script(place, f"exec {c_program}")
    supervised = supervise([path], "-F", "2").wait_whole()
    before = supervised.pids()
    script(place, "echo 'no such luck' >&2; exit 3")
    done = supervised.gateway("reload")
    reason = f"{path} exited with status 3 as it started; the error log has what it said"
    assert (done.returncode, done.stderr) == (1, f"gateway: pool program: {reason}\n")
    path.unlink()
    done = supervised.gateway("reload")
    assert done.returncode == 1
    assert f"cannot start {path}: {path}: No such file or directory" in done.stderr
    assert supervised.is_whole()
    assert supervised.pids() == before
    assert supervised.ask() in before
    assert re.search(r"\[\d+\] no such luck$", supervised.said, re.MULTILINE)
    assert "the last reload failed: " in supervised.gateway("status").stdout
    script(place, f"exec {c_program}")
    assert supervised.gateway("reload").returncode == 0
    assert not before & supervised.pids()


def test_how_long_a_program_has_to_run_to_count_as_started(supervise: Any, place: Path, c_program: str) -> None:
    supervised = supervise([script(place, f"exec {c_program}")], "--first-look", "1.5").wait_whole()
    script(place, "sleep 0.5; exit 3")
    done = supervised.gateway("reload")
    assert done.returncode == 1
    assert "program exited with status 3 as it started" in done.stderr


def test_a_reload_while_every_place_is_taken(supervise: Any, c_program: str) -> None:
    """One process may run beside the one that is wanted; what a further reload has tried waits for its place."""
    supervised = supervise([c_program]).wait_whole()
    (first,) = supervised.pids()
    slow = Asked(supervised.socket, supervised.place / "gate")
    supervised.wait_busy(1)
    assert supervised.gateway("reload").returncode == 0  # the first goes when it has answered
    waiting = subprocess.Popen([*GATEWAY, "reload", "--control", supervised.control], env=ENVIRONMENT)
    supervised.wait_for(lambda: supervised.pool()["generation"] == 3)
    assert len(supervised.pool()["workers"]) == 3
    supervised.signal(signal.SIGHUP)  # discards what has just been tried
    (supervised.place / "gate").touch()
    assert waiting.wait(30) == 0
    supervised.wait_for(lambda: len(supervised.pids(4)) == 1 and supervised.is_whole())
    assert slow.answer() == first


def test_a_graceful_stop_finishes_requests(supervise: Any, program: list[str]) -> None:
    supervised = supervise(program, "-F", "2", "-P", "pid").wait_whole()
    assert (supervised.place / "pid").read_text() == f"{supervised.pid}\n"
    before = supervised.pids()
    wait_until(lambda: {one.answer() for one in [Asked(supervised.socket, 100) for _ in range(2)]} == before)
    asked = [Asked(supervised.socket, 1000) for _ in range(2)]
    supervised.wait_busy(2)
    assert supervised.gateway("stop").returncode == 0
    assert {one.answer() for one in asked} == before
    assert supervised.wait() == 0
    assert sorted(path.name for path in supervised.place.iterdir()) == ["log"]


@pytest.mark.alone  # it has to be fast
def test_a_fast_stop_waits_for_nobody(supervise: Any, place: Path) -> None:
    supervised = supervise([sys.executable, "-c", DEAF], "-F", "2").wait_whole()
    begun = time.monotonic()
    supervised.signal(signal.SIGTERM)
    assert supervised.wait() == 0
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_a_stop_during_the_first_look(supervise: Any, place: Path, number: signal.Signals) -> None:
    flags = ("-F", "2", "--process-control-timeout", "0.3", "--first-look", "20")
    says = DEAF.replace("time.sleep", "print('here', flush=True); time.sleep")
    supervised = supervise([sys.executable, "-c", says], *flags)
    supervised.wait_for(lambda: "here" in supervised.said)
    (pid,) = children(supervised.pid)
    supervised.signal(number)
    assert supervised.wait() == 0
    assert not alive(pid)


def test_the_signal_of_a_graceful_end_and_its_patience(supervise: Any, place: Path) -> None:
    ends = "import signal, sys, time; signal.signal(signal.SIGUSR1, lambda *_: sys.exit(print('goes', flush=True)))"
    asks = f"{ends}\n{DEAF.replace('time.sleep', 'print(1234, flush=True); time.sleep')}"
    supervised = supervise([sys.executable, "-c", asks], "--kill-signal", "usr1").wait_whole()
    wait_until(lambda: supervised.said.count("1234") == 1)  # until then the signal would end it without a word
    assert supervised.gateway("reload").returncode == 0
    wait_until(lambda: supervised.said.count("goes") == 1)
    wait_until(lambda: supervised.said.count("1234") == 2)
    assert supervised.gateway("stop").returncode == 0
    assert supervised.said.count("goes") == 2


def test_what_does_not_go_is_killed(supervise: Any) -> None:
    supervised = supervise([sys.executable, "-c", DEAF], "--process-control-timeout", "0.3").wait_whole()
    before = supervised.pids()
    assert supervised.gateway("reload").returncode == 0
    supervised.wait_for(supervised.is_whole)
    assert not before & supervised.pids()


def test_children_of_a_killed_program_do_not_go_on_accepting(supervise: Any) -> None:
    supervised = supervise(["php-cgi"], "-C", "2").wait_whole()
    (first,) = supervised.pids()
    below = wait_until(lambda: len(found := children(first)) == 2 and found)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in below))
    wait_until(lambda: supervised.pids() - {first} and supervised.is_whole())
    assert supervised.ask() not in (first, *below)


def test_nothing_outlives_the_supervisor(supervise: Any, c_program: str) -> None:
    supervised = supervise([c_program], "-F", "3").wait_whole()
    pids = supervised.pids()
    supervised.signal(signal.SIGKILL)
    supervised.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids))


def test_the_queue_is_seen(supervise: Any, c_program: str) -> None:
    supervised = supervise([c_program], "-b", "64").wait_whole()
    gate = supervised.place / "gate"
    asked = [Asked(supervised.socket, gate)]
    supervised.wait_busy(1)  # or four might be seen waiting
    asked += [Asked(supervised.socket, gate) for _ in range(3)]
    pool = wait_until(lambda: (pool := supervised.pool())["listen_queue"] == 3 and pool)
    assert pool["listen_queue_len"] == 64
    gate.touch()
    assert len([one.answer() for one in asked]) == 4
    assert supervised.pool()["max_listen_queue"] == 3


def test_status_in_each_form(supervise: Any, c_program: str) -> None:
    supervised = supervise([c_program, "an argument"], "-F", "2").wait_whole()
    table = supervised.gateway("status").stdout.splitlines()
    assert table[2] == "pool answering, running: 2 of 2 processes run; static, max_children 2"
    assert table[3] == f"  runs {c_program} 'an argument'"[:80]
    assert {int(line.split()[0]) for line in table[6:]} == supervised.pids()
    metrics = supervised.gateway("status", "--openmetrics").stdout
    assert 'gateway_pool_total_processes{pool="answering"} 2.0' in metrics
    assert "requests_total{" not in metrics  # nobody counts them
    command = [*GATEWAY, "status", "--control", str(supervised.control), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as watching:
        assert watching.stdout
        assert watching.stdout.readline().endswith(" answering: 2 of 2 processes run, 0 waiting\n")
        watching.terminate()


def test_watching_on_a_terminal(supervise: Any, place: Path) -> None:
    supervised = supervise([script(place, "exit 1")])
    supervised.wait_for(lambda: supervised.control.exists() and not supervised.pool()["up"])
    terminal, inside = pty.openpty()
    termios.tcsetwinsize(inside, (24, 100))
    command = [*GATEWAY, "status", "--control", str(supervised.control), "--watch"]
    with subprocess.Popen(command, stdin=inside, stdout=inside, env=ENVIRONMENT | {"TERM": "xterm"}) as watching:
        os.close(inside)
        seen = read_until(terminal, b"failing").decode()
        os.write(terminal, b"q")
        read_until(terminal, b"\x1b[?1049l")  # the screen that was there before is back
        assert watching.wait(15) == 0
    os.close(terminal)
    assert re.search(r"program +\d +1 +0 +failing", seen)  # ALL, MAX and QUEUE: the rest nobody knows


def test_what_a_program_writes_is_logged_with_its_process(supervise: Any) -> None:
    says = "import sys, time; print('to one'); print('to two', file=sys.stderr); sys.stdout.flush(); time.sleep(60)"
    supervised = supervise([sys.executable, "-c", says]).wait_whole()
    (pid,) = supervised.pids()
    wait_until(lambda: all(f" [{pid}] to {where}\n" in supervised.said for where in ("one", "two")))


def test_the_environment_of_a_program(supervise: Any) -> None:
    says = "import os, time; print('|'.join(sorted(os.environ)), os.getcwd(), flush=True); time.sleep(60)"
    supervised = supervise(
        [sys.executable, "-c", says], "-C", "5", "-d", "/", OWN="1", NOTIFY_SOCKET="/n", LISTEN_PID="1"
    ).wait_whole()
    names, _, cwd = wait_until(lambda: re.search(r"\] (\S*PYTHONPATH\S*)( )(\S+)$", supervised.said, re.M)).groups()
    assert {"OWN", "PHP_FCGI_CHILDREN", "SECRET"} <= set(names.split("|"))
    assert {"NOTIFY_SOCKET", "LISTEN_PID"} & set(names.split("|")) == set()
    assert cwd == "/"


def test_another_user(supervise: Any, place: Path) -> None:
    says = "import os, time; print(os.getresuid(), os.getresgid(), os.getgroups(), flush=True); time.sleep(60)"
    supervised = supervise([EVERYBODYS, "-c", says], "-u", "www-data")
    if os.geteuid() != 0:
        assert supervised.wait() == 100
        assert "-u and -g need root" in supervised.said
        return
    supervised.wait_whole()
    wait_until(lambda: "] (33, 33, 33) (33, 33, 33) [33]\n" in supervised.said)
    status = supervised.socket.stat()
    assert (status.st_uid, status.st_gid) == (33, 33)


def test_the_service_manager_is_told(supervise: Any, place: Path, c_program: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(20)
        supervised = supervise([c_program], NOTIFY_SOCKET=str(place / "notify"))

        def wait_for(state: str) -> None:
            while state not in manager.recv(4096).decode().splitlines():
                pass

        wait_for("READY=1")
        assert supervised.is_whole()
        supervised.signal(signal.SIGHUP)
        wait_for("RELOADING=1")
        wait_for("READY=1")
        supervised.signal(signal.SIGQUIT)
        wait_for("STOPPING=1")


def test_tcp(place: Path, c_program: str) -> None:
    port = free_port()
    environment = ENVIRONMENT | {"XDG_RUNTIME_DIR": str(place)}
    control_socket = Path(place if os.geteuid() else "/run/gateway") / f"gateway-{port}-control.sock"
    program = Program([*SPAWN, "--supervise", "-p", str(port), "--", c_program], place / "log", env=environment)
    try:
        program.wait_for(control_socket.exists)
        with client.request(parse_address(f"127.0.0.1:{port}"), parameters(0), timeout=30) as answer:
            assert int(b"".join(answer.body)) in children(program.pid)
    finally:
        program.stop()
    assert not control_socket.exists()


def test_a_program_that_cannot_be_executed(supervise: Any, place: Path) -> None:
    supervised = supervise(["/no/such/program"])
    assert supervised.wait() == 100
    assert "cannot start /no/such/program: /no/such/program: No such file or directory" in supervised.said
    assert [path.name for path in place.iterdir()] == ["log"]


def test_no_session_is_left(supervise: Any, c_program: str) -> None:
    supervised = supervise([c_program], "-F", "2").wait_whole()
    assert len(session(supervised.pid)) == 3
    assert supervised.gateway("stop", "--fast").returncode == 0
    assert supervised.wait() == 0
    assert session(supervised.pid) == []
