"""A row for many requests: it shows the oldest, and counts all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from gateway.net.noboard import NoBoard
from gateway.net.sharedboard import SharedBoard
from gateway.process import scoreboard as scoreboards
from gateway.process.scoreboard import Row, Scoreboard, Slot
from tests.app.memory import NGINX

HOSTS = ("", "a.example")


@pytest.fixture(params=["C", "Python"])
def scoreboard(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scoreboard]:
    if request.param == "Python":
        monkeypatch.setattr(scoreboards, "row_type", lambda: Row)
    assert (scoreboards.row_type() is Row) == (request.param == "Python")
    board = Scoreboard(1, HOSTS)
    board.use(0)
    yield board
    board.close()


def shared(scoreboard: Scoreboard) -> SharedBoard:
    [row] = Slot(scoreboard.fd, scoreboard.layout).take(0)
    return SharedBoard(row)


def environ(uri: str) -> dict[str, str]:
    return NGINX | {"REQUEST_URI": uri, "gateway.application": "it"}


def shown(scoreboard: Scoreboard) -> tuple[bool, str, int]:
    [activity] = scoreboard.read(0, os.getpid())
    return activity.busy, activity.uri if activity.busy else "", activity.requests


def test_the_oldest_is_shown_and_all_are_counted(scoreboard: Scoreboard) -> None:
    board = shared(scoreboard)
    assert shown(scoreboard) == (False, "", 0)
    a, b, c = object(), object(), object()
    for request, uri in [(a, "/a"), (b, "/b"), (c, "/c")]:
        board.begin(request, environ(uri), "a.example")
    assert shown(scoreboard) == (True, "/a", 0)
    board.end(b, 1, 404, None)
    assert shown(scoreboard) == (True, "/a", 1)
    board.end(a, 1, 200, 0.5)
    assert shown(scoreboard) == (True, "/c", 2)
    board.end(object(), 0, 400, None)
    assert shown(scoreboard) == (True, "/c", 3)
    board.end(c, 1, 200, None)
    assert shown(scoreboard) == (False, "", 4)
    counts = scoreboard.counts(0, os.getpid())
    assert counts.answers == {("a.example", "2xx"): 2, ("a.example", "4xx"): 1, ("", "4xx"): 1}
    assert (sum(counts.run), sum(counts.wait)) == (3, 1)


def test_the_next_oldest_has_run_since_it_began(scoreboard: Scoreboard) -> None:
    board = shared(scoreboard)
    a, b = object(), object()
    board.begin(a, environ("/a"), "a.example")
    board.begin(b, environ("/b"), "a.example")
    [before] = scoreboard.read(0, os.getpid())
    board.end(a, 1, 200, None)
    [after] = scoreboard.read(0, os.getpid())
    assert 0 < after.seconds <= before.seconds + 1
    board.end(b, 1, 200, None)
    [ended] = scoreboard.read(0, os.getpid())
    assert ended.lasted >= after.seconds


def test_without_a_scoreboard() -> None:
    board = SharedBoard(NoBoard())
    assert not board.accepted()
    for name in "abc":
        board.begin(name, environ("/"), "a.example")
    for name in "bac":
        board.end(name, 0, 200, None)
    board.shed()
    board.gone()
