"""How nginx's configuration is written: nginx/gateway.conf.j2."""

from __future__ import annotations

from gateway.front.sites import Backend, Listen, unnamed
from gateway.front.writing import Writing, word


def _word(text: str) -> str:
    """`text` as one parameter. A `$` would start a variable, and nothing escapes it."""
    return word(text, "nginx")


def _listen(address: Listen) -> str:
    return f"{address.host}:{address.port}" if address.host else str(address.port)


def _upstream(pool: Backend) -> str:
    return f"gateway_{pool.word}"


def _server(pool: Backend) -> str:
    return _word(f"unix:{pool.socket}" if pool.socket else pool.authority)


WRITING = Writing(
    "nginx",
    "nginx",
    "gateway.conf.j2",
    {"word": _word, "listen": _listen, "unnamed": unnamed, "upstream": _upstream, "server": _server},
    {"bin_path": "only lighttpd and Apache start a pool"},
    sends=("x_accel", "x_sendfile"),  # what is meant for another does no harm
)
