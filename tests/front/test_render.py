"""Configurations as text: the committed ones, and what settings make of them; nginx and lighttpd accept each."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.front import share
from gateway.front.render import bundled, render
from gateway.record import replace
from gateway.settings import Application, Binding, ConfigError, Gateway, Pool, Settings
from tests.end_to_end.certificates import issue
from tests.end_to_end.running import ENVIRONMENT, ROOT, short_place


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as place:
        yield place


def check(name: str, file: Path, cwd: Path) -> None:
    """Let the front-end itself read a configuration."""
    commands: dict[str, list[str | Path]] = {
        "nginx": ["nginx", "-p", cwd, "-c", file, "-t"],
        "lighttpd": ["lighttpd", "-tt", "-f", file],
        "haproxy": ["haproxy", "-c", "-f", file],
        "apache": ["apache2", "-t", "-f", file],
        "caddy": ["caddy", "validate", "--adapter", "caddyfile", "--config", file],
    }
    environment = ENVIRONMENT | {"XDG_DATA_HOME": str(cwd), "XDG_CONFIG_HOME": str(cwd)}
    done = subprocess.run(commands[name], cwd=cwd, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    said = done.stderr.replace('the "user" directive makes sense only', "")
    assert not re.search("warn(?!ings were found)|Caddyfile input is not formatted", said, re.IGNORECASE), said


def accepted(name: str, place: Path, text: str) -> str:
    file = place / f"{name}.conf"
    file.write_text(text)
    check(name, file, place)
    return text


@pytest.mark.parametrize("path", bundled())
def test_committed_files_are_the_rendering_and_are_accepted_where_they_stand(path: str, place: Path) -> None:
    assert (ROOT / path).read_text() == bundled()[path]
    for folder in ("nginx", "lighttpd", "static", "examples/demo"):
        shutil.copytree(ROOT / folder, place / folder)
    check(path.split("/")[0], place / path, place)


def test_client_certificates_are_asked_for_only_when_that_is_wanted(place: Path) -> None:
    issue(place, "server", "localhost", "server")
    pool = settings(Pool(listen=("/run/a.sock",)))
    (place / "server.pem").write_bytes((place / "server.pem").read_bytes() + (place / "server.key").read_bytes())
    own = str(place / "server.pem")
    for name, directive in (("nginx", "    ssl_verify_client "), ("lighttpd", "\nssl.verifyclient.activate ")):
        assert directive not in render(name, pool, certificate=own)
        asking = render(name, pool, certificate=own, client_ca=own, run_directory=str(place))
        assert directive in accepted(name, place, asking)
        with pytest.raises(ConfigError, match="--client-ca: certificates are asked for over TLS alone"):
            render(name, pool, client_ca=own)


def settings(*pools: Pool, **bindings: list[Binding]) -> Settings:
    """Pools named a, b, … and an application for each list of bindings, in the pool of its name."""
    named = dict(zip("abc", pools, strict=False))
    return Settings(
        pools=named,
        applications=tuple(Application(name=n, pool=n, app="x:y", bindings=tuple(b)) for n, b in bindings.items()),
    )


ONE = settings(Pool(listen=("/run/gateway/a.sock",)))
FRONTS = pytest.mark.parametrize("name", ["nginx", "lighttpd"])


@FRONTS
def test_ports_are_those_of_the_bindings(name: str, place: Path) -> None:
    both = [Binding(hostname="a.example", port=8443), Binding(hostname="b.example", port=8081), Binding(port=8081)]
    text = accepted(name, place, render(name, settings(*ONE.pools.values(), a=both), run_directory=str(place)))
    expected = {
        "nginx": ["listen 8081 default", "listen [::]:8081 ", "listen 8443 ", "listen [::]:8443 "],
        "lighttpd": ["server.port = 8081\n", '"[::]:8081"', '":8443"', '"[::]:8443"'],
    }
    assert [part for part in expected[name] if part not in text] == []


@FRONTS
def test_without_ports_it_is_8080_for_this_machine(name: str) -> None:
    text = render(name, ONE)
    assert ("listen 127.0.0.1:8080 default_server;" in text) or ('"127.0.0.1"\nserver.port = 8080\n' in text)


@FRONTS
@pytest.mark.parametrize(
    ("address", "nginx", "lighttpd"),
    [
        ("/run/x.sock", "server unix:/run/x.sock;", '"socket" => "/run/x.sock",'),
        ("unix:/run/x y.sock", 'server "unix:/run/x y.sock";', '"socket" => "/run/x y.sock",'),
        ("127.0.0.1:9000", "server 127.0.0.1:9000;", '"host" => "127.0.0.1",\n        "port" => 9000,'),
        ("[::1]:9000", "server [::1]:9000;", '"host" => "::1",\n        "port" => 9000,'),
    ],
)
def test_addresses_of_pools(name: str, address: str, nginx: str, lighttpd: str, place: Path) -> None:
    text = accepted(name, place, render(name, settings(Pool(listen=(address,))), run_directory=str(place)))
    assert {"nginx": nginx, "lighttpd": lighttpd}[name] in text


@FRONTS
@pytest.mark.parametrize(("size", "nginx", "lighttpd"), [(5_000, 5_000, 5), (0, 0, 0)])
def test_size_of_bodies_is_the_pools(name: str, size: int, nginx: int, lighttpd: int) -> None:
    """0 is no limit there, too."""
    expected = {"nginx": f"client_max_body_size {nginx};", "lighttpd": f"server.max-request-size = {lighttpd}\n"}
    assert expected[name] in render(name, settings(Pool(listen=("/x",), max_body=size)))


def test_nginx_for_sites_enabled_has_no_main_part(place: Path) -> None:
    part = render("nginx", ONE, complete=False)
    assert part.splitlines()[-1] == "}"
    assert "http {" not in part
    accepted("nginx", place, f"pid {place}/pid;\nevents {{ }}\nhttp {{ access_log off;\n{part}}}\n")


def test_users_are_named_only_when_told(place: Path) -> None:
    for name, lines in {
        "nginx": ["user www-data www-data;"],
        "lighttpd": ['server.username = "www-data"', 'server.groupname = "www-data"'],
    }.items():
        text = render(name, ONE, user="www-data", group="www-data", run_directory=str(place))
        assert [line for line in lines if line not in text] == []
        assert "www-data" not in render(name, ONE)
    assert 'server.groupname = "www-data"' in render("lighttpd", ONE, user="www-data")


BOUND = settings(
    Pool(listen=("/run/a.sock",), max_body=1_000),
    Pool(listen=("/run/b.sock",), max_body=9_000),
    a=[Binding(), Binding(hostname="shop.example", path="/a+b")],
    b=[Binding(hostname="*.example"), Binding(hostname="shop.example"), Binding(hostname="bücher.example", path="/x")],
)


@FRONTS
def test_pools_are_chosen_by_host_and_path(name: str, place: Path) -> None:
    text = accepted(name, place, render(name, BOUND, run_directory=str(place)))
    hosts = {
        "nginx": ["localhost", "*.example", "shop.example", "xn--bcher-kva.example"],
        "lighttpd": [r"^[^:]+\.example(", r"^shop\.example(", r"^xn\-\-bcher\-kva\.example("],
    }
    places = [text.find(host) for host in hosts[name]]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("name", ["nginx", "lighttpd", "haproxy", "apache", "caddy"])
def test_host_names_may_be_long_and_many(name: str, place: Path) -> None:
    hosts = [Binding(hostname=f"h{number}.{'a' * 60}.{'b' * 60}.{'c' * 60}.example") for number in range(600)]
    accepted(
        name, place, render(name, settings(*BOUND.pools.values(), a=[Binding()], b=hosts), run_directory=str(place))
    )


@FRONTS
@pytest.mark.parametrize("address", ["/run/status.sock", "unix:/run/a b.sock", "127.0.0.1:9001", "[::1]:9001"])
def test_the_console_has_its_places_only_where_it_is(name: str, address: str, place: Path) -> None:
    console = replace(BOUND, gateway=Gateway(status_listen=address))
    text = accepted(name, place, render(name, console, run_directory=str(place)))
    expected = {"nginx": r"location = /(status|ping|metrics) ", "lighttpd": r'"\^/\(\?:(status\|ping\|metrics)\)'}
    assert len(re.findall(expected[name], text)) == {"nginx": 3, "lighttpd": 1}[name]
    without = render(name, BOUND, run_directory=str(place))
    assert not re.search("mod_access|remoteip|/ping", without)


@FRONTS
def test_a_console_in_an_unknown_place_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.status_listen: .* systemd:status .*name a path or IP:PORT"):
        render(name, replace(ONE, gateway=Gateway(status_listen="systemd:status")))


def test_a_path_is_nothing_else_to_lighttpd(place: Path) -> None:
    bindings = [Binding(path='/" => "/b.fcgi", "('), Binding(path="/a\\b{1}")]
    text = accepted("lighttpd", place, render("lighttpd", settings(*BOUND.pools.values(), a=bindings, b=[])))
    assert '"^(?!/sta/)(/%22' in text


@pytest.mark.parametrize("other", ["shop-A", "shop_a"])
def test_names_of_pools_that_become_the_same_are_refused(other: str) -> None:
    pools = {name: Pool(listen=(f"/run/{name}",)) for name in ("shop.a", other)}
    with pytest.raises(ConfigError, match=rf"pools\.{other}: front-ends do not tell this name from 'shop\.a'"):
        render("nginx", Settings(pools=pools))


@pytest.mark.parametrize("name", ["nginx", "lighttpd", "haproxy", "apache", "caddy"])
def test_a_pool_may_be_called_console(name: str, place: Path) -> None:
    pools = {"console": Pool(listen=("/run/a",)), "main": Pool(listen=("/run/b",))}
    made = Settings(gateway=Gateway(status_listen="/run/status.sock"), pools=pools)
    accepted(name, place, render(name, made, run_directory=str(place)))


def test_lighttpd_starts_a_single_pool() -> None:
    with pytest.raises(ConfigError, match="--bin-path: lighttpd starts a single pool"):
        render("lighttpd", BOUND, bin_path="gateway serve shop.toml")


def test_two_pools_cannot_share_a_host_and_path() -> None:
    shared = settings(*BOUND.pools.values(), a=[Binding(hostname="x", port=80)], b=[Binding(hostname="x", port=81)])
    with pytest.raises(ConfigError, match="two pools cannot share both"):
        render("nginx", shared)


@pytest.mark.parametrize(
    ("name", "pool", "options", "message"),
    [
        ("hiawatha", Pool(listen=("/x",)), {}, "choose nginx, lighttpd, haproxy, apache, caddy or systemd"),
        ("apache", Pool(listen=("/x",)), {"bin_path": "gateway"}, "--bin-path means nothing to Apache: mod_fcgid"),
        ("nginx", Pool(listen=("/x",)), {"bin_path": "gateway"}, "--bin-path means nothing to nginx"),
        ("lighttpd", Pool(listen=("/x",)), {"keepalive": 4}, "--keepalive means nothing to lighttpd"),
        ("lighttpd", Pool(listen=("/x",)), {"complete": False}, "--part means nothing to lighttpd"),
        ("haproxy", Pool(listen=("/x",)), {"certificate_key": "x"}, "--certificate-key means nothing to HAProxy"),
        ("caddy", Pool(listen=("/x",)), {"keepalive": 4}, "--keepalive means nothing to Caddy"),
        ("caddy", Pool(listen=("/x",)), {"static": "/srv/{x}"}, "avoid quotes"),
        ("caddy", Pool(listen=("/x",), x_sendfile=("/srv",)), {}, r"pools\.a\.x_sendfile: Caddy sends no files"),
        ("apache", Pool(listen=("/x",), x_accel={"/srv": "/f"}), {}, r"pools\.a\.x_accel: Apache sends no files"),
        ("nginx", Pool(listen=("fd:0",)), {}, r"pools\.a\.listen: .*name a path or IP:PORT"),
        ("nginx", Pool(), {}, r"pools\.a\.listen"),
        ("nginx", Pool(listen=("/x",), protocol="scgi"), {}, "speak FastCGI"),
        ("nginx", Pool(listen=("/x",)), {"static": "/srv/$x"}, "avoid quotes"),
        ("lighttpd", Pool(listen=("/x",)), {"static": '/srv/"x'}, "avoid quotes"),
        ("nginx", Pool(listen=("/x",)), {"listen": "127.0.0.1"}, "--listen 127.0.0.1: write HOST:PORT"),
        ("nginx", Pool(listen=("/x",)), {"listen": ":65536"}, "--listen :65536: write HOST:PORT"),
        ("apache", Pool(listen=("/x",)), {"listen": "a> :80"}, "--listen a> :80: write HOST:PORT"),
    ],
)
def test_what_cannot_be_said_is_refused(name: str, pool: Pool, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render(name, settings(pool), **options)


PORTS = settings(
    Pool(listen=("127.0.0.1:9000",)),
    a=[Binding(hostname="a.example", port=8443), Binding(hostname="b.example", port=81)],
)
KINDS = {
    "one": ONE,
    "ports": PORTS,
    "IPv6": settings(Pool(listen=("[::1]:9000",))),
    "space": settings(Pool(listen=("/run/x y.sock",))),
    "several": BOUND,
    "console": replace(BOUND, gateway=Gateway(status_listen="/run/status.sock")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["haproxy", "apache", "caddy"])
def test_others_accept_what_is_rendered(name: str, kind: str, place: Path) -> None:
    accepted(name, place, render(name, KINDS[kind], run_directory=str(place)))


@pytest.mark.parametrize("name", ["haproxy", "apache"])
def test_users_are_named_to_others(name: str, place: Path) -> None:
    text = accepted(name, place, render(name, ONE, user="www-data", keepalive=4, run_directory=str(place)))
    assert len(re.findall(r"(?i)^ *(?:user|group) \"?www-data", text, re.MULTILINE)) == 2


@pytest.mark.parametrize("name", ["haproxy", "apache", "caddy"])
def test_parts_for_configurations_that_there_are(name: str, place: Path) -> None:
    """What stands around them is there already."""
    whole, part = (render(name, ONE, run_directory=str(place), complete=complete) for complete in (True, False))
    first, rest = part.split("\n", 1)
    assert whole.startswith(first)
    assert not re.search("^(global|defaults|LoadModule|Listen|{)", rest, re.MULTILINE)
    missing = [line for line in rest.splitlines() if line not in whole and not line.startswith("#")]
    assert missing == []


def test_bundled_files_are_found() -> None:
    assert (share.folder("nginx") / "gateway.conf.j2").is_file()
    assert (share.folder("lighttpd") / "gateway.conf.j2").is_file()
    assert (share.folder("static") / "style.css").is_file()
    assert (share.folder("demo") / "demo.py").is_file()
