"""What `gateway front` prints for HAProxy, Apache and Caddy, in the real programs; and for systemd."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from gateway.front.render import render
from gateway.settings import Gateway, Pool, Settings
from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import front, short_place
from tests.front.asking import BESIDE_STATIC, Site, check_not_served, check_static_files, options
from tests.front.responding import responding
from tests.waiting import free_port

FRONTS = ["haproxy", "apache", "caddy"]


@pytest.fixture(scope="module", params=FRONTS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    name, port = request.param, free_port()
    with short_place() as place, responding(place / "pool.sock") as responder:
        settings = Settings(pools={"main": Pool(listen=(responder.path,), max_body=2_000_000)})
        with front(name, place, render(name, settings, **options(name, place, port)), port):
            yield Site(name, port, responder)


def test_a_request_as_it_is_passed(site: Site) -> None:
    params = site.params("/a%20b/c?x=1&y=%20", "Cookie: k=v", "X-Own: 1", host="a.example")
    expected = {
        "GATEWAY_INTERFACE": "CGI/1.1",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/a%20b/c?x=1&y=%20",
        "QUERY_STRING": "x=1&y=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "a.example",
        "SERVER_PORT": str(site.port),
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "a.example",
        "HTTP_COOKIE": "k=v",
        "HTTP_X_OWN": "1",
    }
    assert {name: params.get(name) for name in expected} == expected
    # Caddy says where the whole path is; the others put it into SCRIPT_NAME, and that is taken for it.
    paths = {"haproxy": ("/a b/c", ""), "apache": ("/a b/c", ""), "caddy": ("", "/a b/c")}
    assert (params["SCRIPT_NAME"], params.get("PATH_INFO", "")) == paths[site.name]
    assert params["SERVER_SOFTWARE"].lower().startswith(site.name)
    assert not {"HTTPS", "PATH", "SSL_CLIENT_VERIFY"} & params.keys()


@pytest.mark.parametrize("host", ["a.example:81", "[::1]:81", "A.example."])
def test_the_port_is_the_one_asked_at(site: Site, host: str) -> None:
    params = site.params(host=host)
    assert params["HTTP_HOST"] == host
    assert params["SERVER_PORT"] == str(site.port)
    assert not params["SERVER_NAME"].endswith(":81")


def test_host_that_is_chosen_is_the_host_that_is_passed(site: Site) -> None:
    status, _, body = site.raw("GET http://a.example/x HTTP/1.1\nHost: b.example\nConnection: close\n\n")
    if site.name == "haproxy":
        assert status == 400
    else:
        assert (status, json.loads(body)["params"]["HTTP_HOST"]) == (200, "a.example")


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"])
def test_underscores_add_nothing_to_what_a_proxy_said(site: Site, name: str) -> None:
    spoofed = {name.replace("-", "_"), name.replace("-", "_", 1), "X-" + name[2:].replace("-", "_")} - {name}
    params = site.params("/", *[f"{spelling}: spoofed" for spelling in spoofed], f"{name}: 192.0.2.1")
    assert "spoofed" not in params["HTTP_" + name.upper().replace("-", "_")]


def test_names_with_an_underscore_are_dropped(site: Site) -> None:
    params = site.params("/", "X_Forwarded_User: spoofed", "X-Remote_User: spoofed", "x_a: spoofed")
    assert "spoofed" not in params.values()


def test_no_header_becomes_a_certificate_or_a_user(site: Site) -> None:
    forged = ["SSL_CLIENT_VERIFY: SUCCESS", "Ssl-Client-Verify: SUCCESS", "Remote-User: root", "REMOTE_USER: root"]
    _, _, body = site.get("/", *forged, "Authorization: Basic cm9vdDp4")
    params = json.loads(body)["params"]
    assert params.get("REMOTE_USER", "") == params.get("AUTH_TYPE", "") == ""
    assert "SSL_CLIENT_VERIFY" not in params
    assert params["HTTP_AUTHORIZATION"] == "Basic cm9vdDp4"


def test_static_files_come_from_the_front(site: Site) -> None:
    if site.name == "haproxy":  # it serves no files
        assert site.params("/sta/style.css")["SCRIPT_NAME"] == "/sta/style.css"
        return
    check_static_files(site)


@pytest.mark.parametrize("path", BESIDE_STATIC)
def test_nothing_beside_the_static_files_is_served(site: Site, path: str) -> None:
    check_not_served(site, path)


def test_bodies_arrive_whole(site: Site) -> None:
    # HAProxy 2.6 refuses a body without a length that is larger than its buffer.
    chunk = 7_000 if site.name == "haproxy" else 70_000
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=15)
    for body, length in ((b"x" * 1_900_000, 1_900_000), (iter([b"a" * chunk, b"b" * chunk]), 2 * chunk)):
        connection.request("POST", "/", body, {"Content-Type": "text/x"})
        shown = json.loads(connection.getresponse().read())
        assert shown["params"].get("CONTENT_LENGTH", "-1") in (str(length), "-1")  # chunked: read to the end
        assert shown["body"].split()[0] == str(length)
        assert shown["params"]["CONTENT_TYPE"] == "text/x"
    connection.close()


def test_a_body_over_the_limit_is_refused_before_the_pool_by_one(site: Site) -> None:
    """The others leave it to the pool: see docs/reference/clients.md."""
    status = fetch(site.port, "/", "POST", body=b"x" * 2_100_000).status
    assert status == {"haproxy": 200, "apache": 200, "caddy": 413}[site.name]


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


@pytest.mark.parametrize("name", ["haproxy", "apache"])
def test_connections_are_kept_when_told_to(name: str) -> None:
    port = free_port()
    with short_place() as place, responding(place / "pool.sock") as responder:
        settings = Settings(pools={"main": Pool(listen=(responder.path,))})
        text = render(name, settings, keepalive=4, **options(name, place, port))
        # A process and a thread has connections of its own.
        text = text.replace("global\n", "global\n    nbthread 1\n").replace(
            "Listen ", "StartServers 1\nServerLimit 1\nThreadsPerChild 25\nMaxRequestWorkers 25\nListen "
        )
        with front(name, place, text, port):
            for _ in range(5):
                Site(name, port, responder).params()
        assert responder.connections == 1


@pytest.mark.parametrize("name", FRONTS)
def test_the_console_has_its_places(name: str) -> None:
    port = free_port()
    with short_place() as place, responding(place / "pool.sock") as pool, responding(place / "status.sock") as console:
        settings = Settings(
            gateway=Gateway(status_listen=console.path), pools={"main": Pool(listen=(pool.path,))}, applications=()
        )
        with front(name, place, render(name, settings, **options(name, place, port)), port):
            for path, asked in {"/status": console, "/ping?x": console, "/statusx": pool, "/status/x": pool}.items():
                before = asked.connections
                params = Site(name, port, asked).params(path)
                assert asked.connections == before + 1, path
                assert params["SCRIPT_NAME"] + params.get("PATH_INFO", "") == path.partition("?")[0]
                assert params.get("QUERY_STRING", "") == path.partition("?")[2]
