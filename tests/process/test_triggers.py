"""When the master reloads by itself; the files are real, the clock is simulated."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.process import triggers
from gateway.process.triggers import Triggers
from gateway.settings import Pool, Settings


class Clock:
    """Stands for the module `time`; its times are whole seconds, so that nothing is lost in rounding."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    simulated = Clock()
    monkeypatch.setattr(triggers, "time", simulated)
    return simulated


class Watched:
    def __init__(self, pool: Pool, name: str = "main", changed_file: str = "") -> None:
        self.setups = SimpleNamespace(current=SimpleNamespace(pool=pool))
        self.name = name
        self.leaving = False
        self.changed_file = changed_file


@dataclass
class Looking:
    """Looks as the master's loop does, and keeps what came of it."""

    clock: Clock
    pools: list[Watched]
    settings: Settings = field(default_factory=Settings)
    triggers: Triggers = field(default_factory=Triggers)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def look(self) -> list[tuple[str, str]]:
        """Look once the triggers say that it is time."""
        patience = self.triggers.patience(self.pools)
        assert patience is not None
        assert 0 <= patience <= 1
        self.clock.now += patience
        assert self.triggers.patience(self.pools) == 0
        return list(self.triggers.look(self.pools, self.settings))


@pytest.fixture
def touched(tmp_path: Path) -> Path:
    return tmp_path / "reload.txt"


def test_nothing_to_look_at_wakes_nobody() -> None:
    assert Triggers().patience([Watched(Pool())]) is None


def test_a_file_that_is_touched_or_appears_reloads_its_pool(clock: Clock, touched: Path) -> None:
    looking = Looking(clock, [Watched(Pool(touch_reload=(str(touched),))), Watched(Pool(), "other")])
    assert looking.look() == []
    touched.write_text("")
    assert looking.look() == [("main", str(touched))]
    assert looking.look() == []
    os.utime(touched, (1, 1))
    assert looking.look() == [("main", str(touched))]
    touched.unlink()
    assert looking.look() == []
    looking.pools[0].leaving = True
    touched.write_text("new")
    assert looking.look() == []


def test_a_file_that_is_named_anew_counts_as_it_is(clock: Clock, touched: Path) -> None:
    pool = Watched(Pool(touch_reload=(f"{touched}.other",)))
    looking = Looking(clock, [pool])
    touched.write_text("")
    assert looking.look() == []
    pool.setups.current.pool = Pool(touch_reload=(str(touched),))
    assert looking.look() == []


def test_a_pool_is_reloaded_for_its_code_at_most_once_a_second(clock: Clock) -> None:
    pool = Watched(Pool(), changed_file="/srv/web.py")
    looking = Looking(clock, [pool])
    assert looking.look() == [("main", "/srv/web.py")]
    pool.changed_file = "/srv/shop.py"
    assert list(looking.triggers.look(looking.pools, looking.settings)) == []
    pool.changed_file = "/srv/blog.py"
    assert looking.look() == [("main", "/srv/blog.py")]
    assert pool.changed_file == ""


@pytest.fixture
def files(clock: Clock, tmp_path: Path) -> Looking:
    """The settings file and its sites, which nobody has looked at yet."""
    (tmp_path / "s.toml").write_text("1")
    (tmp_path / "sites").mkdir()
    settings = Settings(source=str(tmp_path / "s.toml"), included=(str(tmp_path / "sites/*.toml"),))
    return Looking(clock, [Watched(Pool(reload_on_change=True))], settings)


def test_settings_that_have_changed_are_told_once_they_rest(files: Looking, tmp_path: Path) -> None:
    source, site = tmp_path / "s.toml", tmp_path / "sites" / "a.toml"
    assert files.look() == []
    source.write_text("half")
    assert files.look() == []
    source.write_text("whole")
    assert files.look() == []
    assert files.look() == [("", str(source))]
    assert files.look() == []
    site.write_text("")
    assert files.look() == []
    assert files.look() == [("", str(site))]
    site.unlink()
    assert files.look() == []
    assert files.look() == [("", str(site))]


def test_settings_that_are_as_they_were_are_no_change(files: Looking, tmp_path: Path) -> None:
    assert files.look() == []
    (tmp_path / "s.toml").rename(tmp_path / "s.toml~")
    assert files.look() == []
    (tmp_path / "s.toml~").rename(tmp_path / "s.toml")
    assert files.look() == []
    assert files.look() == []
