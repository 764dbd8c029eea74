"""`handler`: which methods of HTTP a function of a published module answers (RFC 9110 §9.3)."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

P = ParamSpec("P")
R = TypeVar("R")


class Handler(Generic[P, R]):
    """A function with the methods that it answers, and further functions for others at the same URL.

    Called in Python, it is the function that it was made of.
    """

    def __init__(self, function: Callable[P, R], functions: dict[str, Callable[..., Any]]) -> None:
        self.functions = functions  # by method
        self._function = function
        self.name = function.__name__
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def handler(self, *, method: str | Iterable[str]) -> Callable[[Callable[..., Any]], Handler[P, R]]:
        """Decorate the function that answers other methods at the same URL, whatever its own name is.

        Raises ValueError for a method that there is not, or that is answered already.
        """
        methods = _checked(method)
        for name in methods:
            if name in self.functions:
                raise ValueError(f"{self._function.__qualname__} answers {name} already; leave it out here")

        def decorate(function: Callable[..., Any]) -> Handler[P, R]:
            self.functions |= dict.fromkeys(methods, function)
            return self

        return decorate


def handler(*, method: str | Iterable[str]) -> Callable[[Callable[P, R]], Handler[P, R]]:
    """Decorate a function so that it answers `method`, one or several, and nothing else; GET includes HEAD.

    Raises ValueError for a method that there is not.
    """
    methods = _checked(method)

    def decorate(function: Callable[P, R]) -> Handler[P, R]:
        return Handler(function, dict.fromkeys(methods, function))

    return decorate


def _checked(method: str | Iterable[str]) -> list[str]:
    methods = [method] if isinstance(method, str) else list(method)
    for name in methods:
        if name not in METHODS:
            raise ValueError(f"handler: {name!r} is no method; write one of: {', '.join(METHODS)}")
    if not methods:
        raise ValueError(f"handler: no method is named; write one of: {', '.join(METHODS)}")
    return methods
