"""JSONStore, one JSON document over HTTP: `gateway up jsonstore:application --app-dir examples/jsonstore`.

GET reads the part that the path names, PUT sets it, POST adds to it, PATCH merges into it (RFC 7396), DELETE removes it
(docs/examples/jsonstore.md). On the standard library alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from document import Problem, add, check_depth, decode, encode, find, format_path, merge, parse_path, put, remove

PATCH_TYPE = "application/merge-patch+json"
METHODS = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")
PATIENCE = 30  # seconds that a writer waits for others


class Store:
    """The document in an SQLite file, which several processes and threads may have open."""

    def __init__(self, path: str) -> None:
        """Make the file if it is not there. Raises sqlite3.Error."""
        self._path = os.path.abspath(path)
        self._local = threading.local()
        with contextlib.closing(self._open()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")  # those who read are not held up by one who writes
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("CREATE TABLE IF NOT EXISTS document (id INTEGER PRIMARY KEY, json TEXT NOT NULL)")
                connection.execute("INSERT OR IGNORE INTO document VALUES (1, '{}')")

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=PATIENCE, isolation_level=None)

    @property
    def _connection(self) -> sqlite3.Connection:
        """One for each thread, opened when it is first used: that is after a fork, which none outlives."""
        if not hasattr(self._local, "connection"):
            self._local.connection = self._open()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def read(self) -> Any:
        ((text,),) = self._connection.execute("SELECT json FROM document")
        return json.loads(text)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Change]:
        """The document for a change, which is on disk when this ends; nobody else changes it meanwhile."""
        with self._connection as connection:  # commits, or rolls back
            connection.execute("BEGIN IMMEDIATE")
            change = Change(self.read())
            yield change
            check_depth(change.document)
            connection.execute("UPDATE document SET json = ?", [json.dumps(change.document)])


@dataclass
class Change:
    """What is changed: the document, before and after."""

    document: Any


@dataclass
class Answer:
    status: HTTPStatus
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class JSONStore:
    """The WSGI application. `settings["path"]` is the file that the document is kept in."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.store = Store(settings["path"])

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except Problem as problem:
            answer = _refusal(problem, environ)
        except sqlite3.Error:
            traceback.print_exc(file=environ["wsgi.errors"])
            detail = "the store cannot be used at this moment"
            answer = _refusal(Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, Retry_After="5"), environ)
        if answer.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            answer.headers["Content-Length"] = str(len(answer.body))
        start_response(f"{answer.status:d} {answer.status.phrase}", list(answer.headers.items()))
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else answer.body]

    def _answer(self, environ: dict[str, Any]) -> Answer:
        method, names = environ["REQUEST_METHOD"], _names(environ)
        match method:
            case "GET" | "HEAD":
                return _representation(environ, find(self.store.read(), names))
            case "PUT":
                return self.put(environ, names, _value(environ, "application/json"))
            case "POST":
                return self.post(environ, names, _value(environ, "application/json"))
            case "PATCH":
                return self.patch(environ, names, _value(environ, PATCH_TYPE))
            case "DELETE":
                return self.delete(environ, names)
            case "OPTIONS":
                return Answer(HTTPStatus.NO_CONTENT, {"Allow": ", ".join(METHODS), "Accept-Patch": PATCH_TYPE})
        raise Problem(
            HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is none of {', '.join(METHODS)}", Allow=", ".join(METHODS)
        )

    def put(self, environ: dict[str, Any], names: list[str], value: Any) -> Answer:
        with self.store.changing() as change:
            _check_preconditions(environ, change.document, names)
            change.document, names, created = put(change.document, names, value)
        if created:
            return _created(environ, names, value)
        return Answer(HTTPStatus.NO_CONTENT)  # without ETag, for it may not be stored as it was sent (RFC 9110 §9.3.4)

    def post(self, environ: dict[str, Any], names: list[str], value: Any) -> Answer:
        with self.store.changing() as change:
            _check_preconditions(environ, change.document, names)
            names = add(change.document, names, value)
        return _created(environ, names, value)

    def patch(self, environ: dict[str, Any], names: list[str], patch: Any) -> Answer:
        with self.store.changing() as change:
            _check_preconditions(environ, change.document, names)
            value = merge(find(change.document, names), patch)
            change.document, _, _ = put(change.document, names, value)
        return Answer(HTTPStatus.OK, {"Content-Type": "application/json", "ETag": entity_tag(value)}, encode(value))

    def delete(self, environ: dict[str, Any], names: list[str]) -> Answer:
        with self.store.changing() as change:
            _check_preconditions(environ, change.document, names)
            change.document = remove(change.document, names)
        return Answer(HTTPStatus.NO_CONTENT)


def entity_tag(value: Any) -> str:
    """A strong validator of a part: two that are alike have the same (RFC 9110 §8.8.3)."""
    return f'"{hashlib.sha256(encode(value)).hexdigest()[:32]}"'


def _representation(environ: dict[str, Any], value: Any) -> Answer:
    tag, body = entity_tag(value), encode(value)
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if not _matches(environ.get("HTTP_IF_MATCH", "*"), tag):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "If-Match names another state than this part has")
    if _matches(environ.get("HTTP_IF_NONE_MATCH", ""), tag, weak=True):
        return Answer(HTTPStatus.NOT_MODIFIED, headers)
    return Answer(HTTPStatus.OK, headers | {"Content-Type": "application/json"}, body)


def _created(environ: dict[str, Any], names: list[str], value: Any) -> Answer:
    headers = {"Location": _uri(environ, format_path(names)), "Content-Type": "application/json"}
    return Answer(HTTPStatus.CREATED, headers, encode(value))


def _check_preconditions(environ: dict[str, Any], document: Any, names: list[str]) -> None:
    """RFC 9110 §13.2.2, for a method that changes the part. Raises Problem."""
    try:
        tag = entity_tag(find(document, names))
    except Problem:
        tag = ""
    if "HTTP_IF_MATCH" in environ and not (tag and _matches(environ["HTTP_IF_MATCH"], tag)):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "If-Match names another state than this part has: read it again")
    if "HTTP_IF_NONE_MATCH" in environ and tag and _matches(environ["HTTP_IF_NONE_MATCH"], tag, weak=True):
        raise Problem(HTTPStatus.PRECONDITION_FAILED, "If-None-Match excludes the state that this part has")


def _matches(condition: str, tag: str, *, weak: bool = False) -> bool:
    """Whether a list of entity tags, or `*`, names `tag`; If-None-Match compares weakly (RFC 9110 §8.8.3.2)."""
    tags = [each.strip() for each in condition.split(",")]
    return tags == ["*"] or tag in ([each.removeprefix("W/") for each in tags] if weak else tags)


def _names(environ: dict[str, Any]) -> list[str]:
    try:
        return parse_path(environ.get("PATH_INFO", "").encode("latin-1").decode())
    except UnicodeDecodeError:
        raise Problem(HTTPStatus.BAD_REQUEST, "the path is not UTF-8") from None


def _value(environ: dict[str, Any], wanted: str) -> Any:
    """What the body says, which has to be of the type `wanted`, or of none. Raises Problem."""
    given = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if given not in ("", wanted):
        header = {"Accept_Patch" if wanted == PATCH_TYPE else "Accept": wanted}
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"send {wanted}, not {given}", **header)
    size = -1 if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
    return decode(environ["wsgi.input"].read(size))


def _uri(environ: dict[str, Any], path: str | bytes) -> str:
    """What the client calls a path of the application."""
    return quote(environ.get("SCRIPT_NAME", ""), encoding="latin-1") + quote(path, safe="/~")


def _refusal(problem: Problem, environ: dict[str, Any]) -> Answer:
    """RFC 9457."""
    members = {
        "type": "about:blank",
        "title": problem.status.phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    members["instance"] = _uri(environ, environ.get("PATH_INFO", "").encode("latin-1"))
    return Answer(problem.status, {"Content-Type": "application/problem+json"} | problem.headers, encode(members))


application = JSONStore({"path": os.environ.get("JSONSTORE", "jsonstore.sqlite3")})

if __name__ == "__main__":
    import gateway

    gateway.run(application)
