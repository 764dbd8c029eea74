"""An authorizer (FastCGI 1.0 §6.3): it lets through who says to be `me`, and tells the front-end who that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from wsgiref.validate import validator


def guarding(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    user = environ.get("HTTP_X_USER", "")
    if user == "me":
        asked = f"{environ['FCGI_ROLE']} about {environ['PATH_INFO']}"
        told = {"REMOTE_USER": user, "GUARD_ASKED": asked}
        headers = [(f"Variable-{name}", value) for name, value in told.items()]
        start_response("200 OK", [("Content-Type", "text/plain"), *headers])
        return [b"not for the client\n"]
    status = "403 Forbidden" if user else "401 Unauthorized"
    start_response(status, [("Content-Type", "text/plain"), ("WWW-Authenticate", "Own")])
    return [b"the authorizer's page\n"]


async def asynchronous(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The same by ASGI."""
    environ = scope["extensions"]["gateway"]["params"]
    started: list[Any] = []
    (body,) = guarding(environ, lambda *head: started.extend(head))
    status, headers = started
    lines = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": int(status[:3]), "headers": lines})
    await send({"type": "http.response.body", "body": body})


application = validator(guarding)
