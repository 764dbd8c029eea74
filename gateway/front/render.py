"""Renders the configuration of a front-end for settings, from its template.

`sites` works out what all of them need to know of the settings; a module for each front-end (`nginx`, `lighttpd`, …)
says how values are written there. `python -m gateway.front.render` renders the committed files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, TypedDict, Unpack

from gateway.front import apache, caddy, haproxy, lighttpd, nginx, share
from gateway.front.sites import backend_of, check_names, console_of, largest_body, listen_addresses, sites_of
from gateway.front.writing import Writing, template_of
from gateway.settings import Application, ConfigError, Pool, Settings

WRITINGS: dict[str, Writing] = {
    "nginx": nginx.WRITING,
    "lighttpd": lighttpd.WRITING,
    "haproxy": haproxy.WRITING,
    "apache": apache.WRITING,
    "caddy": caddy.WRITING,
}

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
    complete: bool  # False for what goes into a configuration that there is (nginx: into `http { … }`); default: True
    run_directory: str  # where nginx and Apache keep pid and temporary files; default: /run/gateway
    user: str  # whom the front-end's workers run as when it is started as root
    group: str  # the group to that; default: the one of the user's name
    keepalive: int  # nginx, HAProxy, Apache: connections kept to each pool, at most one a worker; default: 0
    bin_path: str  # lighttpd: the command that starts the pool; $CWD in it is where lighttpd is started
    certificate: str  # PEM file for TLS on every address listened on
    certificate_key: str  # default: the same file
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
    """The configuration of the front-end `name`, a key of WRITINGS, for `settings`.

    Raises ConfigError when a front-end cannot be told so: an address that only the pool knows, a path with characters
    that cannot be quoted, two pools that differ in a port alone or hardly in name, an option that it has no use for.
    """
    writing = WRITINGS.get(name)
    if writing is None:
        raise ConfigError(f"{name!r} is no front-end that is rendered: choose {', '.join(WRITINGS)} or systemd")
    writing.check(options, settings)
    chosen: dict[str, Any] = {**_DEFAULTS, **options}
    chosen["static"] = (chosen["static"] or str(share.folder("static"))).rstrip("/")
    if chosen["client_ca"] and not chosen["certificate"]:
        raise ConfigError(
            "--client-ca: certificates are asked for over TLS alone; name --certificate, the server's own"
        )
    if chosen["bin_path"] and len(settings.pools) > 1:
        raise ConfigError("--bin-path: lighttpd starts a single pool; start these by `gateway serve`, and leave it out")
    chosen["certificate_key"] = chosen["certificate_key"] or chosen["certificate"]
    chosen["listen"] = listen_addresses(chosen["listen"], settings.applications)
    pools = {key: backend_of(key, pool) for key, pool in settings.pools.items()}
    console = console_of(settings)
    check_names([console, *pools.values()] if console else pools.values())
    return template_of(writing).render(
        chosen,
        pools=list(pools.values()),
        sites=sites_of(settings, pools),
        console=console,
        max_body=largest_body(pools.values()),
        types=TYPES,
        underscored=list(_underscored(_TRUSTED)),
    )


def _underscored(names: Iterable[str]) -> Iterator[str]:
    """Every other spelling that becomes the same CGI variable (RFC 3875 §4.1.18) as one of `names`."""
    for name in names:
        first, *rest = name.split("-")
        for signs in itertools.product("-_", repeat=len(rest)):
            if "_" in signs:
                yield first + "".join(sign + word for sign, word in zip(signs, rest, strict=True))


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
