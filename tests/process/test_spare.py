"""The interpreter that begins before it is known what for: when it becomes a zygote, and when another is executed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import site
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.process.handles import Zygote, receive
from gateway.process.identity import Identity, find_identity
from gateway.process.limits import StepError
from gateway.process.spare import UPGRADE, Spare
from gateway.process.task import Task
from gateway.settings import Application, Binding, Pool, Work, to_json
from tests.end_to_end.running import interpreter_for

APPLICATION = """
import os, site
if os.environ.get("ASKED"):
    raise LookupError(" ".join(sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                                      if os.path.lexists(f"/proc/self/fd/{fd}"))))
raise LookupError(" ".join([os.getcwd(), os.environ.get("A", "-"), os.environ.get("PYTHONWARNINGS", "-"),
                            str(oct(os.umask(0))), site.USER_SITE]))
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def spare() -> Iterator[Spare]:
    spare = Spare()
    yield spare
    spare.close()


@pytest.fixture
def everybodys_place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        yield Path(place)


def task(tmp_path: Path, **settings: Any) -> Task:
    (tmp_path / "shop.py").write_text(APPLICATION)
    application = Application(name="shop", app="shop:application", bindings=(Binding(),))
    work = Work(applications=json.dumps([to_json(application)]), count=1)
    pool = Pool(app_dir=str(tmp_path), **{"clear_env": os.geteuid() == 0} | settings)
    return Task("main", pool, work, os.getpid())


def started(spare: Spare, task: Task, identity: Identity | None = None) -> tuple[list[str], str]:
    """The words of the process that has become the zygote, and what its application says."""
    zygote = Zygote(task, identity, start=spare)
    words = Path(f"/proc/{zygote.pid}/cmdline").read_text().split("\0")
    zygote.channel.setblocking(True)
    with contextlib.closing(zygote.channel):
        report = receive(zygote.channel)
    zygote.process.wait()
    assert report is not None
    return words, report["failures"][0]["message"] if report["failures"] else report["error"]


def test_it_becomes_the_zygote_of_the_first_pool_that_it_suits(spare: Spare, tmp_path: Path) -> None:
    words, said = started(spare, task(tmp_path, env={"A": "b", "HOME": "/srv/shop"}, umask="0027"))
    assert words[2] == "gateway.process.waiting"
    assert f"imported: {tmp_path} b - 0o27 /srv/shop/" in said
    assert spare._channel.fileno() == -1  # the master has one descriptor fewer for good
    words, said = started(spare, task(tmp_path))
    assert words[2] == "gateway.process.zygote"
    assert f": {tmp_path} - - " in said


def test_it_has_no_descriptor_that_was_open_when_it_began(tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as file:
        os.set_inheritable(file.fileno(), True)
        spare = Spare()
    words, said = started(spare, task(tmp_path, env={"ASKED": "1"}))
    assert words[2] == "gateway.process.waiting"
    spare.close()
    assert "/dev/null" in said
    assert "secret" not in said


def test_what_importing_leaves_behind_makes_it_start_over(spare: Spare, tmp_path: Path) -> None:
    wanted = task(tmp_path, env={"A": "b"})
    (tmp_path / "shop.py").write_text(
        "import threading, time, os\n"
        "threading.Thread(target=time.sleep, args=(100,), daemon=True).start()\n"
        "def application(environ, start_response):\n    raise LookupError\n"
    )
    zygote = Zygote(wanted, None, start=spare)
    zygote.channel.setblocking(True)
    with zygote.channel:
        assert receive(zygote.channel) == {"failures": [], "error": "", "traceback": ""}
        assert Path(f"/proc/{zygote.pid}/cmdline").read_text().split("\0")[2] == "gateway.process.zygote"
        assert "A=b" in Path(f"/proc/{zygote.pid}/environ").read_text().split("\0")
    zygote.process.wait()


@pytest.mark.parametrize("name", ["PYTHONWARNINGS", "GATEWAY_PURE"])
def test_an_interpreter_that_would_have_begun_in_another_way_is_executed(
    spare: Spare, tmp_path: Path, name: str
) -> None:
    words, said = started(spare, task(tmp_path, env={name: "ignore", "A": "b"}))
    assert words[2] == "gateway.process.zygote"
    assert f" b {'ignore' if name == 'PYTHONWARNINGS' else '-'} " in said


def test_everything_of_root_is_given_up_before_an_application_runs(
    monkeypatch: pytest.MonkeyPatch, everybodys_place: Path
) -> None:
    nobody = find_identity("nobody")
    monkeypatch.setattr(sys, "executable", interpreter_for("nobody"))
    wanted = task(everybodys_place)
    (everybodys_place / "shop.py").write_text(
        "import os\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "numbers = [int(status[name], 16) for name in ('CapPrm', 'NoNewPrivs')]\n"
        "environ = [os.stat('/proc/self/environ').st_uid, os.environ['HOME'], os.environ['USER']]\n"
        "raise LookupError(repr([os.getresuid(), os.getresgid(), os.getgroups(), *numbers, *environ]))\n"
    )
    with contextlib.closing(Spare()) as spare:
        if os.geteuid() != 0:
            with pytest.raises(StepError, match="Operation not permitted"):
                started(spare, wanted, nobody)
            return
        words, said = started(spare, wanted, nobody)
    uid, gid = nobody.uid, nobody.gid
    assert words[2] == "gateway.process.waiting"
    assert said.endswith(repr([(uid,) * 3, (gid,) * 3, [*nobody.groups], 0, 1, uid, nobody.home, nobody.name]))


def test_signals_that_are_ignored_at_the_start_are_not_in_it(tmp_path: Path) -> None:
    ignored = (signal.SIGCHLD, signal.SIGTERM, signal.SIGTTOU)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    spare = Spare()
    for number, handler in before.items():
        signal.signal(number, handler)
    with open(f"/proc/{spare._pid}/status") as file:
        found = next(int(line.split()[1], 16) for line in file if line.startswith("SigIgn"))
    assert not found & sum(1 << number - 1 for number in ignored)
    words, said = started(spare, task(tmp_path))
    spare.close()
    assert words[2] == "gateway.process.waiting"
    assert str(tmp_path) in said


def test_an_environment_that_is_no_message_has_an_interpreter_executed(spare: Spare, tmp_path: Path) -> None:
    words, said = started(spare, task(tmp_path, env={"A": "b" * 100_000}))
    assert words[2] == "gateway.process.zygote"
    assert " " + "b" * 100_000 + " " in said


def test_what_a_pool_is_not_to_have_is_not_in_what_its_processes_began_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET", "of the master")
    monkeypatch.setenv("NOTIFY_SOCKET", "of systemd")
    with monkeypatch.context() as as_another_user:
        as_another_user.setattr(os, "geteuid", lambda: 1)
        spares = [Spare(), Spare()]
    began_with = Path(f"/proc/{spares[0]._pid}/environ").read_text()
    assert "SECRET=" in began_with
    assert "NOTIFY_SOCKET" not in began_with
    for spare, clear_env in zip(spares, (False, True), strict=True):
        words, _ = started(spare, task(tmp_path, clear_env=clear_env))
        spare.close()
        assert words[2] == ("gateway.process.zygote" if clear_env else "gateway.process.waiting")


def test_one_that_has_died_is_done_without(spare: Spare, tmp_path: Path) -> None:
    os.kill(spare._pid, signal.SIGKILL)
    os.waitid(os.P_PID, spare._pid, os.WEXITED | os.WNOWAIT)
    words, said = started(spare, task(tmp_path))
    assert words[2] == "gateway.process.zygote"
    assert str(tmp_path) in said


def test_what_the_pool_cannot_have_is_told(spare: Spare, tmp_path: Path) -> None:
    pid = spare._pid
    with pytest.raises(StepError, match="rlimit_files: 1099511627776 cannot be set"):
        Zygote(task(tmp_path, rlimit_files=1 << 40), None, start=spare)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_it_ends_with_the_master(spare: Spare) -> None:
    spare._channel.close()
    _, status = os.waitpid(spare._pid, 0)
    assert status == 0
    spare._pid = 0


@pytest.mark.parametrize("reason", ["packages", "upgrade", "socket", "closed"])
def test_where_there_will_be_no_use_for_it_none_is_started(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    ours, theirs = socket.socketpair()
    before = os.dup(0)
    try:
        monkeypatch.setattr(site, "ENABLE_USER_SITE", reason == "packages")
        if reason == "upgrade":
            monkeypatch.setenv(UPGRADE, "1:3")
        if reason == "socket":
            os.dup2(theirs.fileno(), 0)
        if reason == "closed":
            os.close(0)
        assert Spare.of_a_start() is None
    finally:
        os.dup2(before, 0)
        os.close(before)
        ours.close()
        theirs.close()


def test_none_is_started_where_it_was_said_that_users_packages_are_not_wanted() -> None:
    """Root's environment is not the spare's: without what said so, root's own packages would be there, for whomever."""
    script = "import gateway.process.spare as it; it.Spare.__init__ = print; print(it.Spare.of_a_start())"
    for flags, variables in (["-s"], {}), ([], {"PYTHONNOUSERSITE": "1"}):
        command = [sys.executable, *flags, "-c", script]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, env=os.environ | variables
        )
        assert done.stdout.splitlines()[-1] == "None"


def test_one_that_is_not_asked_for_ends_with_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "ENABLE_USER_SITE", False)
    before = os.dup(0)
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    spare = Spare.of_a_start()
    os.dup2(before, 0)
    os.close(before)
    assert spare is not None
    assert Path(f"/proc/{spare._pid}").exists()
    spare.close()
    assert not Path(f"/proc/{spare._pid}").exists()
