"""What goes from one master to the next: here each holder of it, through the JSON and within one process."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.net.address import Address, UnixAddress, parse_address
from gateway.net.control import Caller, Command
from gateway.net.kept import KeptQueue
from gateway.net.listeners import Listener, open_listeners
from gateway.process import scoreboard, upgrade
from gateway.process.callers import Callers
from gateway.process.handles import Source
from gateway.process.lookout import Lookout
from gateway.process.output import PoolLogs
from gateway.process.scoreboard import Counts, Layout, Scoreboard, Slot
from gateway.process.slowlog import SlowLog
from gateway.process.statistics import Statistics
from gateway.settings import Application, ConfigError, Gateway, Pool, Settings, settings_from_json, to_json
from tests.process.test_output import Watching
from tests.waiting import free_port

GET = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "gateway.application": "shop"}


def through(hand_over: Callable[[Callable[[int], int]], Any]) -> Any:
    """What arrives of what is handed over; each descriptor as a copy, for both sides are in this process."""
    return json.loads(json.dumps(hand_over(os.dup)))


class Loop(Watching):
    """A loop whose sources can be heard one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: dict[int, Callable[[], None]] = {}

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        super().watch(source, callback)
        self.callbacks[source.fileno()] = callback

    def hear_last(self) -> None:
        """Call back for what is watched since last."""
        list(self.callbacks.values())[-1]()


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[int, Any], None]]:
    """Sets the environment as the author, a process, does for a document."""
    made: list[int] = []

    def set_up(author: int, document: Any) -> None:
        path = tmp_path / "document"
        path.write_text(json.dumps(document))
        made.append(os.open(path, os.O_RDONLY))
        monkeypatch.setenv("GATEWAY_UPGRADE", f"{author}:{made[-1]}")

    yield set_up
    assert "GATEWAY_UPGRADE" not in os.environ


@pytest.mark.parametrize(
    ("first_line", "mode", "itself"),
    [("#!/venv/bin/python", 0o755, True), ("#!/venv/bin/python", 0o644, False), ("#!/bin/sh", 0o755, False)],
)
def test_a_script_finds_its_interpreter_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first_line: str, mode: int, itself: bool
) -> None:
    script = tmp_path / "gateway"
    script.write_text(f"{first_line}\nimport gateway\n")
    script.chmod(mode)
    monkeypatch.setattr(sys, "orig_argv", ["/venv/bin/python", str(script), "serve", "shop.toml"])
    began = [str(script)] if itself else [sys.executable, str(script)]
    assert upgrade.command_line() == (*began, "serve", "shop.toml")


@pytest.mark.parametrize("arguments", [[], ["-m", "gateway", "serve"]])
def test_what_is_no_script_is_run_by_this_interpreter(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python3", *arguments])
    assert upgrade.command_line() == (sys.executable, *arguments)


def test_an_ordinary_start_has_nothing_to_go_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    assert upgrade.handed_over() is None
    monkeypatch.setenv("GATEWAY_UPGRADE", "1:0")  # some other process's, inherited
    assert upgrade.handed_over() is None
    assert "GATEWAY_UPGRADE" not in os.environ


def test_descriptors_are_closed_on_the_next_exec(variable: Callable[[int, Any], None]) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    document = {"format": upgrade.FORMAT, "version": "1", "state": {"pools": []}, "descriptors": [reading]}
    variable(os.getpid(), document)
    handed = upgrade.handed_over()
    assert handed is not None
    assert (handed.rehearsal, handed.socket_on_fd_0) == (False, False)
    assert not os.get_inheritable(reading)
    variable(os.getppid(), document)
    handed = upgrade.handed_over()
    assert handed is not None
    assert handed.rehearsal
    os.close(reading)
    os.close(writing)


def test_an_unknown_format_is_refused(variable: Callable[[int, Any], None]) -> None:
    variable(os.getpid(), {"format": upgrade.FORMAT + 1, "version": "99"})
    with pytest.raises(ConfigError, match="with the workers of 99"):
        upgrade.handed_over()


def test_another_layout_is_another_format() -> None:
    """Old workers go on writing theirs: whoever changes it writes a higher FORMAT here, and what the layout is now."""
    layout = Layout(threads=3, hosts=2)
    assert (upgrade.FORMAT, layout.row, layout.slot, layout.start(1)) == (3, 1360, 4096, 794624)
    assert (scoreboard._WORDS, scoreboard._COUNTERS_START, len(scoreboard.BOUNDS)) == (14, 1024, 15)
    assert scoreboard._ACCEPTED == 2


def test_settings() -> None:
    pool = Pool(listen=("/run/shop.sock",), env={"A": "b"}, access_suppress_path=("/ping",))
    settings = Settings(gateway=Gateway(process_max=7), pools={"shop": pool}, source="shop.toml")
    assert settings_from_json(json.loads(json.dumps(to_json(settings)))) == settings


def test_settings_of_a_later_version() -> None:
    settings = Settings(gateway=Gateway(process_max=7), pools={"shop": Pool()}, applications=(Application("a", "a:b"),))
    later = to_json(settings)
    for each in (later, later["gateway"], later["pools"]["shop"], later["applications"][0]):
        each["of_a_later_version"] = 1
    assert settings_from_json(later) == settings


def test_statistics() -> None:
    before, after = Statistics(), Statistics()
    answers = {("a.example", "2xx"): 3, ("*", "5xx"): 1}
    before.worker_ended(Counts(requests=4, lost=1, run=[1] * 16, run_sum=2.5, answers=answers), "crashed")
    before.sample(3, 9)
    after.take_over(json.loads(json.dumps(before.hand_over())))
    assert vars(after) == vars(before)
    after.worker_ended(Counts(requests=1, answers=answers), "idle")
    assert after.before.answers[("a.example", "2xx")] == 6


def test_a_lookout(loop: Loop) -> None:
    kept = KeptQueue.create()
    before, after = Lookout("main", loop, kept), Lookout("main", loop, kept)
    before.deadlines.slow_requests = 3
    after.take_over(through(before.hand_over))
    assert after.deadlines.slow_requests == 3
    kept.close()


def test_a_scoreboard() -> None:
    before = Scoreboard(1, ["", "a.example"])
    before.use(3)
    [row] = Slot(before.fd, before.layout).take(3)
    after = Scoreboard(**through(before.hand_over))
    row.begin(GET, "a.example")
    row.end(1, 200, None)
    assert row.accepted() is False
    assert after.counts(3, os.getpid()) == before.counts(3, os.getpid())
    assert after.counts(3, os.getpid()).answers == {("a.example", "2xx"): 1}
    assert after.accepted() == 1
    after.expire(5)
    assert row.accepted() is True
    before.close()
    after.close()


def test_a_slow_log(loop: Loop, capfd: pytest.CaptureFixture[str]) -> None:
    before, after = SlowLog(loop), SlowLog(loop)
    assert through(before.hand_over) == []
    writing = before.for_workers("slow.log")
    after.take_over(through(before.hand_over))
    os.write(writing, b"a stack\n")
    after.hear()
    assert "a stack" in capfd.readouterr().err
    assert after.for_workers("slow.log") >= 0
    before.close()
    after.close()


def test_a_line_that_was_half_said(loop: Loop, capfd: pytest.CaptureFixture[str]) -> None:
    before, after = PoolLogs("main", loop), PoolLogs("main", loop)
    with before.catch() as (output, writing):
        output.process = SimpleNamespace(pid=42)
        os.write(writing, b"one, ")
        output.hear()
        after.take_over(through(before.hand_over), {})
        os.write(writing, b"two\n")
    after.close()
    assert capfd.readouterr().err.endswith("[42] one, two\n")
    before.close()


def test_a_queue_of_kept_connections() -> None:
    before = KeptQueue.create()
    front, ours = socket.socketpair()
    assert before.give(ours, kept=True)
    after = KeptQueue.take_over(through(before.hand_over))
    before.close()
    taken = after.take()
    assert taken is not None
    taken[0].close()
    for end in (front, ours, after):
        end.close()


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return parse_address(str(tmp_path / "a.sock") if request.param == "unix" else f"127.0.0.1:{free_port()}")


def test_a_listener(address: Address, tmp_path: Path) -> None:
    [before] = open_listeners(address)
    after = Listener.take_over(*through(before.hand_over))
    assert (after.address, after.inode) == (address, before.inode)
    before.socket.close()
    with socket.socket(after.socket.family) as client:
        client.connect(address.path if isinstance(address, UnixAddress) else after.socket.getsockname())
        after.socket.accept()[0].close()
    after.close()
    assert list(tmp_path.iterdir()) == []


def test_a_caller_and_what_it_has_said_so_far(tmp_path: Path, loop: Loop) -> None:
    path = str(tmp_path / "control.sock")
    heard: list[tuple[Command, Caller]] = []
    before = Callers(path, loop, lambda *call: pytest.fail("too early"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b'{"command": ')
        loop.hear_last()  # a call
        loop.hear_last()  # half of its command
        after = Callers(path, loop, lambda *call: heard.append(call), through(before.hand_over))
        client.sendall(b'"status"}\n')
        loop.hear_last()
        [(command, caller)] = heard
        assert command == {"command": "status"}
        caller.reply({"ok": True})
        assert client.recv(100) == b'{"ok": true}\n'
    before._silent[0].socket.close()  # both sides are this process
    after.close()
    before.close()


def test_the_outcome_of_the_reload_is_told() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        upgrade.answer(Caller(ours), {"ok": False, "error": "pool main: cannot load shop"})
        answer = json.loads(theirs.recv(1000))
    assert not answer["ok"]
    assert answer["error"].endswith(":\npool main: cannot load shop")
