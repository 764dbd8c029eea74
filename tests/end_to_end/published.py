"""What a publisher tells of the process that it runs in."""

import sys
from collections.abc import Iterator

from werkzeug import Request


def modules() -> list[str]:
    """The packages that have been imported."""
    return sorted({name.partition(".")[0] for name in sys.modules})


def place(request: Request) -> str:
    return f"{request.script_root}|{request.path}|{request.host}"


def fail() -> None:
    raise LookupError("on purpose")


def half() -> Iterator[str]:
    yield "half\n" * 100_000
    raise LookupError("on purpose, late")
