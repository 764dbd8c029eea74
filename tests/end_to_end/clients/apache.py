"""Apache: mod_proxy_fcgi, mod_proxy_scgi and mod_fcgid."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.clients.asking import get, path, variables
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.clients.wire import Wire, wire
from tests.end_to_end.running import GATEWAY, HERE, ROOT, alive
from tests.waiting import wait_until

CLIENT = "Apache 2.4.71"
SERVER = """ServerRoot "{place}"
DefaultRuntimeDir "{place}"
PidFile "{place}/apache.pid"
ErrorLog /dev/stderr
ServerName localhost
Listen 127.0.0.1:{port}
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
Define modules /usr/lib/apache2/modules
LoadModule mpm_event_module ${{modules}}/mod_mpm_event.so
LoadModule authz_core_module ${{modules}}/mod_authz_core.so
LoadModule alias_module ${{modules}}/mod_alias.so
LoadModule proxy_module ${{modules}}/mod_proxy.so
LoadModule proxy_fcgi_module ${{modules}}/mod_proxy_fcgi.so
LoadModule proxy_scgi_module ${{modules}}/mod_proxy_scgi.so
LoadModule fcgid_module ${{modules}}/mod_fcgid.so
DocumentRoot "{place}"
AllowEncodedSlashes On
"""


def with_lines(place: Path, port: int, lines: str) -> str:
    """A server of one process with these lines."""
    return SERVER.format(place=place, port=port) + lines


def by_handler(place: Path, port: int, socket: Path) -> str:
    """mod_proxy_fcgi as the handler of everything."""
    handler = f'"proxy:unix:{socket}|fcgi://localhost/"'
    return with_lines(place, port, f"<Location />\nSetHandler {handler}\n</Location>\n")


def by_pass(place: Path, port: int, socket: Path, more: str = "") -> str:
    """mod_proxy_fcgi below a URL."""
    return with_lines(place, port, f'ProxyPass "/" "unix:{socket}|fcgi://localhost/" {more}\n')


def by_scgi(place: Path, port: int, socket: Path) -> str:
    """mod_proxy_scgi below a URL."""
    return with_lines(place, port, f'ProxyPass "/" "unix:{socket}|scgi://localhost/"\n')


def spawning(place: Path, port: int, target: str) -> str:
    """mod_fcgid, which starts a script for all URLs as docs/howto/fronts.md tells it to."""
    written = (ROOT / "docs" / "howto" / "fronts.md").read_text().partition("## Apache that starts")[2]
    lines, script = re.findall(r"```(?:apache|sh)\n(.*?)```", written, re.DOTALL)
    start = place / "start.fcgi"
    start.write_text(re.sub("(?<=exec ).*", " ".join([*GATEWAY, "serve", target]), script))
    start.chmod(0o755)
    own = f'FcgidIPCDir "{place}/fcgid"\nFcgidProcessTableFile "{place}/fcgid.shm"\nFcgidInitialEnv PYTHONPATH {ROOT}\n'
    return with_lines(place, port, own + lines.replace("/srv/shop", str(place)))


@contextlib.contextmanager
def apache(
    bench: Bench, configure: Callable[[Path, int, Path], str], *, kind: str = "wsgi"
) -> Iterator[tuple[int, Wire]]:
    with (
        wire(bench.folder() / "wire.sock", bench.pool(kind).socket) as seen,
        bench.front("apache", lambda place, port: configure(place, port, seen.path)) as (port, _),
    ):
        yield port, seen


@feature(CLIENT, "mod_proxy_fcgi, `ProxyPass / unix:…|fcgi://localhost/`")
def proxy_pass(bench: Bench) -> Shown:
    with apache(bench, by_pass) as (port, seen):
        came = path(port, "/a%20b/c")
        (head,) = seen.heads
    assert "PATH_INFO" not in head.params
    return Shown(f"`GET /a%20b/c`, passed on with SCRIPT_NAME `{head.params['SCRIPT_NAME']}` and no PATH_INFO", came)


@feature(CLIENT, "mod_proxy_fcgi, `SetHandler proxy:unix:…|fcgi://localhost/`")
def set_handler(bench: Bench) -> Shown:
    with apache(bench, by_handler) as (port, seen):
        came = path(port, "/a%20b/c")
        (head,) = seen.heads
    passed = f"SCRIPT_NAME `{head.params['SCRIPT_NAME']}` and PATH_INFO `{head.params['PATH_INFO']}`"
    return Shown(f"`GET /a%20b/c`, passed on with {passed}: it is split where no folder is on disk", came)


@feature(CLIENT, "mod_proxy_fcgi, `enablereuse=on`")
def enablereuse(bench: Bench) -> Shown:
    with apache(bench, lambda *where: by_pass(*where, "enablereuse=on max=4")) as (port, seen):
        for _ in range(5):
            assert fetch(port, "/hello").text == "Hello\n"
        (conversation,) = seen.conversations
        ids = [head.id for head in conversation.heads]
    return Shown(f"5 requests, one after the other: IDs {ids} on one connection", "200 five times")


@feature(CLIENT, "mod_proxy_fcgi, parameters in several records")
def records(bench: Bench) -> Shown:
    with apache(bench, by_pass) as (port, seen):
        shown = variables(port, *[f"X-{n}: {str(n) * 8_000}" for n in range(5)])
        sizes = [len(record.content) for record in seen.records if record.name == "PARAMS"]
    assert max(sizes) <= 16 * 1024
    assert [len(shown[f"HTTP_X_{n}"]) for n in range(5)] == [8_000] * 5
    return Shown(f"5 headers of 8,000 bytes: {len(sizes) - 1} records of PARAMS, none over 16 KiB", "all five, whole")


@feature(CLIENT, "mod_proxy_fcgi, uploads")
def uploads(bench: Bench) -> Shown:
    body = bytes(range(256)) * 8_000
    with apache(bench, by_pass) as (port, seen):
        known = fetch(port, "/digest", "POST", body=body)
        chunked = fetch(port, "/digest", "POST", body=iter([body[:70_000], body[70_000:]]))
        assert "CONTENT_LENGTH" not in seen.heads[1].params
    assert known.text == chunked.text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    return Shown("2,048,000 bytes with a length; then in chunks, passed on without CONTENT_LENGTH", "both read whole")


@feature(CLIENT, "mod_proxy_fcgi, the port in a Host header")
def port_of_the_host(bench: Bench) -> Shown:
    with apache(bench, by_pass) as (port, seen):
        variables(port, host="a.example:9999")
        assert seen.heads[0].params["SERVER_PORT"] == "9999"
    return Shown(
        "`Host: a.example:9999`, passed on as SERVER_PORT",
        "SERVER_PORT 9999: only what `gateway front apache` prints sets it to the port asked at",
    )


@feature(CLIENT, "mod_proxy_fcgi, HEAD and 304")
def without_body(bench: Bench) -> Shown:
    with apache(bench, by_pass) as (port, _):
        head = fetch(port, "/echo", "HEAD")
        unchanged = fetch(port, "/status?line=304%20Not%20Modified")
    assert (head.status, head.body, unchanged.status, unchanged.body) == (200, b"", 304, b"")
    return Shown("`HEAD /echo`; a page that answers 304", "200 and 304, no body")


@feature(CLIENT, "mod_proxy_fcgi, an exception after the first byte")
def cut(bench: Bench) -> Shown:
    with apache(bench, by_pass) as (port, _), pytest.raises(http.client.IncompleteRead, match="6 bytes read"):
        get(port, "/raise_after")
    return Shown("`GET /raise_after`, which the pool ends by a record of version 0", "200 `begun`, then visibly cut")


@feature(CLIENT, "mod_proxy_fcgi, a body over `max_body`")
def too_large(bench: Bench) -> Shown:
    with apache(bench, by_pass, kind="small") as (port, _):
        assert fetch(port, "/digest", "POST", body=b"x" * 3_000_000).status == 413
    return Shown("3,000,000 bytes to a pool that takes 1,000,000", "413 of the pool")


@feature(CLIENT, "mod_proxy_scgi, `ProxyPass / unix:…|scgi://localhost/`")
def proxy_scgi(bench: Bench) -> Shown:
    body = b"x" * 100_000
    with apache(bench, by_scgi, kind="scgi") as (port, _):
        came = path(port, "/a%20b/c")
        assert fetch(port, "/digest", "POST", body=body).text == f"100000 {hashlib.sha256(body).hexdigest()}"
        assert get(port, "/raise_before")[0] == 500
    return Shown(
        "`GET /a%20b/c`; 100,000 bytes posted; a page that raises an exception", f"{came}; read whole; the pool's 500"
    )


@feature(CLIENT, "mod_fcgid, which starts the pool")
def fcgid(bench: Bench) -> Shown:
    body = b"x" * 100_000
    with bench.front("apache", lambda *where: spawning(*where, f"everything:application --app-dir {HERE}")) as (
        port,
        _,
    ):
        shown = variables(port)
        worker = shown["pid"]
        environ = Path(f"/proc/{worker}/environ").read_text().split("\0")
        assert fetch(port, "/digest", "POST", body=body).text == f"100000 {hashlib.sha256(body).hexdigest()}"
        assert (shown["SCRIPT_NAME"], shown["PATH_INFO"]) == ("", "/variables")
    wait_until(lambda: not alive(worker))
    names = sorted(name for variable in environ if (name := variable.partition("=")[0]))
    return Shown(
        f"a script that runs `gateway serve`, with {', '.join(names)} alone in its environment; "
        "`GET /variables`; 100,000 bytes posted",
        "200; read whole; it ends with Apache",
    )
