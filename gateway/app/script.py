"""Start scripts: run one as `__main__` up to where it would serve, and take the application that it would serve."""

from __future__ import annotations

import os
import sys
import types
from typing import Any


class _Offered(BaseException):
    """Carries the application out of the script; a BaseException, so that the script's own handlers let it pass."""

    def __init__(self, application: Any) -> None:
        super().__init__("the script's application has been taken")
        self.application = application


class NothingOffered(Exception):
    """The script ended without serving anything. `str()` is one line with the remedy."""


_capturing = False


def offer(application: Any) -> None:
    """Called where a script would serve: gives the application to `capture` if that runs the script; else nothing."""
    if _capturing:
        raise _Offered(application)


def capture(path: str, arguments: list[str] | None = None) -> Any:
    """Run the script at `path` with `sys.argv` set to it and `arguments`; return the WSGI application that it offers.

    Raises NothingOffered, OSError, and whatever the script raises. The script's module stays `__main__`: what it
    defines has to be found there later (pickle, web.py's reloading of its mapping), which runpy would undo.
    """
    global _capturing
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec")
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.argv = [path, *(arguments or [])]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    _capturing = True
    try:
        exec(code, module.__dict__)
    except _Offered as offered:
        return offered.application
    finally:
        _capturing = False
    raise NothingOffered(f"{path} ended without serving; end it with gateway.run(application) or web.py's app.run()")
