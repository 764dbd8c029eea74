"""An application for the tests of files that the front-end sends: one file for everything, in the folder of FILES."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Answer with the file that the path names."""
    file = open(os.environ["FILES"] + environ["PATH_INFO"], "rb")  # noqa: SIM115 # the server closes it
    size = os.fstat(file.fileno()).st_size
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return environ["wsgi.file_wrapper"](file, 65_536)
