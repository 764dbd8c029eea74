"""What answers in place of workers that cannot start."""

from __future__ import annotations

from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

from gateway.app.standin import application


def test_every_request_is_told_when_to_try_again() -> None:
    answers: list[tuple[str, dict[str, str]]] = []
    environ: dict[str, object] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)
    body = validator(application)(environ, lambda status, headers, *_: answers.append((status, dict(headers))))
    text = b"".join(body)
    body.close()
    [(status, headers)] = answers
    assert status == "503 Service unavailable"
    assert headers["Retry-After"] == "30"
    assert int(headers["Content-Length"]) == len(text)
