"""TLS with client certificates: what front-ends tell the pool about them."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.front.render import render
from gateway.settings import Pool, Settings
from tests.end_to_end.certificates import issue
from tests.end_to_end.running import USER, front, short_place
from tests.front.responding import responding
from tests.waiting import free_port


@pytest.fixture(scope="module", params=["nginx", "lighttpd", "haproxy", "apache", "caddy"])
def site(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, Path]]:
    port = free_port()
    with short_place() as place, responding(place / "pool.sock") as responder:
        issue(place, "ca", "authority", "ca")
        issue(place, "server", "localhost", "ca")
        issue(place, "alice", "alice", "ca")
        (place / "server.key").chmod(0o600)
        with (place / "server.pem").open("a") as file:  # HAProxy reads both from one file
            file.write((place / "server.key").read_text())
        text = render(
            request.param,
            Settings(pools={"main": Pool(listen=(responder.path,))}),
            listen=f"127.0.0.1:{port}",
            run_directory=str(place),
            user=USER if request.param == "nginx" else "",
            certificate=str(place / "server.pem"),
            certificate_key="" if request.param == "haproxy" else str(place / "server.key"),
            client_ca=str(place / "ca.pem"),
        )
        with front(request.param, place, text, port):
            yield request.param, port, place


def ask(site: tuple[str, int, Path], client: str = "") -> dict[str, str]:
    _, port, place = site
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(place / "ca.pem")
    if client:
        context.load_cert_chain(place / f"{client}.pem", place / f"{client}.key")
    connection = http.client.HTTPSConnection("localhost", port, timeout=15, context=context)
    connection.request("GET", "/", headers={"SSL_CLIENT_VERIFY": "SUCCESS", "Remote-User": "root"})
    params: dict[str, str] = json.loads(connection.getresponse().read())["params"]
    connection.close()
    return params


def names(user: str) -> list[str]:
    """nginx and Caddy write CN=alice,O=Shop, lighttpd O = Shop, CN = alice, HAProxy /O=Shop/CN=alice."""
    return sorted(re.split("[,/]", user.replace(" ", "").removeprefix("/")))


def test_a_verified_certificate_names_the_user(site: tuple[str, int, Path]) -> None:
    params = ask(site, "alice")
    assert params["HTTPS"] == "on"
    assert names(params["REMOTE_USER"]) == ["CN=alice", "O=Shop"]
    if site[0] in ("nginx", "lighttpd"):
        assert (params["REQUEST_SCHEME"], params["SSL_CLIENT_VERIFY"]) == ("https", "SUCCESS")
        assert names(params["SSL_CLIENT_S_DN"]) == ["CN=alice", "O=Shop"]
        assert params["SSL_CLIENT_M_SERIAL"] == "1234"


def test_without_a_certificate_nobody_is_named(site: tuple[str, int, Path]) -> None:
    params = ask(site)
    assert params.get("SSL_CLIENT_VERIFY", "NONE") == "NONE"
    assert params.get("REMOTE_USER", "") == ""
    assert "SSL_CLIENT_S_DN" not in params
