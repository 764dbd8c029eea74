"""What a newcomer gets wrong: each mistake is one line with the place and the remedy, and its exit code."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, USER, Settings, serving
from tests.waiting import free_port

AS_USER = ["--user", USER] if USER else []


def run(*arguments: str | Path, cwd: Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, *GATEWAY, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd, timeout=60)


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The command ended with `code`, and its one line on standard error has all the words."""
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (code, 1), done
    assert lines[0].startswith("gateway: ")
    assert [word for word in words if word not in lines[0]] == []


def test_no_target(place: Path) -> None:
    one_line(run("serve", cwd=place), 100, "provide a WSGI application as module:callable or a settings file")


def test_unknown_setting(place: Path) -> None:
    (place / "s.toml").write_text('[pools.main]\nmax_childrn = 3\n[[applications]]\nname = "a"\napp = "a:b"\n')
    one_line(run("serve", "s.toml", cwd=place), 100, "s.toml", "max_childrn", "max_children")


def test_wrong_type(place: Path) -> None:
    (place / "s.toml").write_text('[pools.main]\nmax_children = "many"\n[[applications]]\nname = "a"\napp = "a:b"\n')
    one_line(run("serve", "s.toml", cwd=place), 100, "s.toml", "max_children")


def test_missing_file(place: Path) -> None:
    one_line(run("serve", "none.toml", cwd=place), 100, "none.toml")


def test_unknown_flag(place: Path) -> None:
    one_line(run("serve", "--max-childrn", "3", "a:b", cwd=place), 100, "--max-childrn")


def test_socket_directory_missing(place: Path) -> None:
    folder = place / "none"
    done = run("serve", "everything:application", "--app-dir", HERE, *AS_USER, "--listen", folder / "x.sock", cwd=place)
    one_line(done, 111, str(folder), "mkdir")


def test_socket_directory_not_writable(place: Path) -> None:
    folder = place / "locked"
    folder.mkdir(mode=0o555)
    # Root may write everywhere, unless it is without the capability that lets it.
    prefix = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    done = run(
        "serve",
        "everything:application",
        "--app-dir",
        HERE,
        *AS_USER,
        "--listen",
        folder / "x.sock",
        cwd=place,
        prefix=prefix,
    )
    one_line(done, 111, str(folder), "may not write")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("everything:aplication", ("aplication", "application")),
        ("everythin:application", ("everythin",)),
        ("everything", ("module:callable",)),
        ("everything.py", ("everything",)),
    ],
)
def test_application_misspelt(place: Path, target: str, words: tuple[str, ...]) -> None:
    done = run("serve", target, "--app-dir", HERE, *AS_USER, "--listen", place / "x.sock", cwd=place)
    assert done.returncode == 100
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_application_that_raises_on_import(place: Path) -> None:
    (place / "broken.py").write_text("def fail():\n    raise LookupError('no such shop')\n\nfail()\n")
    done = run("serve", "broken:application", "--app-dir", place, *AS_USER, "--listen", place / "x.sock", cwd=place)
    assert done.returncode == 100
    frames = [line for line in done.stderr.splitlines() if 'File "' in line]
    assert "broken.py" in frames[0]
    assert all("broken.py" in frame for frame in frames)
    assert "LookupError: no such shop" in done.stderr


@pytest.mark.parametrize("command", ["serve", "check", "dev", "up"])
def test_a_start_that_fails_says_what_was_tried_and_what_may_be_meant(place: Path, command: str) -> None:
    (place / "shop.py").write_text("import models\n")
    (place / "site").mkdir()
    (place / "site" / "models.py").write_text("")
    words = {
        "serve": [*AS_USER, "--listen", place / "x.sock"],
        "check": AS_USER,
        "dev": ["--port", "0"],
        "up": ["--front", "embedded", "--port", str(free_port())],
    }
    done = run(command, "shop:application", *words[command], cwd=place)
    assert done.returncode == (111 if command == "up" else 100)
    # Without the log's time and process, where there is one.
    said = [re.sub(r"^\S+ \S+ \[\d+\] ", "", line) for line in done.stderr.splitlines()]
    first = next(number for number, line in enumerate(said) if "application 'shop:application'" in line)
    assert said[first].endswith(
        f"module 'shop' imports 'models', which is in {place}/site: take that for app_dir, by --app-dir {place}/site"
    )
    assert [line.split(maxsplit=1) for line in said[first + 1 : first + 4]] == [
        ["tried", "shop:application"],
        ["in", f"{place}, first on sys.path"],
        ["python", f"{sys.executable} ({platform.python_version()})"],
    ]
    frame = said.index("Traceback (most recent call last):") + 1
    assert said[frame : frame + 3] == [
        f'  File "{place}/shop.py", line 1, in <module>',
        "    import models",
        "ModuleNotFoundError: No module named 'models'",
    ]


def test_check_names_every_mistake(place: Path) -> None:
    (place / "good.py").write_text("def application(environ, start_response): ...\n")
    (place / "broken.py").write_text("raise LookupError('no such shop')\n")
    (place / "s.toml").write_text(
        f'[pools.main]\napp_dir = "{place}"\nlisten = "{place}/x.sock"\nuser = "{USER}"\n'
        '[[applications]]\nname = "one"\napp = "good:application"\nbindings = [{hostname = "one", port = 80}]\n'
        '[[applications]]\nname = "two"\napp = "broken:application"\nbindings = [{hostname = "two", port = 80}]\n'
        '[[applications]]\nname = "three"\napp = "good:missing"\nbindings = [{hostname = "three", port = 80}]\n'
    )
    done = run("check", "s.toml", cwd=place)
    assert done.returncode == 100
    assert "two" in done.stderr
    assert "no such shop" in done.stderr
    assert "three" in done.stderr


def test_check_of_what_is_right(place: Path) -> None:
    done = run("check", "everything:application", "--app-dir", HERE, *AS_USER, cwd=place)
    assert (done.returncode, done.stderr) == (0, "")


def test_reload_by_a_file_that_was_broken_meanwhile(place: Path) -> None:
    settings = Settings(place)
    with serving(settings) as master:
        before = [worker["pid"] for worker in master.workers()]
        settings.file.write_text("{\n}}")
        one_line(run("reload", settings.file, cwd=place), 100, f"{settings.file}:2: is no JSON")
        assert [worker["pid"] for worker in master.workers()] == before
        assert "reload" not in master.said


def test_port_taken(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        one_line(run("up", "--port", port, cwd=place), 111, port, "--port")


def test_running_as_root_without_user(place: Path) -> None:
    done = run("serve", "everything:application", "--app-dir", HERE, "--listen", "fd:9", cwd=place)
    if os.geteuid() == 0:
        one_line(done, 100, "root", "--user www-data")
    else:
        one_line(done, 100, "9")


@pytest.mark.parametrize("command", ["status", "reload", "stop"])
def test_no_master_to_talk_to(place: Path, command: str) -> None:
    one_line(run(command, "--control", place / "none.sock", cwd=place), 111, str(place / "none.sock"), "--control")
