"""Which application answers a host, a port and a path: flat dictionaries, so that ten thousand cost what one does."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from gateway import settings

T = TypeVar("T")

_LABEL = r"[a-z0-9_-]{1,63}"
NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
NAME_LENGTH = 253


class Place(NamedTuple):
    """A binding in canonical form: what two bindings must not share."""

    host: str
    port: int | None
    path: str

    def __str__(self) -> str:
        return f"{self.host}:{'*' if self.port is None else self.port}{self.path}"


MOST_LABELS = 256
_MOST_SHARED = 8  # places of a host, beyond which no other is likely to have the same


def bindings_of(application: settings.Application, *, alone: bool) -> tuple[settings.Binding, ...]:
    """Where an application answers: one that is alone and has no bindings answers everything."""
    return application.bindings or (settings.Binding(),) * alone


def labels(applications: Sequence[settings.Application]) -> dict[str, int]:
    """The numbers under which a pool counts requests by the host of their binding, as it is written there.

    0, called "", is for requests that nothing is bound to, and for hosts that come after the first 255.
    """
    alone = len(applications) == 1
    found = {"": 0}
    for host in (b.hostname for application in applications for b in bindings_of(application, alone=alone)):
        if len(found) == MOST_LABELS:
            break
        found.setdefault(host, len(found))
    return found


def hosts_of_pools(whole: settings.Settings) -> dict[tuple[str, ...], list[str]]:
    """The canonical hosts of all applications, by the pools that have them."""
    pools: dict[str, list[str]] = {}
    in_pool = Counter(application.pool for application in whole.applications)
    for application in whole.applications:
        for binding in bindings_of(application, alone=in_pool[application.pool] == 1):
            having = pools.setdefault(canonical_host(binding.hostname), [])
            if application.pool not in having:
                having.append(application.pool)
    hosts: dict[tuple[str, ...], list[str]] = {}
    for host, having in pools.items():
        hosts.setdefault(tuple(having), []).append(host)
    return hosts


def elsewhere(hosts: Mapping[tuple[str, ...], Sequence[str]], pool: str) -> dict[str, list[str]]:
    """What the workers of one pool are told of the others, so that they can say which one a front-end should have
    asked: of the `hosts_of_pools`, those that others have, by what these are called in words.
    """
    found: dict[str, list[str]] = {}
    for pools, theirs in hosts.items():
        if others := [f"the pool {other}" for other in pools if other != pool]:
            found.setdefault(" and ".join(others), []).extend(theirs)
    return found


class BindingConflict(ValueError):
    """Two applications are bound to one place; `first`, `second` and `place` say which."""

    def __init__(self, first: object, second: object, place: Place) -> None:
        super().__init__(
            f"{first} and {second} are both bound to {place}: change the hostname, port or path of one of them"
        )
        self.first = first
        self.second = second
        self.place = place


def place(binding: settings.Binding) -> Place:
    """The canonical place of a binding. Raises ValueError, whose text is the mistake and the remedy."""
    return Place(
        canonical_host(binding.hostname), canonical_port(binding.port), canonical_path(binding.path).rstrip("/")
    )


def canonical_host(text: str) -> str:
    """A host name of the settings as requests are compared with it: lower case, A-labels, IPv6 compressed in brackets.

    Unicode names are converted by the standard library's IDNA 2003 codec; a name that IDNA 2008 spells otherwise (one
    with ß, for example) is written as its A-label. Raises ValueError with a remedy.
    """
    if text == "*":
        return text
    if text.startswith("*."):
        return "*." + _canonical_name(text[2:], text)
    if text.startswith("[") or text.count(":") > 1:
        return canonical_ipv6(text[1:-1] if text[0] == "[" and text[-1] == "]" else text)
    return _canonical_name(text, text)


def _canonical_name(name: str, text: str) -> str:
    name = name.removesuffix(".")
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ValueError(
                f"{text!r} is no host name ({error}): write its A-labels, as in xn--bcher-kva.example"
            ) from None
    lower = name.lower()
    if NAME.fullmatch(lower) and len(lower) <= NAME_LENGTH:
        return text if lower == text else lower  # which the settings hold already
    raise ValueError(
        f'{text!r} is no host name: write shop.example.com, *.example.com or "*", without scheme, port or path'
    )


def canonical_ipv6(address: str) -> str:
    """An IPv6 address, given without brackets, as `[::1]`. Raises ValueError; zone identifiers are refused."""
    try:
        if "%" in address:
            raise ValueError
        return f"[{ipaddress.IPv6Address(address).compressed}]"
    except ValueError:
        raise ValueError(f"{address!r} is no IPv6 address: write it in brackets, as in [2001:db8::1]") from None


def canonical_port(port: int | str) -> int | None:
    """A port of the settings; None for any. Raises ValueError with a remedy."""
    if port == "*":
        return None
    number = int(port) if isinstance(port, int) or (port.isascii() and port.isdigit() and len(port) < 6) else 0
    if isinstance(port, bool) or not 1 <= number <= 65535:
        raise ValueError(f'{port!r} is no port: write a number from 1 to 65535, or "*" for any')
    return number


def canonical_path(path: str) -> str:
    """A path prefix of the settings as paths of requests are compared with it (PEP 3333: UTF-8 shown as latin-1).

    "" is the root, or whatever prefix the front-end mounts the application at; "/" is the root and nothing else. Raises
    ValueError with a remedy.
    """
    if path in ("", "/"):
        return path
    trimmed = path.rstrip("/")
    segments = trimmed.split("/")
    if (
        not trimmed
        or segments[0]
        or any(s in ("", ".", "..") for s in segments[1:])
        or not path.isprintable()
        or set("?#%") & set(path)
    ):
        raise ValueError(f"{path!r} is no path prefix: write it decoded and from the root, as in /shop")
    return trimmed.encode().decode("latin-1")


class _Paths(Generic[T]):
    """What is bound to one host and port, by path prefix."""

    __slots__ = ("longest", "targets")

    def __init__(self) -> None:
        self.targets: dict[str, tuple[T, str]] = {}
        self.longest = 0

    def add(self, path: str, bound: tuple[T, str]) -> None:
        """Bind one more path."""
        self.targets[path] = bound
        self.longest = max(self.longest, len(path))

    def find(self, path: str) -> tuple[T, str] | None:
        """The longest prefix that ends at a segment border; no more look-ups than the longest binding has segments."""
        longest = self.longest
        if longest:
            end = len(path) if len(path) <= longest else path.rfind("/", 0, longest + 1)
            while end > 0:
                found = self.targets.get(path[:end])
                if found is not None:
                    return found
                end = path.rfind("/", 0, end)
        return self.targets.get("")


_Ports: TypeAlias = dict[int | None, _Paths[T]]  # of a host; not changed where others have the same
_Bound: TypeAlias = tuple[int | None, str, tuple[T, str]]  # port, path, target and prefix


class Bindings(Generic[T]):
    """Finds what is bound: the exact host before the longest `*.suffix` before `*`; in each the exact port before `*`;
    in each the longest path prefix. The order of the entries does not matter. Holds no cache.
    """

    def __init__(self, entries: Iterable[tuple[settings.Binding, T]]) -> None:
        """Raises BindingConflict when two targets claim one place, ValueError for a binding that is none."""
        self._hosts: dict[str, _Ports[T]] = {}
        self._suffixes: dict[str, _Ports[T]] = {}
        self._shared: dict[tuple[Any, ...], _Ports[T]] = {}
        self._unlike: set[str] = set()  # hosts that share nothing
        for binding, target in entries:
            self.add(binding, target)

    def add(self, binding: settings.Binding, target: T) -> None:
        """Bind one more place. Raises BindingConflict and ValueError and then changes nothing."""
        where = place(binding)
        suffix = where.host.startswith("*.")
        hosts, name = (self._suffixes, where.host[2:]) if suffix else (self._hosts, where.host)
        ports = hosts.get(name, {})
        paths = ports.get(where.port)
        bound = None if paths is None else paths.targets.get(where.path)
        if bound is None:
            new = where.port, where.path, (target, canonical_path(binding.path))
            if where.host in self._unlike:
                _put(ports, new)
            else:
                hosts[name] = self._with(ports, where.host, new)
        elif bound[0] != target:
            raise BindingConflict(bound[0], target, where)

    def _with(self, ports: _Ports[T], host: str, new: _Bound[T]) -> _Ports[T]:
        """What a host has, and one place more. Hosts for which that is the same share it, so that each takes little
        more than its name.
        """
        places = [*((port, *each) for port, paths in ports.items() for each in paths.targets.items()), new]
        same = tuple((port, path, id(target), prefix) for port, path, (target, prefix) in places)
        if same in self._shared:
            return self._shared[same]
        made: _Ports[T] = {}
        for each in places:
            _put(made, each)
        if len(places) > _MOST_SHARED:
            self._unlike.add(host)
        else:
            self._shared[same] = made
        return made

    def find(self, host: str, port: int | None, path: str) -> tuple[T, str] | None:
        """The target for a canonical host, a port and a decoded path, and the path prefix of its binding; None if there
        is none.
        """
        ports = self._hosts.get(host)
        if ports is not None:
            found = _find_port(ports, port, path)
            if found is not None:
                return found
        if self._suffixes:
            found = self._find_suffix(host, port, path)
            if found is not None:
                return found
        ports = self._hosts.get("*")
        return None if ports is None else _find_port(ports, port, path)

    def find_for_all_paths(self, host: str, port: int | None) -> T | None:
        """The target for a canonical host and a port if every path has the same one, by a binding without a path."""
        ports = [self._hosts.get(host), *self._ports_of_suffixes(host), self._hosts.get("*")]
        bound = (paths for each in ports if each for paths in (each.get(port), each.get(None)) if paths)
        first = next(bound, None)
        if first is None or first.longest or (found := first.targets.get("")) is None or found[1]:
            return None
        return found[0]

    def _ports_of_suffixes(self, host: str) -> Iterator[_Ports[T] | None]:
        while (dot := host.find(".")) >= 0:
            host = host[dot + 1 :]
            yield self._suffixes.get(host)

    def _find_suffix(self, host: str, port: int | None, path: str) -> tuple[T, str] | None:
        dot = host.find(".")
        while dot >= 0:
            ports = self._suffixes.get(host[dot + 1 :])
            if ports is not None:
                found = _find_port(ports, port, path)
                if found is not None:
                    return found
            dot = host.find(".", dot + 1)
        return None


def _put(ports: _Ports[T], bound: _Bound[T]) -> None:
    port, path, target = bound
    ports.setdefault(port, _Paths()).add(path, target)


def _find_port(ports: _Ports[T], port: int | None, path: str) -> tuple[T, str] | None:
    paths = ports.get(port)
    if paths is not None:
        found = paths.find(path)
        if found is not None:
            return found
    paths = ports.get(None)
    return None if paths is None else paths.find(path)
