"""What cannot be served as a script is, and is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.compat.script import serve_as_started
from gateway.settings import ConfigError


async def asynchronous(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """An ASGI application."""


def test_an_asgi_application_is_refused_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="asynchronous is an ASGI application: serve it by gateway serve MODULE:CALL"):
        serve_as_started(asynchronous)


def test_what_is_no_application_is_refused() -> None:
    message = r"^the argument of gateway\.run\(\) is of type NoneType, not a WSGI or ASGI callable$"
    with pytest.raises(ConfigError, match=message):
        serve_as_started(None)
