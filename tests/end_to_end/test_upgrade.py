"""`gateway upgrade`: the master becomes another version of the package in place, and no request notices."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browsing import fetch, while_running, work
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    ROOT,
    USER,
    Master,
    Program,
    Settings,
    alive,
    children,
    serving,
    site,
)
from tests.waiting import wait_until

RATE = 200  # requests a second
PAGES = """

@page
def version(environ, start_response, query):
    import gateway

    start_response("200 OK", TEXT)
    return [gateway.__version__.encode()]


@page
def say(environ, start_response, query):
    os.write(1, b"begun, ")  # as C code does
    journal("saying")
    wait_for_gate(query["gate"])
    os.write(1, b"and ended\\n")
    start_response("200 OK", TEXT)
    return [b"%d" % os.getpid()]
"""


class Installation:
    """A copy of the package, to be changed while a master runs from it."""

    def __init__(self, place: Path) -> None:
        self.source = place / "installed"
        shutil.copytree(ROOT / "gateway", self.source / "gateway", ignore=shutil.ignore_patterns("__pycache__"))

    def change(self, module: str, old: str, new: str) -> None:
        path = self.source / "gateway" / module
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def install(self, version: str) -> None:
        self.change("__init__.py", "__version__ = ", f'__version__ = "{version}"  # ')

    def break_syntax(self) -> None:
        path = self.source / "gateway" / "process" / "pool.py"
        path.write_text(path.read_text() + "\ndef broken(:\n")


@pytest.fixture
def installed(place: Path) -> Installation:
    return Installation(place)


@pytest.fixture
def settings(place: Path) -> Settings:
    """A pool whose application is a copy that a test may break."""
    (place / "everything.py").write_text((HERE / "everything.py").read_text() + PAGES)
    return Settings(place, {"app_dir": str(place)})


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [*GATEWAY, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def upgrade(settings: Settings) -> subprocess.CompletedProcess[str]:
    return run("upgrade", settings.file)


def ask(address: Path, path: str = "/hello") -> str:
    """The body of a pool's answer."""
    done = run("request", address, f"http://localhost{path}")
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\n\n")[2]


def asking(address: Path, path: str) -> Program:
    """A request that has not been answered yet."""
    return Program([*GATEWAY, "request", address, f"http://localhost{path}"], address.parent / "asking.log")


def pids(master: Master) -> set[int]:
    return {worker["pid"] for worker in master.workers()}


def descriptors(pid: int) -> list[str]:
    """What the descriptors of a process are, without the numbers that differ from one to the next of a kind."""
    folder = Path(f"/proc/{pid}/fd")
    kinds = []
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            kinds.append(os.readlink(folder / name).partition(":[")[0])
    return sorted(kinds)


def descriptors_at_rest(master: Master) -> list[str]:
    """What they are when nobody is being answered: the end of an answer is the end of its connection."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(master.settings.control))
        caller.sendall(b'{"command": "status"}\n')
        while caller.recv(65_536):
            pass
    return descriptors(master.pid)


def upgrades(settings: Settings, installed: Installation) -> list[subprocess.CompletedProcess[str]]:
    done = []
    for version in ("7.0.1", "7.0.2"):
        threading.Event().wait(1)  # the rhythm of the upgrades
        installed.install(version)
        done.append(upgrade(settings))
    return done


def test_upgrades_under_load_lose_and_repeat_nothing(
    settings: Settings, installed: Installation, front_name: str
) -> None:
    settings.pool["max_children"] = 12
    settings.write()
    with site(front_name, settings, source=installed.source) as running:
        before = running.master.status()
        answers, done = while_running(running.port, work(RATE, 0.4), lambda: upgrades(settings, installed))
        count = len(answers)
        assert [(d.returncode, d.stdout, d.stderr) for d in done] == [
            (0, "gateway 7.0.1 serves\n", ""),
            (0, "gateway 7.0.2 serves\n", ""),
        ]
        wrong = [(post.path, status, body[:80]) for post, status, body in answers if (status, body) != (200, post.body)]
        assert wrong == []
        assert sorted(settings.journal(), key=int) == [str(n) for n in range(count)]
        wait_until(running.master.ready, what="one generation left")
        after = running.master.status()
        assert (after["pid"], after["version"], after["started"]) == (before["pid"], "7.0.2", before["started"])
        assert after["pools"][0]["accepted_conn"] == count
        assert after["pools"][0]["start_time"] == before["pools"][0]["start_time"]
        assert int(settings.pid_file.read_text()) == running.master.pid


def test_each_worker_is_replaced_by_one_of_the_new_code(settings: Settings, installed: Installation) -> None:
    with serving(settings, source=installed.source) as master:
        before = pids(master)
        installed.install("7.0.1")
        assert upgrade(settings).returncode == 0
        wait_until(master.ready)
        assert not before & pids(master)
        assert len(pids(master)) == 4
        assert master.workers()[0]["generation"] == 2
        wait_until(lambda: not any(map(alive, before)))
        assert ask(settings.socket, "/version") == "7.0.1"
        assert run("reload", settings.file).returncode == 0
        wait_until(lambda: {worker["generation"] for worker in master.workers()} == {3})


def test_a_package_that_cannot_start_is_refused(settings: Settings, installed: Installation) -> None:
    with serving(settings, source=installed.source) as master:
        before, files = children(master.pid), descriptors_at_rest(master)
        installed.install("7.0.1")
        installed.break_syntax()
        done = upgrade(settings)
        assert done.returncode == 1
        assert "SyntaxError" in done.stderr
        assert "pool.py" in done.stderr
        assert master.status()["version"] != "7.0.1"
        wait_until(lambda: (children(master.pid), descriptors(master.pid)) == (before, files))
        wait_until(lambda: "upgrade refused" in master.said)
        assert ask(settings.socket) == "Hello\n"


def test_workers_that_the_new_version_does_not_understand_are_not_handed_to_it(
    settings: Settings, installed: Installation
) -> None:
    with serving(settings, source=installed.source) as master:
        before = pids(master)
        installed.change("process/upgrade.py", "\nFORMAT = ", "\nFORMAT = 1000 + ")
        done = upgrade(settings)
        assert done.returncode == 1
        assert "stop gateway and start it" in done.stderr
        assert pids(master) == before


def test_a_rehearsal_that_hangs_is_ended(settings: Settings, installed: Installation) -> None:
    installed.change("process/upgrade.py", "_PATIENCE = 60", "_PATIENCE = 1")
    installed.change("process/upgrade.py", "    print(json", "    time.sleep(20)\n    print(json")
    with serving(settings, source=installed.source) as master:
        before = children(master.pid)
        done = upgrade(settings)
        assert (done.returncode, "not ready to take over within 1 s" in done.stderr) == (1, True), done
        wait_until(lambda: children(master.pid) == before)
        assert ask(settings.socket) == "Hello\n"


def test_settings_with_a_mistake_are_refused(settings: Settings, installed: Installation) -> None:
    with serving(settings, source=installed.source) as master:
        before = pids(master)
        settings.pool["max_childern"] = 3
        settings.write()
        done = run("upgrade", "--control", settings.control)
        assert done.returncode == 1
        assert "max_childern" in done.stderr
        assert pids(master) == before
        assert "goes on" not in master.said


def test_changed_settings_are_applied(settings: Settings, installed: Installation) -> None:
    with serving(settings, source=installed.source) as master:
        other = settings.place / "other.sock"
        settings.pool |= {"max_children": 2, "listen": str(other)}
        settings.write()
        assert upgrade(settings).returncode == 0
        wait_until(master.ready)
        assert len(pids(master)) == 2
        assert ask(other) == "Hello\n"
        assert not settings.socket.exists()


def test_a_broken_application_leaves_the_old_workers_serving(settings: Settings, installed: Installation) -> None:
    source = settings.place / "everything.py"
    good = source.read_text()
    with serving(settings, source=installed.source) as master:
        before = pids(master)
        installed.install("7.0.1")
        source.write_text(good + "\nraise RuntimeError('broken on purpose')\n")
        done = upgrade(settings)
        assert done.returncode == 1
        assert "gateway 7.0.1 runs now" in done.stderr
        assert "broken on purpose" in done.stderr
        assert pids(master) == before
        assert master.status()["version"] == "7.0.1"
        assert ask(settings.socket) == "Hello\n"
        source.write_text(good)
        wait_until(lambda: master.ready() and not before & pids(master), 20)  # it goes on trying


def test_a_worker_that_is_killed_meanwhile_is_replaced(settings: Settings, installed: Installation) -> None:
    with serving(settings, source=installed.source) as master:
        victim = master.workers()[0]["pid"]
        asking = threading.Thread(target=upgrade, args=[settings])
        asking.start()
        wait_until(lambda: "hands over" in master.said)
        os.kill(victim, signal.SIGKILL)
        asking.join(30)
        wait_until(master.ready)
        assert victim not in pids(master)
        wait_until(lambda: not Path(f"/proc/{victim}").exists())  # it was reaped
        assert sum(master.status()["pools"][0]["ended"].values()) == 4


def test_a_request_that_runs_during_an_upgrade_finishes(
    settings: Settings, installed: Installation, front_name: str
) -> None:
    with site(front_name, settings, source=installed.source) as running:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(fetch(running.port, "/hold?gate=upgrade").text))
        asking.start()
        wait_until(lambda: "running upgrade" in settings.journal())
        assert upgrade(settings).returncode == 0
        assert upgrade(settings).returncode == 0
        assert answers == []
        wait_until(lambda: len(running.master.workers("leaving")) == 1)
        [leaving] = running.master.workers("leaving")
        assert leaving["generation"] == 1
        assert leaving["uri"] == "/hold?gate=upgrade"
        settings.open_gate("upgrade")
        asking.join(15)
        assert answers == ["held\n"]
        wait_until(running.master.ready)


def test_signals_reload_status_and_stop_go_on(settings: Settings, installed: Installation) -> None:
    with serving(settings, source=installed.source) as master:
        assert upgrade(settings).returncode == 0
        wait_until(master.ready)
        before = pids(master)
        master.signal(signal.SIGHUP)
        wait_until(lambda: master.ready() and not before & pids(master), 20)
        master.signal(signal.SIGUSR1)
        assert ask(settings.socket) == "Hello\n"
        assert run("stop", settings.file).returncode == 0
        assert master.wait() == 0
        for path in (settings.socket, settings.control, settings.pid_file):
            assert not path.exists()


def test_workers_of_the_new_version_end_when_they_are_told_to(settings: Settings, installed: Installation) -> None:
    """The master holds its signals back while it executes itself anew; what it starts then must not."""
    with serving(settings, source=installed.source) as master:
        assert upgrade(settings).returncode == 0
        wait_until(master.ready)
        master.signal(signal.SIGTERM)
        assert master.wait() == 0
        assert "killed" not in master.said


def test_what_workers_print_still_arrives_with_their_number(settings: Settings, installed: Installation) -> None:
    with serving(settings, source=installed.source) as master:
        with asking(settings.socket, "/say?gate=print") as program:
            wait_until(lambda: "saying" in settings.journal())
            worker = next(worker["pid"] for worker in master.workers("busy"))
            assert upgrade(settings).returncode == 0
            settings.open_gate("print")
            assert program.wait() == 0
            assert program.said.endswith(f"\n{worker}")
        wait_until(lambda: f"[{worker}] begun, and ended\n" in master.said)


def test_nothing_is_left_open(settings: Settings, installed: Installation) -> None:
    settings.pool |= {"access_log": str(settings.place / "access.log"), "slowlog": str(settings.place / "slow.log")}
    settings.pool |= {"request_slowlog_timeout": 5}
    settings.write()
    with serving(settings, source=installed.source) as master:
        before, family = len(descriptors_at_rest(master)), len(children(master.pid))
        for _ in range(5):
            assert upgrade(settings).returncode == 0
            wait_until(master.ready)
        wait_until(lambda: len(children(master.pid)) == family)
        wait_until(lambda: len(descriptors(master.pid)) <= before)


def test_an_ondemand_pool_that_sleeps(settings: Settings, installed: Installation) -> None:
    settings.pool |= {"pm": "ondemand", "process_idle_timeout": 1}
    settings.write()
    with serving(settings, source=installed.source) as master:
        assert upgrade(settings).returncode == 0
        assert pids(master) == set()
        assert ask(settings.socket) == "Hello\n"


def test_several_pools_and_one_that_is_leaving(settings: Settings, installed: Installation) -> None:
    extra = {"listen": str(settings.place / "blog.sock"), "app_dir": str(settings.place), "max_children": 1}
    extra |= {key: value for key, value in json.loads(settings.file.read_text())["pools"]["main"].items()
              if key in ("user", "env")}  # fmt: skip
    settings.more = {"pools": {"blog": extra}}
    settings.applications.append({"name": "blog", "app": "everything:application", "pool": "blog"})
    settings.write()
    with serving(settings, source=installed.source) as master:
        with asking(settings.place / "blog.sock", "/hold?gate=blog") as program:
            wait_until(lambda: "running blog" in settings.journal())
            settings.more = {}
            del settings.applications[1]
            settings.write()
            assert run("reload", settings.file).returncode == 0
            assert [pool["state"] for pool in master.status()["pools"]] == ["running", "draining"]
            assert upgrade(settings).returncode == 0
            assert [pool["state"] for pool in master.status()["pools"]] == ["running", "draining"]
            settings.open_gate("blog")
            assert program.wait() == 0
            assert program.said.endswith("held\n")
        wait_until(lambda: len(master.status()["pools"]) == 1)


@contextlib.contextmanager
def started(settings: Settings, *command: str | Path, env: Mapping[str, str], **more: Any) -> Iterator[Program]:
    """A master by another command than `Master`'s, serving."""
    log = settings.place / "gateway.log"
    with Program(command, log, cwd=settings.place, env=ENVIRONMENT | env, **more) as program:
        program.wait_for(lambda: "serves with" in program.said)
        yield program


def test_an_interpreter_that_cannot_be_executed_changes_nothing(settings: Settings, installed: Installation) -> None:
    interpreter = settings.place / "python"
    interpreter.symlink_to(sys.executable)
    remove = f"os.unlink({str(interpreter)!r})"  # after the rehearsal, in it
    environment = {"PYTHONPATH": os.pathsep.join([str(installed.source), *sys.path])}
    with started(settings, interpreter, "-m", "gateway", "serve", settings.file, env=environment) as program:
        before, files = children(program.pid), len(descriptors(program.pid))
        installed.change("process/upgrade.py", "    os._exit(0)\n", f"    {remove}\n    os._exit(0)\n")
        done = upgrade(settings)
        assert (done.returncode, "cannot execute" in done.stderr) == (1, True), done
        wait_until(lambda: (children(program.pid), len(descriptors(program.pid))) == (before, files))
        done = upgrade(settings)
        assert (done.returncode, "cannot start" in done.stderr) == (1, True), done
        interpreter.symlink_to(sys.executable)
        program.signal(signal.SIGHUP)  # no signal is held back any more
        wait_until(lambda: "generation 2 serves" in program.said)
        installed.change("process/upgrade.py", remove, "")
        assert upgrade(settings).stderr == ""
        assert ask(settings.socket) == "Hello\n"


def test_another_virtual_environment_behind_a_link(settings: Settings, place: Path) -> None:
    link = place / "current"
    for version in ("1.0", "2.0"):
        folder = place / version
        (folder / "bin").mkdir(parents=True)
        Installation(folder).install(version)
        (folder / "bin" / "python").symlink_to(sys.executable)
        script = folder / "bin" / "gateway"
        script.write_text(
            f"#!{folder}/bin/python\nimport sys\nsys.path.insert(0, '{folder}/installed')\n"
            "from gateway.__main__ import main\nsys.exit(main())\n"
        )
        script.chmod(0o755)
    link.symlink_to("1.0")
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    with started(settings, link / "bin" / "gateway", "serve", settings.file, env=environment):
        assert ask(settings.socket, "/version") == "1.0"
        link.unlink()
        link.symlink_to("2.0")
        assert upgrade(settings).stderr == ""
        assert ask(settings.socket, "/version") == "2.0"


def test_the_socket_on_fd_0_stays(settings: Settings, installed: Installation) -> None:
    """Started by spawn-fcgi or lighttpd, with a control socket that was asked for."""
    command = [*GATEWAY, "serve", settings.file, "--max-children", "2"]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(settings.place / "given.sock"))
        listener.listen(64)
        environment = {"PYTHONPATH": str(installed.source)}
        with started(settings, *command, env=environment, stdin=listener.fileno()):
            installed.install("7.0.1")
            done = upgrade(settings)
            assert (done.returncode, done.stderr) == (0, "")
            assert ask(settings.place / "given.sock", "/version") == "7.0.1"


def test_a_script_goes_on_too(settings: Settings, installed: Installation) -> None:
    script = settings.place / "code.py"
    script.write_text("import gateway\nfrom everything import application\ngateway.run(application)\n")
    command = [*GATEWAY, "run", "--max-children", "2", "--listen", settings.socket, "--control", settings.control]
    command += ["--app-dir", settings.place, *(["--user", USER] if USER else []), script]
    with started(settings, *command, env={"PYTHONPATH": str(installed.source)}):
        installed.install("7.0.1")
        done = upgrade(settings)
        assert (done.returncode, done.stderr) == (0, "")
        assert ask(settings.socket, "/version") == "7.0.1"


def test_an_upgrade_waits_for_a_reload(settings: Settings, installed: Installation) -> None:
    source = settings.place / "everything.py"
    with serving(settings, source=installed.source) as master:
        source.write_text(source.read_text() + "\nwait_for_gate('import')\n")
        with Program([*GATEWAY, "reload", settings.file], settings.place / "reload.log") as reload:
            wait_until(lambda: master.status()["pools"][0]["state"] == "reloading")
            with Program([*GATEWAY, "upgrade", settings.file], settings.place / "first.log") as first:
                wait_until(lambda: "an upgrade was asked for" in master.said)
                assert "upgrade refused: one is under way" in upgrade(settings).stderr
                settings.open_gate("import")
                assert (reload.wait(), first.wait()) == (0, 0)
        assert master.status()["pools"][0]["generation"] == 3


def test_a_stop_comes_before_an_upgrade(settings: Settings, installed: Installation) -> None:
    installed.change("process/upgrade.py", "    os._exit(0)\n", "    time.sleep(20)\n")
    with serving(settings, source=installed.source) as master:
        before = set(children(master.pid))
        with Program([*GATEWAY, "upgrade", settings.file], settings.place / "upgrade.log") as upgrading:
            (rehearsal,) = wait_until(lambda: set(children(master.pid)) - before)
            master.signal(signal.SIGTERM)
            assert master.wait() == 0
            assert upgrading.wait() == 1
            assert "gateway is stopping" in upgrading.said
        wait_until(lambda: not alive(rehearsal))


def test_the_console_goes_on(settings: Settings, installed: Installation) -> None:
    console = settings.place / "status.sock"
    settings.more = {"gateway": {"status_listen": str(console)}}
    settings.write()
    with serving(settings, source=installed.source) as master:
        wait_until(lambda: json.loads(ask(console, "/status?json&pool=main"))["total processes"] == 4)
        family = len(children(master.pid))
        installed.install("7.0.1")
        done = upgrade(settings)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(ask(console, "/status?json&pool=main"))["total processes"] >= 4
        wait_until(lambda: len(children(master.pid)) == family)
        wait_until(lambda: json.loads(ask(console, "/status?json&pool=main"))["total processes"] == 4)
