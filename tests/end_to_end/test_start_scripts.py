"""Start scripts as people have them, unchanged, on this engine behind both front-ends: of web.py, Mercurial, Trac, and
one in the manner of MoinMoin's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    ROOT,
    Program,
    Settings,
    alive,
    by_scgi,
    children,
    front,
    front_configuration,
    listens,
    listens_at,
    short_place,
)
from tests.waiting import free_port, wait_until

SCRIPTS = HERE / "scripts"
PROGRAMS = Path(sys.executable).parent  # hg and trac-admin come by pip
ENGINE = f"{sys.executable} -W ignore -m gateway"


@contextlib.contextmanager
def spawned(
    front_name: str, place: Path, script: Path, arguments: str = "", variables: str = "", without: str = ""
) -> Iterator[tuple[int, Program]]:
    """The script behind a front-end that knows nothing of it, started on a socket at fd 0: by lighttpd, which does so
    itself, or for nginx by spawn-fcgi. Gives the port, and the program whose output has the script's.

    `without` is a line that nginx's configuration is to lack.
    """
    command = place / "start"
    command.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} {variables} exec {ENGINE} {script} {arguments}\n")
    command.chmod(0o755)
    port = free_port()
    settings = Settings(place)
    if front_name == "lighttpd":
        configuration = front_configuration("lighttpd", settings, port, bin_path=str(command))
        with front("lighttpd", place, configuration, port) as lighttpd:
            yield port, lighttpd
        return
    spawner = ["spawn-fcgi", "-n", "-s", settings.socket, "--", command]
    with Program(spawner, place / "script.log", cwd=place, env=ENVIRONMENT) as program:
        program.wait_for(lambda: listens_at(settings.socket))
        configuration = front_configuration("nginx", settings, port)
        assert without in configuration
        with front("nginx", place, configuration.replace(without, ""), port):
            yield port, program


# -- web.py -----------------------------------------------------------------------------------------------------------


def test_webpy(front_name: str, place: Path) -> None:
    with spawned(front_name, place, SCRIPTS / "code.py") as (port, program):
        assert fetch(port, "/").text == "Hello, world!\n"
        answer = fetch(port, "/raise")
        assert (answer.status, b"on purpose" in answer.body) == (500, False)
        wait_until(lambda: "ValueError: on purpose" in program.said, what="the traceback in the log")
        assert fetch(port, "/").text == "Hello, world!\n"
        assert fetch(port, "/form", "POST", body=b"name=me").text == "me"
        # web.py decodes REQUEST_URI itself: once is enough.
        assert fetch(port, "/caf%C3%A9%2541").text == repr(("é%41", "/café%41", "", True))


def test_webpy_under_max_procs_5(place: Path) -> None:
    """Five processes, as in the recipe; lighttpd starts them all and ends them all."""
    command = place / "start"
    command.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {ENGINE} {SCRIPTS / 'code.py'}\n")
    command.chmod(0o755)
    port = free_port()
    configuration = front_configuration("lighttpd", Settings(place), port, bin_path=str(command))
    configuration = configuration.replace('"max-procs" => 1,', '"min-procs" => 5, "max-procs" => 5,')
    with front("lighttpd", place, configuration, port) as lighttpd:
        for _ in range(10):
            assert fetch(port, "/raise").status == 500
            assert fetch(port, "/").text == "Hello, world!\n"
        wait_until(lambda: lighttpd.said.count("ValueError: on purpose") >= 10, what="a traceback for each")
        started = children(lighttpd.pid)
        assert len(started) == 5
    wait_until(lambda: not any(map(alive, started)), what="the end of what lighttpd started")


def test_webpy_that_is_told_to_speak_fastcgi(front_name: str, place: Path) -> None:
    """As web.py's recipe for nginx says: spawn-fcgi sets nothing by which web.py could know."""
    text = (SCRIPTS / "code.py").read_text()
    line = "web.wsgi.runwsgi = lambda func, addr=None: web.wsgi.runfcgi(func, addr)"
    (place / "code.py").write_text(text.replace("    app.run()", f"    {line}\n    app.run()"))
    with spawned(front_name, place, place / "code.py") as (port, program):
        assert fetch(port, "/").text == "Hello, world!\n", program.said
        assert fetch(port, "/raise").status == 500
        assert fetch(port, "/").status == 200


def test_webpy_without_request_uri(place: Path) -> None:
    """The parameters of web.py's recipe for nginx lack it; web.py takes its path from nowhere else."""
    line = "fastcgi_param REQUEST_URI        $request_uri;"
    with spawned("nginx", place, SCRIPTS / "code.py", without=line) as (port, _):
        assert fetch(port, "/").text == "Hello, world!\n"
        assert fetch(port, "/caf%C3%A9%2541").text == repr(("é%41", "/café%41", "", True))


def test_webpy_by_hand(place: Path) -> None:
    """The development server, with errors for whoever has started it."""
    port = free_port()
    environment = ENVIRONMENT | {"PORT": str(port)}
    with Program([*GATEWAY, SCRIPTS / "code.py"], place / "log", env=environment, cwd=place) as program:
        program.wait_for(lambda: listens(port))
        assert fetch(port, "/").text == "Hello, world!\n"
        answer = fetch(port, "/raise")
        assert (answer.status, "raise ValueError" in answer.text) == (500, True)


@pytest.mark.parametrize("protocol", ["fastcgi", "scgi"])
def test_webpy_on_an_address_of_its_arguments(front_name: str, place: Path, protocol: str) -> None:
    port, own_port = free_port(), free_port()
    configuration = front_configuration(front_name, Settings(place, {"listen": f"127.0.0.1:{own_port}"}), port)
    command = [*GATEWAY, SCRIPTS / "code.py", protocol, f"127.0.0.1:{own_port}"]
    with (
        Program(command, place / "log", env=ENVIRONMENT) as program,
        front(front_name, place, by_scgi(configuration) if protocol == "scgi" else configuration, port),
    ):
        program.wait_for(lambda: listens(own_port))
        assert fetch(port, "/").text == "Hello, world!\n"
        answer = fetch(port, "/raise")
        assert (answer.status, b"on purpose" in answer.body) == (500, False)


# -- Mercurial --------------------------------------------------------------------------------------------------------


def hg(*words: str | Path, cwd: Path) -> str:
    environment = {**ENVIRONMENT, "HGRCPATH": "", "HGUSER": "me"}
    done = subprocess.run(
        [PROGRAMS / "hg", *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def repository(place: Path) -> Path:
    """A repository with one commit, and hgweb's script beside its configuration."""
    folder = place / "repository"
    hg("init", folder, cwd=place)
    (folder / "read.me").write_text("first\n")
    hg("commit", "--addremove", "-m", "the first commit", cwd=folder)
    shutil.copy(SCRIPTS / "hgweb.fcgi", place)
    (place / "hgweb.config").write_text(f"[paths]\nproject = {folder}\n[web]\nallow-push = *\npush_ssl = false\n")
    return folder


def test_hgweb(front_name: str, place: Path, repository: Path) -> None:
    """Browsed, cloned and pushed to."""
    with spawned(front_name, place, place / "hgweb.fcgi") as (port, program):
        page = fetch(port, "/project/shortlog")
        assert (page.status, b"the first commit" in page.body) == (200, True), program.said
        url = f"http://127.0.0.1:{port}/project"
        hg("clone", url, "copy", cwd=place)
        (place / "copy" / "large").write_bytes(os.urandom(300_000))
        hg("commit", "--addremove", "-m", "the second commit", cwd=place / "copy")
        hg("push", url, cwd=place / "copy")
        assert b"the second commit" in fetch(port, "/project/shortlog").body
        assert fetch(port, "/project/rev/nonesuch").status == 404


# -- Trac -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trac() -> Iterator[Path]:
    """What `trac-admin deploy` gives: trac.fcgi, as it is."""
    with short_place() as place:
        for words in (["initenv", "Demo", "sqlite:db/trac.db"], ["deploy", place / "deployed"]):
            command = [sys.executable, "-W", "ignore", PROGRAMS / "trac-admin", place / "trac", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)
            assert done.returncode == 0, done.stdout + done.stderr
        yield place / "deployed" / "cgi-bin" / "trac.fcgi"


@pytest.mark.parametrize("variables", ["", "TRAC_USE_FLUP=1"], ids=["its copy of flup", "flup"])
def test_trac(front_name: str, place: Path, trac: Path, variables: str) -> None:
    with spawned(front_name, place, trac, variables=variables) as (port, program):
        page = fetch(port, "/wiki")
        assert (page.status, b"Welcome to Trac" in page.body) == (200, True), program.said
        assert fetch(port, "/wiki/Caf%C3%A9%20x").status == 404
        assert "Café x".encode() in fetch(port, "/wiki/Caf%C3%A9%20x").body
        assert fetch(port, "/nonesuch").status == 404
        assert fetch(port, "/chrome/common/css/trac.css").status == 200


# -- CherryPy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-s", "-f"], ids=["scgi", "fastcgi"])
def test_cherryd(front_name: str, place: Path, flag: str) -> None:
    """CherryPy's own daemon, which runs flup's server in a thread and stops it in a way of its own."""
    port, own_port = free_port(), free_port()
    (place / "shop.py").write_text(
        "import cherrypy\n\nclass Shop:\n    @cherrypy.expose\n    def index(self, item='nothing'):\n"
        "        return 'bought ' + item\n\ncherrypy.tree.mount(Shop())\n"
    )
    (place / "shop.conf").write_text(
        f"[global]\nserver.socket_host = '127.0.0.1'\nserver.socket_port = {own_port}\nengine.autoreload.on = False\n"
    )
    command = [*GATEWAY, "run", PROGRAMS / "cherryd", flag, "-c", place / "shop.conf", "-i", "shop"]
    configuration = front_configuration(front_name, Settings(place, {"listen": f"127.0.0.1:{own_port}"}), port)
    environment = ENVIRONMENT | {"PYTHONPATH": f"{ROOT}:{place}"}
    with (
        Program(command, place / "script.log", env=environment, cwd=place) as program,
        front(front_name, place, by_scgi(configuration) if flag == "-s" else configuration, port),
    ):
        program.wait_for(
            lambda: "Bus STARTED" in program.said
        )  # before that, CherryPy ends without an answer to anyone
        assert fetch(port, "/?item=a+hat").text == "bought a hat", program.said
        assert fetch(port, "/", "POST", body=b"item=this").status == 200
        assert fetch(port, "/nonesuch").status == 404
        program.signal(signal.SIGTERM)
        assert program.wait(15) == 0


# -- in the manner of MoinMoin ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "threaded", "forking", "single"])
def test_in_the_manner_of_moinmoin(front_name: str, place: Path, kind: str) -> None:
    with spawned(front_name, place, SCRIPTS / "moin.fcgi", kind) as (port, program):
        assert fetch(port, "/").text == "<title>FrontPage - farm</title>\n"
        answer = fetch(port, "/raise")
        assert (answer.status, answer.text) == (500, "<h1>Unhandled Exception</h1>no such page, on purpose")
        wait_until(lambda: "LookupError: no such page, on purpose" in program.said, what="the traceback in the log")
        assert fetch(port, "/Other").text == "<title>Other - farm</title>\n"


@pytest.mark.parametrize("kind", ["threaded", "forking", "single"])
@pytest.mark.parametrize(("number", "returned"), [(signal.SIGHUP, True), (signal.SIGTERM, False)])
def test_by_hand_on_an_address(place: Path, kind: str, number: signal.Signals, returned: bool) -> None:
    """Idle, it ends at once; run() says whether by SIGHUP, and the script goes on."""
    settings = Settings(place)
    port = free_port()
    command: Sequence[str | Path] = [*GATEWAY, SCRIPTS / "moin.fcgi", kind, settings.socket]
    with Program(command, place / "log", env=ENVIRONMENT) as program:
        program.wait_for(lambda: listens_at(settings.socket))
        with front("nginx", place, front_configuration("nginx", settings, port), port):
            assert fetch(port, "/").text == "<title>FrontPage - farm</title>\n"
            assert fetch(port, "/raise").status == 500
            program.signal(number)
            assert program.wait(10) == 0
    assert f"run() returned {returned}" in program.said
    assert not settings.socket.exists()
