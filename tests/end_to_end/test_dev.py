"""`gateway dev`: Werkzeug's server over the bindings of the settings, for the author of what it serves."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from gateway.__main__ import main
from tests.end_to_end.browsing import Answer, fetch
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, Program, alive, descendants, short_place
from tests.waiting import free_port, wait_until

APPLICATION = """
import os
VERSION = 1
def application(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise LookupError("what the author sees")
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = ("gateway.application", "wsgi.url_scheme", "SERVER_PORT", "SCRIPT_NAME", "PATH_INFO")
    shown = [str(environ[name]) for name in names]
    return ["|".join([*shown, environ["wsgi.input"].read().decode(), str(VERSION), str(os.getuid())]).encode()]
"""
SITES = """
[pools.main]
env = {{ PYTHONPATH = "lib" }}
[[applications]]
name = "shop"
app = "shop:application"
bindings = [
    {{ hostname = "shop.localhost", port = {first} }},
    {{ hostname = "*.test", port = {second}, path = "/a" }},
]
[[applications]]
name = "blog"
app = "blog:application"
bindings = [ {{ hostname = "*", port = {second} }} ]
"""


def write(place: Path) -> None:
    (place / "shop.py").write_text(APPLICATION)
    (place / "lib").mkdir()
    (place / "lib" / "blog.py").write_text("from shop import application\n")


def dev(place: Path, *words: str | Path, **more: str) -> Program:
    return Program([*GATEWAY, "dev", *words], place / "log", cwd=place, env=ENVIRONMENT | more)


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as place:
        write(place)
        yield place


def refused(place: Path, *words: str | Path) -> tuple[int, list[str]]:
    """The exit code of a command that ends by itself, and its lines on standard error."""
    done = subprocess.run(
        [*GATEWAY, *map(str, words)], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stderr.splitlines()


class Sites:
    """The settings above, served on two ports."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.first, self.second = sorted((free_port(), free_port()))
        self.settings = place / "sites.toml"
        self.settings.write_text(SITES.format(first=self.first, second=self.second))
        write(place)
        self.program = dev(place, "sites.toml", "--reloader-type", "stat", "--reloader-interval", "0.1")

    def ask(self, path: str, host: str = "shop.localhost", **more: str) -> Answer:
        return fetch(self.first, path, Host=f"{host}:{self.first}", **more)

    def ask_until(self, expected: Callable[[Answer], bool]) -> Answer:
        """Ask for /x until the answer is as expected; the reloader cuts those that it comes upon."""

        def ask() -> Answer | None:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                answer = self.ask("/x")
                return answer if expected(answer) else None
            return None

        answer = self.program.wait_for(ask)
        assert isinstance(answer, Answer)
        return answer


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    with short_place() as place:
        running = Sites(place)
        with running.program as program:
            program.wait_for(lambda: "  blog" in program.said)
            assert running.ask("/x").status == 200
            yield running


def test_hosts_ports_and_paths_are_dispatched_as_by_a_pool(sites: Sites) -> None:
    second = sites.second
    assert sites.ask("/x").text.startswith(f"shop|http|{sites.first}||/x||")
    assert fetch(second, "/a/y", "POST", body=b"form", Host=f"b.test:{second}").text.startswith(
        f"shop|http|{second}|/a|/y|form|"
    )
    assert fetch(second, "/a/y", "POST", body=iter([b"in ", b"chunks"])).text.startswith(
        f"blog|http|{second}||/a/y|in chunks|"
    )
    nothing = fetch(sites.first, "/")
    assert (nothing.status, nothing.text.splitlines()) == (
        503,
        [
            f"nothing is bound to 127.0.0.1:{sites.first}",
            f"shop.localhost:{sites.first} is bound to shop",
            f"*.test:{sites.second}/a is bound to shop",
            f"*:{sites.second} is bound to blog",
        ],
    )
    assert sites.ask("/sta/logo.svg").headers["content-type"].startswith("image/svg+xml")


def test_it_says_where_and_that_it_is_for_development(sites: Sites) -> None:
    lines = sites.program.said.splitlines()
    assert lines[0] == (
        "gateway: this server is for development: pages show source; for visitors there is `gateway serve`"
    )
    assert [line.split() for line in lines[1:4]] == [
        [f"http://shop.localhost:{sites.first}/", "shop"],
        [f"http://*.test:{sites.second}/a", "shop"],
        [f"http://127.0.0.1:{sites.second}/", "blog"],
    ]


def test_the_debugger_runs_code_for_whoever_knows_its_pin(sites: Sites) -> None:
    page = sites.ask("/raise")
    assert (page.status, "what the author sees" in page.text) == (500, True)
    secret, frame = re.findall(r'SECRET = "(\w+)"|id="frame-(\d+)"', page.text)
    known = {"__debugger__": "yes", "s": secret[0]}
    pin = re.findall(r"PIN: (\S+)", sites.program.said)[-1]
    code = urlencode(known | {"cmd": "environ['PATH_INFO'] * 2", "frm": frame[1]})
    wrong = sites.ask("/?" + urlencode(known | {"cmd": "pinauth", "pin": "000-000-000"}))
    assert json.loads(wrong.body)["auth"] is False
    assert "/raise/raise" not in sites.ask("/?" + code).text
    right = sites.ask("/?" + urlencode(known | {"cmd": "pinauth", "pin": pin}))
    cookie = right.headers["set-cookie"].partition(";")[0]
    assert "/raise/raise" in sites.ask("/?" + code, Cookie=cookie).text
    assert sites.ask("/raise", host="elsewhere.example").status == 503  # bound to nothing: no page of a debugger


def test_a_change_of_code_or_settings_is_served_and_a_mistake_is_shown(sites: Sites) -> None:
    code, settings = sites.place / "shop.py", sites.settings.read_text()
    code.write_text(APPLICATION + "\nsyntax error(\n")
    broken = sites.ask_until(lambda answer: answer.status == 500)
    assert "SyntaxError" in broken.text
    assert "importlib" not in broken.text
    code.write_text(APPLICATION.replace("VERSION = 1", "VERSION = 2"))
    sites.ask_until(lambda answer: "|2|" in answer.text)
    sites.settings.write_text(settings + "[")
    sites.ask_until(lambda answer: "sites.toml:15: is no TOML" in answer.text)
    sites.settings.write_text(settings.replace('name = "shop"', 'name = "store"'))
    sites.ask_until(lambda answer: answer.text.startswith("store|"))
    sites.settings.write_text(settings)
    sites.ask_until(lambda answer: answer.text.startswith("shop|"))


@pytest.mark.parametrize("end", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_all_of_it_ends(place: Path, end: str) -> None:
    path = place / "dev.sock"
    with dev(place, "shop:application", "--host", f"unix://{path}") as program:
        program.wait_for(lambda: "PIN" in program.said)
        serving = descendants(program.pid)
        assert len(serving) == 1
        if end == "Ctrl-C":
            os.killpg(program.pid, signal.SIGINT)
        else:
            program.signal(signal.Signals[end])
        assert program.wait() == (-9 if end == "SIGKILL" else 0)
        wait_until(lambda: not alive(serving[0]))
        assert path.exists() == (end == "SIGKILL")
        assert "Traceback" not in program.said


def test_a_file_that_is_dated_in_the_future_is_served(place: Path) -> None:
    os.utime(place / "shop.py", (4_000_000_000, 4_000_000_000))
    with dev(place, "shop:application", "--port", "0") as program:
        program.wait_for(lambda: "PIN" in program.said)


def test_a_unix_socket(place: Path) -> None:
    path = place / "dev.sock"
    with dev(place, "shop:application", "--host", f"unix://{path}", "--no-reloader", "--no-debugger") as program:
        program.wait_for(lambda: f"unix://{path}  (development server)" in program.said)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /x HTTP/1.0\r\nHost: here:8080\r\n\r\n")
            answer = client.makefile("rb").read()
        assert b"\r\nshop:application|http|80||/x||" in answer
        code, lines = refused(place, "dev", "shop:application", "--host", f"unix://{path}")
        assert (code, lines) == (
            75,
            [f"gateway: cannot listen on {path}: another process serves it; stop that one or choose another path"],
        )
        program.signal(signal.SIGINT)
        assert program.wait() == 0
        assert not path.exists()


def test_port_0_and_ipv6_with_a_certificate_for_this_run(place: Path) -> None:
    words = ("--host", "::1", "--port", "0", "--no-reloader", "--adhoc", "--processes", "2")
    with dev(place, "shop:application", *words) as program:
        (port,) = program.wait_for(lambda: re.findall(r"^https://\[::1\]:(\d+)/  \(dev", program.said, re.MULTILINE))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("::1", int(port), timeout=15, context=context)
        connection.request("GET", "/x")
        assert connection.getresponse().read().startswith(f"shop:application|https|{port}||/x|".encode())
        connection.close()


def test_a_certificate_of_ones_own(place: Path) -> None:
    made = subprocess.run([*GATEWAY, "devcert"], cwd=place, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert made.stdout.splitlines() == [
        "development.crt and development.key are for localhost and *.localhost:",
        "gateway dev --certificate development.crt --certificate-key development.key TARGET",
    ]
    assert (place / "development.key").stat().st_mode & 0o777 == 0o600
    assert refused(place, "devcert") == (
        100, ["gateway: development.crt is there already; remove it or name another BASE"]
    )  # fmt: skip
    words = made.stdout.splitlines()[1].split()[2:-1]
    (place / "handler.py").write_text(
        "from werkzeug.serving import WSGIRequestHandler\n"
        "class Handler(WSGIRequestHandler):\n"
        "    def log_request(self, *_): print('asked for', self.path, flush=True)\n"
    )
    (place / "uploads").mkdir()
    (place / "uploads" / "note.txt").write_text("uploaded")
    more = ("--no-reloader", "--request-handler", "handler:Handler", "--static-files", "/media=uploads", "--static", "")
    with dev(place, "shop:application", "--port", "0", *words, *more) as program:
        (port,) = program.wait_for(lambda: re.findall(r"^https://127\.0\.0\.1:(\d+)/", program.said, re.MULTILINE))
        context = ssl.create_default_context(cafile=place / "development.crt")
        connection = http.client.HTTPSConnection("localhost", int(port), timeout=15, context=context)
        connection.request("GET", "/media/note.txt")
        assert connection.getresponse().read() == b"uploaded"
        connection.request("GET", "/sta/logo.svg")
        assert b"|/sta/logo.svg|" in connection.getresponse().read()
        connection.close()
        program.wait_for(lambda: "asked for /sta/logo.svg" in program.said)


def test_watchdog_and_one_application_on_a_port_of_its_own(place: Path) -> None:
    settings, code = place / "sites.toml", place / "src" / "shop.py"
    settings.write_text(SITES.format(first=80, second=81))
    code.parent.mkdir()
    (place / "shop.py").rename(code)
    words = ["--application", "shop", "--app-dir", "src", "--port", "0", "--extra-files", "note.txt"]
    words += ["--reloader-type", "watchdog", "--reloader-interval", "0.1"]
    with dev(place, "sites.toml", *words) as program:
        program.wait_for(lambda: "PIN" in program.said)
        port = int(re.findall(r"^http://shop\.localhost:(\d+)/ ", program.said, re.MULTILINE)[0])
        assert fetch(port, "/x", Host="shop.localhost").text.startswith("shop|")
        assert fetch(port, "/x", Host="blog.example").status == 503
        changes = [
            (code, APPLICATION.replace("VERSION = 1", "VERSION = 2")),
            (place / "note.txt", "of the folder that this was started in"),
            (settings, settings.read_text().replace("shop.localhost", "store.localhost")),
        ]
        for path, text in changes:
            detected = f"Detected change in '{path}', reloading"

            def save(path: Path = path, text: str = text, detected: str = detected) -> bool:
                path.write_text(text)  # again until it is seen: watchdog takes its time to look at all folders
                return detected in program.said

            program.wait_for(save)

        def changed() -> bool:
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                return "|2|" in fetch(port, "/x", Host="store.localhost").text
            return False

        program.wait_for(changed)


def test_a_socket_from_systemd_and_a_name_of_the_standard_library(place: Path) -> None:
    (place / "shop.py").rename(place / "code.py")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        launch = f"import os; os.dup2({listener.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid())\n"
        launch += "import sys; os.execv(sys.executable, [sys.executable, '-m', 'gateway', *sys.argv[1:]])"
        command = [sys.executable, "-c", launch, "dev", "code:application"]
        environment = ENVIRONMENT | {"LISTEN_FDS": "1"}
        with Program(command, place / "log", cwd=place, env=environment, pass_fds=[listener.fileno()]) as program:
            program.wait_for(lambda: f"http://127.0.0.1:{port}/  (development server" in program.said)
            assert fetch(port, "/x").text.startswith(f"code:application|http|{port}||/x|")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "provide a WSGI application as module:callable or a settings file"),
        (("sites.toml", "--application", "shopp"), "--application shopp: there is none of this name, only shop, blog"),
        (("shop:application", "--adhoc", "--certificate", "x"), "--adhoc and --certificate exclude each other"),
        (
            ("shop:application", "--static-files", "media"),
            "--static-files media: write /PREFIX=FOLDER, as in /m",
        ),
        (("shop:application", "--host", "no.such.invalid"), "('no.such.invalid', 8080): the host is not known"),
        (("shop:application", "--app-dir", "none"), "app_dir: there is no folder {place}/none; create it or name anot"),
        (
            ("shop:application", "--user", "no-such-user"),
            "user 'no-such-user' does not exist; create it or name another",
        ),
        (("moved.toml",), "chdir: there is no folder {place}/none; create it or name another"),
        (("shop:application", "--static", "none"), "/sta: there is no folder {place}/none; create it or name another"),
        (
            ("shop:application", "--static-files", "/media=none"),
            "/media: there is no folder {place}/none; create it or",
        ),
        (("shop:application", "--certificate-key", "x"), "--certificate-key goes with a --certificate: name that, too"),
        (("shop:application", "--pin", "secret"), "--pin secret: write digits, as in 123-456-789, or off"),
        (("shop:application", "--reloader-interval", "0"), "Invalid value for '--reloader-interval': 0.0 is not in"),
        (("shop:application", "--processes", "0"), "Invalid value for '--processes': 0 is not in the range x>=1."),
    ],
)
def test_mistakes(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    settings = SITES.format(first=80, second=81)
    (place / "sites.toml").write_text(settings)
    (place / "moved.toml").write_text(settings.replace("[pools.main]", '[pools.main]\nchdir = "none"'))
    monkeypatch.chdir(place)
    assert main(["dev", *words]) == 100
    told = capsys.readouterr().err
    assert told.startswith(f"gateway: {message.format(place=place)}")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--certificate", "none.crt"), "{place}/none.crt and {place}/none.crt cannot be used for TLS: No such file"),
        (("--request-handler", "shop:Handler"), "--request-handler: module 'shop' has no 'Handler': it has"),
        (
            ("--request-handler", "shop:application"),
            "--request-handler: shop:application is no class made of werkzeug.serving.WSGIRequestHandler",
        ),
    ],
)
def test_what_the_server_itself_cannot_use(place: Path, words: tuple[str, ...], message: str) -> None:
    code, lines = refused(place, "dev", "shop:application", "--port", "0", "--no-reloader", *words)
    assert (code, len(lines)) == (100, 2)
    assert lines[1].startswith(f"gateway: {message.format(place=place)}")


@pytest.mark.parametrize("port", ["http", "65536"])
def test_a_port_in_the_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PORT", port)
    assert main(["dev", "shop:application"]) == 100
    told = f"gateway: PORT is '{port}' in the environment: set it to a number up to 65535, or unset it for 8080\n"
    assert capsys.readouterr().err == told


def test_a_port_that_is_taken_is_one_clear_line(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused(place, "dev", "shop:application", "--port", str(port)) == (
            75,
            [f"gateway: cannot listen on 127.0.0.1:{port}: another process uses this port; stop it or choose another"],
        )


def test_what_is_raised_may_end_the_server(place: Path) -> None:
    words = ("--passthrough-errors", "--no-debugger", "--no-threaded", "--no-reloader")
    with dev(place, "shop:application", "--port", "0", *words) as program:
        (port,) = program.wait_for(lambda: re.findall(r"^http://127\.0\.0\.1:(\d+)/", program.said, re.MULTILINE))
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            fetch(int(port), "/raise")
        assert program.wait() == 100
        assert program.said.endswith("LookupError: what the author sees\n")


def test_another_interpreter_is_not_started(place: Path) -> None:
    settings = SITES.format(first=80, second=81).replace("[pools.main]", '[pools.main]\npython = "/srv/bin/python"')
    (place / "sites.toml").write_text(settings.replace(":application", ":none"))
    code, lines = refused(place, "dev", "sites.toml", "--port", "0", "--no-reloader")
    message = f"this server runs in {sys.executable}, not in /srv/bin/python; start the gateway beside that"
    assert (code, f"gateway: python: {message}" in lines) == (100, True)


def test_a_first_start_that_fails_ends(place: Path) -> None:
    (place / "shop.py").write_text("async def application(scope, receive, send): ...")
    code, lines = refused(place, "dev", "shop:application", "--port", "0")
    message = "it is an ASGI application, and this server runs WSGI alone: `gateway up` shows it"
    assert (code, lines[1]) == (100, f"gateway: application 'shop:application': {message}")
