"""Renders the configuration of nginx or lighttpd from the bundled templates, `nginx/` and `lighttpd/`.

What both need to know of the settings is worked out once, as pools, sites (a host name and its routes) and addresses;
how a front-end writes it down is left to the template. `python -m gateway.front.render` renders the committed files.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

import jinja2

from gateway.app.bindings import canonical_host
from gateway.front import share
from gateway.net.address import TcpAddress, parse_address
from gateway.settings import Application, Binding, ConfigError, Pool, Settings

FRONTS = ("nginx", "lighttpd")

TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "json": "application/json",
    "txt": "text/plain",
    "svg": "image/svg+xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "pdf": "application/pdf",
}

# Headers that a proxy in front or the HTTP layer itself vouches for.
_TRUSTED = (
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Real-IP",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
)


class Options(TypedDict, total=False):
    """What the settings do not say. Paths that are not absolute start where the front-end is started."""

    listen: str  # HOST:PORT; default: the ports of the bindings, else 127.0.0.1:8080
    static: str  # the folder served as /sta/; default: the bundled one
    complete: bool  # nginx: False for what stands inside `http { … }`; default: a whole configuration
    run_directory: str  # where nginx keeps its pid and temporary files; default: /run/gateway
    user: str  # whom the front-end's workers run as when it is started as root
    group: str  # lighttpd: the group to that
    keepalive: int  # nginx: connections kept to each pool, at most one a worker; default: 0
    bin_path: str  # lighttpd: the command that starts the pool; $CWD in it is where lighttpd is started
    certificate: str  # PEM files for TLS on every address listened on
    certificate_key: str
    client_ca: str  # asks clients for a certificate of this authority
    demo: bool  # says how to start the demo with it


_DEFAULTS: Options = {
    "listen": "",
    "static": "",
    "complete": True,
    "run_directory": "/run/gateway",
    "user": "",
    "group": "",
    "keepalive": 0,
    "bin_path": "",
    "certificate": "",
    "certificate_key": "",
    "client_ca": "",
    "demo": False,
}


def render(name: str, settings: Settings, **options: Unpack[Options]) -> str:
    """The configuration of the front-end `name` ("nginx" or "lighttpd") for `settings`.

    Raises ConfigError when a front-end cannot be told so: an address that only the pool knows, a path with characters
    that cannot be quoted, two pools that differ in a port alone.
    """
    if name not in FRONTS:
        raise ConfigError(f"{name!r} is no front-end that is rendered: choose {' or '.join(FRONTS)}")
    chosen: dict[str, Any] = {**_DEFAULTS, **options}
    chosen["static"] = (chosen["static"] or str(share.folder("static"))).rstrip("/")
    chosen["listen"] = _listen_addresses(chosen["listen"], settings.applications)
    pools = {key: _pool(key, pool) for key, pool in settings.pools.items()}
    return _template(name).render(
        chosen,
        pools=list(pools.values()),
        sites=_sites(settings, pools),
        console=_console(settings),
        max_body_kilobytes=max(1, max((-(-pool.max_body // 1024) for pool in settings.pools.values()), default=0)),
        types=TYPES,
        underscored=list(_underscored(_TRUSTED)),
    )


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(share.folder(name)),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # configurations, not markup: every value goes through one of the filters below
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"word": _word, "path": _path, "text": _text, "command": _command}
    return environment.get_template("gateway.conf.j2")


def _word(text: str) -> str:
    """`text` as one nginx parameter. A `$` would start a variable, and nothing escapes it."""
    if re.search(r'["$\\\x00-\x1f]', text):
        raise ConfigError(f"{text!r} cannot be written in a configuration of nginx: avoid quotes, $ and backslashes")
    return text if re.fullmatch(r"[\w./:@%+,=~\[\]-]+", text) else f'"{text}"'


def _text(text: str) -> str:
    """`text` as a lighttpd string."""
    if re.search(r'["\\\x00-\x1f]', text):
        raise ConfigError(f"{text!r} cannot be written in a configuration of lighttpd: avoid quotes and backslashes")
    return f'"{text}"'


def _path(path: str) -> str:
    """`path` as a lighttpd string, made absolute."""
    return _text(path) if path.startswith("/") else f"var.CWD + {_text('/' + path)}"


def _command(command: str) -> str:
    """A command line as a lighttpd string."""
    return _text(command).replace("$CWD", '" + var.CWD + "')


def _underscored(names: Iterable[str]) -> Iterator[str]:
    """Every other spelling that becomes the same CGI variable (RFC 3875 §4.1.18) as one of `names`."""
    for name in names:
        first, *rest = name.split("-")
        for signs in itertools.product("-_", repeat=len(rest)):
            if "_" in signs:
                yield first + "".join(sign + word for sign, word in zip(signs, rest, strict=True))


@dataclass(frozen=True, slots=True)
class _Listen:
    """An address that the front-end listens on; host "" for all of IPv4."""

    host: str
    port: int

    @property
    def nginx(self) -> str:
        return f"{self.host}:{self.port}" if self.host else str(self.port)

    @property
    def lighttpd(self) -> str:
        return f"{self.host}:{self.port}"


def _listen_addresses(listen: str, applications: Iterable[Application]) -> list[_Listen]:
    if listen:
        host, _, port = listen.rpartition(":")
        return [_Listen(host, int(port))]
    ports = sorted({b.port for a in applications for b in a.bindings if isinstance(b.port, int)})
    return [_Listen(host, port) for port in ports for host in ("", "[::]")] or [_Listen("127.0.0.1", 8080)]


@dataclass(frozen=True, slots=True)
class _Backend:
    """A pool as a front-end sees it: either `socket` or `host` and `port`."""

    name: str
    max_body: int
    socket: str = ""
    host: str = ""  # an IP address
    port: int = 0
    x_accel: tuple[tuple[str, str], ...] = ()  # nginx: internal locations, and the folders of their files
    sendfile: tuple[str, ...] = ()  # lighttpd: folders of files that it may send

    @property
    def upstream(self) -> str:
        return "gateway_" + re.sub(r"\W", "_", self.name, flags=re.ASCII)

    @property
    def nginx_address(self) -> str:
        if self.socket:
            return f"unix:{self.socket}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def extension(self) -> str:
        """What lighttpd's rewritten URLs start with."""
        return "/" + re.sub(r"\W", "_", self.name, flags=re.ASCII) + ".fcgi"


def _pool(name: str, pool: Pool) -> _Backend:
    if pool.protocol != "fastcgi":
        raise ConfigError(f"pools.{name}.protocol: the configurations speak FastCGI; set it to fastcgi")
    backend = _backend(name, pool.max_body, pool.listen[0] if pool.listen else "systemd")
    if backend is None:
        raise ConfigError(
            f"pools.{name}.listen: a front-end has to be told where {name!r} listens; name a path or IP:PORT"
        )
    x_accel = tuple((f"{place.rstrip('/')}/", f"{folder.rstrip('/')}/") for folder, place in pool.x_accel.items())
    return replace(backend, x_accel=x_accel, sendfile=pool.x_sendfile)


def _backend(name: str, max_body: int, address: str) -> _Backend | None:
    """What listens at `address`; None for a socket whose place is known to whoever opens it alone."""
    if address.startswith("unix:") or "/" in address:
        return _Backend(name, max_body, socket=address.removeprefix("unix:"))
    parsed = parse_address(address)
    if isinstance(parsed, TcpAddress):
        return _Backend(name, max_body, host=str(parsed.ip), port=parsed.port)
    return None


def _console(settings: Settings) -> _Backend | None:
    """Where /status, /ping and /metrics are answered, if anywhere."""
    address = settings.gateway.status_listen
    if not address:
        return None
    console = _backend("console", 0, address)
    if console is None:
        raise ConfigError(
            f"gateway.status_listen: a front-end has to be told where {address} listens; name a path or IP:PORT"
        )
    return console


@dataclass(frozen=True, slots=True)
class _Route:
    """A path prefix ("" for all) and the pool that answers below it."""

    path: str
    pool: _Backend

    @property
    def pattern(self) -> str:
        """A regular expression for the URLs below the path, query included."""
        return f"{re.escape(self.path)}(?:[/?].*)?" if self.path else "/.*"


@dataclass(frozen=True, slots=True)
class _Site:
    """A host name, or the default for every other one, and its routes, the longest path first."""

    host: str
    routes: tuple[_Route, ...]

    @property
    def default(self) -> bool:
        return self.host == "*"

    @property
    def names(self) -> tuple[str, ...]:
        """nginx's `server_name`; the default's is what $host is for a request that names none."""
        return ("localhost",) if self.default else (self.host,)

    @property
    def max_body(self) -> int:
        return max(route.pool.max_body for route in self.routes)

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """nginx's internal locations of files that the applications leave to it, and the folders of these."""
        return tuple(dict.fromkeys(each for route in self.routes for each in route.pool.x_accel))

    @property
    def pattern(self) -> str:
        """A regular expression for the Host header."""
        name = "[^:]+" + re.escape(self.host[1:]) if self.host.startswith("*") else re.escape(self.host)
        return f"^{name}(:[0-9]+)?$"


def _sites(settings: Settings, pools: dict[str, _Backend]) -> list[_Site]:
    """The default first, then wildcards from the least to the most special, then names: the last match is the best."""
    first = next(iter(pools.values()))
    if len(pools) == 1:
        return [_Site("*", (_Route("", first),))]
    table: dict[str, dict[str, _Backend]] = {"*": {}}
    for application in settings.applications:
        for binding in application.bindings or (Binding(),):
            _add(table, binding, pools[application.pool])
    everywhere = table["*"]
    for routes in table.values():
        # What a host does not answer itself goes to what is bound to every host; the rest to some pool, which refuses.
        own = tuple(routes)
        routes |= {path: pool for path, pool in everywhere.items() if not any(_below(path, mount) for mount in own)}
        routes.setdefault("", first)
    return [_Site(host, tuple(_routes(table[host]))) for host in sorted(table, key=_rank)]


def _add(table: dict[str, dict[str, _Backend]], binding: Binding, pool: _Backend) -> None:
    host = binding.hostname if binding.hostname == "*" else canonical_host(binding.hostname)
    path = binding.path.rstrip("/")
    if table.setdefault(host, {}).setdefault(path, pool) is not pool:
        raise ConfigError(
            f"{binding.hostname}{path}: a front-end chooses the pool by host and path; two pools cannot share both"
        )


def _below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount + "/")


def _routes(paths: dict[str, _Backend]) -> Iterator[_Route]:
    for path in sorted(paths, key=len, reverse=True):
        yield _Route(path, paths[path])


def _rank(host: str) -> tuple[bool, bool, int, str]:
    return host != "*", not host.startswith("*"), len(host), host


def bundled() -> dict[str, str]:
    """The committed configurations of the demo: their paths in a checkout, and their text."""
    pool = Pool(listen=("examples/demo/run/gateway.sock",))
    settings = Settings(pools={"main": pool}, applications=(Application(name="demo", app="demo:app"),))
    spawned = Settings(pools={"main": Pool(listen=("examples/demo/run/spawned.sock",))})
    common: dict[str, Any] = {"static": "static", "run_directory": "examples/demo/run", "demo": True}
    command = "/usr/bin/env gateway serve demo:app --app-dir $CWD/examples/demo --max-children 5"
    return {
        "nginx/gateway.conf": render("nginx", settings, **common),
        "lighttpd/gateway.conf": render("lighttpd", settings, **common),
        "lighttpd/spawned.conf": render("lighttpd", spawned, bin_path=command, **common),
    }


def main() -> None:
    """Write the committed configurations."""
    for path, text in bundled().items():
        (share.folder(path.split("/")[0]) / path.split("/")[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
