"""The service manager's side of sd_notify(3), on a real datagram socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.net.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(15)
        yield manager


@pytest.fixture
def notifier(manager: socket.socket) -> Iterator[Notifier]:
    notifier = Notifier(manager.getsockname())
    yield notifier
    notifier.close()


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(65_536).decode().split("\n")


def test_the_states(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready("serving")
    assert heard(manager) == ["READY=1", "STATUS=serving"]
    notifier.ready()
    assert heard(manager) == ["READY=1"]
    notifier.stopping()
    assert heard(manager) == ["STOPPING=1"]
    notifier.status("4 workers")
    assert heard(manager) == ["STATUS=4 workers"]
    notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]


def test_a_reload_has_its_time(manager: socket.socket, notifier: Notifier) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    state, at = heard(manager)
    assert state == "RELOADING=1"
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) <= after


def test_an_abstract_name() -> None:
    name = f"gateway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(15)
        notifier = Notifier(f"@{name}")
        notifier.ready()
        assert heard(manager) == ["READY=1"]
        notifier.close()


def test_a_status_is_one_line_of_bounded_length(manager: socket.socket, notifier: Notifier) -> None:
    notifier.status("cannot load shop\nMAINPID=1\udc80")
    assert heard(manager) == ["STATUS=cannot load shop\\x0aMAINPID=1\\udc80"]
    notifier.status("\N{GRINNING FACE}" * 10_000)
    assert len(manager.recv(65_536)) <= 4096
    notifier.status("")
    notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]  # an empty status is none


def test_the_environment_is_read_and_removed(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "3000000"}
    for name, value in (variables | {"WATCHDOG_PID": str(os.getpid())}).items():
        monkeypatch.setenv(name, value)
    notifier = Notifier.from_environment()
    assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)
    assert notifier.watchdog_interval == 1.5
    assert notifier.environment() == variables
    notifier.ready()
    assert heard(manager) == ["READY=1"]
    notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid"),
    [
        ("3000000", str(os.getppid())),
        ("0", ""),
        ("", ""),
        ("-1", ""),
        ("soon", ""),
        ("²", ""),
    ],
)
def test_no_watchdog(monkeypatch: pytest.MonkeyPatch, manager: socket.socket, usec: str, pid: str) -> None:
    for name, value in (("NOTIFY_SOCKET", manager.getsockname()), ("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.setenv(name, value)
    notifier = Notifier.from_environment()
    assert notifier.watchdog_interval is None
    assert notifier.environment() == {"NOTIFY_SOCKET": manager.getsockname()}
    notifier.close()


def test_a_watchdog_may_name_no_process(monkeypatch: pytest.MonkeyPatch, manager: socket.socket) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "500000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    notifier = Notifier.from_environment()
    assert notifier.watchdog_interval == 0.25
    notifier.close()


def tell_everything(notifier: Notifier) -> None:
    notifier.status("a")
    notifier.ready("b")
    notifier.reloading()
    notifier.alive()
    notifier.stopping()


def test_nobody_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    notifier = Notifier.from_environment()
    assert notifier.watchdog_interval is None
    assert notifier.environment() == {}
    tell_everything(notifier)
    notifier.close()


@pytest.mark.parametrize("address", ["/nowhere/notify", "/" + "a" * 200, "@" + "a" * 200, "vsock:2:1", "notify"])
def test_a_manager_that_cannot_be_told_is_no_error(address: str) -> None:
    notifier = Notifier(address)
    tell_everything(notifier)
    notifier.close()
    tell_everything(notifier)


def test_a_manager_that_reads_nothing_holds_up_no_sign_of_life(manager: socket.socket, notifier: Notifier) -> None:
    started = time.monotonic()
    for _ in range(5_000):  # more than net.unix.max_dgram_qlen lets wait
        notifier.alive()
    assert time.monotonic() - started < 5
    for _ in range(10):
        heard(manager)
    notifier.ready()
    manager.setblocking(False)
    messages: list[list[str]] = []
    while not messages or messages[-1] != ["READY=1"]:
        messages.append(heard(manager))  # BlockingIOError, had it been lost
    assert len(messages) < 5_000
