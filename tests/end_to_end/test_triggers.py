"""Reloads that nobody has asked for: a file that is touched, code and settings that are saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.asking import parameters
from gateway.net import control
from gateway.net.address import UnixAddress
from gateway.net.client import request
from tests.end_to_end.running import USER, Settings, serving
from tests.waiting import wait_until

SHOP = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [{text}.encode()]
"""


def ask(path: Path) -> str:
    with request(UnixAddress(str(path)), parameters("/", "GET", 0, []), timeout=10) as answer:
        return b"".join(answer.body).decode()


@pytest.fixture
def settings(place: Path) -> Settings:
    """A pool with an application of one module, below a folder of its own; the library it may use lies elsewhere."""
    (place / "app").mkdir()
    (place / "library").mkdir()
    save(place / "app" / "shop.py", "'one'")
    pool = {"app_dir": str(place / "app"), "max_children": 1, "env": {"PYTHONPATH": str(place / "library")}}
    return Settings(place, pool, [{"name": "shop", "app": "shop:application"}])


def save(path: Path, text: str, above: str = "") -> None:
    path.write_text(above + SHOP.format(text=text))


def generations(settings: Settings) -> dict[str, int]:
    pools: list[dict[str, Any]] = control.call(str(settings.control), {"command": "status"}, 5)["pools"]
    return {pool["name"]: pool["generation"] for pool in pools}


def becomes(settings: Settings, text: str) -> None:
    wait_until(lambda: ask(settings.socket) == text, 15, text)


def test_a_file_that_is_touched_reloads_its_pool_alone(settings: Settings) -> None:
    touched = settings.place / "reload.txt"
    settings.pool["touch_reload"] = [str(touched)]
    blog = {"listen": str(settings.place / "blog.sock"), "user": USER, "max_children": 1}
    settings.more["pools"] = {"blog": blog | {"app_dir": str(settings.place / "app")}}
    settings.applications.append({"name": "blog", "app": "shop:application", "pool": "blog"})
    settings.write()
    with serving(settings) as master:
        save(settings.place / "app" / "shop.py", "'second'")
        touched.write_text("")
        becomes(settings, "second")
        assert generations(settings) == {"main": 2, "blog": 1}
        wait_until(lambda: f"pool main: {touched} has changed: reloading" in master.said)
        (settings.place / "app" / "shop.py").write_text("broken(")
        touched.write_text("again")
        wait_until(lambda: "pool main: generation 3 refused: cannot load shop" in master.said)
        assert ask(settings.socket) == "second"
        save(settings.place / "app" / "shop.py", "'three'")
        touched.write_text("and again")
        becomes(settings, "three")


@pytest.mark.parametrize("preload", [True, False])
def test_code_that_is_saved_is_loaded_and_broken_code_is_refused(settings: Settings, preload: bool) -> None:
    shop = settings.place / "app" / "shop.py"
    settings.pool |= {"reload_on_change": True, "preload": preload}
    settings.write()
    with serving(settings) as master:
        save(shop, "'two'")
        becomes(settings, "two")
        wait_until(lambda: f"pool main: {shop} has changed: reloading" in master.said)
        shop.write_text("broken(")
        wait_until(lambda: "generation 3 refused" in master.said)
        assert ask(settings.socket) == "two"
        save(shop, "str(prices)", "import prices\n")  # which is not there yet
        wait_until(lambda: "generation 4 refused" in master.said)
        (settings.place / "app" / "prices.py").write_text("broken(")
        wait_until(lambda: "generation 5 refused" in master.said)
        (settings.place / "app" / "prices.py").write_text("")
        becomes(settings, f"<module 'prices' from '{settings.place / 'app' / 'prices.py'}'>")


def test_a_module_from_elsewhere_is_watched_too(settings: Settings) -> None:
    library = settings.place / "library" / "prices.py"
    library.write_text("price = 'one'")
    save(settings.place / "app" / "shop.py", "prices.price", "import prices\n")
    settings.pool["reload_on_change"] = True
    settings.write()
    with serving(settings) as master:
        assert ask(settings.socket) == "one"
        library.write_text("price = 'eleven'")
        becomes(settings, "eleven")
        wait_until(lambda: f"pool main: {library} has changed: reloading" in master.said)


def write_site(settings: Settings, children: int) -> None:
    """Write a site of its own pool beside the settings."""
    pool = {"listen": str(settings.place / "site.sock"), "user": USER, "app_dir": str(settings.place / "app")}
    tables = {
        "pools": {"site": pool | {"max_children": children}},
        "applications": [{"name": "site", "app": "shop:application", "bindings": [{"hostname": "*", "port": "*"}]}],
    }
    (settings.place / "site.json").write_text(json.dumps(tables))


def write_including(settings: Settings, **pool: Any) -> None:
    """Write the settings, which include the site."""
    settings.pool |= pool
    settings.write()
    settings.file.write_text(json.dumps(json.loads(settings.file.read_text()) | {"include": ["site*.json"]}))


def workers(settings: Settings) -> dict[str, int]:
    pools = control.call(str(settings.control), {"command": "status"}, 5)["pools"]
    return {pool["name"]: pool["wanted"] for pool in pools}


def test_settings_that_are_saved_reload_the_pools_that_they_change(settings: Settings) -> None:
    write_including(settings, reload_on_change=True)
    write_site(settings, 1)
    with serving(settings) as master:
        write_site(settings, 2)
        wait_until(lambda: workers(settings) == {"main": 1, "site": 2}, 15)
        assert generations(settings) == {"main": 1, "site": 2}
        wait_until(lambda: f"{settings.place / 'site.json'} has changed: reloading" in master.said)
        settings.file.write_text("{")
        wait_until(lambda: "reload refused: " in master.said)
        write_including(settings, max_children=3)
        wait_until(lambda: workers(settings) == {"main": 3, "site": 2}, 15)
        assert generations(settings)["site"] == 2


def test_without_the_setting_nothing_is_loaded_by_itself(settings: Settings) -> None:
    with serving(settings) as master:
        idle = wait_until(lambda: [w for w in master.workers("idle") if w["seconds"] > 1.5])
        save(settings.place / "app" / "shop.py", "'two'")
        wait_until(lambda: [w for w in master.workers("idle") if w["seconds"] > idle[0]["seconds"] + 2.5])
        assert ask(settings.socket) == "one"
