"""Writes the page of clients, docs/reference/clients.md: `python -m tests.end_to_end.clients.page`.

With words as arguments only the clients that have one of them in their names are driven anew; the other rows stay.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.end_to_end.clients import (
    answers,
    apache,
    authorizing,
    caddy,
    haproxy,
    hosts,
    lighttpd,
    nginx,
    spawners,
    urls,
)
from tests.end_to_end.clients.features import FEATURES, Bench, Feature, Shown, line
from tests.end_to_end.running import ROOT

PAGE = ROOT / "docs" / "reference" / "clients.md"
# Whose features are on the page.
MODULES = (nginx, lighttpd, haproxy, apache, caddy, spawners, hosts, answers, authorizing, urls)
SECTIONS = (
    *(module.CLIENT for module in (apache, caddy, haproxy, lighttpd, nginx)),
    *(spawners.CGI_FCGI, spawners.SPAWN_FCGI, spawners.MULTIWATCH, spawners.SYSTEMD),
    urls.CLIENT,
)
_TITLE = """# Clients that speak FastCGI or SCGI, feature by feature

Each row was made by a test that drives the real program, as Debian 12 ships it, before a pool of this gateway:
`tests/end_to_end/test_clients.py` sends all of it anew and compares what comes out with this page.
"""


def row(feature: Feature, shown: Shown) -> str:
    """The line of the page for a feature."""
    return line([feature.what, shown.sent, shown.came])


def page(rows: Sequence[str]) -> str:
    """The page of all features' rows."""
    text = _TITLE
    for client in SECTIONS:
        text += f"\n## {client}\n\n"
        text += line(["feature", "sent", "came out"]) + line(["---"] * 3)
        text += "".join(row for each, row in zip(FEATURES, rows, strict=True) if each.client == client)
        if client == urls.CLIENT:
            text += urls.table()
    return text


def committed(feature: Feature) -> str:
    """The row that the page has for a feature; "" when it has none."""
    section = PAGE.read_text().partition(f"\n## {feature.client}\n")[2].partition("\n## ")[0]
    return next((row for row in section.splitlines(True) if row.startswith(line([feature.what])[:-1])), "")


def main(chosen: Sequence[str]) -> None:
    """Write the page."""
    with Bench() as bench:
        anew = [not chosen or any(word in each.client for word in chosen) for each in FEATURES]
        rows = [
            row(each, each.show(bench)) if shown else committed(each)
            for each, shown in zip(FEATURES, anew, strict=True)
        ]
    PAGE.write_text(page(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
