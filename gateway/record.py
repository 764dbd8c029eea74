"""Records of named fields: what the master and the workers need of `dataclasses`, at a fraction of its cost.

A start begins two interpreters or more. `import dataclasses` takes 5 ms of each, for it brings `inspect`, `ast` and
`dis`, and each class that it compiles 0.2 to 0.8 ms; a Record takes 0.01 ms. That is 15 ms of a zygote's start, and
1.5 MiB of each interpreter, which a worker shares with its zygote only as far as nobody writes there, be it a reference
count. Modules that not every master or worker imports use `dataclasses`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar, dataclass_transform

MISSING: Any = object()  # the default of a field that has to be given


class Field:
    """A field as it is declared: its name, its default or what makes one, and what else was said of it."""

    __slots__ = ("default", "factory", "metadata", "name")

    def __init__(self, default: Any, factory: Callable[[], Any] | None, metadata: Mapping[str, Any]) -> None:
        self.name = ""
        self.default = default
        self.factory = factory
        self.metadata = metadata


def field(*, default: Any = MISSING, factory: Callable[[], Any] | None = None, **metadata: Any) -> Any:
    """Declare a field with a default, or with a `factory` that makes one for each record, and with `metadata`."""
    return Field(default, factory, metadata)


class _RecordType(type):
    """Makes fields of the annotations in a class body, which stay text: `from __future__ import annotations`."""

    _fields: dict[str, Field]
    _setters: dict[str, Callable[[object, Any], None]]
    _defaults: dict[str, Any]
    _factories: dict[str, Callable[[], Any]]

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, frozen: bool = True
    ) -> _RecordType:
        fields: dict[str, Field] = {}
        for key, kind in namespace.get("__annotations__", {}).items():
            if not kind.startswith("ClassVar"):
                declared = namespace.pop(key, MISSING)
                fields[key] = declared if isinstance(declared, Field) else Field(declared, None, {})
                fields[key].name = key
        if not frozen:
            namespace |= {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__, "__hash__": None}
        namespace["__slots__"] = namespace["__match_args__"] = tuple(fields)
        made = super().__new__(cls, name, bases, namespace)
        made._fields = fields
        made._setters = {key: getattr(made, key).__set__ for key in fields}
        made._defaults = {key: field.default for key, field in fields.items() if field.default is not MISSING}
        made._factories = {key: field.factory for key, field in fields.items() if field.factory}
        return made


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record(metaclass=_RecordType):
    """A base class. Annotations are fields, values their defaults; records are made by position or by keyword, equal
    where they are of one class and their fields are equal, and hashable where those are. They do not change, unless
    the class says `frozen=False`; these have no hash.

    The fields are those of the class itself: records are not derived from one another. What is made for each request
    is a class with `__slots__` and an `__init__` of its own, which takes half the time.
    """

    def __init__(self, *values: Any, **named: Any) -> None:
        kind = type(self)
        if values:
            _place(kind, values, named)
        given = kind._defaults | named
        for name, factory in kind._factories.items():
            if name not in given:
                given[name] = factory()
        setters = kind._setters
        if given.keys() != setters.keys():
            if unknown := given.keys() - setters.keys():
                raise TypeError(f"{kind.__name__}() got an unexpected {_listed(unknown)}")
            raise TypeError(f"{kind.__name__}() is missing the {_listed(setters.keys() - given.keys())}")
        for name, value in given.items():
            setters[name](self, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set; gateway.record.replace makes a changed copy")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return as_dict(self) == as_dict(other)

    def __hash__(self) -> int:
        return hash((type(self), *as_dict(self).values()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in as_dict(self).items())
        return f"{type(self).__qualname__}({shown})"


_Some = TypeVar("_Some", bound=Record)


def replace(record: _Some, **changes: Any) -> _Some:
    """A copy of a record with other values of some fields. Raises TypeError for a field that there is not."""
    return type(record)(**as_dict(record) | changes)


def as_dict(record: Record) -> dict[str, Any]:
    """The values of a record by the names of its fields, in their order."""
    return {name: getattr(record, name) for name in type(record)._fields}


def fields(kind: type[Record]) -> tuple[Field, ...]:
    """The fields of a class of records, in their order."""
    return tuple(kind._fields.values())


def _place(kind: type[Record], values: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Put what was given by position to what was given by name."""
    placed = dict(zip(kind._fields, values, strict=False))
    if len(placed) < len(values):
        raise TypeError(f"{kind.__name__}() takes {len(placed)} arguments but {len(values)} were given")
    if twice := placed.keys() & named.keys():
        raise TypeError(f"{kind.__name__}() got two values for the {_listed(twice)}")
    named |= placed


def _listed(names: Iterable[str]) -> str:
    return "argument " + ", ".join(map(repr, sorted(names)))
