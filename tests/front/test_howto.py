"""docs/howto/fronts.md: each command prints what its program accepts."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.clients.apache import with_lines
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, ROOT, short_place
from tests.front.test_render import accepted

COMMANDS = re.findall(
    r"^gateway front (\w+) (.*?)(?:> \S+)?$", (ROOT / "docs/howto/fronts.md").read_text(), re.MULTILINE
)
SETTINGS = """
[pools.main]
listen = "/run/gateway/main.sock"
[pools.blog]
listen = "/run/gateway/blog.sock"
[[applications]]
name = "shop"
app = "shop:application"
bindings = [ { hostname = "shop.example.com", port = 8080 }, { hostname = "*.shop.example.com", port = 8080 } ]
[[applications]]
name = "blog"
app = "blog:application"
pool = "blog"
bindings = [ { hostname = "shop.example.com", port = 8080, path = "/blog" } ]
"""
HAS_BEEN_THERE = {
    "nginx": "pid nginx.pid;\nevents {{ }}\nhttp {{ access_log off;\n{part}}}\n",
    "haproxy": "{part}",
    "lighttpd": "{part}",
    "caddy": "{part}",
}


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as place:
        yield place


def test_every_front_end_has_a_command() -> None:
    assert [name for name, _ in COMMANDS] == ["nginx", "lighttpd", "haproxy", "apache", "caddy", "systemd"]


@pytest.mark.parametrize(("name", "rest"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_what_the_command_prints_is_accepted(name: str, rest: str, place: Path) -> None:
    (place / "shop.toml").write_text(SETTINGS)
    words = shlex.split(rest.replace("/etc/systemd/system", str(place)))
    command = [*GATEWAY, "front", name, *words, *(["--run-directory", str(place)] if name != "systemd" else [])]
    done = subprocess.run(command, cwd=place, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    if name == "systemd":
        assert (place / "gateway.service").exists()
    elif name == "apache":
        accepted(name, place, with_lines(place, 8080, done.stdout))
    else:
        accepted(name, place, HAS_BEEN_THERE[name].format(part=done.stdout))
