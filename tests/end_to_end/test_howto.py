"""docs/howto: the settings that the guides name exist, and what they tell a user to write works as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import read_settings
from gateway.record import fields
from gateway.settings import Application, Gateway, Pool
from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, ROOT, USER, Settings, front, serving
from tests.waiting import free_port, wait_until

GUIDES = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "howto").glob("*.md"))}
DECLARED = {field.name for kind in (Pool, Gateway, Application) for field in fields(kind)} | {"include"}
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["|".join(environ[name] for name in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")).encode("latin-1")]
"""


def rows(guide: str) -> list[list[str]]:
    """The cells of the guide's tables that name options here, in their second column."""
    tables = re.findall(r"^\| \w+ \| here \| being built.*\n\|[ -|]*\n((?:\|.*\n)+)", GUIDES[guide], re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("guide", [name for name in GUIDES if name.startswith("from-")])
def test_settings_exist(guide: str) -> None:
    table = rows(guide)
    assert len(table) > 10
    assert {len(row) for row in table} == {4}
    named = {name for row in table for name in re.findall(r"`(\w+)`", row[1])}
    assert named - DECLARED == set()


def block(guide: str, language: str, place: Path) -> str:
    """What the guide says to write, with this test's paths."""
    found = re.search(rf"```{language}\n(.*?)```", GUIDES[guide], re.DOTALL)
    assert found
    return found[1].replace("/run/shop", str(place))


@pytest.mark.parametrize("guide", ["from-uwsgi", "from-gunicorn"])
def test_settings_file(guide: str, place: Path) -> None:
    file = place / "shop.toml"
    file.write_text(block(guide, "toml", place))
    loaded = read_settings(str(file), {})
    assert loaded.problems == ()
    assert loaded.settings.pools["main"].max_children == 8


@pytest.fixture
def shop(place: Path) -> Settings:
    """A pool at the socket that the guides name."""
    (place / "shop.py").write_text(APPLICATION)
    pool = {"listen": str(place / "shop.sock"), "app_dir": str(place)}
    return Settings(place, pool, [{"name": "shop", "app": "shop:application"}])


def test_webpy_script_under_lighttpd(place: Path) -> None:
    """The recipe of web.py's documentation, with `gateway run` before the script."""
    command = place / "start"
    command.write_text(f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gateway run {HERE}/scripts/code.py\n")
    command.chmod(0o755)
    recipe = block("scripts", "lighttpd", place).replace(
        "/srv/shop/.venv/bin/gateway run /srv/shop/code.py", str(command)
    )
    port = free_port()
    start = f'server.document-root = "{place}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
    with front("lighttpd", place, start + "server.modules = ()\n" + recipe, port) as lighttpd:
        assert fetch(port, "/").text == "Hello, world!\n"
        assert fetch(port, "/raise").status == 500
        wait_until(lambda: "ValueError: on purpose" in lighttpd.said, what="the traceback")
        assert fetch(port, "/form", "POST", body=b"name=me").text == "me"
        assert fetch(port, "/sta/none.css").status == 404


def check(port: int) -> None:
    assert fetch(port, "/").text == "|/|"
    assert fetch(port, "/a/b?c=d").text == "|/a/b|c=d"


def nginx(guide: str, place: Path, port: int) -> str:
    """A whole configuration with the guide's lines."""
    inner = block(guide, "nginx", place).replace("include fastcgi_params", "include /etc/nginx/fastcgi_params")
    return f"""daemon off; {f"user {USER};" if USER else ""} pid {place}/nginx.pid; error_log stderr;
events {{ }} http {{ access_log off; client_body_temp_path {place}/t; fastcgi_temp_path {place}/t;
proxy_temp_path {place}/t; scgi_temp_path {place}/t; uwsgi_temp_path {place}/t;
server {{ listen 127.0.0.1:{port}; {inner} }} }}"""


def lighttpd(guide: str, place: Path, port: int) -> str:
    own = f'server.document-root = "{place}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
    return own + block(guide, "lighttpd", place)


@pytest.mark.parametrize("guide", ["from-uwsgi", "from-gunicorn"])
def test_nginx(guide: str, shop: Settings) -> None:
    port = free_port()
    with serving(shop), front("nginx", shop.place, nginx(guide, shop.place, port), port):
        check(port)


def test_lighttpd(shop: Settings) -> None:
    port = free_port()
    with serving(shop), front("lighttpd", shop.place, lighttpd("from-uwsgi", shop.place, port), port):
        check(port)


def test_authorizer(place: Path) -> None:
    (place / "shop.py").write_text(APPLICATION.replace('"QUERY_STRING"', '"REMOTE_USER"'))
    (place / "guard.py").write_text(block("authorizer", "python", place))
    files = place / "www" / "members" / "files"
    files.mkdir(parents=True)
    (files / "list.txt").write_text("all of us\n")
    declared = tomllib.loads(block("authorizer", "toml", place))
    settings = Settings(place, declared["pools"]["main"] | {"user": USER}, declared["applications"])
    port = free_port()
    with serving(settings), front("lighttpd", place, lighttpd("authorizer", place, port), port):
        assert fetch(port, "/members/").text == fetch(port, "/members/files/list.txt").text == "Members only\n"
        assert fetch(port, "/members/", Cookie="key=1234").text == "|/members/|me"
        assert fetch(port, "/members/files/list.txt", Cookie="key=1234").text == "all of us\n"


@pytest.mark.parametrize("configuration", [nginx, lighttpd])
def test_monitoring(configuration: Callable[[str, Path, int], str], shop: Settings) -> None:
    port, place = free_port(), shop.place
    shop.more["gateway"] = tomllib.loads(block("monitoring", "toml", place))["gateway"]
    shop.write()
    with serving(shop), front(configuration.__name__, place, configuration("monitoring", place, port), port):
        wait_until(lambda: fetch(port, "/ping").text == "pong")
        assert fetch(port, "/status?json&pool=main").text.startswith('{"pool": "main", ')
        subprocess.run([*GATEWAY, "request", place / "shop.sock", "/"], env=ENVIRONMENT, check=True, timeout=20)
        counted = 'gateway_requests_total{class="2xx",host="*",pool="main"} 1.0'
        exposed = wait_until(lambda: counted in (text := fetch(port, "/metrics").text) and text)
        documented = set(re.findall(r"`(gateway_\w+)`", GUIDES["monitoring"]))
        assert {
            name for name in documented if not re.search(rf"^{name}(_bucket)?[ {{]", exposed, re.MULTILINE)
        } == set()
