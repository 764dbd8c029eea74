"""The lifespan of an application in one worker (ASGI 3 "Lifespan Protocol"): startup before it serves, shutdown after.

An application that does not speak it is served without: one that ends before it has asked for the first event, or
sends something else than lifespan's messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from gateway.app.loader import Application, LoadError
from gateway.app.tracebacks import from_application

_ASGI = {"version": "3.0", "spec_version": "2.0"}


class Signal(Protocol):
    """What can be waited for until it is set (`asyncio.Event`)."""

    def set(self) -> None:
        """Let all who wait go on."""

    async def wait(self) -> Any:
        """Return once it is set."""


class _NotSpoken(Exception):
    """The application takes the lifespan for something else."""


class Lifespan:
    """One application's: `run` is a task beside the requests."""

    def __init__(self, name: str, application: Application, log: Callable[[str], None]) -> None:
        self.state: dict[str, Any] | None = None  # what requests get a copy of, once it has started
        self.failure: LoadError | None = None  # why it could not start
        self.name = name
        self._application = application
        self._log = log
        self._asked = 0  # how many events the application has asked for
        self._state: dict[str, Any] = {}

    async def run(self, started: Signal, leaving: Signal) -> None:
        """Set `started` when startup is over, well or badly; begin shutdown when `leaving` is set; return when that is
        over. Raises nothing but GeneratorExit.
        """

        async def receive() -> dict[str, Any]:
            self._asked += 1
            if self._asked == 1:
                return {"type": "lifespan.startup"}
            await leaving.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: dict[str, Any]) -> None:
            self._hear(message)
            started.set()

        try:
            scope = {"type": "lifespan", "asgi": _ASGI, "state": self._state}
            await self._application(scope, receive, send)
        except GeneratorExit:  # the loop was closed
            raise
        except BaseException as error:  # SystemExit too
            self._raised(error)
        started.set()

    def _hear(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self.state = self._state
            case "lifespan.startup.failed":
                self._fail(f"lifespan.startup.failed: {message.get('message') or 'no message'}", "")
            case "lifespan.shutdown.complete":
                pass
            case "lifespan.shutdown.failed":
                self._log(f"application {self.name!r}: lifespan.shutdown.failed: {message.get('message', '')}")
            case other:
                raise _NotSpoken(f"{other} in the lifespan")

    def _raised(self, error: BaseException) -> None:
        if isinstance(error, _NotSpoken) or not self._asked or self.failure is not None:
            return
        what = f"{type(error).__name__}: {error}"
        if self.state is None:
            self._fail(f"its startup (lifespan) raised {what}", from_application(error))
        else:
            self._log(f"application {self.name!r}: its lifespan ended with {what}\n{from_application(error)}")

    def _fail(self, reason: str, traceback: str) -> None:
        self.failure = LoadError(f"application {self.name!r}: {reason}", traceback)
