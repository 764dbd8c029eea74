"""From a request to the arguments of a function: by name, converted by annotation; what is wrong or missing is said."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import BadRequest
from werkzeug.formparser import FormDataParser
from werkzeug.wrappers import Request as WerkzeugRequest

from gateway.app.publisher.conversion import Parameters, Reader, Unconvertible, Wrong, reader, shown

_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_WITH_BODY = ("POST", "PUT", "PATCH")
_LARGEST_FORM = 500_000  # bytes: what Werkzeug allows the fields of a form with files, and this one is read at once
_UNSAID = inspect.Parameter.empty


class _FormParser(FormDataParser):
    """Raises BadRequest for a form that cannot be read, which Werkzeug by itself takes for an empty one."""

    def parse(self, *args: Any, **kwargs: Any) -> Any:
        self.silent = False
        try:
            return super().parse(*args, **kwargs)
        except ValueError as error:
            raise BadRequest(f"the form cannot be read: {error}") from None


class Request(WerkzeugRequest):
    """Werkzeug's request."""

    form_data_parser_class = _FormParser


@dataclass(frozen=True, slots=True)
class Plan:
    """How a function is called for a request."""

    arguments: tuple[tuple[inspect.Parameter, Reader], ...] = ()
    rest: Reader | None = None  # of **rest, which is given what no other argument takes
    names: frozenset[str] = frozenset()  # that **rest cannot be given
    text: str = "()"  # the parameters as they are written

    @property
    def any_method(self) -> bool:
        """Whether it is told the method: then it answers all."""
        return any(read is _THE_METHOD for _, read in self.arguments)

    @property
    def reads(self) -> tuple[Reader, ...]:
        """What reads the parameters of a request."""
        found = [read for _, read in self.arguments if not isinstance(read, _OfRequest)]
        return (*found, self.rest) if self.rest else tuple(found)

    def bind(self, request: Request) -> tuple[list[Any], dict[str, Any]]:
        """The arguments, positional and by keyword. Raises BadRequest, which names each that is missing or wrong."""
        parameters = _Parameters(request, self.reads)
        positional: list[Any] = []
        named: dict[str, Any] = {}
        wrong: list[str] = []
        for parameter, read in self.arguments:
            is_positional = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
            value = parameter.default
            if value is _UNSAID or read.given(parameters, parameter.name):
                try:
                    value = read.read(parameters, parameter.name)
                except Wrong as error:
                    wrong += error.messages
            elif not is_positional:
                continue
            if is_positional:
                positional.append(value)
            else:
                named[parameter.name] = value
        if self.rest is not None:
            wrong += self._bind_rest(self.rest, parameters, named)
        if wrong:
            raise BadRequest("\n".join(wrong))
        return positional, named

    def _bind_rest(self, read: Reader, parameters: _Parameters, named: dict[str, Any]) -> list[str]:
        wrong: list[str] = []
        for name in parameters.others():
            if name not in self.names:
                try:
                    named[name] = read.read(parameters, name)
                except Wrong as error:
                    wrong += error.messages
        return wrong


def plan(function: Callable[..., Any], *, skip: int = 0) -> Plan:
    """How `function` is called; its first `skip` parameters are given by others, as `self` is. Raises Unconvertible."""
    signature = _signature(function)
    parameters = list(signature.parameters.values())[skip:]
    arguments = []
    rest = None
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            rest = _reader(parameter, function)
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            arguments.append((parameter, _reader(parameter, function)))
    text = f"({', '.join(map(_written, parameters))})"
    return Plan(tuple(arguments), rest, frozenset(signature.parameters) | _hidden(function), text)


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (ValueError, TypeError) as error:
        raise Unconvertible(f"its parameters are not known: {error}") from None


def _written(parameter: inspect.Parameter) -> str:
    """A parameter for people to read."""
    text = str(parameter.replace(annotation=_UNSAID, default=_UNSAID))
    if parameter.annotation is not _UNSAID:
        text += f": {shown(parameter.annotation)}"
    if parameter.default is not _UNSAID:
        default = parameter.default
        text += f" = {default if isinstance(default, enum.Enum) else repr(default)}"
    return text


def plan_of_constructor(made: type) -> Plan:
    """How an object is made for a request: with nothing of it, or with the request. Raises Unconvertible."""
    arguments: list[tuple[inspect.Parameter, Reader]] = []
    for parameter in _signature(made).parameters.values():
        variable = parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        if not variable and _is_request(parameter.name, _hint_or_nothing(parameter, made)):
            arguments.append((parameter, _THE_REQUEST))
        elif not variable and parameter.default is _UNSAID:
            raise Unconvertible(f"its constructor needs {parameter.name}, and is given nothing, or the request")
    return Plan(tuple(arguments))


def _hint_or_nothing(parameter: inspect.Parameter, made: type) -> Any:
    try:
        return _hint(parameter, made.__init__)  # type: ignore[misc]
    except Unconvertible:
        return None


def _hidden(function: Callable[..., Any]) -> frozenset[str]:
    """The parameter of a bound method that is given already."""
    if not inspect.ismethod(function):
        return frozenset()
    return frozenset(inspect.signature(function.__func__).parameters)


def _reader(parameter: inspect.Parameter, function: Callable[..., Any]) -> Reader:
    """What reads an argument. Raises Unconvertible."""
    try:
        hint = _hint(parameter, function)
        is_named = parameter.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        if is_named and _is_request(parameter.name, hint):
            return _THE_REQUEST
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name == "method" and hint in (_UNSAID, str):
            return _THE_METHOD
        return reader(hint)
    except Unconvertible as error:
        raise Unconvertible(f"parameter {parameter.name}: {error}") from None


def _hint(parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    """The annotation of a parameter, also one that is written as text. Raises Unconvertible."""
    if parameter.annotation is _UNSAID:
        return _UNSAID
    holder = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    known = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=known)["it"]
    except Exception as error:
        raise Unconvertible(f"its annotation cannot be read: {error}") from None


def _is_request(name: str, hint: Any) -> bool:
    if hint is _UNSAID:
        return name == "request"
    return isinstance(hint, type) and hint is not object and issubclass(Request, hint)


class _OfRequest:
    """An argument that is the request itself, or its method; no parameter of the request has a part in it."""

    words = ""
    uploads = False

    def __init__(self, get: Callable[[Request], Any]) -> None:
        self._get = get

    def given(self, parameters: Parameters, name: str) -> bool:
        return True

    def read(self, parameters: Parameters, name: str) -> Any:
        assert isinstance(parameters, _Parameters)
        return self._get(parameters.request)


_THE_REQUEST = _OfRequest(lambda request: request)
_THE_METHOD = _OfRequest(lambda request: request.method)


class _Parameters:
    """What a request brings by name. A body is read as a form where somebody asks for that, and else left alone."""

    def __init__(self, request: Request, readers: tuple[Reader, ...]) -> None:
        """Raises BadRequest for a form that cannot be read."""
        self.request = request
        self._taken: set[str] = set()
        self._body: list[FileStorage] | None = None
        self._form: MultiDict[str, str] = MultiDict()
        self._files: MultiDict[str, FileStorage] = MultiDict()
        uploads = any(reader.uploads for reader in readers)
        if readers and (request.mimetype == _MULTIPART or (request.mimetype == _FORM and not uploads)):
            if request.mimetype == _FORM:
                request.max_content_length = _LARGEST_FORM
            self._form, self._files = request.form, request.files
        elif uploads and request.method in _WITH_BODY and request.content_length != 0:
            self._body = [FileStorage(request.stream, content_type=request.content_type)]

    def texts(self, name: str) -> list[str]:
        self._taken.add(name)
        return self.request.args.getlist(name) + self._form.getlist(name)

    def files(self, name: str) -> list[FileStorage]:
        return self._files.getlist(name) if self._body is None else self._body

    def others(self) -> list[str]:
        """The names that nobody has asked for, in their order."""
        return [name for name in dict.fromkeys([*self.request.args, *self._form]) if name not in self._taken]
