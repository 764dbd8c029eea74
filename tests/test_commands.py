"""The `gateway` command, run for real: its exit codes, its one line for each mistake, and what it asks of a master."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.record import fields
from gateway.settings import Gateway, Pool
from gateway.statustable import in_use, lines
from tests.end_to_end.running import alive
from tests.waiting import wait_until

APPLICATION = """
import os, sys
def application(environ, start_response):
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/modules":
        body = " ".join(sys.modules).encode()
    if environ["PATH_INFO"] == "/place":
        body = (os.getcwd() + " " + os.environ["A"]).encode()
    if environ["PATH_INFO"] == "/raise":
        raise LookupError("no such thing")
    keys = "REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING HTTP_HOST HTTP_COOKIE SERVER_PORT".split()
    line = " ".join(f"{key}={environ.get(key, '')}" for key in keys)
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Line", line)])
    return [body]
"""
AS_ROOT = ["--user", "root"] if os.geteuid() == 0 else []


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder whose path leaves room for the name of a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        Path(folder, "shop.py").write_text(APPLICATION)
        yield Path(folder)


def gateway(*arguments: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(cwd) | env,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


def environment(place: Path) -> dict[str, str]:
    root = str(Path(__file__).parent.parent)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": root, "XDG_RUNTIME_DIR": str(place)}


@pytest.fixture
def master(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`gateway serve` of the application in `place`, ready to be asked."""
    command = [sys.executable, "-m", "gateway", "serve", "shop:application", "--listen", str(place / "s.sock")]
    command += ["--max-children", "2", "--app-dir", str(place), *AS_ROOT]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, env=environment(place), cwd=place)
    try:
        wait_until(lambda: idle_workers(place) == 2, 20)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def idle_workers(place: Path) -> int:
    done = gateway("status", "--json", "--control", place / "s-control.sock", cwd=place)
    if done.returncode:
        return 0
    return sum(worker["state"] == "idle" for worker in json.loads(done.stdout)["pools"][0]["workers"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["serve"], 100, "provide a WSGI application as module:callable or a settings file"),
        (["check"], 100, "provide a WSGI application as module:callable or a settings file"),
        (["front", "nginx"], 100, "provide a WSGI application as module:callable or a settings file"),
        (["dev"], 100, "provide a WSGI application as module:callable or a settings file"),
        (["serve", "shop"], 100, "'shop' is neither: "),
        (["serve", "shop.py"], 100, "shop.py: name the module, not the file: shop:NAME, or start it by: gatew"),
        (["serve", "./shop.py:application"], 100, "./shop.py:application: name the module, not the file: shop:appl"),
        (["serve", "none.toml"], 100, "none.toml: cannot be read: No such file or directory"),
        (["serve", "shop:application", "--max-childen", "3"], 100, "No such option"),
        (["serve", "shop:application", "--max-children", "many"], 100, '--max-children: "many" is text; '),
        (["serve", "shop:application", "--env", "A"], 100, '--env: "A" has no "="; write NAME=VALUE'),
        (["serve", "shop:application", "--rlimits", "as"], 100, '--rlimits: "as" has no "="; write NAME=VALUE'),
        (["serve", "shop:application", "--rlimits", "as=x"], 100, '--rlimits: "x" is no size; write a number of bytes'),
        (["serve", "shop:application", "--process-priority", "99"], 100, "--process-priority: 99 is too large"),
        (["serve", "shop:application", "--listen", "0.0.0.0:9000"], 100, "pools.main.listen: 0.0.0.0:9000 can be "),
        (["serve", "shop:application", "--listen", "/no/such/s", *AS_ROOT], 111, "cannot listen in /no/such: "),
        (["serve", "shop:application", "--listen", "fd:0", *AS_ROOT], 100, "file descriptor 0 is no listening socket"),
        (["serve", "shop:application", "--user", "no-such-user"], 100, "user 'no-such-user' does not exist"),
        (["front", "hiawatha", "shop:application"], 100, "'hiawatha' is no front-end that is rendered"),
        (["front", "nginx", "shop:application", "--pool", "fd:0"], 100, "pools.main.listen: a front-end has to be"),
        (["reload", "--control", "/no/such/socket"], 111, "/no/such/socket: no gateway answers there"),
        (["upgrade", "--control", "/no/such/socket"], 111, "/no/such/socket: no gateway answers there"),
        (["status", "--json", "--watch"], 100, "--json, --openmetrics and --watch exclude each other"),
        (["stop", "shop.json"], 100, "shop.json: cannot be read"),
        (["request"], 100, "name the pool and what to ask it for"),
        (["request", "here", "/"], 100, "'here' is no address"),
        (["request", "/no/such/socket", "/"], 111, "/no/such/socket: No such file or directory"),
        (["request", "/no/such/socket", "http://a:b/"], 100, "http://a:b/: "),
        (["request", "/no/such/socket", "/", "-H", "Cookie"], 100, "-H 'Cookie': write NAME: VALUE"),
        (["request", "/no/such/socket", "/", "-d", "@none"], 111, "none: No such file or directory"),
        (["run"], 100, "name the script to run, as in: gateway run code.py"),
        (["run", "none.py"], 100, "cannot read the script none.py: No such file or directory"),
        (["publisher"], 100, "name the modules, or the settings file, as in: gateway publisher shop"),
        (["publisher", "none.toml"], 100, "none.toml: cannot be read: No such file or directory"),
        (["serve", "shop:application", "--publisher", "shop"], 100, "shop:application and --publisher both say "),
        (["nosuch"], 100, "There is no command, and no script, 'nosuch' (gateway --help)"),
        (["serv"], 100, "There is no command, and no script, 'serv'; did you mean serve? (gateway --help)"),
    ],
)  # fmt: skip
def test_mistakes(place: Path, arguments: list[str], code: int, message: str) -> None:
    done = gateway(*arguments, cwd=place)
    assert done.stderr.startswith(f"gateway: {message}")
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (code, 1, "")


def test_what_cannot_be_published_is_followed_by_what_was_tried(place: Path) -> None:
    done = gateway("publisher", "no_such", cwd=place)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("gateway: application 'no_such': there is no module 'no_such': check the spelling")
    assert (done.returncode, done.stdout, lines[1].split()) == (100, "", ["tried", "to", "publish", "no_such"])


def test_several_mistakes_are_one_line_each(place: Path) -> None:
    (place / "s.toml").write_text('[pools.main]\nmax_childen = 3\nlisten = "here"\n[[applications]]\nname = "a"\n')
    done = gateway("serve", "s.toml", cwd=place)
    assert done.returncode == 100
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == ["gateway:"] * 2
    assert "max_childen" in done.stderr.splitlines()[0]


def test_no_application_left_is_no_service(place: Path) -> None:
    (place / "s.json").write_text(json.dumps({"provider": {"port": 1}, "applications": [{"name": "a"}, {}]}))
    done = gateway("serve", "s.json", cwd=place)
    assert done.returncode == 100
    assert 'application "a": moduleName is missing' in done.stderr
    assert "applications[1]: name is missing" in done.stderr


def test_root_has_to_say_whom_it_serves_as(place: Path) -> None:
    done = gateway("serve", "shop:application", "--listen", place / "s.sock", "--pid-file", "/no/such/pid", cwd=place)
    if os.geteuid() == 0:
        line = (
            "running as root: name the user that runs the applications, --user www-data; --user root if root is meant"
        )
        assert (done.returncode, done.stderr) == (100, f"gateway: {line}\n")
    else:
        assert done.returncode == 111


def test_help_and_version(place: Path) -> None:
    assert re.fullmatch(r"gateway \d+\.\d+\.\d+\n", gateway("--version", cwd=place).stdout)
    bare = gateway(cwd=place)
    assert (bare.returncode, bare.stdout) == (100, "")
    assert "Commands:" in bare.stderr
    page = gateway("serve", "--help", cwd=place)
    assert page.returncode == 0
    for field in (field.name for field in (*fields(Pool), *fields(Gateway))):
        assert f"--{field.replace('_', '-')}" in page.stdout


@pytest.mark.parametrize(
    "command",
    ["serve", "up", "check", "front", "request", "reload", "upgrade", "stop", "status", "run", "dev", "publisher"],
)
def test_every_command_explains_itself(place: Path, command: str) -> None:
    done = gateway(command, "--help", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: gateway {command}")


def test_check(place: Path) -> None:
    done = gateway("check", "shop:application", "--app-dir", place, *AS_ROOT, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'ok: application "shop:application" in pool main\n'


def test_check_refuses_what_serve_refuses_to_root(place: Path) -> None:
    """Nothing of an application is run as root that is not meant to be."""
    (place / "shop.py").write_text(f"open({str(place / 'imported')!r}, 'w')\n{APPLICATION}")
    done = gateway("check", "shop:application", cwd=place)
    if os.geteuid() == 0:
        assert done.returncode == 100
        assert done.stderr.startswith("gateway: running as root: name the user that runs the applications, --user ")
    assert (place / "imported").exists() is (os.geteuid() != 0)


def test_check_names_each_mistake(place: Path) -> None:
    (place / "broken.py").write_text("import shop\nraise LookupError('no such shop')\n")
    everywhere = [{"hostname": "*", "port": "*"}]
    applications = [
        {"name": "unbound", "app": "shop:application"},
        {"name": "broken", "app": "broken:application", "bindings": everywhere},
    ]
    settings = {"pools": {"main": {"app_dir": str(place)}}, "applications": applications}
    (place / "s.json").write_text(json.dumps(settings))
    done = gateway("check", "s.json", *AS_ROOT, cwd=place)
    assert done.returncode == 100
    assert 's.json: application "unbound": bindings is missing or empty' in done.stderr
    assert "LookupError: no such shop" in done.stderr
    assert f'File "{place}/broken.py", line 2' in done.stderr


PUBLISHERS = """
[[applications]]
name = "pages"
publisher = ["pages/", "story"]
bindings = [{ hostname = "*", port = "*" }]
[[applications]]
name = "broken"
publisher = "broken"
bindings = [{ hostname = "b.example", port = "*" }]
[[applications]]
name = "shop"
app = "shop:application"
bindings = [{ hostname = "s.example", port = "*" }]
[[applications]]
name = "unbound"
publisher = "story"
"""


def test_publisher(place: Path) -> None:
    (place / "pages").mkdir()
    (place / "pages" / "index.py").write_text("def hello(name: str): ...\n")
    (place / "story.py").write_text("import os\nword = 'once'\nasync def later(): ...\n")
    listing = "/word  GET  story.word = 'once'\n\nnot published:\n/later  is a coroutine function; "
    done = gateway("publisher", "story", "--app-dir", place, cwd=place.parent)
    assert (done.returncode, done.stderr, done.stdout.startswith(listing)) == (0, "", True)
    (place / "broken.py").write_text("raise LookupError('no story')\n")
    (place / "s.toml").write_text(PUBLISHERS)
    done = gateway("publisher", "s.toml", cwd=place)
    assert (done.returncode, done.stdout.splitlines()[:3]) == (
        100,
        ["# pages", "/pages/hello  GET, POST  index.hello(name: str)", "/story/word   GET        story.word = 'once'"],
    )
    assert 's.toml: application "unbound": bindings is missing or empty' in done.stderr
    assert "application 'broken': module 'broken' raised LookupError while it was imported: no story" in done.stderr
    assert f'File "{place}/broken.py", line 1' in done.stderr
    (place / "s.toml").write_text(PUBLISHERS[PUBLISHERS.index('[[applications]]\nname = "shop"') :])
    assert "gateway: s.toml: no application has a publisher\n" in gateway("publisher", "s.toml", cwd=place).stderr


def test_front(place: Path) -> None:
    done = gateway(
        "front", "nginx", "shop:application", "--pool", "/srv/shop.sock", "--listen", "127.0.0.1:81", cwd=place
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "unix:/srv/shop.sock" in done.stdout
    assert "127.0.0.1:81" in done.stdout
    part = gateway("front", "nginx", "shop:application", "--pool", "/srv/shop.sock", "--part", cwd=place)
    assert "http {" in done.stdout
    assert "http {" not in part.stdout


def test_request(place: Path, master: subprocess.Popen[bytes]) -> None:
    done = gateway("request", place / "s.sock", "/a%20b?c=1", "-H", "Cookie: d=2", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("200 OK\n")
    assert (
        "REQUEST_METHOD=GET SCRIPT_NAME= PATH_INFO=/a b QUERY_STRING=c=1 HTTP_HOST=localhost HTTP_COOKIE=d=2"
        in done.stdout
    )
    done = gateway("request", place / "s.sock", "https://shop.example:8443/", "-d", "e=3", cwd=place)
    assert "REQUEST_METHOD=POST" in done.stdout
    assert "HTTP_HOST=shop.example:8443 HTTP_COOKIE= SERVER_PORT=8443" in done.stdout
    assert done.stdout.endswith("\n\ne=3")
    done = gateway("request", place / "s.sock", "/", "-X", "PUT", "-d", "@shop.py", cwd=place)
    assert "REQUEST_METHOD=PUT" in done.stdout
    assert done.stdout.endswith(APPLICATION)


def test_the_log_of_the_application_comes_out_on_stderr(place: Path, master: subprocess.Popen[bytes]) -> None:
    done = gateway("request", place / "s.sock", "/raise", cwd=place)
    assert done.stdout.startswith("500 ")
    assert "LookupError: no such thing" in done.stderr.splitlines()


def test_status(place: Path, master: subprocess.Popen[bytes]) -> None:
    control = ["--control", str(place / "s-control.sock")]
    answer = json.loads(gateway("status", "--json", *control, cwd=place).stdout)
    assert answer["pid"] == master.pid
    (pool,) = answer["pools"]
    assert (pool["name"], pool["pm"], pool["max_children"], pool["listen"]) == (
        "main",
        "static",
        2,
        [str(place / "s.sock")],
    )
    table = gateway("status", cwd=place, GATEWAY_CONTROL=control[1]).stdout
    for worker in pool["workers"]:
        assert re.search(rf"^ +{worker['pid']}  idle ", table, re.MULTILINE)
    assert all(len(line) <= 80 for line in table.splitlines())


def test_reload(place: Path, master: subprocess.Popen[bytes]) -> None:
    control = ["--control", str(place / "s-control.sock")]
    (place / "shop.py").write_text(APPLICATION.replace("200 OK", "201 Created"))
    done = gateway("reload", *control, cwd=place)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait_until(lambda: gateway("request", place / "s.sock", "/", cwd=place).stdout.startswith("201 Created"))
    (place / "shop.py").write_text("raise LookupError('no such shop')")
    done = gateway("reload", *control, cwd=place)
    assert done.returncode == 1
    assert done.stderr.startswith("gateway: ")
    assert "LookupError: no such shop" in done.stderr
    assert gateway("request", place / "s.sock", "/", cwd=place).stdout.startswith("201 Created")


@pytest.mark.parametrize("flags", [[], ["--fast"]])
def test_stop_returns_when_it_has_stopped(place: Path, master: subprocess.Popen[bytes], flags: list[str]) -> None:
    done = gateway("stop", "--control", place / "s-control.sock", *flags, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert master.wait(15) == 0
    assert not (place / "s.sock").exists()
    assert not (place / "s-control.sock").exists()


def test_a_second_instance_leaves_the_first_alone(place: Path, master: subprocess.Popen[bytes]) -> None:
    done = gateway("serve", "shop:application", "--listen", place / "s.sock", *AS_ROOT, cwd=place)
    assert done.returncode == 75
    assert f"gateway: cannot listen on {place}/s.sock: " in done.stderr
    assert gateway("request", place / "s.sock", "/", cwd=place).returncode == 0


def test_standard_descriptors_that_are_closed_become_nobody_elses(place: Path) -> None:
    """What is logged would be written to whatever had got their numbers, such as what tells the master of signals."""
    command = [sys.executable, "-m", "gateway", "serve", "shop:application", "--listen", str(place / "s.sock")]
    command += ["--max-children", "1", "--app-dir", str(place), *AS_ROOT]
    with subprocess.Popen(command, env=environment(place), cwd=place, preexec_fn=lambda: os.closerange(0, 3)) as master:
        try:
            wait_until(lambda: master.poll() is not None or idle_workers(place) == 1, 20)
            assert master.returncode is None
            assert {os.readlink(f"/proc/{master.pid}/fd/{fd}") for fd in (0, 1, 2)} == {os.devnull}
        finally:
            master.terminate()
    assert master.returncode == 0


def test_master_and_workers_hold_little(place: Path, master: subprocess.Popen[bytes]) -> None:
    modules = set(gateway("request", place / "s.sock", "/modules", cwd=place).stdout.partition("\n\n")[2].split())
    assert "gateway.app.wsgi" in modules
    assert not modules & {"click", "msgspec", "werkzeug", "jinja2", "rich", "prometheus_client", "gateway.config"}
    assert not modules & {"asyncio", "subprocess", "tempfile", "logging", "difflib"}  # half of a start
    loaded = Path(f"/proc/{master.pid}/maps").read_text()
    assert "/_json." in loaded
    assert not [name for name in ("/msgspec/", "/markupsafe/", "/_decimal.", "/_datetime.") if name in loaded.lower()]


def test_the_imports_of_the_command_itself() -> None:
    script = "import sys, gateway.commands.group, gateway.process.entry; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    modules = {name.partition(".")[0] for name in done.stdout.split()}
    assert "click" in modules
    assert not modules & {"werkzeug", "jinja2", "rich", "prometheus_client", "web", "flup"}
    assert not modules & {"asyncio", "tempfile", "logging", "difflib", "tomllib"}


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        (
            "import shop\n\nraise LookupError('no such shop')\n",
            "raised LookupError while it ran: no such shop",
            "LookupError: no such shop",
        ),
        ("x = (\n", "has a syntax error: code.py, line 1: '(' was never closed", "SyntaxError: '(' was never closed"),
        (
            "import stock\n",
            "imports 'stock', which is in {place}/src: take that for app_dir, by --app-dir {place}/src",
            "ModuleNotFoundError: No module named 'stock'",
        ),
    ],
)
def test_a_script_that_fails_is_explained_from_its_own_first_line(
    place: Path, text: str, first: str, last: str
) -> None:
    (place / "src").mkdir()
    (place / "src" / "stock.py").touch()
    (place / "code.py").write_text(text)
    done = gateway("run", "code.py", cwd=place)
    assert done.returncode == 100
    told = done.stderr.splitlines()
    assert told[0] == f"gateway: script 'code.py' {first.format(place=place)}"
    assert told[1] == "  tried     to run code.py up to where it serves"
    assert any(line.startswith("  sys.path  ") for line in told)
    frames = [line for line in told if line.startswith('  File "')]
    assert frames[0].startswith('  File "code.py", line ')
    assert told[-1] == last


def test_a_script_that_fails_in_another_folder_is_explained_as_well(place: Path) -> None:
    (place / "src").mkdir()
    (place / "code.py").write_text("raise LookupError('no such shop')\n")
    done = gateway("run", "--app-dir", "src", *AS_ROOT, "code.py", cwd=place)
    told = done.stderr.splitlines()
    assert (done.returncode, told[0]) == (
        100, "gateway: script 'code.py' raised LookupError while it ran: no such shop"
    )  # fmt: skip
    assert next(line for line in told if line.startswith('  File "')).startswith(f'  File "{place}/code.py", line 1')


def test_a_lone_worker_settles_in(place: Path) -> None:
    (place / "sub").mkdir()
    (place / "shop.py").rename(place / "sub" / "lone.py")
    serve = [sys.executable, "-m", "gateway", "serve", "lone:application", "--app-dir", str(place / "sub")]
    spawned = subprocess.run(
        [sys.executable, "-m", "gateway.spawn", "-s", str(place / "s.sock"), "--", *serve, "--env", "A=1", *AS_ROOT],
        capture_output=True,
        text=True,
        env=environment(place),
        cwd=place,
        timeout=30,
    )
    pid = int(spawned.stdout.rpartition(" ")[2])
    try:
        done = gateway("request", place / "s.sock", "/place", cwd=place)
        assert done.stdout.endswith(f"\n\n{place}/sub 1")
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not alive(pid))


WORKER = {"pid": 41, "state": "busy", "generation": 2, "requests": 7, "seconds": 0.25}
WORKER |= {"method": "GET", "host": "shop", "uri": "/\x1b[2J" + "x" * 90}


@pytest.mark.parametrize(
    "more", [{}, {"reload_error": "Traceback\n  …\nLookupError: \x1b[2J" + "x" * 90, "failed": ["blog"]}]
)
def test_the_status_table_fits_and_shows_no_control_characters(more: dict[str, Any]) -> None:
    pool = {
        "name": "main",
        "pm": "static",
        "max_children": 4,
        "state": "running",
        "listen": ["/s.sock"],
        "workers": [WORKER],
    }
    table = list(lines({"version": "1", "pid": 40, "started": 0.0, "pools": [pool | more]}))
    assert all(len(line) <= 80 and line.isprintable() for line in table)
    assert table[-1].split()[:6] == ["41", "busy", "2", "7", "0.2", "GET"]
    assert table[2] == "pool main, running: 1 of 1 workers busy; static, max_children 4"
    assert any("LookupError" in line for line in table) == bool(more)
    idle = [WORKER | {"state": "idle", "thread": number, "pid": pid} for pid in (41, 42) for number in (1, 2)]
    threads = pool | {"workers": [WORKER, *idle]}
    assert in_use(threads) == "1 of 2 workers busy"
    assert ("  could not be loaded, answered 503: blog" in table) == bool(more)
