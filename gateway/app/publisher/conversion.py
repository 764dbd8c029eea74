"""From the texts of a request to what an annotation asks for: str, int, float, Decimal, bool, date, time, datetime,
UUID, Enum, Literal, X | None, lists, dataclasses, and uploaded files.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import decimal
import enum
import inspect
import io
import math
import re
import types
import typing
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from werkzeug.datastructures import FileStorage

_LONGEST_SHOWN = 80  # characters of a wrong value in a message
_WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)", re.ASCII)
_NUMBER = re.compile(rf"{_DECIMAL.pattern}([eE][+-]?[0-9]+)?", re.ASCII)
_BOOLEAN = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
_COLLECTIONS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset,
    collections.abc.Sequence: list, collections.abc.Iterable: list, collections.abc.Collection: list,
    collections.abc.Set: frozenset,
}  # fmt: skip
_STREAMS = {typing.BinaryIO, typing.IO, typing.IO[bytes], io.IOBase, io.RawIOBase, io.BufferedIOBase}


class Unconvertible(Exception):
    """No text can become what an annotation asks for; `str()` says why."""


class Wrong(Exception):
    """A parameter that is missing, or has a value that is none; `messages` name it, one line each."""

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


class Parameters(Protocol):
    """What a request brings by name: query string, form and uploaded files."""

    def texts(self, name: str, /) -> list[str]:
        """The values of a parameter, those of the query string first."""

    def files(self, name: str, /) -> list[FileStorage]:
        """The files that were uploaded under a name."""


class Reader(Protocol):
    """Reads one argument."""

    words: str  # what may be written, for messages
    uploads: bool  # whether it reads files

    def given(self, parameters: Parameters, name: str, /) -> bool:
        """Whether the request has anything of it."""

    def read(self, parameters: Parameters, name: str, /) -> Any:
        """The value. Raises Wrong."""


def reader(annotation: Any) -> Reader:
    """What reads an argument with this annotation; `inspect.Parameter.empty` is text. Raises Unconvertible."""
    try:
        hash(annotation)
    except TypeError:
        raise Unconvertible(f"no text can become a {shown(annotation)}") from None
    return _reader(annotation, ())


def _reader(annotation: Any, within: tuple[type, ...]) -> Reader:
    origin = typing.get_origin(annotation) or annotation
    if origin in _COLLECTIONS:
        return _Several(_item(annotation, origin), _COLLECTIONS[origin])
    if annotation is FileStorage or annotation in _STREAMS:
        return _Upload(annotation is FileStorage)
    if _is_union(origin):
        parts = [part for part in typing.get_args(annotation) if part is not types.NoneType]
        if len(parts) == 1 and not _is_scalar(parts[0]):
            return _reader(parts[0], within)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _Record(annotation, within)
    return _One(*_scalar(annotation))


def _is_union(origin: Any) -> bool:
    return origin in (typing.Union, types.UnionType)


def _is_scalar(annotation: Any) -> bool:
    try:
        _scalar(annotation)
    except Unconvertible:
        return False
    return True


def _item(annotation: Any, origin: Any) -> Reader:
    items = [part for part in typing.get_args(annotation) if part is not Ellipsis]
    if len(items) > 1:
        raise Unconvertible(f"{shown(annotation)} has items of different types")
    if items and (items[0] is FileStorage or items[0] in _STREAMS):
        return _Upload(items[0] is FileStorage)
    return _One(*_scalar(items[0] if items else str))


# -- one text ---------------------------------------------------------------------------------------------------------

Parse = Callable[[str], Any]  # raises ValueError


def _scalar(annotation: Any) -> tuple[Parse, str]:
    """How a text becomes a value, and what may be written. Raises Unconvertible."""
    if annotation is inspect.Parameter.empty or annotation is Any or annotation is object:
        return str, "text"
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    origin = typing.get_origin(annotation)
    if _is_union(origin):
        return _one_of_several(typing.get_args(annotation))
    if origin is typing.Literal:
        return _choice([(str(value), value) for value in typing.get_args(annotation)])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        names = [(name, member) for name, member in annotation.__members__.items()]
        return _choice([(str(member.value), member) for member in annotation], names)
    raise Unconvertible(f"no text can become a {shown(annotation)}")


def shown(annotation: Any) -> str:
    """An annotation for people to read."""
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _choice(choices: Sequence[tuple[str, Any]], further: Sequence[tuple[str, Any]] = ()) -> tuple[Parse, str]:
    known = dict([*further, *choices])

    def parse(text: str) -> Any:
        if text not in known:
            raise ValueError
        return known[text]

    return parse, "one of: " + ", ".join(text for text, _ in choices)


def _one_of_several(annotations: Sequence[Any]) -> tuple[Parse, str]:
    """The first of a union that takes the text; for None that is the empty one, which forms send for a field left
    empty, unless the union has text.
    """
    parts = [_scalar(part) for part in annotations if part is not types.NoneType]
    nothing = types.NoneType in annotations and str not in annotations

    def parse(text: str) -> Any:
        if nothing and not text:
            return None
        for each, _ in parts:
            try:
                return each(text)
            except ValueError:
                continue
        raise ValueError

    return parse, " or ".join(words for _, words in parts)


def _int(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError
    return int(text)


def _float(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise ValueError
    return number


def _decimal(text: str) -> decimal.Decimal:
    if not _DECIMAL.fullmatch(text):
        raise ValueError  # also for 1e999999999, which would take all memory as an int
    return decimal.Decimal(text)


def _bool(text: str) -> bool:
    if text.lower() not in _BOOLEAN:
        raise ValueError
    return _BOOLEAN[text.lower()]


_SCALARS: dict[Any, tuple[Parse, str]] = {
    str: (str, "text"),
    int: (_int, "a whole number"),
    float: (_float, "a number"),
    decimal.Decimal: (_decimal, "a number"),
    bool: (_bool, "true or false"),
    datetime.date: (datetime.date.fromisoformat, "a date such as 2026-03-31"),
    datetime.time: (datetime.time.fromisoformat, "a time such as 18:30"),
    datetime.datetime: (datetime.datetime.fromisoformat, "a date and time such as 2026-03-31T18:30"),
    uuid.UUID: (uuid.UUID, "a UUID"),
}


def _parsed(parse: Parse, words: str, name: str, text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        start = repr(text[:_LONGEST_SHOWN]) + ("…" if len(text) > _LONGEST_SHOWN else "")
        raise Wrong(f"{name} is {start}; write {words}") from None


# -- readers ----------------------------------------------------------------------------------------------------------


class _One:
    """One text."""

    uploads = False

    def __init__(self, parse: Parse, words: str) -> None:
        self._parse = parse
        self.words = words

    def given(self, parameters: Parameters, name: str) -> bool:
        return bool(parameters.texts(name))

    def read(self, parameters: Parameters, name: str) -> Any:
        texts = parameters.texts(name)
        if not texts:
            is_file = " comes as a file" if parameters.files(name) else " is missing"
            raise Wrong(f"{name}{is_file}; write {self.words}")
        if len(texts) > 1:
            raise Wrong(f"{name} is there {len(texts)} times; write it once")
        return _parsed(self._parse, self.words, name, texts[0])

    def read_all(self, parameters: Parameters, name: str) -> list[Any]:
        """The values of a parameter that may be repeated. Raises Wrong."""
        return [_parsed(self._parse, self.words, name, text) for text in parameters.texts(name)]


class _Upload:
    """A file, as a stream: that of a form, or the whole body of a request that is no form, whatever its type is."""

    words = "a file"
    uploads = True

    def __init__(self, whole: bool) -> None:
        self._whole = whole  # with its name and type, as a FileStorage

    def given(self, parameters: Parameters, name: str) -> bool:
        return bool(parameters.files(name))

    def read(self, parameters: Parameters, name: str) -> Any:
        files = self.read_all(parameters, name)
        if len(files) != 1:
            how = f"is there {len(files)} times; upload one file" if files else "is missing; upload a file"
            raise Wrong(f"{name} {how}")
        return files[0]

    def read_all(self, parameters: Parameters, name: str) -> list[Any]:
        """All that were uploaded under one name."""
        return [file if self._whole else file.stream for file in parameters.files(name)]


class _Several:
    """A parameter that may be repeated."""

    def __init__(self, item: Any, collect: Callable[[list[Any]], Any]) -> None:
        self._item = item
        self._collect = collect
        self.uploads = item.uploads
        self.words = f"{item.words}, once or several times"

    def given(self, parameters: Parameters, name: str) -> bool:
        return bool(self._item.given(parameters, name))

    def read(self, parameters: Parameters, name: str) -> Any:
        if not self.given(parameters, name):
            raise Wrong(f"{name} is missing; write {self.words}")
        return self._collect(self._item.read_all(parameters, name))


def _hints(made: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(made)
    except Exception as error:
        raise Unconvertible(f"the annotations of {made.__qualname__} cannot be read: {error}") from None


class _Record:
    """A dataclass, whose field `count` is the parameter `item.count`, or just `count`."""

    def __init__(self, made: type, within: tuple[type, ...]) -> None:
        """Raises Unconvertible."""
        if made in within:
            raise Unconvertible(f"{made.__qualname__} contains itself")
        self._made = made
        self._fields: list[tuple[str, Reader, bool]] = []
        hints = _hints(made)
        for field in dataclasses.fields(made):
            if field.init:
                optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
                self._fields.append((field.name, _reader(hints[field.name], (*within, made)), optional))
        self.words = ", ".join(name for name, _, _ in self._fields)
        self.uploads = any(reader.uploads for _, reader, _ in self._fields)

    def given(self, parameters: Parameters, name: str) -> bool:
        return any(
            reader.given(parameters, f"{name}.{field}") or reader.given(parameters, field)
            for field, reader, _ in self._fields
        )

    def read(self, parameters: Parameters, name: str) -> Any:
        values = {}
        wrong: list[str] = []
        for field, reader, optional in self._fields:
            at = f"{name}.{field}" if reader.given(parameters, f"{name}.{field}") else field
            if optional and not reader.given(parameters, at):
                continue
            try:
                values[field] = reader.read(parameters, at)
            except Wrong as error:
                wrong += error.messages
        if wrong:
            raise Wrong(*wrong)
        try:
            return self._made(**values)
        except ValueError as error:  # of its __post_init__
            raise Wrong(f"{name}: {error}") from None
