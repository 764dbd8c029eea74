"""What flup's parameters mean to a pool."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.app.flup import Server, server_class
from gateway.compat import flupserver
from gateway.compat.flupserver import pool_of
from gateway.compat.serving import Served
from gateway.record import fields
from gateway.settings import Binding, ConfigError, Pool, ProcessManager
from tests.app.memory import answering

hello = answering([b"hello"])


def server(module: str = "fcgi", **options: Any) -> Server:
    return server_class(module, flupserver.serve)(hello, **options)


def changed(pool: Pool) -> dict[str, Any]:
    """What a pool has that is no default of settings or of flup's servers."""
    usual = Pool(clear_env=False, max_body=0)
    return {
        field.name: getattr(pool, field.name)
        for field in fields(Pool)
        if getattr(pool, field.name) != getattr(usual, field.name)
    }


FORKS = {"pm": ProcessManager.DYNAMIC, "max_children": 50, "max_spare_servers": 5}
LOCAL = ("127.0.0.1:4000",)


@pytest.mark.parametrize(
    ("module", "options", "expected"),
    [
        ("fcgi", {}, {"threads": 10}),
        ("fcgi", {"maxThreads": 4}, {"threads": 4}),
        ("fcgi", {"multithreaded": False}, {}),
        ("fcgi_single", {"debug": True, "multiplexed": True}, {}),
        ("fcgi", {"bindAddress": "/run/s", "umask": 0o117}, {"threads": 10, "listen": ("/run/s",)}),
        ("fcgi_single", {"bindAddress": "/run/s", "umask": 0}, {"listen": ("/run/s",), "listen_mode": "0777"}),
        ("fcgi_single", {"bindAddress": ("127.0.0.1", 9000)}, {"listen": ("127.0.0.1:9000",)}),
        ("fcgi_single", {"bindAddress": ("::1", 9000, 0, 0)}, {"listen": ("[::1]:9000",)}),
        ("fcgi_fork", {}, FORKS),
        ("fcgi_fork", {"maxChildren": 2}, FORKS | {"max_children": 5}),
        ("fcgi_fork", {"minSpare": 2, "maxSpare": 3}, FORKS | {"min_spare_servers": 2, "max_spare_servers": 3}),
        ("fcgi_fork", {"maxRequests": 9}, FORKS | {"max_requests": 9}),
        ("fcgi_fork", {"timeout": 20}, FORKS | {"request_terminate_timeout": 20.0}),
        ("fcgi_fork", {"sockTimeout": 7}, FORKS | {"request_body_timeout": 7.0, "response_timeout": 7.0}),
        ("scgi", {}, {"threads": 10, "protocol": "scgi", "listen": LOCAL}),
        ("scgi_fork", {}, FORKS | {"protocol": "scgi", "listen": LOCAL}),
        (
            "scgi_fork", {"allowedServers": ["192.0.2.1"], "bindAddress": ("", 4000)},
            FORKS | {"protocol": "scgi", "listen": ("0.0.0.0:4000",), "listen_allowed_clients": ("192.0.2.1",)},
        ),
    ],
)  # fmt: skip
def test_pool(module: str, options: dict[str, Any], expected: dict[str, Any]) -> None:
    pool = changed(pool_of(server(module, **options)))
    if expected.get("max_spare_servers") == Pool().max_spare_servers:
        expected = {name: value for name, value in expected.items() if name != "max_spare_servers"}
    assert pool == expected


def test_relative_path_is_of_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/run")
    assert pool_of(server(bindAddress="s")).listen == ("/run/s",)


def test_web_server_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", " 192.0.2.1, 2001:db8::1,")
    anywhere = server(bindAddress=("", 9000))
    assert pool_of(anywhere).listen_allowed_clients == ("192.0.2.1", "2001:db8::1")
    assert pool_of(server(bindAddress="/run/s")).listen_allowed_clients == ()
    monkeypatch.setenv("FCGI_WEB_SERVER_ADDRS", "front.example")
    with pytest.raises(ConfigError, match=r"FCGI_WEB_SERVER_ADDRS names 'front.example': write IP addresses"):
        pool_of(anywhere)


@pytest.mark.parametrize(
    ("name", "bindings"),
    [
        (None, (Binding(),)),
        ("", (Binding(path="/"),)),
        ("/", (Binding(path="/"),)),
        ("/shop", (Binding(path="/shop"), Binding())),
        ("/shop/", (Binding(path="/shop"), Binding())),
    ],
)
def test_script_name(name: str | None, bindings: tuple[Binding, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Served] = []
    monkeypatch.setattr(flupserver, "on_socket", lambda it, stop: served.append(it))
    server("scgi", scriptName=name).run()
    server("scgi").run()
    assert [it.bindings for it in served] == [bindings, (Binding(),)]
    assert [it.name for it in served] == ["application"] * 2
    with pytest.raises(ConfigError, match=r"scriptName='/a%20b': .* is no path prefix"):
        server("scgi", scriptName="/a%20b").run()
