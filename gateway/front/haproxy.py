"""How HAProxy's configuration is written: templates/haproxy.cfg.j2."""

from __future__ import annotations

from gateway.front.sites import Backend, Listen, Route, Site
from gateway.front.writing import Writing, word


def _word(text: str) -> str:
    """`text` as one word; in double quotes a space counts for itself."""
    return word(text, "HAProxy", never=r'["\\$\']')


def _listen(address: Listen) -> str:
    return f"{address.host}:{address.port}"


def _backend(pool: Backend) -> str:
    return f"gateway_{pool.word}"


def _server(pool: Backend) -> str:
    return _word(f"unix@{pool.socket}" if pool.socket else pool.authority)


def _host(site: Site) -> str:
    """The test of a request's host."""
    return f"var(txn.host) -m {f'end {site.host[1:]}' if site.host.startswith('*.') else f'str {site.host}'}"


def _chosen(site: Site, route: Route) -> str:
    """The condition for a request to go there, by its host and its path."""
    conditions = [] if site.default else [f"{{ {_host(site)} }}"]
    if route.path:  # a ' would begin a quoted part
        path = route.encoded.replace("'", r"\x27")
        conditions.append(f"{{ path -m reg ^{path}(/|$) }}")
    return " ".join(conditions)


WRITING = Writing(
    "HAProxy",
    "templates",
    "haproxy.cfg.j2",
    {"word": _word, "listen": _listen, "backend": _backend, "server": _server, "host": _host, "chosen": _chosen},
    {
        "static": "it serves no files; let another server answer /sta/",
        "certificate_key": "it reads the key from the certificate's file; leave it out",
        "bin_path": "only lighttpd and Apache start a pool",
    },
)
