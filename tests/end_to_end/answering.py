"""A WSGI application that answers with its process ID, after as many milliseconds as the query says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    time.sleep(int(environ["QUERY_STRING"] or "0") / 1000)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d\n" % os.getpid()]
