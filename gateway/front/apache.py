"""How Apache's configuration is written: templates/apache.conf.j2."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.front.sites import Backend, Listen, Site, once, unnamed
from gateway.front.writing import Writing, word


def _word(text: str) -> str:
    """`text` as one argument."""
    return word(text, "Apache", never=r'["\\$]', plain=r"(?!)")


def _listen(address: Listen) -> str:
    """What `Listen` names."""
    return f"{address.host}:{address.port}" if address.host else str(address.port)


def _first_match(sites: Sequence[Site]) -> list[Site]:
    """The order in which the first match is the best, but for the default, which Apache takes from the front."""
    default, *others = sites
    return [default, *reversed(others)]


def _backend(pool: Backend) -> str:
    """A pool as ProxyPass names it: the host of a Unix socket's URL only tells it from others."""
    if pool.socket:
        return _word(f"unix:{pool.socket}|fcgi://{pool.word.replace('_', '-')}/")
    return _word(f"fcgi://{pool.authority}/")


WRITING = Writing(
    "Apache",
    "templates",
    "apache.conf.j2",
    {
        "word": _word, "listen": _listen, "once": once, "unnamed": unnamed, "first_match": _first_match,
        "backend": _backend,
    },
    {"bin_path": "mod_fcgid starts a pool so: see docs/howto/fronts.md"},
    sends=("x_sendfile",),
)  # fmt: skip
