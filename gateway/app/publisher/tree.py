"""What is published: a tree made of modules once, when they are loaded. Nothing else of them can be reached.

A name is published when it does not begin with `_` and the module defines it, or lists it in `__all__`; of a class,
what its body defines, or that of a base from the same module. Never modules and builtins, nor what is imported or
inherited from elsewhere. What is assigned later is not published.
"""

from __future__ import annotations

import dataclasses
import decimal
import enum
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType, GetSetDescriptorType, MethodType, ModuleType
from typing import Any

from werkzeug.exceptions import NotFound

from gateway.app.publisher.binding import Plan, Request, plan, plan_of_constructor
from gateway.app.publisher.conversion import Unconvertible
from gateway.app.publisher.handler import METHODS, Handler
from gateway.app.publisher.sources import Source, Unpublishable

_OF_A_FUNCTION = ("GET", "POST")
_OF_ONE_THAT_IS_TOLD = ("GET", "POST", "PUT", "PATCH", "DELETE")
_NUMBERS = (int, float, decimal.Decimal)


@dataclass(frozen=True, slots=True)
class Call:
    """What answers a request: a function, and for a method of a class also what makes the object."""

    name: str  # "shop.Cart.add"
    function: Callable[..., Any]
    plan: Plan = field(default_factory=Plan)
    make: Call | None = None
    is_value: bool = False

    def bind(self, request: Request) -> Callable[[], Any]:
        """The call with its arguments. Raises BadRequest, which names each parameter that is missing or wrong."""
        positional, named = self.plan.bind(request)

        def run() -> Any:
            own = () if self.make is None else (self.make.bind(request)(),)
            return self.function(*own, *positional, **named)

        return run


@dataclass(slots=True)
class Node:
    """What is published at one URL, by method, and below it, by name."""

    answers: dict[str, Call] = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)
    is_place: bool = False  # a module, class or object: its URL may end in "/"

    def __bool__(self) -> bool:
        return bool(self.answers or self.children)


@dataclass(frozen=True, slots=True)
class Published:
    """The whole tree, and why public names of its modules are not in it, by path."""

    root: Node
    left_out: Mapping[str, str]


def publish(source: Source) -> Published:
    """Make the tree of what `source` has. Raises Unpublishable when that is nothing."""
    builder = _Builder(set(_modules(source)))
    root = builder.place(source, "")
    if not root:
        reasons = "".join(f"; {path} {reason}" for path, reason in builder.left_out.items())
        raise Unpublishable(f"publisher finds nothing to publish: define a function whose name has no _ first{reasons}")
    return Published(root, builder.left_out)


def _modules(source: Source) -> Iterator[str]:
    if source.module is not None:
        yield source.module.__name__
    for inner in source.inner.values():
        yield from _modules(inner)


class _LeftOut(Exception):
    """Why a value is not published."""


@dataclass(frozen=True, slots=True)
class _Owner:
    """Where values are found."""

    has: Any  # the module, class or object
    module: str  # whose own things are published
    name: str  # for messages
    path: str
    listed: bool = False  # in the module's __all__
    make: Call | None = None  # of a class: what makes the object
    above: tuple[int, ...] = ()  # the objects on the way here


class _Builder:
    def __init__(self, modules: set[str]) -> None:
        self._modules = modules
        self._packages = {name.partition(".")[0] for name in modules}
        self.left_out: dict[str, str] = {}

    def place(self, source: Source, path: str) -> Node:
        """A module with those in it, or a directory of modules."""
        node = Node(is_place=True)
        if source.module is not None:
            name = source.module.__name__
            owner = _Owner(source.module, name, name, path, listed="__all__" in vars(source.module))
            for name, value in _own_values(source):
                self._add(node, owner, name, value)
        for name, inner in source.inner.items():
            if found := self.place(inner, f"{path}/{name}"):
                self._join(node, name, found, path)
        self._settle_index(node, path)
        return node

    def _add(self, node: Node, owner: _Owner, name: str, value: Any) -> None:
        if name.startswith("_"):
            return
        try:
            found = self._node(owner, name, value)
        except (_LeftOut, Unconvertible) as error:
            self.left_out[f"{owner.path}/{name}"] = str(error)
        else:
            self._join(node, name, found, owner.path)

    def _join(self, node: Node, name: str, found: Node, path: str) -> None:
        if name in node.children:
            self.left_out[f"{path}/{name}"] = "is there twice"
        else:
            node.children[name] = found

    def _settle_index(self, node: Node, path: str) -> None:
        """`index` stands for the place that it is in."""
        index = node.children.pop("index", None)
        if index is not None:
            node.answers = index.answers | node.answers
            for name, found in index.children.items():
                self._join(node, name, found, path)

    def _node(self, owner: _Owner, name: str, value: Any) -> Node:
        """What a value is published as. Raises _LeftOut and Unconvertible."""
        kind = type(value)
        if _is_value(kind):
            full = f"{owner.name}.{name}"
            return Node({"GET": Call(full, functools.partial(_current, owner.has, name), is_value=True)})
        if _is_function(value):
            return Node(self._answers(owner, name, value))
        if issubclass(kind, (staticmethod, classmethod)) and not isinstance(owner.has, ModuleType):
            return Node(self._answers(owner, name, value))
        if issubclass(kind, ModuleType):
            raise _LeftOut("is a module")
        if issubclass(kind, type):
            return self._class(owner, name, value)
        return self._object(owner, name, value)

    # -- functions ----------------------------------------------------------------------------------------------------

    def _answers(self, owner: _Owner, name: str, value: Any) -> dict[str, Call]:
        """A function by method, whatever it is wrapped in. Raises _LeftOut and Unconvertible."""
        full = f"{owner.name}.{name}"
        wrapped = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if isinstance(wrapped, Handler):
            if wrapped.name != name:
                raise _LeftOut(f"belongs to {wrapped.name}")
            calls = {each: self._call(owner, full, value, each) for each in wrapped.functions.values()}
            return {method: calls[each] for method, each in wrapped.functions.items()}
        call = self._call(owner, full, value, wrapped)
        return dict.fromkeys(_OF_ONE_THAT_IS_TOLD if call.plan.any_method else _OF_A_FUNCTION, call)

    def _call(self, owner: _Owner, name: str, value: Any, function: Any) -> Call:
        if not _is_function(function) or (_module_of(function) != owner.module and not owner.listed):
            raise _LeftOut(f"is not defined in {owner.module}")
        plain = inspect.unwrap(function)
        if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
            raise _LeftOut("is a coroutine function; the publisher calls plain ones")
        if isinstance(value, staticmethod) or isinstance(function, MethodType) or isinstance(owner.has, ModuleType):
            return Call(name, function, plan(function))
        if isinstance(value, classmethod):
            held = owner.has if isinstance(owner.has, type) else type(owner.has)
            function = MethodType(function, held)
            return Call(name, function, plan(function))
        if owner.make is not None:
            return Call(name, function, plan(function, skip=1), owner.make)
        function = MethodType(function, owner.has)
        return Call(name, function, plan(function))

    # -- classes and objects ------------------------------------------------------------------------------------------

    def _class(self, owner: _Owner, name: str, kind: type) -> Node:
        """A class, an object of which is made for each request."""
        self._check_class(owner, kind)
        if dataclasses.is_dataclass(kind):
            raise _LeftOut("is a dataclass")
        if inspect.isabstract(kind) or getattr(kind, "_is_protocol", False):
            raise _LeftOut("is abstract")
        full, path = f"{owner.name}.{name}", f"{owner.path}/{name}"
        make = Call(full, kind, plan_of_constructor(kind))
        return self._members(_Owner(kind, kind.__module__, full, path, make=make), _attributes_of_class(kind))

    def _object(self, owner: _Owner, name: str, value: Any) -> Node:
        """An object that all requests share."""
        kind = type(value)
        self._check_class(owner, kind)
        if id(value) in owner.above:
            raise _LeftOut("is published above")
        above = (*owner.above, id(value))
        own = _Owner(value, kind.__module__, f"{owner.name}.{name}", f"{owner.path}/{name}", above=above)
        # A function that the object itself has is no method of it.
        attributes = {name: staticmethod(it) if _is_function(it) else it for name, it in _attributes(value).items()}
        return self._members(own, _attributes_of_class(kind) | attributes)

    def _check_class(self, owner: _Owner, kind: type) -> None:
        """Raises _LeftOut for a class that is from elsewhere, or is no place to publish from."""
        module = kind.__module__
        own = module in self._modules or module.partition(".")[0] in self._packages
        if module != owner.module and not (owner.listed and own):
            what = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
            raise _LeftOut(f"is a {what}, which is not defined in {owner.module}")
        if issubclass(kind, (enum.Enum, BaseException)):
            raise _LeftOut("is an Enum" if issubclass(kind, enum.Enum) else "is an exception")

    def _members(self, owner: _Owner, attributes: Mapping[str, Any]) -> Node:
        node = Node(is_place=True)
        for name, value in attributes.items():
            if name not in METHODS:
                self._add(node, owner, name, value)
        if "__call__" in attributes:
            node.answers |= self._answers(owner, "__call__", attributes["__call__"])
        for method in METHODS:
            if method in attributes:
                node.answers[method] = next(iter(self._answers(owner, method, attributes[method]).values()))
        self._settle_index(node, owner.path)
        if not node:
            raise _LeftOut("has nothing to publish")
        return node


def _own_values(source: Source) -> Iterator[tuple[str, Any]]:
    """What a module lists in `__all__`, or else defines."""
    known = vars(source.module)
    listed = known.get("__all__")
    for name in list(known) if listed is None else listed:
        if name not in known or name in source.inner:
            continue
        only_imported = name in source.names.imported and not _is_function(known[name])
        if listed is not None or (name in source.names.defined and not only_imported):
            yield name, known[name]


def _is_value(kind: type) -> bool:
    return issubclass(kind, str) or (issubclass(kind, _NUMBERS) and not issubclass(kind, bool))


def _current(owner: Any, name: str) -> Any:
    """A published text or number as it is now. Raises NotFound where something else has come in its place."""
    value = getattr(owner, name, None)
    if not _is_value(type(value)):
        raise NotFound
    return value


def _is_function(value: Any) -> bool:
    """Whether it is a function, a method of an object, or what a decorator has made of one by `functools.wraps`.

    The type alone decides, and the object's own attributes: no proxy or `__getattr__` is asked.
    """
    if issubclass(type(value), (FunctionType, MethodType, Handler)):
        return True
    return not issubclass(type(value), type) and "__wrapped__" in _attributes(value) and callable(value)


def _module_of(function: Any) -> str | None:
    if isinstance(function, MethodType):
        function = function.__func__
    found = function.__module__ if isinstance(function, FunctionType) else _attributes(function).get("__module__")
    return found if isinstance(found, str) else None


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes that an object has itself."""
    for kind in type(value).__mro__:
        if "__dict__" in vars(kind):
            descriptor = vars(kind)["__dict__"]
            return dict(descriptor.__get__(value)) if isinstance(descriptor, GetSetDescriptorType) else {}
    return {}


def _attributes_of_class(kind: type) -> dict[str, Any]:
    """What a class and its bases of the same module define, unless a base from elsewhere has it first."""
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        if each.__module__ == kind.__module__:
            found |= vars(each)
        else:
            for name in vars(each):
                found.pop(name, None)
    return found
