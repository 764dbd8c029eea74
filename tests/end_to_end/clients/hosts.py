"""A front on another host than its pool: TCP, and who may connect; the other host is another address of this one."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.browsing import fetch
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.clients.nginx import CLIENT, nginx
from tests.end_to_end.clients.spawners import SERVE, activation, in_front
from tests.end_to_end.running import HERE, USER, Settings, serving
from tests.waiting import free_port, wait_until

ALLOWED = "from an address in `listen_allowed_clients`, from another"
OUTCOME = "200; 502, and the pool's log says who was turned away"


def through(bench: Bench, address: str, source: str = "") -> int:
    """The status of a request by nginx from this address to a pool at that one."""
    bind = f"fastcgi_bind {source};" if source else ""
    with nginx(bench, f"include /etc/nginx/fastcgi_params; location / {{ {bind} fastcgi_pass {address}; }}") as port:
        return fetch(port, "/hello").status


def pools(place: Path, listens: dict[str, tuple[str, str]]) -> Settings:
    """Pools by name, each with an address that it listens on and one that may connect."""
    settings = Settings(place, applications=[])
    for name, (address, client) in listens.items():
        pool = {"listen": address, "listen_allowed_clients": [client], "app_dir": str(HERE), "max_children": 1}
        settings.more.setdefault("pools", {})[name] = pool | {"user": USER}
        settings.applications.append({"name": name, "app": "everything:application", "pool": name})
    settings.write()
    return settings


@feature(CLIENT, "a pool on another host: IPv4")
def by_ipv4(bench: Bench) -> Shown:
    port = free_port()
    with serving(pools(bench.folder(), {"main": (f"0.0.0.0:{port}", "127.0.0.2")})) as master:
        assert through(bench, f"127.0.0.1:{port}", "127.0.0.2") == 200
        assert through(bench, f"127.0.0.1:{port}", "127.0.0.3") == 502
        wait_until(lambda: "127.0.0.3" in master.said and "not in listen_allowed_clients" in master.said)
    return Shown(ALLOWED, OUTCOME)


@feature(CLIENT, "a pool on another host: IPv6")
def by_ipv6(bench: Bench) -> Shown:
    one, other = free_port(), free_port()
    listens = {"main": (f"[::]:{one}", "::1"), "other": (f"[::]:{other}", "2001:db8::1")}
    with serving(pools(bench.folder(), listens)) as master:
        assert through(bench, f"[::1]:{one}") == 200
        assert through(bench, f"[::1]:{other}") == 502
        wait_until(lambda: "::1" in master.said and "not in listen_allowed_clients" in master.said)
    return Shown(ALLOWED, OUTCOME)


@feature(CLIENT, "a pool on another host: IPv4 to a socket of IPv6 that systemd has opened")
def by_mapped_addresses(bench: Bench) -> Shown:
    place, port = bench.folder(), free_port()
    command = [*activation("-l", f"[::]:{port}"), *SERVE, "--listen-allowed-clients", "127.0.0.2"]
    with in_front([*command, "--control", str(place / "control.sock")], place, "Listening on") as program:
        assert through(bench, f"127.0.0.1:{port}", "127.0.0.2") == 200
        assert through(bench, f"127.0.0.1:{port}", "127.0.0.3") == 502
        wait_until(lambda: "127.0.0.3" in program.said and "not in listen_allowed_clients" in program.said)
    return Shown(ALLOWED, OUTCOME)
