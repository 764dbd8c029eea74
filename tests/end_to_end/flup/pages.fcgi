#!/usr/bin/env python3
"""The application that flup6 and this engine are compared with, and the script that serves it by flup6's preforked server:
a page for each way to read a request, to give an answer, and to go wrong. `pages.fcgi SOCKET JOURNAL`.
"""

import os
import sys
from urllib.parse import parse_qs

from flup.server.fcgi_fork import WSGIServer

TEXT = ("Content-Type", "text/plain")
PAGES = {}
socket, journal = sys.argv[1:]


def page(function):
    PAGES["/" + function.__name__] = function
    return function


def application(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    name = "/" + (environ["PATH_INFO"] or environ["SCRIPT_NAME"]).lstrip("/").partition("/")[0]
    return PAGES.get(name, show)(environ, start_response, query)


def note(line):
    with open(journal, "a") as file:
        file.write(line + "\n")


@page
def show(environ, start_response, query):
    """The variables that X_SHOW names, as Python writes them."""
    start_response("200 OK", [TEXT])
    names = environ.get("X_SHOW", "").split()
    return [" ".join(f"{name}={environ[name]!r}" if name in environ else f"no {name}" for name in names).encode()]


@page
def echo(environ, start_response, query):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [TEXT])
    return [environ["REQUEST_METHOD"].encode() + b" " + body]


@page
def counted(environ, start_response, query):
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [TEXT])
    return [body]


@page
def lines(environ, start_response, query):
    body = environ["wsgi.input"]
    start_response("200 OK", [TEXT])
    return [b"|".join([body.readline(), body.readline(3), body.read(2), body.read(0), body.readline(), *body])]


@page
def chunks(environ, start_response, query):
    start_response("200 OK", [TEXT])
    return [b"one ", b"two"]


@page
def nothing(environ, start_response, query):
    start_response("200 OK", [TEXT])
    return []


@page
def generator(environ, start_response, query):
    start_response("200 OK", [TEXT])
    yield b""
    yield b"one "
    yield b"two"


@page
def write(environ, start_response, query):
    start_response("200 OK", [TEXT])(b"written ")
    return [b"returned"]


class Closing:
    def __init__(self, chunks):
        self.chunks = chunks

    def __iter__(self):
        for chunk in self.chunks:
            if chunk is None:
                raise LookupError("on purpose")
            yield chunk

    def close(self):
        note("closed")


@page
def closing(environ, start_response, query):
    start_response("200 OK", [TEXT])
    return Closing([b"body"])


@page
def closing_failure(environ, start_response, query):
    start_response("200 OK", [TEXT])
    return Closing([None])


@page
def raising(environ, start_response, query):
    raise LookupError("on purpose")


@page
def raising_later(environ, start_response, query):
    start_response("200 OK", [TEXT])
    yield b"begun "
    raise LookupError("on purpose")


@page
def leaving(environ, start_response, query):
    sys.exit(3)


@page
def replaced(environ, start_response, query):
    start_response("200 OK", [TEXT])
    try:
        raise LookupError("on purpose")
    except LookupError:
        start_response("503 Replaced", [TEXT], sys.exc_info())
    return [b"replaced"]


@page
def twice(environ, start_response, query):
    start_response("200 OK", [TEXT])
    start_response("200 OK", [TEXT])
    return [b"body"]


@page
def unstarted(environ, start_response, query):
    return [b"body"]


@page
def none(environ, start_response, query):
    start_response("200 OK", [TEXT])


@page
def text(environ, start_response, query):
    start_response("200 OK", [TEXT])
    return ["text"]


@page
def status(environ, start_response, query):
    start_response(query["line"], [TEXT])
    return [query.get("body", "").encode()]


@page
def status_of_bytes(environ, start_response, query):
    start_response(b"200 OK", [TEXT])
    return [b"body"]


@page
def header(environ, start_response, query):
    start_response("200 OK", [TEXT, ("X-Header", query["value"])])
    return [b"body"]


class Looking(list):
    """A body that looks at the headers when it is closed."""

    def close(self):
        note(f"{len(self.headers)} header(s) in the application's list")


@page
def own_list(environ, start_response, query):
    body = Looking([b"body"])
    body.headers = [TEXT]
    start_response("200 OK", body.headers)
    return body


@page
def large(environ, start_response, query):
    start_response("200 OK", [TEXT])
    return [b"x" * 1_000_000]


@page
def wrapped(environ, start_response, query):
    start_response("200 OK", [TEXT])
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(environ["wsgi.input"]) if wrapper else [b"no wrapper"]


@page
def errors(environ, start_response, query):
    environ["wsgi.errors"].write("to the log\n")
    start_response("200 OK", [TEXT])
    return [b"body"]


@page
def errors_in_bytes(environ, start_response, query):
    environ["wsgi.errors"].write(b"to the log\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [TEXT])
    return [b"body"]


@page
def printing(environ, start_response, query):
    print("printed")
    start_response("200 OK", [TEXT])
    return [b"body"]


WSGIServer(
    application, environ={"shop.name": "of the script"}, bindAddress=socket, minSpare=1, maxSpare=2, debug=False
).run()
