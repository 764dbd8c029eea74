"""Files that a settings file includes: what they add, and what an invalid one costs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.config import Loaded, read_settings
from gateway.reading import read
from gateway.settings import Brief, ConfigError, Work, brief_from_json

MAIN = """include = ["sites/*.toml"]
[gateway]
control = "/run/site/control.sock"
[pools.main]
listen = "/run/site/main.sock"
[[applications]]
name = "home"
app = "home:application"
bindings = [{ hostname = "home.example", port = "*" }]
"""
ALONE = 'include = ["sites/*.toml"]\n'


def application(name: str, **more: str) -> str:
    rest = "".join(f'{key} = "{value}"\n' for key, value in more.items() if key != "host")
    binding = f'bindings = [{{ hostname = "{more.get("host", name + ".example")}", port = "*" }}]\n'
    return f'[[applications]]\nname = "{name}"\napp = "{name}:application"\n{rest}{binding}'


def site(name: str) -> str:
    """A site with a pool of its own."""
    return f'[pools.{name}]\nlisten = "/run/site/{name}.sock"\n' + application(name)


def write(folder: Path, files: dict[str, str], main: str = MAIN) -> str:
    (folder / "sites").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "sites" / name).write_text(text)
    (folder / "settings.toml").write_text(main)
    return str(folder / "settings.toml")


def load(folder: Path, files: dict[str, str], main: str = MAIN) -> Loaded:
    return read_settings(write(folder, files, main), {})


def names(loaded: Loaded) -> list[tuple[str, str]]:
    return [(application.name, application.pool) for application in loaded.settings.applications]


def problems(folder: Path, loaded: Loaded) -> list[str]:
    return [problem.replace(f"{folder}/", "") for problem in loaded.problems]


def test_sites_are_added_in_the_order_of_their_names(tmp_path: Path) -> None:
    files = {"b.toml": site("blog"), "a.toml": site("shop"), "c.toml": application("wiki"), ".hidden.toml": "?"}
    loaded = load(tmp_path, files)
    assert loaded.problems == ()
    assert list(loaded.settings.pools) == ["main", "shop", "blog"]
    assert names(loaded) == [("home", "main"), ("shop", "shop"), ("blog", "blog"), ("wiki", "main")]


def test_a_pool_that_nobody_declared_is_there_only_if_it_is_used(tmp_path: Path) -> None:
    assert list(load(tmp_path, {"a.toml": site("shop")}, ALONE).settings.pools) == ["shop"]
    assert list(load(tmp_path, {"b.toml": application("blog")}, ALONE).settings.pools) == ["main", "shop"]


def test_nothing_to_serve_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither this file nor one that it includes has an application"):
        load(tmp_path, {}, ALONE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pools.x", "sites/b.toml:1: is no TOML: Expected ']' at the end of a table declaration"),
        (
            "[gateway]",
            "sites/b.toml: gateway belongs in the main settings file; an included one holds [pools.NAME] and "
            "[[applications]]",
        ),
        ("poools = 1", "sites/b.toml: poools is unknown; did you mean pools?"),
        ("applications = 1", "sites/b.toml: applications is no list; write [[applications]] before each one"),
        (
            "[pools.x]\nlisten = []",
            'sites/b.toml: pools.x.listen is missing: name an address, as in "/run/gateway/x.sock"',
        ),
        (
            site("shop").replace("shop.example", "other.example").replace("/shop.sock", "/other.sock"),
            "sites/b.toml: pools.shop: sites/a.toml has a pool of this name already; give it another",
        ),
        (
            site("main").replace("/main.sock", "/other.sock"),
            "sites/b.toml: pools.main: settings.toml has a pool of this name already; give it another",
        ),
        (
            site("x").replace("/x.sock", "/shop.sock"),
            "sites/b.toml: pools.x.listen: the pool shop listens on /run/site/shop.sock already; name another address",
        ),
        (
            application("x", host="home.example"),
            'sites/b.toml: application "x": bindings[0]: home.example:* is bound to the application "home" already; '
            "change one of them",
        ),
        (
            application("x", host="wiki.example"),
            'sites/b.toml: application "x": bindings[0]: wiki.example:* is bound to the application "wiki" of '
            "sites/aa.toml already; change one of them",
        ),
        (
            application("x", pool="shop"),
            'sites/b.toml: application "x": pool: there is no pool "shop"; write one of: main',
        ),
    ],
)
def test_a_site_with_a_mistake_is_left_out(tmp_path: Path, text: str, said: str) -> None:
    loaded = load(
        tmp_path, {"a.toml": site("shop"), "aa.toml": application("wiki"), "b.toml": text, "c.toml": site("y")}
    )
    assert problems(tmp_path, loaded) == [said]
    assert names(loaded) == [("home", "main"), ("shop", "shop"), ("wiki", "main"), ("y", "y")]
    assert list(loaded.settings.pools) == ["main", "shop", "y"]


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    path = write(tmp_path, {})
    (tmp_path / "sites").rmdir()
    (tmp_path / "sites").symlink_to("sites")
    with pytest.raises(ConfigError) as raised:
        read_settings(path, {})
    told = f'include = "{tmp_path}/sites/*.toml": cannot list {tmp_path}/sites: Too many levels of symbolic links'
    assert told in str(raised.value)


def test_include_has_to_be_a_list_of_texts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="include is no list of texts; write patterns of file names"):
        load(tmp_path, {}, MAIN.replace('["sites/*.toml"]', "[1]"))


class Master:
    """Reads its settings again and again, as `serving.Source` does."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._memory: dict[str, Any] | None = None

    def read(self) -> tuple[Brief, tuple[str, ...]]:
        outcome = json.loads(json.dumps(read(self._path, {}, "", self._memory)))
        self._memory = outcome["memory"]
        return brief_from_json(outcome["brief"]), tuple(outcome["problems"])

    def read_changed(self, folder: Path, files: dict[str, str], main: str = MAIN) -> tuple[Brief, tuple[str, ...]]:
        write(folder, files, main)
        return self.read()


@pytest.fixture(autouse=True)
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root would have to name users."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def test_a_site_that_breaks_goes_on_as_it_was(tmp_path: Path) -> None:
    master = Master(write(tmp_path, {"a.toml": site("shop"), "b.toml": site("blog")}))
    before, _ = master.read()
    assert master.read_changed(tmp_path, {"a.toml": "[pools.shop"})[0] == before
    brief, said = master.read_changed(tmp_path, {"a.toml": "[pools.shop"})
    assert brief == before
    assert [problem.replace(f"{tmp_path}/", "") for problem in said] == [
        "sites/a.toml:1: is no TOML: Expected ']' at the end of a table declaration",
        "sites/a.toml: what it said before stays in force",
    ]
    (tmp_path / "sites" / "a.toml").unlink()
    brief, said = master.read()
    assert (list(brief.settings.pools), said) == (["main", "blog"], ())
    brief, said = master.read_changed(tmp_path, {"a.toml": "[pools.shop"})
    assert list(brief.settings.pools) == ["main", "blog"], "a site that was given up does not come back by a mistake"
    assert len(said) == 1


def test_an_application_that_breaks_refuses_a_reload_but_one_that_was_broken_does_not(tmp_path: Path) -> None:
    broken = MAIN + application("other", pool="nowhere")
    master = Master(write(tmp_path, {}, broken))
    known = master.read()[1]
    assert len(known) == 1
    assert master.read()[1] == known
    for _ in range(2):
        with pytest.raises(ConfigError, match='application "third"'):
            master.read_changed(tmp_path, {}, broken + application("third", pool="nowhere"))
    assert master.read_changed(tmp_path, {}, broken)[1] == known


def test_the_master_is_told_of_applications_no_more_than_it_has_to_know(tmp_path: Path) -> None:
    brief, _ = Master(write(tmp_path, {"a.toml": site("shop")})).read()
    assert brief.settings.applications == ()
    assert (brief.work("shop").count, brief.work("shop").hosts) == (1, ("", "shop.example"))
    assert [found.name for found in brief.work("main").read_applications()] == ["home"]
    assert json.loads(brief.work("main").elsewhere) == {"the pool shop": ["shop.example"]}
    assert brief.work("nowhere") == Work()
