"""TLS with client certificates at nginx and lighttpd: docs/howto/client-certificates.md as it stands, and strangers."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.end_to_end.certificates import issue
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, ROOT, USER, Program, Settings, front, serving, short_place
from tests.waiting import free_port

GUIDE = (ROOT / "docs" / "howto" / "client-certificates.md").read_text()
SHOWN = """
import json
from guide import application as of_guide
def application(environ, start_response):
    if environ["PATH_INFO"] == "/guide":
        return of_guide(environ, start_response)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]
"""
FORGED = {
    "SSL_CLIENT_VERIFY": "SUCCESS", "Ssl-Client-Verify": "SUCCESS", "SSL-Client-S-DN": "CN=root", "Remote-User": "root",
    "REMOTE_USER": "root", "HTTP_REMOTE_USER": "root", "Https": "off", "Ssl-Client-Cert": "x",
}  # fmt: skip


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@dataclass
class Site:
    front: str
    port: int
    place: Path

    def ask(self, client: str = "", path: str = "/") -> tuple[int, bytes]:
        """Ask with a client's certificate and headers that claim another."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if client:
            context.load_cert_chain(self.place / f"{client}.pem", self.place / f"{client}.key")
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=15, context=context)
        try:
            connection.request("GET", path, headers=FORGED)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def environ(self, client: str = "") -> dict[str, str]:
        status, body = self.ask(client)
        assert status == 200
        environ: dict[str, str] = json.loads(body)
        return environ


@pytest.fixture(scope="module")
def pool() -> Iterator[Program]:
    """The application of the guide, in a place with its certificates and some that do not count."""
    with short_place() as place:
        (command,) = (block for block in blocks("sh") if "openssl" in block)
        script = command.replace("/etc/ssl/shop", str(place))
        subprocess.run(["sh", "-euc", script], check=True, capture_output=True, env=ENVIRONMENT, timeout=30)
        issue(place, "server", "localhost", "server")
        issue(place, "expired", "alice", "ca", days=-1)
        issue(place, "mallory", "alice", "mallory")
        (place / "guide.py").write_text(blocks("python")[0])
        (place / "shown.py").write_text(SHOWN)
        settings = Settings(
            place, {"app_dir": str(place), "max_children": 1}, [{"name": "s", "app": "shown:application"}]
        )
        with serving(settings) as master:
            yield master


@pytest.fixture(scope="module", params=["nginx", "lighttpd"])
def site(request: pytest.FixtureRequest, pool: Program) -> Iterator[Site]:
    place, port = pool.log.parent, free_port()
    command = next(block for block in blocks("sh") if "gateway front nginx" in block).replace("\\\n", "").split()[3:]
    words = [word.replace("/etc/ssl/shop", str(place)) for word in command]
    words[0] = str(place / "settings.json")
    more = ["--user", USER or "nobody", "--run-directory", str(place)] if request.param == "nginx" else []
    done = subprocess.run(
        [*GATEWAY, "front", request.param, *words, "--listen", f"127.0.0.1:{port}", *more],
        check=True, capture_output=True, text=True, env=ENVIRONMENT, timeout=30,
    )  # fmt: skip
    with front(request.param, place, done.stdout, port):
        yield Site(request.param, port, place)


def test_the_certificate_names_the_user(site: Site) -> None:
    environ = site.environ("alice")
    assert (environ["REQUEST_SCHEME"], environ["HTTPS"], environ["SSL_CLIENT_VERIFY"]) == ("https", "on", "SUCCESS")
    written = {"nginx": "CN=alice,O=Shop", "lighttpd": "O = Shop, CN = alice"}[site.front]
    assert (environ["REMOTE_USER"], environ["SSL_CLIENT_S_DN"]) == (written, written)
    serial = x509.load_pem_x509_certificate((site.place / "alice.pem").read_bytes()).serial_number
    assert int(environ["SSL_CLIENT_M_SERIAL"], 16) == serial
    assert {"SSL_PROTOCOL", "SSL_CIPHER"} <= environ.keys()
    assert site.ask("alice", "/guide") == (200, written.encode())


def test_whoever_has_none_is_nobody_whatever_headers_claim(site: Site) -> None:
    environ = site.environ()
    assert (environ["SSL_CLIENT_VERIFY"], environ["HTTPS"]) == ("NONE", "on")
    assert not {"REMOTE_USER", "SSL_CLIENT_S_DN", "SSL_CLIENT_M_SERIAL", "SSL_CLIENT_CERT"} & environ.keys()
    assert {
        name for name, value in environ.items() if value in FORGED.values() and not name.startswith("HTTP_")
    } == set()
    assert site.ask(path="/guide")[0] == 403


@pytest.mark.parametrize("client", ["mallory", "expired"])
def test_a_certificate_that_does_not_count(site: Site, client: str) -> None:
    if site.front == "nginx":
        status, page = site.ask(client)
        assert (status, b"SSL certificate error" in page) == (400, True)
    else:
        environ = site.environ(client)
        assert environ["SSL_CLIENT_VERIFY"].startswith("FAILED:")
        assert not {"REMOTE_USER", "SSL_CLIENT_S_DN", "SSL_CLIENT_M_SERIAL"} & environ.keys()
        assert site.ask(client, "/guide")[0] == 403
