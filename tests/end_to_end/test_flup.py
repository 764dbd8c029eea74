"""flup's API on this engine, beside flup6 as it is shipped: request by request, and where that hangs or never ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.flup.comparing import FLUP6, NATIVE, compare, page
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    ROOT,
    USER,
    Program,
    Settings,
    alive,
    by_scgi,
    children,
    descendants,
    front,
    front_configuration,
    listens,
    listens_at,
)
from tests.net.driving import Front, listening, whole
from tests.waiting import free_port, wait_until

PAGE = ROOT / "docs" / "reference" / "flup-differences.md"
SCRIPT = """
import os, sys
from {package}.server.{module} import WSGIServer

def application(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise LookupError("on purpose")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

{more}
sys.exit(3 if WSGIServer(application, {options}).run() else 0)
"""
MODULES = ("fcgi", "fcgi_fork", "fcgi_single", "scgi", "scgi_fork")


def script(place: Path, module: str, options: str = "", *, package: str = "flup", more: str = "") -> Path:
    path = place / "start.fcgi"
    path.write_text(SCRIPT.format(package=package, module=module, options=options, more=more))
    return path


def on_socket(place: Path) -> str:
    return f"bindAddress={str(place / 'pool.sock')!r}"


def start(place: Path, command: Sequence[str | Path], **environment: str) -> Program:
    """A script that has begun to listen at `place`/pool.sock."""
    program = Program(command, place / "log", env=ENVIRONMENT | environment, cwd=place)
    try:
        program.wait_for(lambda: listens_at(place / "pool.sock"))
    except BaseException:
        program.stop()
        raise
    return program


# -- beside flup6 -----------------------------------------------------------------------------------------------------


def test_every_difference_is_explained_and_on_the_page() -> None:
    compared = compare()
    assert len(compared) >= 40
    unexplained = [(it.case.what, it.flup6, it.native) for it in compared if not it.alike and not it.case.why]
    superfluous = [it.case.what for it in compared if it.alike and it.case.why]
    assert (unexplained, superfluous) == ([], [])
    renewal = f"run: python -m tests.end_to_end.flup.comparing > {PAGE.relative_to(ROOT)}"
    assert PAGE.read_text() == page(compared), renewal


@pytest.mark.parametrize(("command", "answers"), [(FLUP6, False), (NATIVE, True)], ids=["flup6", "gateway"])
def test_first_exception(place: Path, command: Sequence[str], answers: bool) -> None:
    """flup6's threaded server never answers, nor closes the connection, nor says a word."""
    with (
        start(place, [*command, script(place, "fcgi", on_socket(place))]) as program,
        Front(place / "pool.sock") as front,
    ):
        front.socket.settimeout(15 if answers else 1.5)
        if answers:
            assert front.ask(PATH_INFO="/raise").status == b"Status: 500 Internal Server Error"
            program.wait_for(lambda: "LookupError: on purpose" in program.said)
        else:
            with pytest.raises(TimeoutError):
                front.ask(PATH_INFO="/raise")
            assert program.said == ""


@pytest.mark.parametrize(("command", "ends"), [(FLUP6, False), (NATIVE, True)], ids=["flup6", "gateway"])
def test_sigterm_to_an_idle_preforked_server(place: Path, command: Sequence[str], ends: bool) -> None:
    with start(place, [*command, script(place, "fcgi_fork", on_socket(place))]) as program:
        wait_until(lambda: children(program.pid), what="a worker")
        program.signal(signal.SIGTERM)
        if ends:
            assert program.wait(10) == 0
        else:
            with pytest.raises(subprocess.TimeoutExpired):
                program.wait(1.5)
            program.signal(signal.SIGKILL)


# -- the parameters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["flup", "gateway.compat.flup"])
@pytest.mark.parametrize("module", MODULES)
def test_each_module(front_name: str, place: Path, module: str, package: str) -> None:
    """By `gateway run`, and by python alone where the script imports the names from gateway."""
    command = [*GATEWAY, "run"] if package == "flup" else [sys.executable]
    port = free_port()
    configuration = front_configuration(front_name, Settings(place), port)
    if module.startswith("scgi"):
        configuration = by_scgi(configuration)
    with (
        start(place, [*command, script(place, module, on_socket(place), package=package)]) as program,
        front(front_name, place, configuration, port),
    ):
        assert int(fetch(port, "/").text) in {program.pid, *descendants(program.pid)}
        assert fetch(port, "/raise").status == 500
        assert fetch(port, "/").status == 200
        program.signal(signal.SIGHUP)
        assert program.wait(10) == 3


@pytest.mark.parametrize("module", ["fcgi", "fcgi_single"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 3)])
def test_a_signal_that_interrupts_no_wait(place: Path, module: str, number: signal.Signals, code: int) -> None:
    """It comes to a thread of the script's own: as right before the wait begins, no call returns early."""
    elsewhere = (
        "import signal, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})\n"
    )
    with (
        start(place, [*NATIVE, script(place, module, on_socket(place), more=elsewhere)]) as program,
        Front(place / "pool.sock") as front,
    ):
        assert int(front.ask().body) == program.pid
        program.signal(number)
        assert program.wait(10) == code


def test_fork_is_a_pool_that_grows_to_maxchildren(place: Path) -> None:
    options = f"{on_socket(place)}, minSpare=1, maxSpare=2, maxChildren=3, umask=0o117"
    slow = "import time\nanswer = application\ndef application(*args):\n    time.sleep(0.3)\n    return answer(*args)\n"
    with start(place, [*NATIVE, script(place, "fcgi_fork", options, more=slow)]) as program:
        assert (place / "pool.sock").stat().st_mode & 0o777 == 0o660
        seen: set[bytes] = set()

        def three_have_answered() -> bool:
            fronts = [Front(place / "pool.sock") for _ in range(6)]
            try:
                for one in fronts:
                    one.send(whole())
                seen.update(one.answer().body for one in fronts)
            finally:
                for one in fronts:
                    one.socket.close()
            return len(seen) == 3

        wait_until(three_have_answered, what="three workers")
        assert str(program.pid).encode() not in seen


def test_a_worker_that_is_killed_is_replaced(place: Path) -> None:
    with start(place, [*NATIVE, script(place, "fcgi_fork", on_socket(place) + ", maxSpare=1")]):
        first = int(ask(place))
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: ask(place) not in (b"", str(first).encode()), what="another worker")


def ask(place: Path) -> bytes:
    try:
        with Front(place / "pool.sock") as front:
            return front.ask().body
    except ConnectionError:
        return b""


@pytest.mark.parametrize("module", ["fcgi", "fcgi_fork"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGHUP, 3)])
def test_a_running_request_is_finished(place: Path, module: str, number: signal.Signals, code: int) -> None:
    held = "import time\nanswer = application\ndef application(*args):\n    print('runs', flush=True)\n"
    held += (
        f"    while not os.path.exists({str(place / 'gate')!r}):\n        time.sleep(0.01)\n    return answer(*args)\n"
    )
    with (
        start(place, [*NATIVE, script(place, module, on_socket(place), more=held)]) as program,
        Front(place / "pool.sock") as front,
    ):
        front.send(whole())
        wait_until(lambda: "runs" in program.said, what="the request")
        program.signal(number)
        wait_until(lambda: "ShdPnd:\t0000000000000000" in Path(f"/proc/{program.pid}/status").read_text())
        (place / "gate").touch()
        assert int(front.answer().body)
        assert program.wait(10) == code


def test_a_request_that_takes_longer_than_timeout(place: Path) -> None:
    slow = "import time\ndef application(environ, start_response):\n    time.sleep(30)\n"
    with (
        start(place, [*NATIVE, script(place, "fcgi_fork", on_socket(place) + ", timeout=0.3", more=slow)]) as program,
        Front(place / "pool.sock") as front,
    ):
        assert front.ask().status == b"Status: 504 Gateway Timeout"
        wait_until(lambda: "RequestTimeout" in program.said, what="the traceback")


def test_maxrequests(place: Path) -> None:
    with start(place, [*NATIVE, script(place, "fcgi_fork", on_socket(place) + ", maxSpare=1, maxRequests=2")]):
        wait_until(lambda: len({ask(place) for _ in range(10)}) > 1, what="another worker")


def test_fork_with_maxchildren_is_a_pool_on_fd_0_too(place: Path) -> None:
    """As `gateway serve --max-children` is; without, a process that was handed its socket is one worker."""
    for options, pool in [("maxChildren=2, maxSpare=2", True), ("", False)]:
        path = place / f"{pool}.sock"
        with listening(path) as listener:
            program = Program(
                [*NATIVE, script(place, "fcgi_fork", options)], place / "log", env=ENVIRONMENT, stdin=listener
            )
        with program, Front(path) as front:
            assert (int(front.ask().body) != program.pid) is pool
            program.signal(signal.SIGHUP)
            assert program.wait(10) == 3


def test_the_socket_is_at_fd_0_again_after_a_hangup(place: Path) -> None:
    """`if server.run(): os.execv(…)` is how scripts load new code."""
    again = (
        "print('begun', file=sys.stderr, flush=True)\nclass Again(WSGIServer):\n    def run(self):\n"
        "        return super().run() and os.execv(sys.executable, sys.orig_argv)\nWSGIServer = Again\n"
    )
    path = place / "s"
    with listening(path) as listener:
        program = Program([*NATIVE, script(place, "fcgi", more=again)], place / "log", env=ENVIRONMENT, stdin=listener)
    with program, Front(path) as front:
        assert int(front.ask().body) == program.pid
        for times in (2, 3, 4):
            program.signal(signal.SIGHUP)
            program.wait_for(lambda times=times: program.said.count("begun") == times)
            with Front(path) as after:
                assert int(after.ask().body) == program.pid
        program.signal(signal.SIGTERM)
        assert program.wait(10) == 0


@pytest.mark.parametrize("allowed", ["127.0.0.1", "192.0.2.1, 192.0.2.2"])
@pytest.mark.parametrize("module", ["fcgi", "scgi"])
def test_who_may_connect_over_tcp(place: Path, module: str, allowed: str) -> None:
    port = free_port()
    options = f"bindAddress=('localhost', {port})"
    options += f", allowedServers={allowed.split(', ')}" if module == "scgi" else ""
    command = [*NATIVE, script(place, module, options)]
    environment = ENVIRONMENT | {"FCGI_WEB_SERVER_ADDRS": allowed}
    with Program(command, place / "log", env=environment) as program:
        program.wait_for(lambda: listens(port))
        asking = [
            *GATEWAY,
            "request",
            f"127.0.0.1:{port}",
            "/",
            "--protocol",
            "scgi" if module == "scgi" else "fastcgi",
        ]
        done = subprocess.run(asking, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
        assert (done.returncode == 0) is (allowed == "127.0.0.1"), done.stderr


def test_flags_come_before_what_the_script_says(place: Path) -> None:
    (place / "folder").mkdir()
    shown = "import threading\nanswer = application\ndef application(environ, start_response):\n"
    shown += '    body = f\'{environ["wsgi.multithread"]} {os.getcwd()} {os.environ["SHOP"]}\'\n'
    shown += "    print('printed')\n    answer(environ, start_response)\n    return [body.encode()]\n"
    script(place, "fcgi", on_socket(place), more=shown)
    user = ["--user", USER] if USER else []
    flags = ["--threads", "1", "--chdir", place / "folder", "--env", "SHOP=it", "--error-log", place / "errors", *user]
    with start(place, [*GATEWAY, "run", *flags, "start.fcgi"]):
        assert ask(place) == f"False {place / 'folder'} it".encode()
        assert "printed" in (place / "errors").read_text()


def test_addresses_are_about_tcp_alone(place: Path) -> None:
    """flup refuses everybody on a Unix socket then."""
    command = [*NATIVE, script(place, "fcgi", on_socket(place))]
    with start(place, command, FCGI_WEB_SERVER_ADDRS="192.0.2.1"):
        assert ask(place)


def test_nothing_outlives_the_script(place: Path) -> None:
    with start(place, [*NATIVE, script(place, "fcgi_fork", on_socket(place) + ", maxSpare=3")]) as program:
        wait_until(lambda: len(children(program.pid)) > 2, what="a zygote and workers")
        started = children(program.pid)
        program.signal(signal.SIGKILL)
        wait_until(lambda: not any(map(alive, started)), what="their end")


@pytest.mark.parametrize("module", ["fcgi", "fcgi_fork"])
def test_a_socket_from_systemd(place: Path, module: str) -> None:
    launch = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1'); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    with listening(place / "given.sock") as listener:
        command = [sys.executable, "-c", launch, str(listener.fileno()), *GATEWAY, "run", script(place, module)]
        with (
            Program(command, place / "log", env=ENVIRONMENT, pass_fds=[listener.fileno()]) as program,
            Front(place / "given.sock") as front,
        ):
            assert (int(front.ask().body) == program.pid) is (module == "fcgi")
            program.signal(signal.SIGTERM)
            assert program.wait(10) == 0


# -- mistakes ---------------------------------------------------------------------------------------------------------


def failing(place: Path, module: str, options: str, more: str = "") -> tuple[int, str]:
    done = subprocess.run(
        [*NATIVE, script(place, module, options, more=more)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        ("fcgi", "bindAddress=('0.0.0.0', 9000)", "bindAddress=('0.0.0.0', 9000) can be reached from other machines"),
        ("fcgi", "bindAddress=('no.such.invalid', 9000)", "the host is not known"),
        ("scgi", "bindAddress=('127.0.0.1', 0)", "a port is a number from 1 to 65535"),
        ("fcgi", "bindAddress=9000", "bindAddress=9000"),
        ("fcgi", "bindAddress='/no/such/folder/s'", "cannot listen in /no/such/folder: No such file or directory"),
        ("fcgi", "maxChildren=3", "got an unexpected keyword argument 'maxChildren'"),
        ("scgi_fork", "roles=(1,)", "got an unexpected keyword argument 'roles'"),
        ("fcgi_fork", "minSpare=3, maxSpare=2", "minSpare=3, maxSpare=2"),
        ("fcgi", "roles=(3,)", "gateway answers responders (1) and authorizers (2)"),
    ],
)
def test_what_cannot_be_is_said(place: Path, module: str, options: str, message: str) -> None:
    code, told = failing(place, module, options)
    assert code in (100, 111)
    assert message in told


def test_what_a_subclass_overrides_in_vain_is_said(place: Path) -> None:
    more = "class Own(WSGIServer):\n    def handler(self, req):\n        pass\nWSGIServer = Own\n"
    code, told = failing(place, "fcgi", on_socket(place), more)
    assert (code, "Own.handler() would not be called by gateway: put it into WSGI" in told) == (100, True)


def test_ajp_is_refused_in_words(place: Path) -> None:
    code, told = failing(place, "ajp", "")
    assert (code, "gateway does not speak AJP; let Apache speak FastCGI, with mod_proxy_fcgi" in told) == (100, True)


def test_a_socket_that_is_served_is_not_taken_away(place: Path) -> None:
    with start(place, [*NATIVE, script(place, "fcgi", on_socket(place))]):
        for module in ("fcgi", "fcgi_fork"):
            code, told = failing(place, module, on_socket(place))
            assert (code, "another process serves it" in told) == (75, True)
        assert ask(place)


# -- without flup -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(place: Path) -> Path:
    """An interpreter that has the standard library and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "bare"], check=True, timeout=60)
    return place / "bare" / "bin" / "python"


@pytest.mark.parametrize("module", MODULES)
def test_a_pool_whose_interpreter_has_no_flup(place: Path, bare: Path, module: str) -> None:
    """The names are made; what the script says of its address is the pool's to say."""
    more = "from flup.server.fcgi_base import FCGI_RESPONDER\nassert FCGI_RESPONDER == 1\n"
    path = script(place, module, "bindAddress='/no/such/folder/s'", more=more)
    user = ["--user", "root"] if os.geteuid() == 0 else []
    command = [*GATEWAY, "run", "--max-children", "1", "--listen", place / "pool.sock", "--python", bare, *user, path]
    with start(place, command):
        wait_until(lambda: ask(place), what="an answer")


def test_an_interpreter_with_nothing_but_gateway(place: Path, bare: Path) -> None:
    path = script(place, "fcgi", on_socket(place), package="gateway.compat.flup")
    with start(place, [bare, path]) as program:
        assert int(ask(place)) == program.pid
