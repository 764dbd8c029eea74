"""How lighttpd's configuration is written: lighttpd/gateway.conf.j2."""

from __future__ import annotations

import re

from gateway.front.sites import Backend, Listen, Route, Site
from gateway.front.writing import Writing, word


def _text(text: str) -> str:
    """`text` as a string."""
    return word(text, "lighttpd", never=r'["\\]', plain=r"(?!)")


def _path(path: str) -> str:
    """`path` as a string, made absolute."""
    return _text(path) if path.startswith("/") else f"var.CWD + {_text('/' + path)}"


def _command(command: str) -> str:
    """A command line as a string."""
    return _text(command).replace("$CWD", '" + var.CWD + "')


def _listen(address: Listen) -> str:
    return f"{address.host}:{address.port}"


def _extension(pool: Backend) -> str:
    """What rewritten URLs start with."""
    return f"/{pool.word}.fcgi"


def _urls(route: Route) -> str:
    """A regular expression for the URLs below the path, query included."""
    return f"{route.encoded}(?:[/?].*)?" if route.path else "/.*"


def _hosts(site: Site) -> str:
    """A regular expression for the Host header."""
    name = "[^:]+" + re.escape(site.host[1:]) if site.host.startswith("*") else re.escape(site.host)
    return f"^{name}(:[0-9]+)?$"


WRITING = Writing(
    "lighttpd",
    "lighttpd",
    "gateway.conf.j2",
    {
        "text": _text, "path": _path, "command": _command, "listen": _listen, "extension": _extension,
        "urls": _urls, "hosts": _hosts,
    },
    {
        "keepalive": "it keeps no connections to a pool; leave it out",
        "part": "what is printed is a whole configuration; leave it out",
    },
    sends=("x_accel", "x_sendfile"),  # what is meant for another does no harm
)  # fmt: skip
