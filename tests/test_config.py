"""Settings from files, flags and MODULE:CALLABLE; and the line that each mistake gets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.config import HOW_TO_NAME, Loaded, default_control, find_control, read_settings
from gateway.declared import document
from gateway.settings import Binding, ConfigError, Pool, ProcessManager, application_from_json, to_json

EVERYWHERE = [{"hostname": "*", "port": "*"}]
SHOP: dict[str, Any] = {"name": "shop", "app": "shop:application", "bindings": EVERYWHERE}
BLOG: dict[str, Any] = {
    "name": "blog",
    "app": "blog:application",
    "bindings": [{"hostname": "blog.example", "port": 80}],
}
ADDRESSES = "/path.sock, 127.0.0.1:9000, [::1]:9000, fd:0 or systemd"
PROVIDER_FILE: dict[str, Any] = {
    "provider": {"port": 8000},
    "applications": [
        {
            "name": "shop",
            "moduleName": "shop.web",
            "className": "Shop",
            "bindings": [{"hostname": "localhost", "port": 8000}, {"hostname": "*", "port": 8001}],
            "settings": {"connstr": "mysql://localhost/shop", "deep": {"list": [1, 2]}},
        }
    ],
}


def load(folder: Path, content: object, flags: dict[str, object] | None = None, name: str = "site.json") -> Loaded:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_settings(str(path), flags or {})


def mistakes(
    folder: Path, content: object, flags: dict[str, object] | None = None, name: str = "site.json"
) -> list[str]:
    """The messages of a file that cannot be served, without the file's name, which each has to begin with."""
    with pytest.raises(ConfigError) as caught:
        load(folder, content, flags, name)
    lines = str(caught.value).splitlines()
    prefix = f"{folder / name}: "
    assert all(line.startswith((prefix, "--")) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


def with_pool(**settings: Any) -> dict[str, Any]:
    return {"pools": {"main": settings}, "applications": [SHOP]}


def cases(name: str) -> list[tuple[Any, list[str]]]:
    """Cases of a file in mistakes/: a line of JSON, then each message that it gets, indented by two spaces."""
    text = (Path(__file__).parent / "mistakes" / f"{name}.txt").read_text()
    blocks = [block.strip("\n").split("\n") for block in text.split("\n\n")]
    return [(json.loads(lines[0]), [line[2:] for line in lines[1:]]) for lines in blocks]


TOML = """
[gateway]
control = "unix:/run/site/control.sock"
pid_file = "/run/site/pid"

[pools.main]
listen = "127.0.0.1:9000"
listen_mode = "660"
protocol = "scgi"
pm = "static"
max_children = 8
start_timeout = 5
keepalive_timeout = "2m"
request_head_timeout = "500ms"
max_body = "1.5G"
clear_env = false
env = { TZ = "UTC" }

[pools.other]
listen = ["/run/site/other.sock", "[::1]:9000"]
max_body = "10 KiB"

[[applications]]
name = "shop"
app = "shop.web:application"
bindings = [
  { hostname = "shop.example.com", port = 80 },
  { hostname = "*.shop.example.com", port = "*", path = "/api" },
]

[[applications]]
name = "blog"
pool = "other"
moduleName = "blog"
className = "Blog"
bindings = [ { hostname = "*", port = "*" } ]
settings = { title = "Notes" }
"""


def test_toml(tmp_path: Path) -> None:
    loaded = load(tmp_path, TOML, name="site.toml")
    settings = loaded.settings
    assert loaded.problems == ()
    assert settings.source == str(tmp_path / "site.toml")
    assert (settings.gateway.control, settings.gateway.pid_file) == ("/run/site/control.sock", "/run/site/pid")
    assert settings.pools["main"] == Pool(
        listen=("127.0.0.1:9000",),
        listen_mode="660",
        protocol="scgi",
        pm=ProcessManager.STATIC,
        max_children=8,
        start_timeout=5.0,
        keepalive_timeout=120.0,
        request_head_timeout=0.5,
        max_body=3 * 2**29,
        clear_env=False,
        env={"TZ": "UTC"},
    )
    assert settings.pools["other"] == Pool(listen=("/run/site/other.sock", "[::1]:9000"), max_body=10_240)
    assert [(a.name, a.pool) for a in settings.applications] == [("shop", "main"), ("blog", "other")]
    assert settings.applications[0].bindings == (
        Binding(hostname="shop.example.com", port=80, path=""),
        Binding(hostname="*.shop.example.com", port="*", path="/api"),
    )
    assert settings.applications[1].settings == {"title": "Notes"}


def test_json_of_the_same_shape_gives_the_same(tmp_path: Path) -> None:
    import tomllib

    of_toml = load(tmp_path, TOML, name="site.toml").settings
    of_json = load(tmp_path, tomllib.loads(TOML)).settings
    assert (of_json.gateway, of_json.pools, of_json.applications) == (
        of_toml.gateway,
        of_toml.pools,
        of_toml.applications,
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [("site", TOML), ("site.conf", json.dumps(PROVIDER_FILE)), ("x.json", "\ufeff" + json.dumps(PROVIDER_FILE))],
)
def test_the_content_tells_what_a_name_does_not(tmp_path: Path, name: str, content: str) -> None:
    assert load(tmp_path, content, name=name).settings.applications[0].name == "shop"


def test_a_file_with_provider_as_it_is(tmp_path: Path) -> None:
    loaded = load(tmp_path, PROVIDER_FILE)
    assert loaded.problems == ()
    assert loaded.settings.pools["main"].port_from == "host"
    (shop,) = loaded.settings.applications
    assert (shop.moduleName, shop.className, shop.pool) == ("shop.web", "Shop", "main")
    assert shop.bindings == (Binding(hostname="localhost", port=8000), Binding(hostname="*", port=8001))
    assert shop.settings == PROVIDER_FILE["applications"][0]["settings"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", ":1: is no JSON: Expecting property name enclosed in double quotes (column 2)"),
        ('{"applications": [],\n"pools": }', ":2: is no JSON: Expecting value (column 10)"),
        ("[]", ": the file holds no table"),
        ("[" * 100_000, ": is nested too deeply"),
        ('{"pools": {"a": {}, "a": {}}}', ': "a" is there twice in one table'),
    ],
)
def test_unparsable_json_names_the_line(tmp_path: Path, content: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'site.json'}{expected}")


@pytest.mark.parametrize(
    ("content", "line"),
    [("a = 1\nb =\n", 2), ("[pools.main]\nmax_children = 4\nmax_children = 5\n", 3), ("a = [1,\n2\n", 3)],
)
def test_unparsable_toml_names_the_line(tmp_path: Path, content: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content, name="site.toml")
    assert str(caught.value).startswith(f"{tmp_path / 'site.toml'}:{line}: is no TOML: ")


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    (tmp_path / "folder.toml").mkdir()
    for name, reason in [
        ("missing.toml", "cannot be read: No such file or directory"),
        ("folder.toml", "cannot be read: Is a directory"),
        ("latin.toml", "byte 5 is not UTF-8; save the file as UTF-8"),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_settings(str(tmp_path / name), {})
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("", "provide a WSGI application as module:callable or a settings file"),
        (
            "shop",
            f"'shop' is neither: {HOW_TO_NAME}, as in shop:application",
        ),
        ("shop:", "'shop:' is neither: "),
        (":app", "':app' is neither: "),
        (
            "shop.py",
            "shop.py: there is no such file; provide a WSGI application as module:callable or a settings file",
        ),
        ("/srv/shop", "/srv/shop: there is no such file; "),
    ],
)
def test_targets_that_name_nothing(target: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(target, {})
    assert str(caught.value).startswith(expected)


def test_modules_to_publish_in_place_of_a_target() -> None:
    settings = read_settings("", {"publisher": ("shop", "pages/"), "max_children": "3"}).settings
    (application,) = settings.applications
    assert (application.name, application.publisher) == ("shop, pages/", ("shop", "pages/"))
    assert (application.bindings, settings.pools["main"].max_children) == ((Binding(hostname="*", port="*"),), 3)
    assert application_from_json(to_json(application)) == application
    with pytest.raises(ConfigError, match=r"^shop:app and --publisher both say what is to be served: keep one$"):
        read_settings("shop:app", {"publisher": ("shop",)})


@pytest.mark.parametrize("target", ["shop:application", "shop.web:make.app", "shop:factory()", "bücher:app"])
def test_a_callable_answers_everywhere(target: str) -> None:
    settings = read_settings(target, {}).settings
    (application,) = settings.applications
    assert (application.name, application.app, application.pool) == (target, target, "main")
    assert application.bindings == (Binding(hostname="*", port="*"),)
    assert settings.source == ""


@pytest.mark.parametrize(("content", "expected"), cases("file"))
def test_mistakes_of_a_file(tmp_path: Path, content: dict[str, Any], expected: list[str]) -> None:
    assert mistakes(tmp_path, content) == expected


@pytest.mark.parametrize(
    "content",
    [
        {"pools": [], "applications": [SHOP]},
        with_pool(listen="0.0.0.0:9000", listen_allowed_clients=["192.0.2.7", "::1"]),
        {"applications": [SHOP | {"bindings": [{"hostname": "*", "port": "80"}, {"hostname": "*", "port": 80}]}]},
    ],
)
def test_what_is_no_mistake(tmp_path: Path, content: dict[str, Any]) -> None:
    loaded = load(tmp_path, content)
    assert loaded.problems == ()
    assert loaded.settings.applications[0].name == "shop"


@pytest.mark.parametrize(("application", "expected"), cases("application"))
def test_a_bad_application_is_left_out_and_the_others_stay(
    tmp_path: Path, application: Any, expected: list[str]
) -> None:
    loaded = load(tmp_path, {"provider": {"port": 8000}, "applications": [BLOG, application]})
    assert [a.name for a in loaded.settings.applications] == ["blog"]
    assert list(loaded.problems) == [f"{tmp_path / 'site.json'}: {message}" for message in expected]


def test_a_date_in_settings_cannot_be_handed_over(tmp_path: Path) -> None:
    loaded = load(tmp_path, TOML.replace('"Notes"', "2024-01-01"), name="site.toml")
    (problem,) = loaded.problems
    assert problem.endswith(
        'application "blog": settings: Object of type date is not JSON serializable; write it as text'
    )


def test_one_binding_in_two_pools_is_no_conflict(tmp_path: Path) -> None:
    pools = {"main": {"listen": "/a.sock"}, "other": {"listen": "/b.sock"}}
    loaded = load(tmp_path, {"pools": pools, "applications": [SHOP, SHOP | {"name": "again", "pool": "other"}]})
    assert loaded.problems == ()


def test_the_only_pool_is_where_applications_run(tmp_path: Path) -> None:
    settings = load(tmp_path, {"pools": {"shop": {}}, "applications": [SHOP]}).settings
    assert [a.pool for a in settings.applications] == ["shop"]


def test_flags_come_before_the_file(tmp_path: Path) -> None:
    flags: dict[str, object] = {
        "listen": ("/a.sock", "/b.sock"),
        "max_children": "9",
        "start_timeout": "1m",
        "max_body": "1K",
        "clear_env": True,
        "env": {"B": "2"},
        "pid_file": "/run/pid",
        "protocol": "scgi",
        "pm": "static",
    }
    settings = load(
        tmp_path, with_pool(max_children=2, listen="/x.sock", env={"A": "1", "B": "1"}, user="u"), flags
    ).settings
    assert settings.pools["main"] == Pool(
        listen=("/a.sock", "/b.sock"),
        max_children=9,
        start_timeout=60.0,
        max_body=1024,
        clear_env=True,
        env={"A": "1", "B": "2"},
        protocol="scgi",
        user="u",
    )
    assert settings.gateway.pid_file == "/run/pid"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"max_children": "many"}, ['--max-children: "many" is text; write a whole number, as in 4']),
        ({"max_children": "0"}, ["--max-children: 0 is too small; write 1 or more"]),
        ({"listen": ("[::1]",)}, ["--listen: '[::1]' is no address: write " + ADDRESSES]),
        (
            {"protocol": "http", "control": "x"},
            [
                '--protocol: "http" is none of its values; write one of: "fastcgi", "scgi"',
                "--control: 'x' is no address: write " + ADDRESSES,
            ],
        ),
    ],
)
def test_mistakes_of_flags_name_the_flag(tmp_path: Path, flags: dict[str, object], expected: list[str]) -> None:
    assert mistakes(tmp_path, {"applications": [SHOP]}, flags) == expected


def test_a_flag_for_one_of_several_pools_is_refused(tmp_path: Path) -> None:
    pools = {"main": {"listen": "/a.sock"}, "blog": {"listen": "/b.sock"}}
    content = {"pools": pools, "applications": [SHOP, BLOG | {"pool": "blog"}]}
    message = "--max-children: the settings have several pools (main, blog); write it there, for the one meant"
    assert mistakes(tmp_path, content, {"max_children": "3"}) == [message]


def test_where_it_listens_when_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    settings = read_settings("shop:app", {}).settings
    assert settings.pools["main"].listen == ("/run/gateway/gateway.sock",)
    assert settings.gateway.control == "/run/gateway/gateway-control.sock"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/mine")
    assert read_settings("shop:app", {}).settings.pools["main"].listen == ("/run/user/mine/gateway.sock",)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert read_settings("shop:app", {}).settings.pools["main"].listen == ("/run/user/1000/gateway.sock",)


def test_a_socket_that_was_given_comes_before_the_file_and_after_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    path.write_text(json.dumps(with_pool(listen="/x.sock")))
    assert read_settings(str(path), {}, inherited="fd:0").settings.pools["main"].listen == ("fd:0",)
    flags: dict[str, object] = {"listen": ("/y.sock",)}
    assert read_settings(str(path), flags, inherited="fd:0").settings.pools["main"].listen == ("/y.sock",)


def test_a_pool_that_names_its_socket_is_not_given_all(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    path.write_text(json.dumps(with_pool(listen="systemd:shop")))
    assert read_settings(str(path), {}, inherited="systemd").settings.pools["main"].listen == ("systemd:shop",)
    assert read_settings(str(path), {}, inherited="fd:0").settings.pools["main"].listen == ("fd:0",)


def test_all_sockets_of_systemd_are_not_for_one_pool_beside_named_ones(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    pools = {"a": {"listen": "systemd"}, "b": {"listen": "systemd:shop"}}
    applications = [{"name": name, "pool": name, "app": "shop:app", "bindings": []} for name in pools]
    path.write_text(json.dumps({"pools": pools, "applications": applications}))
    with pytest.raises(ConfigError, match=r'pools\.a\.listen: "systemd" takes every socket'):
        read_settings(str(path), {})


@pytest.mark.parametrize(
    ("listen", "control"),
    [
        ("/srv/shop/main.sock", "/srv/shop/main-control.sock"),
        ("unix:/srv/shop/main", "/srv/shop/main-control.sock"),
        ("127.0.0.1:9000", "/run/user/mine/gateway-9000-control.sock"),
        ("systemd", "/run/user/mine/gateway-control.sock"),
        ("fd:0", ""),
    ],
)
def test_the_control_socket_goes_with_the_listener(monkeypatch: pytest.MonkeyPatch, listen: str, control: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/mine")
    assert default_control(listen) == control


def test_how_a_running_gateway_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("GATEWAY_CONTROL", raising=False)
    with pytest.raises(ConfigError, match=r"no gateway runs with its control socket in .* --control PATH"):
        find_control("", "")
    (tmp_path / "gateway-9000-control.sock").touch()
    assert find_control("", "") == str(tmp_path / "gateway-9000-control.sock")
    (tmp_path / "gateway-control.sock").touch()
    with pytest.raises(ConfigError, match="several gateways run here"):
        find_control("", "")
    monkeypatch.setenv("GATEWAY_CONTROL", "/of/environment.sock")
    assert find_control("", "") == "/of/environment.sock"
    (tmp_path / "site.json").write_text(json.dumps(with_pool(listen="/of/file.sock")))
    assert find_control(str(tmp_path / "site.json"), "") == "/of/file-control.sock"
    assert find_control("shop:app", "unix:/of/flag.sock") == "/of/flag.sock"


def test_the_reference_page_is_what_the_declarations_say() -> None:
    page = Path(__file__).parent.parent / "docs" / "reference" / "settings.md"
    assert page.read_text() == document(), "run: python -m gateway.declared > docs/reference/settings.md"
