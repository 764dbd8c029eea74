"""systemd's units as `gateway front systemd` prints them: the committed ones, and what settings make of them."""

from __future__ import annotations

import configparser
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.config import read_settings
from gateway.front.units import units
from gateway.record import replace
from gateway.settings import ConfigError, Gateway, Pool
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, ROOT, short_place
from tests.front.test_render import settings

PROGRAM = "/opt/gateway/bin/gateway"


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as place:
        yield place


def accepted(place: Path, made: dict[str, str]) -> dict[str, str]:
    """Let systemd read them, every program taken for installed."""
    for name, text in made.items():
        (place / name).write_text(text.replace(PROGRAM, "/bin/true"))
    verify = ["systemd-analyze", "verify", "--man=no", *made]
    environment = ENVIRONMENT | {"SYSTEMD_UNIT_PATH": f"{place}:"}
    done = subprocess.run(verify, cwd=place, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return made


def read(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


def test_the_committed_units_are_the_rendering(place: Path) -> None:
    file = place / "gateway.toml"
    file.write_text('[pools.main]\nlisten = "/run/gateway/gateway.sock"\n[[applications]]\nname = "x"\napp = "x:y"\n')
    made = units(read_settings(str(file), {}).settings, str(file), program=PROGRAM)
    assert sorted(made) == ["gateway.service", "gateway.socket"]
    for name, text in made.items():
        assert text.replace(str(file), "/etc/gateway/gateway.toml") == (ROOT / "docs" / "systemd" / name).read_text()


def test_a_module_is_served_where_it_was_named(place: Path) -> None:
    made = accepted(place, units(read_settings("shop:application", {}).settings, "shop:application", program=PROGRAM))
    service = read(made["gateway.service"])["Service"]
    assert service["WorkingDirectory"] == str(Path.cwd())
    assert service["ExecStart"].endswith(" shop:application")
    assert read(made["gateway.socket"])["Socket"]["ListenStream"] == "/run/gateway/gateway.sock"


def test_a_socket_has_what_the_pool_says_of_it(place: Path) -> None:
    pool = Pool(listen=("/run/shop.sock",), listen_group="nginx", listen_mode="0600", listen_backlog=64)
    made = accepted(place, units(settings(pool), "x", program=PROGRAM, user="shop"))
    expected = {
        "ListenStream": "/run/shop.sock", "FileDescriptorName": "a", "SocketUser": "shop", "SocketGroup": "nginx",
        "SocketMode": "0600", "Backlog": "64",
    }  # fmt: skip
    assert dict(read(made["gateway.socket"])["Socket"]) == expected
    tcp = accepted(place, units(settings(Pool(listen=("127.0.0.1:9000",))), "x", program=PROGRAM))
    assert list(read(tcp["gateway.socket"])["Socket"]) == ["ListenStream", "FileDescriptorName", "Backlog"]


def test_of_several_pools_those_that_say_so_get_a_socket(place: Path) -> None:
    several = settings(Pool(listen=("systemd:a",)), Pool(listen=("systemd:b",)), Pool(listen=("/run/c.sock",)))
    made = accepted(place, units(replace(several, gateway=Gateway(control="/run/c")), "x", program=PROGRAM))
    assert sorted(made) == ["gateway-a.socket", "gateway-b.socket", "gateway.service"]
    service = read(made["gateway.service"])
    assert service["Service"]["Sockets"] == "gateway-a.socket gateway-b.socket"
    assert service["Service"]["ExecReload"].endswith("reload --control /run/c")
    assert read(made["gateway-b.socket"])["Socket"]["ListenStream"] == "/run/gateway/b.sock"


def test_pools_with_users_of_their_own_need_a_master_that_is_root(place: Path) -> None:
    made = accepted(
        place, units(settings(Pool(listen=("/run/a.sock",), user="www-data")), "x", program=PROGRAM, user="shop")
    )
    service = read(made["gateway.service"])["Service"]
    assert (service["User"], "CAP_SETUID" in service["CapabilityBoundingSet"]) == ("root", True)
    assert read(made["gateway.socket"])["Socket"]["SocketUser"] == "www-data"


def test_what_systemd_would_expand_is_meant_as_it_is(place: Path) -> None:
    made = accepted(place, units(settings(Pool(listen=("/run/%n.sock",))), "x", program=PROGRAM))
    assert read(made["gateway.socket"])["Socket"]["ListenStream"] == "/run/%%n.sock"
    for path in ("/run/x\nExecStartPre=/bin/true", "/run/x\\"):
        with pytest.raises(ConfigError, match="cannot be written in a configuration of systemd"):
            units(settings(Pool(listen=(path,))), "x", program=PROGRAM)


def test_a_name_that_is_not_the_pools_is_refused() -> None:
    with pytest.raises(ConfigError, match='write "systemd:a"'):
        units(settings(Pool(listen=("systemd:web",))), "x", program=PROGRAM)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["systemd", "x:y", "--listen", ":80"], "--listen"),
        (["systemd", "x:y", "--part"], "--part"),
        (["nginx", "x:y", "--directory", "/tmp"], "--directory"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    words: list[str], option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", *words]) == 100
    assert f"{option} means nothing to {words[0]}" in capsys.readouterr().err


def test_the_command_prints_them_or_writes_them(place: Path) -> None:
    command = [*GATEWAY, "front", "systemd", "shop:application"]
    printed = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=30).stdout
    subprocess.run([*command, "--directory", place], env=ENVIRONMENT, check=True, timeout=30)
    written = {path.name: path.read_text() for path in place.iterdir()}
    assert sorted(written) == ["gateway.service", "gateway.socket"]
    assert printed == "".join(f"# /etc/systemd/system/{name}\n{written[name]}\n" for name in sorted(written))
