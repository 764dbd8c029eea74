"""`gateway up` where something is missing, taken or dies, and as whom it runs; end_to_end/test_demo.py shows it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.front.unprivileged import ROOT, Identity, choose_identity
from gateway.front.up import up
from gateway.settings import ConfigError
from tests.end_to_end.running import GATEWAY, Program, alive, descendants, short_place
from tests.waiting import free_port, wait_until


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as place:
        yield place


@pytest.fixture
def demo(place: Path) -> Iterator[Program]:
    """The demo behind nginx, shown."""
    port = str(free_port())
    environment = os.environ | {"TMPDIR": str(place), "PYTHONPATH": os.getcwd()}
    program = Program([*GATEWAY, "up", "--front", "nginx", "--port", port], place / "log", env=environment)
    try:
        program.wait_for(lambda: f"http://127.0.0.1:{port}/" in program.said, 30)
        yield program
    finally:
        program.stop()


def child(program: Program, word: str) -> int:
    """The child of `gateway up` whose command line has `word` in it."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in descendants(program.pid)}
    return next(pid for pid, line in lines.items() if word in line)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_everything(demo: Program, place: Path, number: signal.Signals) -> None:
    started = descendants(demo.pid)
    assert [path for path in place.iterdir() if path.name.startswith("gateway-")]
    demo.signal(number)
    demo.signal(number)
    assert demo.wait() == 0, demo.said
    wait_until(lambda: not any(map(alive, started)))
    assert [path.name for path in place.iterdir()] == ["log"]


@pytest.mark.parametrize(("word", "name"), [("serve", "the pool"), ("nginx: master", "nginx")])
def test_when_one_dies_the_other_is_stopped(demo: Program, word: str, name: str) -> None:
    started = descendants(demo.pid)
    os.kill(child(demo, word), signal.SIGKILL)
    assert demo.wait() == 111
    assert f"gateway: {name} was ended by SIGKILL" in demo.said
    wait_until(lambda: not any(map(alive, started)), what="the end of everything that was started")


def test_an_application_that_fails_is_told_with_its_traceback(place: Path) -> None:
    (place / "broken.py").write_text("import nowhere_to_be_found\n")
    command = [*GATEWAY, "up", "broken:app", "--app-dir", place, "--port", str(free_port())]
    program = Program(command, place / "log", env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert program.wait(30) == 111
    assert "No module named 'nowhere_to_be_found'" in program.said
    assert "gateway: the pool ended with exit code 100; its last lines are above" in program.said
    assert "http://" not in program.said


def test_a_front_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("gateway.front.up._SBIN", ())
    monkeypatch.setenv("PATH", "/nowhere")
    assert up(front="nginx") == 111
    assert capsys.readouterr().err == (
        "gateway: nginx is not installed; as root: apt-get install nginx; or use --front embedded\n"
    )


def test_a_host_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert up(front="embedded", host="no.such.invalid") == 111
    assert capsys.readouterr().err == (
        "gateway: cannot listen on no.such.invalid:8080: the host is not known; "
        "choose another --host, or another port, as in --port 8081\n"
    )


def test_a_front_that_is_none() -> None:
    with pytest.raises(ConfigError, match="--front apache: choose one of nginx, lighttpd or embedded"):
        up(front="apache")


def test_a_folder_of_static_files_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="--static /nowhere: there is no such folder"):
        up(static="/nowhere", front="embedded")


def test_a_port_that_no_application_is_bound_to(place: Path) -> None:
    (place / "site.toml").write_text(
        '[[applications]]\nname = "x"\napp = "x:y"\nbindings = [{ hostname = "x.example", port = 81 }]\n'
    )
    with pytest.raises(ConfigError, match="nothing is bound to port 8080; use a binding's, as in --port 81"):
        up(str(place / "site.toml"), front="embedded")


@pytest.mark.parametrize(
    ("bindings", "shown"),
    [
        (
            '{ hostname = "shop.localhost", port = "*" }, { hostname = "*", port = "*", path = "/shop" }',
            "shop.localhost:PORT/",
        ),
        ('{ hostname = "*", port = "*", path = "/shop" }', "127.0.0.1:PORT/shop/"),
    ],
)
def test_the_url_is_one_that_an_application_is_bound_to(place: Path, bindings: str, shown: str) -> None:
    (place / "shop.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return []\n"
    )
    (place / "site.toml").write_text(f'[[applications]]\nname = "x"\napp = "shop:app"\nbindings = [{bindings}]\n')
    port = str(free_port())
    command = [*GATEWAY, "up", "site.toml", "--front", "embedded", "--port", port]
    with Program(command, place / "log", cwd=place, env=os.environ | {"PYTHONPATH": os.getcwd()}) as program:
        program.wait_for(lambda: f"http://{shown.replace('PORT', port)}\n" in program.said)


def test_root_gives_its_rights_up_where_it_can(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert choose_identity([str(place)], warnings.append) == Identity()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/usr")
    monkeypatch.setattr(os, "__file__", "/usr/lib/os.py")
    monkeypatch.setattr("gateway.front.share.PACKAGE", Path("/usr"))
    assert choose_identity([str(place)], warnings.append).user == "www-data"
    assert warnings == []
    place.chmod(0o700)
    assert choose_identity([str(place)], warnings.append) == ROOT
    (warning,) = warnings
    assert warning.startswith(f"everything runs as root: www-data may not enter or read {place}")
