"""Events as values: compared and shown by what they tell."""

from __future__ import annotations

from gateway.protocol.events import Abort, Body, BodyEnd, RequestHead, Role


def test_are_equal_where_they_tell_the_same() -> None:
    assert Body(1, b"x") == Body(1, b"x") != Body(1, b"y")
    assert BodyEnd(1) != Abort(1)
    assert RequestHead(1, Role.RESPONDER, True, {}, [], True) == RequestHead(1, Role.RESPONDER, True, {}, [])


def test_show_what_they_tell() -> None:
    assert [repr(event) for event in (Body(1, b"x"), BodyEnd(2))] == ["Body(1, b'x')", "BodyEnd(2)"]
