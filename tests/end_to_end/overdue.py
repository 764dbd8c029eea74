"""The application behind the tests of deadlines: every way to take too long."""

from __future__ import annotations

import collections
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any

FOR_EVER = 30  # seconds: longer than any test waits


def sleep() -> None:
    time.sleep(FOR_EVER)


def spin() -> None:
    end = time.monotonic() + FOR_EVER
    while time.monotonic() < end:
        pass


def match() -> None:
    """Run C code that has a look at signals now and then."""
    re.match(r"(a+)+$", "a" * 40 + "b")


def hold_the_gil() -> None:
    """Run C code that never ends, gives no other thread a turn and takes no note of signals."""
    collections.deque(itertools.repeat(0), maxlen=0)


def swallow() -> None:
    """Do as frameworks do that answer every exception themselves."""
    try:
        time.sleep(FOR_EVER)
    except BaseException as error:
        print("swallowed", type(error).__name__)


def nap() -> None:
    """Take some time, but not too long."""
    time.sleep(0.2)


def spin_shortly() -> None:
    """Take as long as a nap, in Python code."""
    end = time.monotonic() + 0.2
    while time.monotonic() < end:
        pass


def oversleep() -> None:
    """Wake up long after the request was to end, and say so."""
    try:
        time.sleep(2.5)
    finally:
        journal("woke up")


def persist() -> None:
    """Do nothing but go on, whatever happens."""
    while True:
        try:
            spin()
        except BaseException as error:
            print("swallowed", type(error).__name__)


WAYS = {
    "/sleep": sleep, "/spin": spin, "/match": match, "/gil": hold_the_gil, "/swallow": swallow,
    "/nap": nap, "/short": spin_shortly, "/oversleep": oversleep, "/persist": persist,
}  # fmt: skip


def journal(line: str) -> None:
    with open(os.environ["JOURNAL"], "a") as file:
        file.write(f"{line}\n")


class Chunks:
    """A body that never ends its second chunk; the journal gets a line when it is closed."""

    def __init__(self, first: bytes) -> None:
        self.first = first

    def __iter__(self) -> Iterator[bytes]:
        yield self.first
        time.sleep(FOR_EVER)

    def close(self) -> None:
        journal(f"closed after {self.first!r}")


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path in WAYS:
        WAYS[path]()
    if path == "/read":
        environ["wsgi.input"].read()
    if path == "/empty":
        start_response("200 OK", [("Content-Length", "5")])
        return itertools.repeat(b"")  # without an end, and without a step of Python
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Accel-Buffering", "no")])
    if path == "/begun":
        return Chunks(b"begun\n")
    if path == "/unbegun":
        return Chunks(b"")
    return [b"%d" % os.getpid()]
