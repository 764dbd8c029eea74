"""Host and port of a request: every row has exactly one outcome, whatever the front-end lets through."""

from __future__ import annotations

import pytest

from gateway.app.environ import Rejected, host_and_port, normalise

LABEL63 = "x" * 63
NAME253 = ".".join([LABEL63] * 3 + ["x" * 61])

ACCEPTED = [
    # the Host header as clients write it
    ("a.example", "a.example"),
    ("A.EXAMPLE", "a.example"),  # HAProxy passes it as it is
    ("a.example.", "a.example"),
    ("A.Example.:80", "a.example"),
    ("a.example:80", "a.example"),
    ("a.example:9999", "a.example"),
    ("a.example:1", "a.example"),
    ("a.example:65535", "a.example"),
    ("localhost", "localhost"),
    ("localhost:8080", "localhost"),
    ("_", "_"),  # nginx: server_name _
    ("under_score.example", "under_score.example"),
    ("-dash-.example", "-dash-.example"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.1:8080", "127.0.0.1"),
    ("0x7f000001", "0x7f000001"),  # a name, and never an address
    ("1", "1"),
    (LABEL63, LABEL63),
    (f"{LABEL63}.{LABEL63}", f"{LABEL63}.{LABEL63}"),
    (NAME253, NAME253),
    (NAME253 + ".", NAME253),
    ("[::1]", "[::1]"),
    ("[::1]:8080", "[::1]"),
    ("[0:0:0:0:0:0:0:1]", "[::1]"),
    ("[2001:DB8::0:1]", "[2001:db8::1]"),
    ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
]

REFUSED = [
    "a.example:80@b.example",
    "x@a.example",
    "a.example, b.example",
    "a.example,b.example",
    "a.example b.example",
    " a.example",
    "a.example ",
    "a.example\t",
    "a/../b",
    "a.example/",
    "http://a.example",
    "a.example?x",
    "a.example#x",
    "a.example\\b",
    "*",
    "*.example",
    "a.*",
    "b\xc3\xbccher.example",
    "b\xfccher.example",
    "a\x7f",
    "a\x1b[0m",
    "a\x0bb",
    ".",
    "..",
    "a..",
    ".a",
    "a..b",
    ":80",
    "a:",
    "a:0",
    "a:080",
    "a:+80",
    "a:-1",
    "a: 80",
    "a:80 ",
    "a:65536",
    "a:99999",
    "a:100000",
    "a:80:80",
    "a:http",
    "a:\xb2",
    "a%2eb",
    "a%00",
    "a;b",
    "a=b",
    "a'b",
    'a"b',
    "<a>",
    "x" * 64,
    NAME253 + "x",
    "a." * 127 + "aa",
    "[::1",
    "::1",
    "::1]",
    "[::1]x",
    "[::1]:",
    "[::1]:0",
    "[::1]:65536",
    "[::1%25eth0]",
    "[::1%eth0]",
    "[fe80::1%1]",
    "[]",
    "[a.example]",
    "[1.2.3.4]",
    "[v1.x]",
    "[::g]",
    "[[::1]]",
]


def resolve(port_from: str = "server", **given: str) -> tuple[str, int]:
    params = {"SERVER_PORT": "8080", "SERVER_NAME": "", "REQUEST_URI": "/"} | given
    normalise(params, ())
    return host_and_port(params, port_from)


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(ACCEPTED) + len(REFUSED) >= 60


@pytest.mark.parametrize(("text", "host"), ACCEPTED)
def test_host_is_accepted(text: str, host: str) -> None:
    assert resolve(HTTP_HOST=text) == (host, 8080)
    assert resolve(SERVER_NAME=text) == (host, 8080)


@pytest.mark.parametrize("text", REFUSED)
def test_host_is_refused(text: str) -> None:
    for name in ("HTTP_HOST", "SERVER_NAME"):
        with pytest.raises(Rejected) as caught:
            resolve(**{name: text})
        assert caught.value.status == 400
        assert caught.value.reason.isprintable()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # FAULTS: Host of the header before the name of the front-end's server block
        ({"HTTP_HOST": "b.example", "SERVER_NAME": "a.example"}, ("b.example", 8080)),
        ({"SERVER_NAME": "a.example"}, ("a.example", 8080)),
        ({"HTTP_HOST": "", "SERVER_NAME": "a.example"}, ("a.example", 8080)),  # nginx's $http_host, no Host, HTTP/1.0
        ({"SERVER_NAME": "a.example:9999"}, ("a.example", 8080)),  # HAProxy
        ({"SERVER_NAME": "", "SERVER_ADDR": "192.0.2.1"}, ("192.0.2.1", 8080)),  # lighttpd, no Host, HTTP/1.0
        ({"SERVER_NAME": "", "SERVER_ADDR": "2001:db8::1"}, ("[2001:db8::1]", 8080)),
        ({"SERVER_NAME": "", "SERVER_ADDR": "unix:/run/x.sock"}, ("localhost", 8080)),  # nginx on a Unix socket
        ({}, ("localhost", 8080)),
        # the front-end's port, never the client's (H17)
        ({"HTTP_HOST": "a:9999"}, ("a", 8080)),
        ({"HTTP_HOST": "a", "SERVER_PORT": "1"}, ("a", 1)),
        ({"HTTP_HOST": "a", "SERVER_PORT": "65535"}, ("a", 65535)),
        ({"HTTP_HOST": "a", "SERVER_PORT": ""}, ("a", 80)),  # nginx on a Unix socket
        ({"HTTP_HOST": "a", "SERVER_PORT": "0"}, ("a", 80)),  # lighttpd on a Unix socket
        ({"HTTP_HOST": "a", "SERVER_PORT": "", "HTTPS": "on"}, ("a", 443)),
    ],
)
def test_where_host_and_port_come_from(given: dict[str, str], expected: tuple[str, int]) -> None:
    assert resolve(**given) == expected


@pytest.mark.parametrize(
    ("given", "port"),
    [
        ({"HTTP_HOST": "a:9999"}, 9999),
        ({"HTTP_HOST": "[::1]:81"}, 81),
        ({"HTTP_HOST": "a"}, 80),
        ({"HTTP_HOST": "a", "HTTPS": "on"}, 443),
        ({"HTTP_HOST": "a", "REQUEST_SCHEME": "https"}, 443),
        ({"HTTP_HOST": "a", "SERVER_PORT": "nonsense"}, 80),
    ],
)
def test_the_port_of_the_host_header(given: dict[str, str], port: int) -> None:
    assert resolve("host", **given)[1] == port


@pytest.mark.parametrize("port", ["080", "+80", "-1", "65536", "100000", "80 ", "x", "\xb2", "8080, 80"])
def test_a_server_port_that_is_none(port: str) -> None:
    with pytest.raises(Rejected, match="SERVER_PORT is"):
        resolve(HTTP_HOST="a", SERVER_PORT=port)
