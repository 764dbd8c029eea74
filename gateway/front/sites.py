"""What every front-end has to be told of the settings: addresses, pools, and sites: a host name with its routes.

How a front-end writes it down is left to its module and its template.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

from gateway.app.bindings import canonical_host
from gateway.net.address import TcpAddress, parse_address
from gateway.settings import Application, Binding, ConfigError, Pool, Settings

_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):([0-9]{1,5})")
_RESERVED = "!$&'()*+,;=:@"  # in a path, which clients encode or not (RFC 3986 §3.3)


@dataclass(frozen=True, slots=True)
class Listen:
    """An address that the front-end listens on; host "" for all of IPv4."""

    host: str
    port: int


def listen_addresses(listen: str, applications: Iterable[Application]) -> list[Listen]:
    """`listen`, HOST:PORT; else every port of a binding, for IPv4 and IPv6; else one for this machine alone.

    Raises ConfigError for what is no HOST:PORT.
    """
    if listen:
        match = _LISTEN.fullmatch(listen)
        if match is None or not 0 < int(match[2]) < 65536:
            raise ConfigError(f"--listen {listen}: write HOST:PORT, as in 127.0.0.1:8080, [::1]:8080 or :8080 for all")
        return [Listen(match[1], int(match[2]))]
    ports = sorted({b.port for a in applications for b in a.bindings if isinstance(b.port, int)})
    return [Listen(host, port) for port in ports for host in ("", "[::]")] or [Listen("127.0.0.1", 8080)]


def once(addresses: Iterable[Listen]) -> list[Listen]:
    """The addresses for a front-end that takes a port alone for IPv4 and IPv6."""
    known = list(addresses)
    return [it for it in known if it.host != "[::]" or Listen("", it.port) not in known]


@dataclass(frozen=True, slots=True)
class Backend:
    """A pool as a front-end sees it: either `socket` or `host` and `port`."""

    name: str
    max_body: int
    socket: str = ""
    host: str = ""  # an IP address
    port: int = 0
    x_accel: tuple[tuple[str, str], ...] = ()  # nginx: internal locations, and the folders of their files
    sendfile: tuple[str, ...] = ()  # lighttpd, Apache: folders of files that it may send

    @property
    def word(self) -> str:
        """Its name, of letters, digits and underscores alone."""
        return re.sub(r"\W", "_", self.name, flags=re.ASCII)

    @property
    def authority(self) -> str:
        """HOST:PORT; for a TCP address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def check_names(backends: Iterable[Backend]) -> None:
    """Raises ConfigError for a pool that a front-end could take for another: letter case and punctuation are lost."""
    known: dict[str, str] = {}
    for backend in backends:
        other = known.setdefault(backend.word.lower(), backend.name)
        if other != backend.name:
            raise ConfigError(
                f"pools.{backend.name}: front-ends do not tell this name from {other!r}: give the pool another"
            )


def largest_body(pools: Iterable[Backend]) -> int:
    """Bytes of the largest body that one of the pools takes; 0 for no limit."""
    sizes = [pool.max_body for pool in pools]
    return max(sizes) if all(sizes) else 0


def backend_of(name: str, pool: Pool) -> Backend:
    """A pool as front-ends see it. Raises ConfigError when it speaks SCGI, or where it listens is not known."""
    if pool.protocol != "fastcgi":
        raise ConfigError(f"pools.{name}.protocol: the configurations speak FastCGI; set it to fastcgi")
    backend = _backend(name, pool.max_body, pool.listen[0] if pool.listen else "systemd")
    if backend is None:
        raise ConfigError(
            f"pools.{name}.listen: a front-end has to be told where {name!r} listens; name a path or IP:PORT"
        )
    x_accel = tuple((f"{place.rstrip('/')}/", f"{folder.rstrip('/')}/") for folder, place in pool.x_accel.items())
    return replace(backend, x_accel=x_accel, sendfile=pool.x_sendfile)


def _backend(name: str, max_body: int, address: str) -> Backend | None:
    """What listens at `address`; None for a socket whose place is known to whoever opens it alone."""
    if address.startswith("unix:") or "/" in address:
        return Backend(name, max_body, socket=address.removeprefix("unix:"))
    parsed = parse_address(address)
    if isinstance(parsed, TcpAddress):
        return Backend(name, max_body, host=str(parsed.ip), port=parsed.port)
    return None


def console_of(settings: Settings) -> Backend | None:
    """Where /status, /ping and /metrics are answered, if anywhere."""
    address = settings.gateway.status_listen
    if not address:
        return None
    console = _backend("the console", 0, address)
    if console is None:
        raise ConfigError(
            f"gateway.status_listen: a front-end has to be told where {address} listens; name a path or IP:PORT"
        )
    return console


@dataclass(frozen=True, slots=True)
class Route:
    """A path prefix ("" for all) and the pool that answers below it."""

    path: str
    pool: Backend

    @property
    def encoded(self) -> str:
        """A regular expression (PCRE) for the path as it is in a URL whose escapes are in one spelling."""
        return "".join(
            f"(?:{re.escape(sign)}|{quote(sign)})" if sign in _RESERVED else re.escape(quote(sign))
            for sign in self.path
        )


@dataclass(frozen=True, slots=True)
class Site:
    """A host name, or the default for every other one, and its routes, the longest path first."""

    host: str
    routes: tuple[Route, ...]

    @property
    def default(self) -> bool:
        return self.host == "*"

    @property
    def max_body(self) -> int:
        """Bytes of the largest body that one of its pools takes; 0 for no limit."""
        return largest_body(route.pool for route in self.routes)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """nginx's internal locations of files that the applications leave to it, and the folders of these."""
        return tuple(dict.fromkeys(each for route in self.routes for each in route.pool.x_accel))


def sites_of(settings: Settings, pools: dict[str, Backend]) -> list[Site]:
    """The default first, then wildcards from the least to the most special, then names: the last match is the best."""
    first = next(iter(pools.values()))
    if len(pools) == 1:
        return [Site("*", (Route("", first),))]
    table: dict[str, dict[str, Backend]] = {"*": {}}
    for application in settings.applications:
        for binding in application.bindings or (Binding(),):
            _add(table, binding, pools[application.pool])
    everywhere = table["*"]
    for routes in table.values():
        # What a host does not answer itself goes to what is bound to every host; the rest to some pool, which refuses.
        own = tuple(routes)
        routes |= {path: pool for path, pool in everywhere.items() if not any(_below(path, mount) for mount in own)}
        routes.setdefault("", first)
    return [Site(host, tuple(_routes(table[host]))) for host in sorted(table, key=_rank)]


def _add(table: dict[str, dict[str, Backend]], binding: Binding, pool: Backend) -> None:
    host = binding.hostname if binding.hostname == "*" else canonical_host(binding.hostname)
    path = binding.path.rstrip("/")
    if table.setdefault(host, {}).setdefault(path, pool) is not pool:
        raise ConfigError(
            f"{binding.hostname}{path}: a front-end chooses the pool by host and path; two pools cannot share both"
        )


def unnamed(sites: Iterable[Site], other: str) -> str:
    """How the default is called: the host of a request that names none; `other` where that is a site of its own."""
    return other if any(site.host == "localhost" for site in sites) else "localhost"


def _below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount + "/")


def _routes(paths: dict[str, Backend]) -> Iterator[Route]:
    for path in sorted(paths, key=len, reverse=True):
        yield Route(path, paths[path])


def _rank(host: str) -> tuple[bool, bool, int, str]:
    return host != "*", not host.startswith("*"), len(host), host
