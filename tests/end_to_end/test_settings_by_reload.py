"""Settings that a reload applies: limits, environment, listeners and whole sites, with no request lost."""

from __future__ import annotations

import json
import os
import pwd
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gateway.net import control
from tests.end_to_end.browsing import fetch, while_running, work
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, USER, Master, Settings, serving, site
from tests.waiting import wait_until

RATE = 100  # requests a second: four workers have to keep up with it also on a busy machine


@pytest.fixture
def settings(place: Path) -> Settings:
    (place / "sites").mkdir()
    settings = Settings(place)
    change(settings)
    return settings


def change(settings: Settings, **pool: Any) -> None:
    """Write the settings file anew, with other settings of the pool `main`, and with sites."""
    settings.pool |= pool
    settings.write()
    text = json.loads(settings.file.read_text()) | {"include": ["sites/*.toml"]}
    settings.file.write_text(json.dumps(text))


def add_site(settings: Settings, name: str, colour: str = "", **pool: Any) -> Path:
    """Drop a site with a pool of its own; return the pool's socket."""
    path = settings.place / f"{name}.sock"
    values = {"listen": str(path), "app_dir": str(HERE), "max_children": 1, "user": USER} | pool
    (settings.place / "sites" / f"{name}.toml").write_text(
        f"[pools.{name}]\n"
        + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        + f'env = {{ COLOUR = "{colour}" }}\n'
        + f'[[applications]]\nname = "{name}"\napp = "everything:application"\n'
        + 'bindings = [{ hostname = "*", port = "*" }]\n'
    )
    return path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [*GATEWAY, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def reload(settings: Settings, *options: str) -> tuple[int, str]:
    done = run("reload", settings.file, *options)
    return done.returncode, done.stderr


def pools(settings: Settings) -> dict[str, dict[str, Any]]:
    return {pool["name"]: pool for pool in control.call(str(settings.control), {"command": "status"}, 5)["pools"]}


def pids(settings: Settings, name: str = "main") -> set[int]:
    return {worker["pid"] for worker in pools(settings)[name]["workers"]}


def environment(socket: Path) -> dict[str, str]:
    """The environment of a worker that answers at a socket."""
    shown = run("request", socket, "/process")
    assert shown.returncode == 0, shown.stderr
    values: dict[str, str] = json.loads(shown.stdout.partition("\n\n")[2])["environ"]
    return values


def test_changes_under_load_lose_nothing(settings: Settings) -> None:
    def steps() -> None:
        for number in (8, 5, 6, 4, 7):  # each enough for the load, or the front-end would run out of connections
            change(settings, max_children=number)
            assert reload(settings) == (0, "")
            wait_until(lambda: len(pids(settings)) == number, 20)  # noqa: B023  waited for at once
        other = settings.place / "other.sock"
        for listen in ([str(settings.socket), str(other)], [str(settings.socket)]):
            change(settings, listen=listen)
            assert reload(settings) == (0, "")
        shop = add_site(settings, "shop")
        assert reload(settings) == (0, "")
        assert environment(shop)
        (settings.place / "sites" / "shop.toml").unlink()
        assert reload(settings) == (0, "")

    with site("nginx", settings) as running:
        answers, _ = while_running(running.port, work(RATE, 0.3), steps)
        wrong = [(post.path, status, body[:80]) for post, status, body in answers if (status, body) != (200, post.body)]
        assert wrong == []
        assert sorted(settings.journal(), key=int) == [str(n) for n in range(len(answers))]
        assert fetch(running.port, "/hello").status == 200


def test_workers_get_their_new_environment(settings: Settings) -> None:
    with serving(settings):
        assert "COLOUR" not in environment(settings.socket)
        change(settings, env={"COLOUR": "blue"})
        assert reload(settings) == (0, "")
        assert environment(settings.socket)["COLOUR"] == "blue"


def test_a_pool_that_shrinks_or_grows_has_what_it_may_have(settings: Settings) -> None:
    with serving(settings) as master:
        for more in ({"max_children": 9}, {"max_children": 1}, {"pm": "dynamic", "max_children": 5}):
            change(settings, **more)
            assert reload(settings) == (0, "")
            wait_until(master.ready, 20)
            pool = pools(settings)["main"]
            assert pool["max_children"] == more["max_children"]
            assert pool["wanted"] == (2 if "pm" in more else more["max_children"])
        change(settings, pm="ondemand", process_idle_timeout=0.1)
        assert reload(settings) == (0, "")
        wait_until(lambda: not pids(settings), 20)
        assert run("request", settings.socket, "/hello").stdout.endswith("Hello\n")


def test_a_site_comes_changes_and_goes_by_its_file(settings: Settings) -> None:
    with serving(settings):
        before = pids(settings)
        shop = add_site(settings, "shop", "blue")
        assert reload(settings, "--pool", "shop") == (0, "")
        assert environment(shop)["COLOUR"] == "blue"
        add_site(settings, "shop", "red")
        assert reload(settings, "--pool", "shop") == (0, "")
        assert environment(shop)["COLOUR"] == "red"
        (settings.place / "sites" / "shop.toml").unlink()
        assert reload(settings, "--pool", "shop") == (0, "")
        assert not shop.exists()
        wait_until(lambda: list(pools(settings)) == ["main"])
        assert pids(settings) == before


def test_a_site_that_breaks_costs_itself_alone(settings: Settings) -> None:
    shop = add_site(settings, "shop")
    with serving(settings):
        (settings.place / "sites" / "shop.toml").write_text("[pools.shop\n")
        add_site(settings, "blog")
        code, said = reload(settings)
        assert code == 1
        assert "sites/shop.toml:1: is no TOML" in said
        assert "sites/shop.toml: what it said before stays in force" in said
        assert environment(shop)
        assert environment(settings.place / "blog.sock")
        checked = run("check", settings.file)
        assert checked.returncode == 100
        assert "sites/shop.toml:1: is no TOML" in checked.stderr


IMPOSSIBLE = [
    ({"user": "nobody-of-this-name"}, "user 'nobody-of-this-name' does not exist"),
    ({"access_log": "/nowhere/access.log"}, "access_log: cannot open /nowhere/access.log: "),
    ({"listen": "/nowhere/shop.sock"}, "cannot listen in /nowhere: No such file or directory"),
    ({"protocol": "scgi"}, "protocol cannot be changed while the pool runs"),
]


@pytest.mark.parametrize(("impossible", "reason"), IMPOSSIBLE)
def test_a_site_that_asks_for_the_impossible_costs_itself_alone(
    settings: Settings, impossible: dict[str, str], reason: str
) -> None:
    shop = add_site(settings, "shop")
    with serving(settings):
        before = pids(settings, "shop")
        add_site(settings, "shop", **impossible)
        add_site(settings, "blog")
        change(settings, max_children=2)
        code, said = reload(settings)
        assert (code, f"sites/shop.toml: pools.shop: {reason}" in said) == (1, True)
        assert pids(settings, "shop") == before
        assert environment(shop)
        assert environment(settings.place / "blog.sock")
        assert pools(settings)["main"]["max_children"] == 2
        alone = reload(settings, "--pool", "shop")
        assert (alone[0], reason in alone[1]) == (1, True)
        add_site(settings, "shop", "blue")
        assert reload(settings) == (0, "")
        assert environment(shop)["COLOUR"] == "blue"


def test_a_site_that_asks_for_the_impossible_at_the_start_is_left_out(settings: Settings) -> None:
    add_site(settings, "shop", user="nobody-of-this-name")
    blog = add_site(settings, "blog")
    with serving(settings) as master:
        assert list(pools(settings)) == ["main", "blog"]
        assert environment(blog)
        assert "sites/shop.toml: pools.shop: user 'nobody-of-this-name' does not exist" in master.said
        checked = run("check", settings.file)
        assert checked.returncode == 100
        assert "sites/shop.toml: pools.shop: user 'nobody-of-this-name' does not exist" in checked.stderr
        shop = add_site(settings, "shop", "blue")
        assert reload(settings) == (0, "")
        assert environment(shop)["COLOUR"] == "blue"


def test_the_console_does_not_belong_to_a_site_that_is_left_out(settings: Settings) -> None:
    add_site(settings, "a", user="nobody-of-this-name")
    blog = add_site(settings, "blog")
    gateway = {"control": str(settings.control), "status_listen": f"{settings.place}/status.sock"}
    settings.file.write_text(json.dumps({"gateway": gateway, "include": ["sites/*.toml"]}))
    with serving(settings):
        assert environment(blog)
        assert run("request", settings.place / "status.sock", "/ping").stdout.endswith("pong")


def test_a_site_without_a_user_is_left_out_where_root_starts_it(settings: Settings) -> None:
    add_site(settings, "shop", user="")
    with serving(settings) as master:
        root = os.geteuid() == 0
        assert list(pools(settings)) == (["main"] if root else ["main", "shop"])
        assert ("sites/shop.toml: pools.shop: user is missing, and gateway runs as root" in master.said) is root


def refused(settings: Settings, master: Master, message: str) -> None:
    before = pids(settings)
    code, said = reload(settings)
    assert code == 1
    assert message in said
    assert pids(settings) == before
    wait_until(lambda: "reload refused: " in master.said)


def test_a_mistake_refuses_the_reload_and_changes_nothing(settings: Settings) -> None:
    taken = settings.place / "taken.sock"
    other = settings.place / "other.sock"
    taken.write_text("no socket")
    with serving(settings) as master:
        add_site(settings, "shop")
        change(settings, max_children=0)
        refused(settings, master, "pools.main.max_children: 0 is too small; write 1 or more")
        change(settings, max_children=2, listen=[str(other), str(taken)])
        refused(settings, master, f"cannot listen on {taken}: something that is no socket is there")
        change(settings, listen=str(settings.socket), protocol="scgi")
        refused(settings, master, "pools.main: protocol cannot be changed while the pool runs")
        assert list(pools(settings)) == ["main"]
        assert not other.exists()
        assert not (settings.place / "shop.sock").exists()
        change(settings, protocol="fastcgi")
        assert reload(settings) == (0, "")


def test_code_that_cannot_be_loaded_leaves_the_old_settings_in_force(settings: Settings) -> None:
    other = settings.place / "other.sock"
    with serving(settings):
        before = pids(settings)
        change(settings, app_dir=str(settings.place), max_children=2, listen=[str(settings.socket), str(other)])
        code, said = reload(settings)
        assert code == 1
        assert "there is no module 'everything'" in said
        assert (pids(settings), pools(settings)["main"]["max_children"]) == (before, 4)
        assert not other.exists()


def test_an_address_goes_from_one_pool_to_another_by_two_reloads(settings: Settings) -> None:
    other = settings.place / "other.sock"
    with serving(settings):
        change(settings, listen=str(other))
        shop = add_site(settings, "shop", "blue", listen=str(settings.socket))
        assert shop != settings.socket
        code, said = reload(settings)
        told = f"sites/shop.toml: pools.shop: listen: {settings.socket} is the pool main's as it runs; let one reload"
        assert (code, told in said) == (1, True)
        assert environment(other)
        assert reload(settings) == (0, "")
        assert environment(settings.socket)["COLOUR"] == "blue"


def test_permissions_and_queue_of_a_listener_change_where_it_stays(settings: Settings) -> None:
    with serving(settings):
        inode = settings.socket.stat().st_ino
        change(settings, listen_mode="0606", listen_backlog=7)
        assert reload(settings) == (0, "")
        assert (settings.socket.stat().st_ino, stat.S_IMODE(settings.socket.stat().st_mode)) == (inode, 0o606)
        assert pools(settings)["main"]["listen_queue_len"] == 7
        if os.geteuid() == 0:
            change(settings, listen_owner="nobody")
            assert reload(settings) == (0, "")
            assert settings.socket.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert environment(settings.socket)


def test_the_format_of_the_error_log_changes(settings: Settings) -> None:
    with serving(settings) as master:
        settings.more["gateway"] = {"error_log_format": "json"}
        change(settings)
        assert reload(settings) == (0, "")
        assert json.loads(master.said.splitlines()[-1])["message"].startswith("pool main: generation 2 serves")


def test_listeners_move(settings: Settings) -> None:
    other = settings.place / "other.sock"
    with serving(settings):
        inode = settings.socket.stat().st_ino
        change(settings, listen=[str(settings.socket), str(other)])
        assert reload(settings) == (0, "")
        assert settings.socket.stat().st_ino == inode
        assert environment(other)
        change(settings, listen=str(other))
        assert reload(settings) == (0, "")
        assert not settings.socket.exists()
        assert environment(other)
        assert pools(settings)["main"]["listen"] == [str(other)]
