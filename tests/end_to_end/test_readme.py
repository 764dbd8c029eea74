"""README.md: what it tells a user of lighttpd or nginx to write works as it stands there, but for the paths."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import ROOT, USER, Settings, front, serving
from tests.waiting import free_port

README = (ROOT / "README.md").read_text()
APPLICATION = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [(environ["SCRIPT_NAME"] + "|" + environ["PATH_INFO"]).encode("latin-1")]
"""


@pytest.fixture
def shop(place: Path) -> Path:
    """The folder that README.md calls /srv/shop, with an application and a static file."""
    (place / "shop").mkdir()
    (place / "shop" / "web.py").write_text(APPLICATION)
    (place / "htdocs" / "sta").mkdir(parents=True)
    (place / "htdocs" / "sta" / "style.css").write_text("body {}")
    return place


def test_every_file_of_the_source_tour_exists() -> None:
    folder, missing = ROOT, []
    for name in re.findall(r"`([\w./-]+(?:\.py|/))`", README.partition("## A tour of the source")[2]):
        path = ROOT / name if "/" in name else folder / name
        folder = path.parent if name.endswith(".py") else folder
        missing += [] if path.exists() else [str(path)]
    assert missing == []


def block(language: str, place: Path) -> str:
    """The README's configuration for a front-end, with this test's paths."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1].replace("/srv/shop", str(place)).replace("/run/shop", str(place))


def check(port: int) -> None:
    assert fetch(port, "/a/b?c=d").text == "|/a/b"
    assert fetch(port, "/").text == "|/"
    assert fetch(port, "/sta/style.css").text == "body {}"
    assert fetch(port, "/sta/none.css").status == 404


def test_lighttpd(shop: Path) -> None:
    command = shop / "gateway"
    user = f"--user {USER}" if USER else ""
    start = f'PYTHONPATH={ROOT} exec {sys.executable} -m gateway "$command" {user} "$@"'
    command.write_text(f"#!/bin/sh\ncommand=$1; shift\n{start}\n")
    command.chmod(0o755)
    port = free_port()
    configuration = block("lighttpd", shop).replace(f"{shop}/.venv/bin/gateway", str(command))
    with front("lighttpd", shop, f'{configuration}\nserver.bind = "127.0.0.1"\nserver.port = {port}\n', port):
        check(port)


def test_nginx(shop: Path) -> None:
    port = free_port()
    inner = block("nginx", shop).replace("include fastcgi_params", "include /etc/nginx/fastcgi_params")
    user = f"user {USER};" if USER else ""
    configuration = f"""daemon off; {user} pid {shop}/nginx.pid; error_log stderr; events {{ }}
http {{ access_log off; client_body_temp_path {shop}/t; fastcgi_temp_path {shop}/t; proxy_temp_path {shop}/t;
scgi_temp_path {shop}/t; uwsgi_temp_path {shop}/t; server {{ listen 127.0.0.1:{port}; {inner} }} }}"""
    pool = {"listen": f"{shop}/shop.sock", "app_dir": str(shop)}
    settings = Settings(shop, pool, [{"name": "shop", "app": "shop.web:application"}])
    with serving(settings), front("nginx", shop, configuration, port):
        check(port)
