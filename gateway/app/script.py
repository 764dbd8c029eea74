"""Start scripts: run one as `__main__`, and take what it would serve: in place, or out of it."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

Take = Callable[[Any], Any]


class _Offered(BaseException):
    """Carries the application out of the script; a BaseException, so that the script's own handlers let it pass."""

    def __init__(self, application: Any) -> None:
        super().__init__("the script's application has been taken")
        self.application = application


class NothingOffered(Exception):
    """The script ended without serving anything. `str()` is one line with the remedy."""


_take: Take | None = None  # of whoever runs a script at the moment


def offer(application: Any, otherwise: Callable[[], Any]) -> Any:
    """Called where a script would serve: whoever runs the script takes the application. If nobody does, the script was
    started by itself, and `otherwise` is called. The value is what comes of it.
    """
    return otherwise() if _take is None else _take(application)


def run(path: str, arguments: Sequence[str], take: Take) -> None:
    """Run the script at `path` with `sys.argv` set to it and `arguments`; where it would serve, `take` is called.

    Raises NothingOffered, OSError, and whatever the script raises. The script's module stays `__main__`: what it
    defines has to be found there later (pickle, web.py's reloading of its mapping), which runpy would undo.
    """
    global _take
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    taken = False

    def note(application: Any) -> Any:
        nonlocal taken
        taken = True
        return take(application)

    _take = note
    try:
        exec(code, module.__dict__)
    finally:
        _take = None
    if not taken:
        raise NothingOffered(
            f"{path} ended without serving; end it with gateway.run(application), WSGIServer(application).run() "
            "or web.py's app.run()"
        )


def capture(path: str, arguments: Sequence[str] = ()) -> Any:
    """Run the script at `path` up to where it would serve; return what it offers. Raises as `run` does."""
    try:
        run(path, arguments, _carry_out)
    except _Offered as offered:
        return offered.application
    raise NothingOffered(f"{path} offered its application where nobody could take it: in a thread, or in `except:`")


def _carry_out(application: Any) -> Any:
    raise _Offered(application)
