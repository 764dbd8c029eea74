"""docs/howto/authorizer.md: what it tells to write lets members through and nobody else, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.clients.apache import SERVER
from tests.end_to_end.clients.nginx import AROUND
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, ROOT, USER, Program, front, short_place
from tests.waiting import free_port

GUIDE = (ROOT / "docs" / "howto" / "authorizer.md").read_text()
SHOP = """
import guard
def application(environ, start_response):
    if environ["PATH_INFO"] == "/ask":
        started = []
        page = guard.application(environ, lambda *head: started.append(head))
        start_response(started[0][0], [("X-User", value) for name, value in started[0][1] if "USER" in name])
        return page
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['PATH_INFO']} for {environ.get('REMOTE_USER')}".encode()]
"""
MODULES = "".join(
    f"LoadModule {name}_module ${{modules}}/mod_{name}.so\n" for name in ("authn_core", "authz_user", "authnz_fcgi")
)


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def pool() -> Iterator[tuple[Path, str]]:
    """The pool of the guide: its place, and its address for Apache."""
    with short_place() as place:
        address = f"127.0.0.1:{free_port()}"
        (place / "guard.py").write_text(block("python"))
        (place / "shop.py").write_text(SHOP)
        (place / "www" / "members" / "files").mkdir(parents=True)
        (place / "www" / "members" / "files" / "a").write_text("a file")
        listen = f'listen = ["{place}/main.sock", "{address}"]\nlisten_mode = "0666"\nuser = "{USER}"'
        text = block("toml").replace("/run/shop", str(place)).replace(f'listen = "{place}/main.sock"', listen)
        (place / "shop.toml").write_text(text)
        with Program([*GATEWAY, "serve", place / "shop.toml"], place / "log", cwd=place, env=ENVIRONMENT) as program:
            program.wait_for((place / "main.sock").exists)
            yield place, address


def configuration(name: str, place: Path, port: int, address: str) -> str:
    """The front-end's part of the guide, and what stands around it."""
    if name == "apache":
        around, lines = SERVER.format(place=place, port=port).replace(f'DocumentRoot "{place}"', ""), block("apache")
        return f'{around}DocumentRoot "{place}/www"\n{MODULES}{lines.replace("127.0.0.1:9000", address)}'
    lines = block(name).replace("/run/shop", str(place))
    if name == "lighttpd":
        return f'server.document-root = "{place}/www"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n' + lines
    user = f"user {USER};" if USER else ""
    lines = lines.replace("include fastcgi_params", "include /etc/nginx/fastcgi_params")
    return AROUND.format(place=place, port=port, user=user, inside=lines, outside="")


@pytest.mark.parametrize("name", ["lighttpd", "apache", "nginx"])
def test_members_only(name: str, pool: tuple[Path, str]) -> None:
    place, address = pool
    port = free_port()
    paths = {
        "lighttpd": {"/members/page": "/members/page for me", "/members/files/a": "a file"},
        "apache": {"/members/files/a": "a file"},
        "nginx": {"/members/page": "/members/page for me"},
    }
    with front(name, place, configuration(name, place, port, address), port):
        for path, page in paths[name].items():
            for asked in (path, path.replace("/members", "/x/../members"), path.replace("members", "%6Dembers")):
                refused = fetch(port, asked, Authorization="Basic cm9vdDp4")
                assert (refused.status, name == "nginx" or refused.text == "Members only\n") == (403, True), asked
            found = fetch(port, path, Cookie="key=1234", Authorization="Basic cm9vdDp4")
            assert (found.status, found.text) == (200, page)
        if name == "nginx":
            assert fetch(port, "/ask", Cookie="key=1234").status == 404
