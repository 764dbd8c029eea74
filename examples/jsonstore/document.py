"""A JSON document and its parts: paths as in RFC 6901, patches as in RFC 7396. Pure functions on Python's values."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

DEEPEST = 100  # levels of a document: Python's parser recurses, and so does `merge`
_TOO_DEEP = f"a document is not nested more than {DEEPEST} levels deep here"


class Problem(Exception):
    """A request that is refused: the status, and what to tell the client (RFC 9457)."""

    def __init__(self, status: HTTPStatus, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def decode(data: bytes) -> Any:
    """A JSON text's value. Raises Problem, also for what Python's parser takes and RFC 8259 does not have."""
    try:
        value = json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise Problem(HTTPStatus.BAD_REQUEST, _TOO_DEEP) from None
    except ValueError as error:  # UnicodeDecodeError is one
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
    check_depth(value)
    return value


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large a number")
    return number


def encode(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def parse_path(path: str) -> list[str]:
    """The names of a path, in which `~1` stands for a slash and `~0` for a tilde (RFC 6901 §4); none for the root."""
    names = path.split("/")[1:] if path not in ("", "/") else []
    return [name.replace("~1", "/").replace("~0", "~") for name in names]


def format_path(names: Sequence[str]) -> str:
    """The inverse of `parse_path`."""
    return "/" + "/".join(name.replace("~", "~0").replace("/", "~1") for name in names)


def find(document: Any, names: Sequence[str]) -> Any:
    """The part of that path. Raises Problem where there is none."""
    part = document
    for depth, name in enumerate(names):
        match part:
            case dict() if name in part:
                part = part[name]
            case list() if (index := _index(name)) is not None and index < len(part):
                part = part[index]
            case _:
                raise Problem(HTTPStatus.NOT_FOUND, f"there is no {format_path(names[: depth + 1])}")
    return part


def _index(name: str) -> int | None:
    """RFC 6901 §4: digits without leading zeros."""
    return int(name) if name.isascii() and name.isdigit() and len(name) < 10 and str(int(name)) == name else None


def put(document: Any, names: Sequence[str], value: Any) -> tuple[Any, list[str], bool]:
    """The document with `value` at the path, the path that it has got there, and whether nothing was there before.

    The path of an array's element may end in its length, or in `-`: the element is added at the end.
    """
    if not names:
        return value, [], False
    *above, name = names
    parent = _parent(document, above)
    if isinstance(parent, dict):
        created = name not in parent
        parent[name] = value
        return document, list(names), created
    index = len(parent) if name == "-" else _index(name)
    if index is None or index > len(parent):
        raise Problem(
            HTTPStatus.CONFLICT, f"{format_path(above)} is an array of {len(parent)}: use an index up to that, or -"
        )
    created = index == len(parent)
    parent[index : index + 1] = [value]
    return document, [*above, str(index)], created


def add(document: Any, names: Sequence[str], value: Any) -> list[str]:
    """Add to the array or object at the path, there under a new name; return the path that the value has got."""
    parent = _parent(document, names)
    if isinstance(parent, list):
        parent.append(value)
        return [*names, str(len(parent) - 1)]
    name = secrets.token_hex(8)
    parent[name] = value
    return [*names, name]


def _parent(document: Any, names: Sequence[str]) -> Any:
    """The object or array of that path. Raises Problem where it is neither, or missing."""
    try:
        parent = find(document, names)
    except Problem as problem:
        raise Problem(HTTPStatus.CONFLICT, f"{problem.detail}, to put anything into") from None
    if not isinstance(parent, dict | list):
        raise Problem(HTTPStatus.CONFLICT, f"{format_path(names)} is no object or array, and has no parts")
    return parent


def remove(document: Any, names: Sequence[str]) -> Any:
    """The document without that part; without the root it is an empty object. Raises Problem where there is none."""
    if not names:
        return {}
    find(document, names)
    *above, name = names
    parent = find(document, above)
    del parent[name if isinstance(parent, dict) else int(name)]
    return document


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396 §2."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def check_depth(document: Any) -> None:
    """Raise Problem for what is nested too deeply."""
    level, depth = [document], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise Problem(HTTPStatus.BAD_REQUEST, _TOO_DEEP)
        parts = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]
