"""The dump of the settings in force: reading it gives them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.config import read_settings
from gateway.dump import toml
from gateway.record import fields
from gateway.settings import Pool, Settings

FILE = r"""
[pools.main]
listen = ["127.0.0.1:9000", "/run/site/main.sock"]
pm = "ondemand"
process_idle_timeout = "500ms"
clear_env = false
process_priority = 5
rlimit_files = 1024
rlimit_core = "unlimited"
rlimits = { as = "2G", nproc = 200 }
env = { TZ = "UTC", QUOTED = 'a "b" \ c', LINES = "1\n2\u007f\t", "odd.name" = "é" }

[pools.shop]
listen = "/run/site/shop.sock"

[[applications]]
name = "home"
app = "home:application"
bindings = [{ hostname = "home.example", port = 80, path = "/a" }, { hostname = "*", port = "*" }]

[[applications]]
name = "shop"
pool = "shop"
moduleName = "shop"
className = "Shop"
bindings = [{ hostname = "*", port = "*" }]
settings = { deep = { list = [1, 2.5, "x", { y = true }] }, huge = 1e300, empty = {}, none = [] }
"""


def read(folder: Path, text: str) -> Settings:
    path = folder / "settings.toml"
    path.write_text(text)
    return read_settings(str(path), {}).settings


def test_reading_the_dump_gives_the_same_settings(tmp_path: Path) -> None:
    settings = read(tmp_path, FILE)
    text = toml(settings)
    assert read(tmp_path, text) == settings
    assert toml(read(tmp_path, text)) == text


def test_everything_is_there_in_the_order_of_the_declarations(tmp_path: Path) -> None:
    settings = read(tmp_path, FILE)
    main = toml(settings).split("[pools.main]\n")[1].split("\n\n")[0]
    expected = [field.name for field in fields(Pool)]
    assert [line.partition(" = ")[0] for line in main.splitlines()] == expected
    assert 'pm = "ondemand"' in main
    assert "max_children = 4" in main
    assert "rlimits = { as = 2147483648, nproc = 200 }" in main


def test_secrets_are_masked(tmp_path: Path) -> None:
    text = """
[pools.main]
env = { DB_PASSWORD = "hunter2", SECRET_KEY = "abc", URL = "mysql://me:hunter2@db/shop", HOME = "/srv" }
[[applications]]
name = "shop"
moduleName = "shop"
className = "Shop"
bindings = [{ hostname = "*", port = "*" }]
settings = { mail = { passwd = "hunter2", host = "mail" }, tokens = ["abc"], debug_token = true }
"""
    shown = toml(read(tmp_path, text))
    assert "hunter2" not in shown
    assert "abc" not in shown
    assert 'DB_PASSWORD = "***", SECRET_KEY = "***", URL = "mysql://me:***@db/shop", HOME = "/srv"' in shown
    assert '{ mail = { passwd = "***", host = "mail" }, tokens = ["***"], debug_token = true }' in shown


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read(tmp_path, FILE)
    assert main(["check", str(tmp_path / "settings.toml"), "--dump"]) == 0
    assert capsys.readouterr() == (toml(settings), "")
    read(tmp_path, FILE.replace('pool = "shop"', 'pool = "nowhere"') + '[[applications]]\nname = "x"\n'
         'app = "x:y"\npool = "shop"\nbindings = [{ hostname = "x", port = "*" }]\n')  # fmt: skip
    assert main(["check", str(tmp_path / "settings.toml"), "--dump"]) == 100
    shown = capsys.readouterr()
    assert shown.out.startswith("[gateway]\n")
    assert 'there is no pool "nowhere"' in shown.err
