"""How Caddy's configuration is written: templates/Caddyfile.j2."""

from __future__ import annotations

import re

from gateway.front.sites import Backend, Route, Site, once
from gateway.front.writing import Writing, word


def _word(text: str) -> str:
    """`text` as one token. Braces would make a placeholder, and nothing escapes them."""
    return word(text, "Caddy", never=r'["\\{}`]')


def _backend(pool: Backend) -> str:
    return _word(f"unix/{pool.socket}" if pool.socket else pool.authority)


def _hosts(site: Site) -> str:
    """A regular expression for the host without its port; where it had one, an IPv6 address is without brackets."""
    name = "[^:]+" + re.escape(site.host[1:]) if site.host.startswith("*") else re.escape(site.host)
    if site.host.startswith("["):
        name = rf"\[?{re.escape(site.host[1:-1])}\]?"
    return f"(?i)^{name.replace(chr(92) + '-', '-')}[.]?$"


def _paths(route: Route) -> str:
    """A regular expression for the decoded path. (Caddy's `path` takes capital letters for small ones.)"""
    _word(route.path)
    return f'"^{re.escape(route.path)}(/|$)"'


WRITING = Writing(
    "Caddy",
    "templates",
    "Caddyfile.j2",
    {"word": _word, "once": once, "backend": _backend, "hosts": _hosts, "paths": _paths},
    {
        "keepalive": "it keeps no connections to a pool; leave it out",
        "bin_path": "only lighttpd and Apache start a pool",
        "user": "start it as that user",
        "group": "start it as a user of that group",
    },
)
