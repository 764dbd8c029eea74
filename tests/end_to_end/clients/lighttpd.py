"""lighttpd: mod_fastcgi and mod_scgi, what it spawns itself, and how it streams."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.end_to_end.browsing import Post, fetch, over_connections
from tests.end_to_end.clients.asking import get, ordinary, variables
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.clients.wire import Wire, wire
from tests.end_to_end.running import HERE, ROOT, USER, Program, alive, by_scgi, children, front_configuration
from tests.waiting import wait_until

CLIENT = "lighttpd 1.4.69"
BODY = bytes(range(256)) * 1_000
HOST = '"/" => (( {where}, "check-local" => "disable", "fix-root-scriptname" => "enable", {more} ))'
LISTS = "a list of hosts in `fastcgi.server`, one of which is down"


@contextmanager
def lighttpd(bench: Bench, lines: str, modules: str = '"mod_fastcgi"') -> Iterator[tuple[int, Program]]:
    """lighttpd with these lines; its port, and the program."""

    def configure(place: Path, port: int) -> str:
        own = f'server.document-root = "{place}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
        return own + f"server.modules = ( {modules} )\n" + lines

    with bench.front("lighttpd", configure) as running:
        yield running


@contextmanager
def through_wire(bench: Bench, lines: str, more: str = "") -> Iterator[tuple[int, Wire]]:
    """The same before a pool at "/", with these settings of the host, where what lighttpd sends is kept."""
    path = bench.folder() / "wire.sock"
    host = HOST.format(where=f'"socket" => "{path}"', more=more)
    with (
        wire(path, bench.pool().socket) as seen,
        lighttpd(bench, f"{lines}\nfastcgi.server = ( {host} )\n") as (port, _),
    ):
        yield port, seen


def bundled(bench: Bench, address: str, *, scgi: bool = False) -> Shown:
    """The bundled configuration before a pool at `address` answers all of the ordinary."""
    settings = bench.pool()

    def configure(place: Path, port: int) -> str:
        text = front_configuration("lighttpd", settings, port)
        line = f'"socket" => "{settings.socket}"'
        assert line in text
        text = text.replace(line, address)
        return by_scgi(text) if scgi else text

    with bench.front("lighttpd", configure) as (port, _):
        return ordinary(port)


def by_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f'"host" => "{host}", "port" => {port}'


@feature(CLIENT, "mod_fastcgi, `socket`, bundled configuration")
def fastcgi_by_unix(bench: Bench) -> Shown:
    return bundled(bench, f'"socket" => "{bench.pool().socket}"')


@feature(CLIENT, "mod_fastcgi, `host` and `port`, bundled configuration")
def fastcgi_by_tcp(bench: Bench) -> Shown:
    return bundled(bench, by_port(bench.tcp()))


@feature(CLIENT, "mod_scgi, `socket`")
def scgi_by_unix(bench: Bench) -> Shown:
    return bundled(bench, f'"socket" => "{bench.pool("scgi").socket}"', scgi=True)


@feature(CLIENT, "mod_scgi, `host` and `port`")
def scgi_by_tcp(bench: Bench) -> Shown:
    return bundled(bench, by_port(bench.tcp("scgi")), scgi=True)


def spawned(bench: Bench, module: str, settings: str, sent: str, came: str, flags: str = "") -> Shown:
    """Two processes that lighttpd starts by bin-path, with these settings, and ends with the signal 3."""
    folder = bench.folder()
    command = folder / "serve"
    user = f"--user {USER}" if USER else ""
    command.write_text(
        f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m gateway serve everything:application "
        f"--app-dir {HERE} {user} {flags}\n"
    )
    command.chmod(0o755)
    where = f'"socket" => "{folder}/spawned.sock", "bin-path" => "{command}", "kill-signal" => 3'
    host = HOST.format(where=where, more=f'"min-procs" => 2, "max-procs" => 2, {settings}')
    with lighttpd(bench, f"{module}.server = ( {host} )\n", f'"mod_{module}"') as (port, program):
        wait_until(lambda: len(children(program.pid)) == 2, what="two processes")
        started = set(children(program.pid))
        answered: set[int] = set()

        def both() -> bool:
            for _, _, body in over_connections(port, [Post("/pid", b"")] * 8, 8):
                answered.add(int(body))
            return answered == started

        wait_until(both, 20, "an answer of each")
        environment = json.loads(fetch(port, "/process").body)["environ"]
    wait_until(lambda: not any(map(alive, started)), what="their end")
    own = {name for name in environment if not name.startswith(("LC_", "PYTHON"))} - {"PWD", "OLDPWD", "SHLVL", "_"}
    assert own == {"SHOP", "PATH", "PHP_FCGI_CHILDREN"}, own
    assert environment["SHOP"] == "open"
    return Shown(sent, came)


ENVIRONMENT = '"bin-environment" => ( "SHOP" => "open" ), "bin-copy-environment" => ( "PATH" )'
SPAWNED = (
    'SHOP and PATH alone in `bin-environment` and `bin-copy-environment`, `"kill-signal" => 3`',
    "both answer, with SHOP, PATH and lighttpd's PHP_FCGI_CHILDREN in their environment; none is left",
)


@feature(CLIENT, "mod_fastcgi, `bin-path`, `max-procs` 2")
def spawned_for_fastcgi(bench: Bench) -> Shown:
    return spawned(bench, "fastcgi", ENVIRONMENT, *SPAWNED)


@feature(CLIENT, "mod_scgi, `bin-path`, `max-procs` 2")
def spawned_for_scgi(bench: Bench) -> Shown:
    return spawned(bench, "scgi", ENVIRONMENT, *SPAWNED, flags="--protocol scgi")


@feature(CLIENT, LISTS)
def several_hosts(bench: Bench) -> Shown:
    folder = bench.folder()
    sockets = [folder / name for name in ("a.sock", "b.sock", "down.sock")]
    hosts = ", ".join(
        f'( "socket" => "{path}", "check-local" => "disable", "fix-root-scriptname" => "enable" )' for path in sockets
    )
    pool = bench.pool().socket
    lines = f'fastcgi.server = ( "/" => ( {hosts} ) )\n'
    with wire(sockets[0], pool) as a, wire(sockets[1], pool) as b, lighttpd(bench, lines) as (port, _):
        answers = over_connections(port, [Post("/pid", b"")] * 40, 4)
    assert {status for _, status, _ in answers} == {200}
    assert len(a.heads) + len(b.heads) == 40
    assert min(len(a.heads), len(b.heads)) > 4
    return Shown("40 requests", "40 answers, of both that are up")


@feature(CLIENT, '`"x-sendfile" => "enable"`')
def sent_by_lighttpd(bench: Bench) -> Shown:
    folder = bench.folder()
    (folder / "file").write_bytes(BODY)
    more = f'"x-sendfile" => "enable", "x-sendfile-docroot" => ( "{folder}" )'
    with through_wire(bench, "", more) as (port, _):
        answer = fetch(port, f"/headers?X-Sendfile={folder}/file&Content-Type=image/png&X-Own=kept")
        outside = fetch(port, "/headers?X-Sendfile=/etc/hostname&Content-Type=text/plain")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, BODY, "image/png")
    assert "x-sendfile" not in answer.headers
    assert (outside.status, len(outside.body) < 1_000) == (403, True), outside
    return Shown(
        "an answer with `X-Sendfile: FOLDER/file`; with a file of elsewhere", "the file, with the answer's type; 403"
    )


@feature(CLIENT, '`"url-normalize-required" => "enable"`, as in Debian\'s lighttpd.conf')
def question_marks(bench: Bench) -> Shown:
    """Another `?` in a query is taken for its beginning. To put that right would go round lighttpd's access rules."""
    with through_wire(bench, 'server.http-parseopts = ( "url-normalize-required" => "enable" )') as (port, _):
        seen = json.loads(fetch(port, "/a?b=?c", Host="urls.example").body)
    assert (seen["PATH_INFO"], seen["QUERY_STRING"]) == ("/a?b=", "c")
    return Shown("`GET /a?b=?c`", "lighttpd's own mistake: PATH_INFO `/a?b=`, QUERY_STRING `c`")


@feature(CLIENT, "headers whose names become one variable")
def spellings(bench: Bench) -> Shown:
    with through_wire(bench, "") as (port, seen):
        joined = variables(port, "X-A: 1", "X-A: 2", "Cookie: a=1", "Cookie: b=2")
        assert get(port, "/hello", "X-Forwarded-For: 192.0.2.1", "X.Forwarded.For: 192.0.2.9")[0] == 400
        assert seen.heads[1].repeats == [("HTTP_X_FORWARDED_FOR", "192.0.2.9")]
    assert (joined["HTTP_X_A"], joined["HTTP_COOKIE"]) == ("1, 2", "a=1; b=2")
    return Shown(
        "`X-A: 1`, `X-A: 2`, `Cookie: a=1`, `Cookie: b=2`, which lighttpd joins; then `X-Forwarded-For` and "
        "`X.Forwarded.For`, a parameter each",
        "HTTP_X_A `1, 2`, HTTP_COOKIE `a=1; b=2`; then 400 of the pool",
    )


@feature(CLIENT, '`"/"` with `"fix-root-scriptname" => "enable"`')
def with_root_fix(bench: Bench) -> Shown:
    return root(bench, "enable", "urls.example", ("", "/a/b"))


@feature(CLIENT, '`"/"` with `"fix-root-scriptname" => "disable"`')
def without_root_fix(bench: Bench) -> Shown:
    return root(bench, "disable", "urls.example", ("/a", "/b"))


@feature(CLIENT, 'the same, and a binding with `path = "/"`')
def without_root_fix_but_bound_to_it(bench: Bench) -> Shown:
    return root(bench, "disable", "root.example", ("", "/a/b"))


def root(bench: Bench, fix: str, host: str, expected: tuple[str, str]) -> Shown:
    own = f'"socket" => "{bench.pool().socket}", "check-local" => "disable", "fix-root-scriptname" => "{fix}"'
    with lighttpd(bench, f'fastcgi.server = ( "/" => (( {own} )) )\n') as (port, _):
        seen = json.loads(fetch(port, "/a/b?c", Host=host).body)
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"], seen["QUERY_STRING"]) == (*expected, "c")
    assert seen["url"] == f"http://{host}/a/b?c"
    name, path = expected
    return Shown("`GET /a/b?c`", f"SCRIPT_NAME {f'`{name}`' if name else 'empty'}, PATH_INFO `{path}`")


def uploaded(bench: Bench, mode: int) -> Shown:
    """A body of which the first bytes come well before the rest."""
    with through_wire(bench, f"server.stream-request-body = {mode}\n") as (port, seen):
        with socket.create_connection(("127.0.0.1", port), 15) as client:
            client.sendall(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n")
            client.sendall(bytes(40_000))
            if mode:
                came = wait_until(lambda: sum(len(r.content) for r in seen.records if r.name == "STDIN"))
                assert 0 < came <= 40_000
            else:
                assert fetch(port, "/hello").status == 200
                assert [head.params["PATH_INFO"] for head in seen.heads] == ["/hello"]
            client.sendall(bytes(60_000))
            answer = client.makefile("rb").read()
        chunked = fetch(port, "/digest", "POST", body=iter([BODY, b"x"]))
    assert b"100000 " in answer
    assert chunked.status == (411 if mode else 200)
    assert mode or chunked.text.startswith("256001 ")
    return Shown(
        f"`POST` of 100,000 bytes in two parts: STDIN {'before' if mode else 'after'} the second; one in chunks",
        f"all bytes; {'411 of lighttpd itself' if mode else 'all bytes'}",
    )


@feature(CLIENT, "`server.stream-request-body = 0`")
def upload_0(bench: Bench) -> Shown:
    return uploaded(bench, 0)


@feature(CLIENT, "`server.stream-request-body = 1`")
def upload_1(bench: Bench) -> Shown:
    return uploaded(bench, 1)


@feature(CLIENT, "`server.stream-request-body = 2`")
def upload_2(bench: Bench) -> Shown:
    return uploaded(bench, 2)


def downloaded(bench: Bench, mode: int) -> Shown:
    """An answer whose second line waits for the client to have the first, where that can be."""
    gate = f"lighttpd-{mode}"
    lines = f"server.stream-response-body = {mode}\n"
    with through_wire(bench, lines) as (port, seen), socket.create_connection(("127.0.0.1", port), 15) as client:
        client.sendall(f"GET /stream?gate={gate} HTTP/1.0\r\n\r\n".encode())
        answer = client.makefile("rb")
        if mode:
            assert b"first\n" in iter(answer.readline, b"")
        else:
            wait_until(lambda: b"first\n" in seen.conversations[0].answered if seen.conversations else False)
        bench.pool().open_gate(gate)
        assert answer.read().endswith(b"last\n")
    return Shown("an answer of two lines", "the first at once" if mode else "both together")


@feature(CLIENT, "`server.stream-response-body = 0`")
def download_0(bench: Bench) -> Shown:
    return downloaded(bench, 0)


@feature(CLIENT, "`server.stream-response-body = 1`")
def download_1(bench: Bench) -> Shown:
    return downloaded(bench, 1)


@feature(CLIENT, "`server.stream-response-body = 2`")
def download_2(bench: Bench) -> Shown:
    return downloaded(bench, 2)
