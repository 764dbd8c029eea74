"""What the service manager is told, as pools load, reload and stop; heard on a real datagram socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.net.notify import Notifier
from gateway.process.announce import Announcer
from tests.waiting import wait_until


class Manager:
    """The service manager's end."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        """What has come since the last time; the time of a reload is left out."""
        messages = []
        try:
            while True:
                messages.append(self.socket.recv(65_536).decode().partition("\nMONOTONIC_USEC=")[0])
        except BlockingIOError:
            return messages


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.socket.close()


@pytest.fixture
def notifier(manager: Manager) -> Iterator[Notifier]:
    notifier = Notifier(manager.socket.getsockname(), watchdog_usec=1_000_000)
    yield notifier
    notifier.close()


@pytest.fixture
def announcer(manager: Manager, notifier: Notifier) -> Announcer:
    announcer = Announcer(notifier, ["shop", "blog"])
    assert manager.heard() == ["STATUS=loading shop, blog"]
    return announcer


def test_ready_when_every_pool_is(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("shop", "")
    assert manager.heard() == []
    announcer.loaded("blog", "")
    assert manager.heard() == ["READY=1\nSTATUS=serving shop, blog"]


def test_a_pool_that_cannot_be_loaded_does_not_hold_up_the_others(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("blog", "cannot load blog\nTraceback: …")
    announcer.loaded("shop", "")
    assert manager.heard() == ["READY=1\nSTATUS=serving shop, blog; pool blog: cannot load blog"]
    announcer.loaded("blog", "")
    assert manager.heard() == ["READY=1\nSTATUS=serving shop, blog"]


def test_a_pool_whose_workers_do_not_start_does_not_either(manager: Manager, announcer: Announcer) -> None:
    announcer.unserved("blog")
    announcer.loaded("shop", "")
    assert manager.heard() == ["READY=1\nSTATUS=serving shop, blog; pool blog: its workers fail to start"]
    announcer.unserved("shop")
    announcer.unserved("blog")
    assert manager.heard() == []


def test_ready_when_stand_ins_answer_for_what_cannot_start(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("shop", "on_worker_start: no database")
    announcer.unserved("shop")
    assert manager.heard() == []
    announcer.loaded("blog", "on_worker_start: no database either")
    shown = (
        "serving shop, blog; pool shop: on_worker_start: no database; pool blog: on_worker_start: no database either"
    )
    assert manager.heard() == [f"READY=1\nSTATUS={shown}"]
    announcer.unserved("shop")
    assert manager.heard() == []


def test_not_ready_when_nothing_could_be_loaded(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("blog", "cannot load blog")
    announcer.loaded("shop", "cannot load shop")
    assert manager.heard() == []
    announcer.stopping()
    assert manager.heard() == ["STOPPING=1"]


def test_a_reload_lasts_until_its_last_outcome(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("shop", "")
    announcer.loaded("blog", "")
    manager.heard()
    announcer.reloading()
    announcer.loaded("shop", "", reloading=True)
    assert manager.heard() == ["RELOADING=1"]
    announcer.loaded("blog", "cannot load blog")
    assert manager.heard() == ["READY=1\nSTATUS=serving shop, blog; pool blog: cannot load blog"]


def test_a_reload_without_settings_ends_with_the_one_that_is_under_way(manager: Manager, announcer: Announcer) -> None:
    announcer.refused("nobody waits for a start's reload")
    announcer.loaded("shop", "")
    announcer.loaded("blog", "")
    announcer.reloading()
    manager.heard()
    announcer.refused("gateway.toml: cannot be read", reloading=True)
    assert manager.heard() == ["RELOADING=1"]
    announcer.loaded("shop", "", reloading=True)
    announcer.loaded("blog", "")
    assert manager.heard() == ["READY=1\nSTATUS=serving shop, blog"]


def test_all_pools_may_refuse_a_reload(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("shop", "")
    announcer.loaded("blog", "")
    announcer.reloading()
    manager.heard()
    announcer.loaded("shop", "cannot load shop", reloading=True)
    announcer.loaded("blog", "cannot load blog")
    assert [message.partition("\n")[0] for message in manager.heard()] == ["READY=1"]


def test_a_reload_brings_a_pool_and_takes_one_away(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("shop", "")
    announcer.loaded("blog", "")
    manager.heard()
    announcer.reloading()
    announcer.added("wiki")
    announcer.removed("blog")
    announcer.loaded("blog", "", reloading=True)
    announcer.unserved("blog")
    announcer.loaded("wiki", "")
    assert manager.heard() == ["RELOADING=1", "READY=1\nSTATUS=serving shop, wiki"]


def test_a_stop_is_the_last_word(manager: Manager, announcer: Announcer) -> None:
    announcer.loaded("shop", "")
    announcer.stopping()
    announcer.stopping()
    announcer.reloading()
    announcer.loaded("blog", "the gateway is stopping")
    assert manager.heard() == ["STOPPING=1"]


def test_signs_of_life_come_at_half_the_watchdogs_time(manager: Manager, announcer: Announcer) -> None:
    assert announcer.sign_of_life() == pytest.approx(0.5)
    assert manager.heard() == ["WATCHDOG=1"]
    rest = announcer.sign_of_life()
    assert rest is not None
    assert 0 < rest < 0.5
    assert manager.heard() == []
    wait_until(lambda: (announcer.sign_of_life() or 0) > rest, what="the next sign of life")
    assert manager.heard() == ["WATCHDOG=1"]


def test_no_watchdog_needs_no_waking(manager: Manager) -> None:
    notifier = Notifier(manager.socket.getsockname())
    announcer = Announcer(notifier, ["shop"])
    manager.heard()
    assert announcer.sign_of_life() is None
    assert manager.heard() == []
    notifier.close()
