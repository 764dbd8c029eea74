"""examples/jsonstore behind each front-end, with eight workers, and as a CGI script."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.end_to_end.browsing import Answer, Post, timed
from tests.end_to_end.cgiserver import cgi_server
from tests.end_to_end.examples.outcome import Outcome, tried
from tests.end_to_end.examples.site import Mount
from tests.end_to_end.running import Settings, front, front_configuration, serving, short_place
from tests.waiting import free_port

TABLE = "JSONStore"
_LINK = "[JSONStore](../examples/jsonstore.md)"
JSON = "application/json"
PATCH = "application/merge-patch+json"
WRITERS = 1_000
_SNIFFLES = [{"rank": 1, "name": "Ann"}, {"rank": 2}]
_MERGES = [  # RFC 7396, appendix A
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


def send(store: Mount, method: str, path: str, value: Any = None, **headers: str) -> Answer:
    """A request with a JSON value as its body."""
    content_type = {"Content_Type": PATCH if method == "PATCH" else JSON}
    return store.fetch(path, method, json.dumps(value).encode(), **content_type | headers)


def read(store: Mount, path: str) -> Any:
    answer = store.fetch(path)
    assert (answer.status, answer.headers["content-type"]) == (200, JSON), answer
    return json.loads(answer.body)


def parts(store: Mount) -> None:
    """The paths of a document: read, set, added to, removed."""
    assert send(store, "PUT", "/sniffles", _SNIFFLES).status == 201
    assert read(store, "/sniffles/0") == {"rank": 1, "name": "Ann"}
    assert send(store, "PUT", "/sniffles/0/rank", 5).status == 204
    added = send(store, "POST", "/sniffles", {"na/me": "ö~"})
    assert (added.status, added.headers["location"]) == (201, f"{store.path}/sniffles/2"), added
    assert read(store, "/sniffles/2/na~1me") == "ö~"
    named = send(store, "POST", "/", "of a name that it is given")
    assert named.status == 201, named
    assert read(store, named.headers["location"].removeprefix(store.path)) == "of a name that it is given"
    assert store.fetch("/sniffles/1", "DELETE").status == 204
    assert read(store, "/sniffles") == [{"rank": 5, "name": "Ann"}, {"na/me": "ö~"}]
    assert store.fetch("/", "DELETE").status == 204
    assert read(store, "/") == {}
    head = store.fetch("/", "HEAD")
    assert (head.status, head.body) == (200, b"")


def patches(store: Mount) -> None:
    for before, patch, after in _MERGES:
        assert send(store, "PUT", "/merged", before).status in (201, 204)
        answer = send(store, "PATCH", "/merged", patch)
        assert (answer.status, json.loads(answer.body), read(store, "/merged")) == (200, after, after), (before, patch)
    assert store.fetch("/", "OPTIONS").headers["accept-patch"] == PATCH


def conditions(store: Mount) -> None:
    send(store, "PUT", "/counter", 0)
    tag = store.fetch("/counter").headers["etag"]
    unchanged = store.fetch("/counter", If_None_Match=f'"other", W/{tag}')
    assert (unchanged.status, unchanged.body, unchanged.headers["etag"]) == (304, b"", tag)
    assert send(store, "PUT", "/counter", 1, If_Match='"other"').status == 412
    assert send(store, "PUT", "/counter", 1, If_Match=f'"other", {tag}').status == 204
    assert send(store, "PUT", "/counter", 2, If_Match=tag).status == 412
    assert send(store, "PATCH", "/counter", 2, If_Match=f"W/{tag}").status == 412
    assert store.fetch("/counter", "DELETE", If_Match=tag).status == 412
    assert send(store, "PUT", "/nothing", 1, If_Match="*").status == 412
    assert send(store, "PUT", "/counter", 3, If_None_Match="*").status == 412
    assert read(store, "/counter") == 1


def problems(store: Mount) -> None:
    """What is refused, and why (RFC 9457)."""
    send(store, "PUT", "/list", [1])
    deep = b"[" * 101 + b"]" * 101
    for method, path, body, headers, status in [
        ("GET", "/list/1", None, {}, 404),
        ("GET", "/list/00", None, {}, 404),
        ("DELETE", "/nowhere", None, {}, 404),
        ("PUT", "/list", b"[1", {}, 400),
        ("PUT", "/list", b"NaN", {}, 400),
        ("PUT", "/list", b"1e999", {}, 400),
        ("PUT", "/list", b"\xff", {}, 400),
        ("PUT", "/list", deep, {}, 400),
        ("PUT", "/list", b"[" * 100_000, {}, 400),
        ("PUT", "/list/0", deep[1:-1], {}, 400),
        ("PUT", "/list/2", b"1", {}, 409),
        ("PUT", "/list/0/part", b"1", {}, 409),
        ("POST", "/list/0", b"1", {}, 409),
        ("PUT", "/nowhere/part", b"1", {}, 409),
        ("PUT", "/list", b"1", {"Content_Type": "text/plain"}, 415),
        ("PATCH", "/list", b"1", {"Content_Type": JSON}, 415),
        ("PROPFIND", "/list", None, {}, 405),
    ]:
        answer = store.fetch(path, method, body, **headers)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json"), (path, answer)
        problem = json.loads(answer.body)
        assert (problem["status"], problem["type"], problem["instance"]) == (status, "about:blank", store.path + path)
        assert problem["detail"], problem
    assert read(store, "/list") == [1]


def writers(store: Mount) -> None:
    """A thousand clients at once, each with a connection of its own; then some that read before they write."""
    send(store, "PUT", "/log", [])
    posts = [Post("/log", b"%d" % number, content_type=JSON) for number in range(WRITERS)]
    answers = asyncio.run(timed(store.port, posts, 60))
    assert {answer.status for answer in answers} == {201}, [answer for answer in answers if answer.status != 201][:3]
    assert len({answer.headers["location"] for answer in answers}) == WRITERS
    assert sorted(read(store, "/log")) == list(range(WRITERS))
    send(store, "PUT", "/counter", 0)

    def count(_: int) -> None:
        while True:
            seen = store.fetch("/counter")
            written = send(store, "PUT", "/counter", json.loads(seen.body) + 1, If_Match=seen.headers["etag"])
            if written.status == 204:
                return
            assert written.status == 412, written

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(100)))
    assert read(store, "/counter") == 100


FEATURES: dict[str, Callable[[Mount], None]] = {
    "parts by path": parts,
    "PATCH (RFC 7396)": patches,
    "ETag and If-Match": conditions,
    "problem+json": problems,
    "1,000 writers at once lose nothing": writers,
}


@contextlib.contextmanager
def _many_descriptors() -> Iterator[None]:
    """What a thousand connections take: of this process, and of a front-end that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def _site(name: str, settings: Settings) -> Iterator[Mount]:
    port = free_port()
    configuration = front_configuration(name, settings, port)
    configuration = configuration.replace("events { }", "events { worker_connections 4096; }")
    with serving(settings) as master, front(name, settings.place, configuration, port):
        yield Mount(port, "127.0.0.1")
        assert "Traceback" not in master.said, master.said


def in_pool(name: str, examples: Path) -> Iterator[Outcome]:
    """Eight workers behind the front-end `name`, ended and started anew."""
    with short_place() as place, _many_descriptors():
        pool = {"app_dir": str(examples / "jsonstore"), "max_children": 8, "listen_backlog": 1_024}
        store = {"moduleName": "jsonstore", "className": "JSONStore", "settings": {"path": f"{place}/store.sqlite3"}}
        pool |= {"env": {"JSONSTORE": f"{place}/other.sqlite3"}}
        settings = Settings(place, pool, [{"name": "store", **store}])
        with _site(name, settings) as mount:
            yield from tried(TABLE, _LINK, name, FEATURES, mount)
            document = read(mount, "/")

        def kept(store: Mount) -> None:
            assert len(document["log"]) == WRITERS
            assert read(store, "/") == document

        with _site(name, settings) as mount:
            yield from tried(TABLE, _LINK, name, {"kept over a restart": kept}, mount)


def by_cgi(name: str, shown: str, examples: Path) -> Iterator[Outcome]:
    with short_place() as place:
        script = f"JSONSTORE={place}/store.sqlite3"
        command = f"-m gateway run {examples}/jsonstore/jsonstore.py"
        with cgi_server(name, place, {"store": command}, environment=script) as server:
            mount = Mount(server.port, "127.0.0.1", "/cgi-bin/store.cgi")
            yield from tried(TABLE, _LINK, f"{shown}, CGI", {"parts by path": parts}, mount)


TRIALS = {
    "JSONStore behind nginx": functools.partial(in_pool, "nginx"),
    "JSONStore behind lighttpd": functools.partial(in_pool, "lighttpd"),
    "JSONStore by Apache": functools.partial(by_cgi, "apache", "Apache"),
    "JSONStore by lighttpd": functools.partial(by_cgi, "lighttpd", "lighttpd"),
}
