"""Startup and shutdown of an application, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.app.lifespan import Lifespan
from tests.app.asynchronous import Message, part, sending, start


class Played:
    """A lifespan that was played to its end."""

    def __init__(self, application: Any) -> None:
        self.log: list[str] = []
        self.lifespan = Lifespan("shop", application, self.log.append)
        self.state: dict[str, Any] | None = None
        asyncio.run(asyncio.wait_for(self._play(), 5))

    async def _play(self) -> None:
        started, leaving = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(self.lifespan.run(started, leaving))
        await started.wait()
        self.state = self.lifespan.state
        leaving.set()
        await task

    @property
    def failure(self) -> str:
        return str(self.lifespan.failure or "")


def test_startup_and_shutdown() -> None:
    seen: list[str] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        assert scope["asgi"]["version"] == "3.0"
        seen.append((await receive())["type"])
        scope["state"]["database"] = 1
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})

    played = Played(application)
    assert seen == ["lifespan.startup", "lifespan.shutdown"]
    assert (played.state, played.failure, played.log) == ({"database": 1}, "", [])


async def refusing(scope: Message, receive: Any, send: Any) -> None:
    raise AssertionError("only http")


async def reading_first(scope: Message, receive: Any, send: Any) -> None:
    await receive()
    await send(start())
    await send(part())


async def returning(scope: Message, receive: Any, send: Any) -> None:
    return


@pytest.mark.parametrize("application", [refusing, reading_first, returning, sending(start())])
def test_application_that_does_not_speak_it(application: Any) -> None:
    played = Played(application)
    assert (played.state, played.failure, played.log) == (None, "", [])


@pytest.mark.parametrize(
    ("message", "said"),
    [({"message": "no database"}, "no database"), ({}, "no message"), ({"message": ""}, "no message")],
)
@pytest.mark.parametrize("raises", [False, True])
def test_startup_that_fails(message: Message, said: str, raises: bool) -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", **message})
        if raises:
            raise RuntimeError("as some do after that")

    played = Played(application)
    assert played.failure == f"application 'shop': lifespan.startup.failed: {said}"
    assert (played.state, played.log) == (None, [])


@pytest.mark.parametrize("error", [LookupError("on purpose"), SystemExit(3)])
def test_startup_that_raises(error: BaseException) -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        raise error

    played = Played(application)
    assert f"its startup (lifespan) raised {type(error).__name__}" in played.failure
    assert played.lifespan.failure is not None
    assert "in application" in played.lifespan.failure.traceback.splitlines()[1]


def test_shutdown_that_fails() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "it hangs"})
        raise LookupError("on purpose")

    played = Played(application)
    assert played.failure == ""
    assert played.log[0] == "application 'shop': lifespan.shutdown.failed: it hangs"
    assert played.log[1].startswith("application 'shop': its lifespan ended with LookupError: on purpose\nTraceback")


def test_loop_that_is_closed() -> None:
    async def application(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.Event().wait()

    async def run() -> Lifespan:
        lifespan = Lifespan("shop", application, lambda text: None)
        running = lifespan.run(asyncio.Event(), asyncio.Event())
        running.send(None)
        running.close()
        return lifespan

    assert asyncio.run(run()).failure is None
