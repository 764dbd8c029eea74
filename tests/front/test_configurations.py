"""The bundled configurations in the real nginx and lighttpd, before an application that shows what it is passed."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator

import pytest

from gateway.front.render import render
from gateway.settings import Application, Binding, Gateway, Pool, Settings
from tests.end_to_end.running import front, short_place
from tests.front.asking import BESIDE_STATIC, Site, check_not_served, check_static_files, options
from tests.front.responding import responding
from tests.waiting import free_port, wait_until

FRONTS = ["nginx", "lighttpd"]


@pytest.fixture(scope="module", params=FRONTS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    name, port = request.param, free_port()
    with short_place() as place, responding(place / "pool.sock") as responder:
        settings = Settings(pools={"main": Pool(listen=(responder.path,), max_body=2_000_000)})
        with front(name, place, render(name, settings, **options(name, place, port)), port):
            yield Site(name, port, responder)


def test_a_request_as_it_is_passed(site: Site) -> None:
    params = site.params("/a%20b/c?x=1&y=%20", "Cookie: k=v", "X-Own: 1", host=f"a.example:{site.port}")
    expected = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/a%20b/c?x=1&y=%20",
        "PATH_INFO": "/a b/c",
        "QUERY_STRING": "x=1&y=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "a.example",
        "SERVER_PORT": str(site.port),
        "SERVER_ADDR": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "REQUEST_SCHEME": "http",
        "HTTP_HOST": f"a.example:{site.port}",
        "HTTP_COOKIE": "k=v",
        "HTTP_X_OWN": "1",
    }
    assert {name: params.get(name) for name in expected} == expected
    assert params["SERVER_SOFTWARE"].startswith(f"{site.name}/")
    assert params["REMOTE_PORT"].isdigit()
    # A mount that the pool takes for none: "" from nginx, the target of the rewriting from lighttpd.
    assert params["SCRIPT_NAME"] == {"nginx": "", "lighttpd": "/main.fcgi"}[site.name]
    assert not {"HTTPS", "REMOTE_USER", "SSL_CLIENT_VERIFY", "SSL_CLIENT_S_DN"} & params.keys()


def test_nginx_says_when_it_handed_the_request_on(site: Site) -> None:
    if site.name == "nginx":
        assert abs(float(site.params()["REQUEST_TIME_FLOAT"]) - time.time()) < 5
    else:
        assert "REQUEST_TIME_FLOAT" not in site.params()


@pytest.mark.parametrize("path", ["/", "/x", "//x", "/sta", "/stage/x", "/main.fcgi/x", "/x/../y", "/%7Eu", "/x%3Fy"])
def test_paths_go_to_the_pool_decoded_once(site: Site, path: str) -> None:
    info = {"/x/../y": "/y", "//x": "/x", "/%7Eu": "/~u", "/x%3Fy": "/x?y"}
    params = site.params(path)
    assert (params["PATH_INFO"], params["REQUEST_URI"]) == (info.get(path, path), path)


def test_host_that_is_chosen_is_the_host_that_is_passed(site: Site) -> None:
    status, _, body = site.raw("GET http://a.example/x HTTP/1.1\nHost: b.example\nConnection: close\n\n")
    if site.name == "nginx":
        params = json.loads(body)["params"]
        assert (status, params["HTTP_HOST"], params["SERVER_NAME"]) == (200, "a.example", "a.example")
    else:
        assert status == 400


@pytest.mark.parametrize(
    ("host", "passed"),
    [
        ("A.Example", "a.example"),
        ("a.example.:81", "a.example:81"),
        ("[::1]:81", "[::1]:81"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_hosts_keep_their_port(site: Site, host: str, passed: str) -> None:
    assert site.params(host=host)["HTTP_HOST"].lower().replace(".:", ":") == passed


def test_without_a_host_none_is_passed(site: Site) -> None:
    status, _, body = site.raw("GET /x HTTP/1.0\n\n")
    params = json.loads(body)["params"]
    assert (status, "HTTP_HOST" in params) == (200, False)
    assert params["SERVER_NAME"] == {"nginx": "localhost", "lighttpd": ""}[site.name]


def test_no_header_becomes_http_proxy(site: Site) -> None:
    assert "HTTP_PROXY" not in site.params("/", "Proxy: http://evil.example")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"])
def test_underscores_add_nothing_to_what_a_proxy_said(site: Site, name: str) -> None:
    variable = "HTTP_" + name.upper().replace("-", "_")
    spoofed = [
        name.replace("-", "_"),
        name.replace("-", "_", 1),
        name.lower().replace("-", "_"),
        "X-" + name[2:].replace("-", "_"),
    ]
    params = site.params(
        "/", *[f"{spelling}: spoofed" for spelling in spoofed if spelling != name], f"{name}: 192.0.2.1"
    )
    assert params[variable] == "192.0.2.1"


def test_length_of_a_body_is_not_a_header_to_choose(site: Site) -> None:
    params = site.params("/", "Content_Length: 77", "Content_Type: x/y", "Transfer_Encoding: chunked")
    assert params.get("CONTENT_LENGTH", "0") == "0"
    assert not {"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING", "CONTENT_TYPE"} & params.keys()


def test_no_header_becomes_a_certificate_or_a_user(site: Site) -> None:
    forged = ["SSL_CLIENT_VERIFY: SUCCESS", "Ssl-Client-Verify: SUCCESS", "Remote-User: root", "REMOTE_USER: root"]
    _, _, body = site.get("/", *forged, "Authorization: Basic cm9vdDp4")
    params = json.loads(body)["params"]
    assert not {"SSL_CLIENT_VERIFY", "REMOTE_USER"} & params.keys()
    assert params["HTTP_AUTHORIZATION"] == "Basic cm9vdDp4"


def test_static_files_come_from_the_front(site: Site) -> None:
    check_static_files(site)


@pytest.mark.parametrize("path", BESIDE_STATIC)
def test_nothing_beside_the_static_files_is_served(site: Site, path: str) -> None:
    check_not_served(site, path)


def test_bodies_arrive_whole_with_their_length(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)
    for body in (b"x" * 1_900_000, iter([b"a" * 70_000, b"b" * 70_000])):
        connection.request("POST", "/", body, {"Content-Type": "text/x"})
        shown = json.loads(connection.getresponse().read())
        assert shown["body"].split()[0] == shown["params"]["CONTENT_LENGTH"]
        assert shown["params"]["CONTENT_TYPE"] == "text/x"
    connection.close()


def test_a_body_over_the_limit_is_refused_before_the_pool(site: Site) -> None:
    before = site.responder.connections
    status, _, _ = site.raw("POST / HTTP/1.1\nHost: a\nContent-Length: 2100000\nConnection: close\n\n")
    assert (status, site.responder.connections) == (413, before)


def test_error_pages_are_the_applications(site: Site) -> None:
    status, _, body = site.get("/?error")
    assert (status, body) == (500, b"the application's own page\n")
    assert site.get("/?status")[0] == 418


def test_answers_stream(site: Site) -> None:
    site.responder.gate.clear()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)
    connection.request("GET", "/?stream")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    site.responder.gate.set()
    assert response.read() == b"last\n"
    connection.close()


def test_a_cut_answer_is_seen_to_be_cut(site: Site) -> None:
    site.responder.gate.clear()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)
    connection.request("GET", "/?cut")
    response = connection.getresponse()
    assert response.readline() == b"first\n"
    site.responder.gate.set()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()


@pytest.mark.parametrize("name", [*FRONTS, "haproxy", "apache", "caddy"])
def test_several_pools(name: str) -> None:
    port = free_port()
    with (
        short_place() as place,
        responding(place / "a.sock") as first,
        responding(place / "b.sock") as second,
        responding(place / "status.sock") as console,
    ):
        of_shop = [Binding(hostname="shop.example", path=path) for path in ("/a", "/a-ü (b)+'@", "/sta", "/ping")]
        applications = (
            Application(name="a", pool="a", bindings=(Binding(), *of_shop)),
            Application(
                name="b",
                pool="b",
                bindings=(
                    Binding(hostname="shop.example"),
                    Binding(hostname="*.example", path="/b"),
                    Binding(hostname="localhost"),
                    Binding(hostname="[::1]"),
                    Binding(path="/ping"),
                ),
            ),
        )
        pools = {"a": Pool(listen=(first.path,)), "b": Pool(listen=(second.path,))}
        settings = Settings(gateway=Gateway(status_listen=console.path), pools=pools, applications=applications)
        with front(name, place, render(name, settings, **options(name, place, port)), port):
            table = {
                ("other", "/"): first, ("other", "/b"): first,
                ("shop.example", "/"): second, ("SHOP.example:81", "/x?y"): second,
                ("shop.example", "/a"): first, ("shop.example", "/a/x"): first, ("shop.example", "/ab"): second,
                ("shop.example", "/a?x"): first,
                ("x.y.example", "/b"): second, ("x.example", "/b/c"): second, ("x.example", "/c"): first,
                ("example", "/b"): first, ("evilexample", "/b"): first, ("localhost", "/"): second,
                ("[::1]", "/"): second, ("[::1]:81", "/"): second, ("[::2]", "/"): first, ("LOCALHOST.", "/"): second,
                ("shop.example", "/a-%C3%BC%20(b)+'@/x"): first, ("shop.example", "/a-%C3%BC%20(b)"): second,
                ("shop.example", "/a-%C3%BC%20%28b%29%2B%27%40?x"): first, ("shop.example", "/A/x"): second,
                ("shop.example", "/sta"): first, ("shop.example", "/STA/style.css"): second,
                ("other", "/ping"): console, ("other", "/PING"): first, ("other", "/ping/x"): second,
                ("shop.example", "/ping"): first, ("shop.example", "/status"): second,
            }  # fmt: skip
            for (host, path), responder in table.items():
                before = responder.connections
                assert Site(name, port, responder).params(path, host=host)["REQUEST_URI"] == path
                assert responder.connections == before + 1, (host, path)


@pytest.mark.parametrize(
    ("name", "allowed", "nobody"),
    [
        ("nginx", "allow 127.0.0.1;", ""),
        ("lighttpd", "^(127", "^(128"),
        ("haproxy", "src 127.0.0.1", "src 192.0.2.1"),
        ("apache", "Require local", "Require all denied"),
        ("caddy", "remote_ip 127.0.0.1", "remote_ip 192.0.2.1"),
    ],
)
def test_the_console_is_for_nobody_else(name: str, allowed: str, nobody: str) -> None:
    """The requests of tests come from this machine, so the others' place is given to it."""
    port = free_port()
    with short_place() as place, responding(place / "pool.sock") as pool, responding(place / "status.sock") as console:
        settings = Settings(
            gateway=Gateway(status_listen=console.path), pools={"main": Pool(listen=(pool.path,))}, applications=()
        )
        text = render(name, settings, **options(name, place, port))
        assert allowed in text
        with front(name, place, text.replace(allowed, nobody), port):
            asked = Site(name, port, pool)
            for path in ("/status", "/ping?x", "//metrics", "/x/../status", "/%73tatus"):
                assert asked.get(path)[0] == 403, path
            assert (pool.connections, console.connections) == (0, 0)
            assert asked.get("/status/x")[0] == 200


def test_nginx_keeps_connections_when_told_to() -> None:
    port = free_port()
    with short_place() as place, responding(place / "pool.sock") as responder:
        settings = Settings(pools={"main": Pool(listen=(responder.path,))})
        text = render("nginx", settings, keepalive=4, **options("nginx", place, port)).replace(
            "events { }", "worker_processes 1;\nevents { }"
        )
        with front("nginx", place, text, port):
            for _ in range(5):
                Site("nginx", port, responder).params()
        assert responder.connections == 1


def test_lighttpd_gives_the_pool_up_to_nobody_else() -> None:
    """`bin-path`: lighttpd starts one process, with the socket on fd 0, and ends it."""
    port = free_port()
    with short_place() as place:
        script = place / "show"
        script.write_text(
            f"#!/bin/sh\nreadlink /proc/$$/fd/0 >>{place}/started\necho $$ >>{place}/pids\nexec sleep 60\n"
        )
        script.chmod(0o755)
        settings = Settings(pools={"main": Pool(listen=(str(place / "spawned.sock"),))})
        text = render("lighttpd", settings, bin_path=f"/usr/bin/env {script}", **options("lighttpd", place, port))
        with front("lighttpd", place, text, port):
            (pid,) = wait_until(lambda: (place / "pids").exists() and (place / "pids").read_text().split())
            assert (place / "started").read_text().startswith("socket:")
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
