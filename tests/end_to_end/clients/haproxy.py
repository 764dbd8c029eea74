"""HAProxy's fcgi-app."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.browsing import fetch
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.clients.wire import wire
from tests.end_to_end.running import HERE

CLIENT = "HAProxy 2.6.12"


@feature(CLIENT, "`option get-values` before a WSGI pool")
def it_asks_first(bench: Bench) -> Shown:
    path = bench.folder() / "wire.sock"

    def configure(place: Path, port: int) -> str:
        return (HERE / "haproxy.cfg").read_text().replace("PORT", str(port)).replace("SOCKET", str(path))

    with wire(path, bench.pool().socket) as seen, bench.front("haproxy", configure) as (port, _):
        assert fetch(port, "/hello").text == "Hello\n"
        first, *others = seen.records
    assert first.name == "GET_VALUES"
    assert {record.id for record in others} == {1}
    return Shown("`GET /hello`; HAProxy first sends GET_VALUES", "FCGI_MPXS_CONNS 0; then `Hello`")
