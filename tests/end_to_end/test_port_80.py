"""docs/howto/port-80.md: each way there, in a network namespace of its own, where port 80 is free and is root's."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    ROOT,
    Program,
    Settings,
    children,
    everybodys_copy,
    front_command,
    serving,
    short_place,
)  # fmt: skip

GUIDE = (ROOT / "docs" / "howto" / "port-80.md").read_text()
NOBODY = pwd.getpwnam("nobody").pw_uid
AS_NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
APPLICATION = """
import os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SERVER_PORT']} {os.getuid()}".encode()]
"""
ASK = """
import http.client, json, sys
connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=15)
connection.request("GET", "/x", headers={"Host": sys.argv[1]})
answer = connection.getresponse()
print(json.dumps([answer.status, answer.read().decode()]))
"""
# What systemd does: open the port, become the user, hand the socket over as descriptor 3.
BY_SYSTEMD = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 80))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Network:
    """A network namespace with nothing but a loopback interface, and commands that run in it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        python, self.packages = everybodys_copy(place, "click", "jinja2", "markupsafe", "msgspec", "werkzeug")
        self.gateway = [python, "-m", "gateway"]
        self.environment = ENVIRONMENT | {"PYTHONPATH": str(self.packages)}
        holder = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"]
        self.holder = Program(holder, place / "network.log")
        self.holder.wait_for(lambda: self.holder.said == "up\n")

    def inside(self, command: Sequence[str | Path]) -> list[str]:
        return ["nsenter", f"--target={self.holder.pid}", "--net", *map(str, command)]

    def run(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.inside(command), capture_output=True, text=True, timeout=30, cwd=self.place, env=self.environment
        )

    def start(self, command: Sequence[str | Path]) -> Program:
        log = self.place / f"{len(list(self.place.iterdir()))}.log"
        return Program(self.inside(command), log, cwd=self.place, env=self.environment)

    def listens(self, port: int = 80) -> bool:
        rows = self.run(["cat", "/proc/net/tcp"]).stdout.splitlines()[1:]
        return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows)

    def ask(self, host: str = "shop.example") -> tuple[int, str]:
        done = self.run([sys.executable, "-c", ASK, host])
        assert done.returncode == 0, done.stderr
        status, text = json.loads(done.stdout)
        return status, text

    def served(self, command: Sequence[str | Path]) -> str:
        """What the application answers at port 80 while a command runs."""
        with self.start(command) as program:
            program.wait_for(self.listens)
            status, text = self.ask()
            assert status == 200, (text, program.said)
            program.signal(signal.SIGINT)
            program.wait()
        return text


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with short_place() as place:
        (place / "shop.py").write_text(APPLICATION)
        network = Network(place)
        with network.holder:
            yield network


@pytest.fixture(scope="module")
def pool(network: Network) -> Iterator[Settings]:
    """A pool that is bound to port 80; its socket is a file, which is the same in every network."""
    bound = {"name": "shop", "app": "shop:application", "bindings": [{"hostname": "shop.example", "port": 80}]}
    user = {"user": "nobody", "app_dir": str(network.place), "python": network.gateway[0], "port_from": "host"}
    settings = Settings(network.place, user | {"max_children": 1, "listen_mode": "0666"}, [bound])
    with serving(settings, source=network.packages):  # which the user may read, wherever the checkout lies
        yield settings


def of_guide(start: str) -> list[str]:
    """A command of the guide, from its `start` to its end."""
    found = re.search(rf"^{re.escape(start)}(?:.*\\\n)*.*", GUIDE, re.MULTILINE)
    assert found
    return shlex.split(found[0].replace("\\\n", ""))


def user_of(pid: int) -> int:
    found = re.search(r"^Uid:\t(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def development(network: Network, start: str) -> list[str]:
    """The guide's command to start a development server, for the user nobody."""
    here = {"alice": "nobody", "shop.web:application": "shop:application"}
    words = [here.get(word, word) for word in of_guide(start)[1:]]  # without sudo
    at = words.index("gateway")
    return [*words[:at], *network.gateway, *words[at + 1 :]]


def test_port_80_is_not_everybodys(network: Network) -> None:
    done = network.run([*AS_NOBODY, *network.gateway, "dev", "--port", "80", "shop:application"])
    assert (done.returncode, done.stderr) == (
        111,
        "gateway: cannot listen on 127.0.0.1:80: Permission denied; --port 8080 serves the same there; "
        "docs/howto/port-80.md has the ways to a port below 1024\n",
    )


def test_only_root_becomes_another(network: Network) -> None:
    done = network.run([*AS_NOBODY, *network.gateway, "dev", "--user", "root", "shop:application"])
    assert (done.returncode, done.stderr) == (
        100, "gateway: --user root: only root can become another user; start this as root or leave it out\n"
    )  # fmt: skip


def test_what_the_other_user_may_not_read(network: Network) -> None:
    closed = network.place / "closed"
    closed.mkdir(mode=0o700)
    done = network.run([*network.gateway, "dev", "--user", "nobody", "--app-dir", "closed", "shop:application"])
    assert (done.returncode, done.stderr) == (
        100,
        f"gateway: --user nobody: nobody may not enter or read {closed}, where {closed} is; "
        "open it to that user, move it, or name another\n",
    )


def test_a_capability(network: Network) -> None:
    command = development(network, "sudo setpriv")
    group = command.index("--regid") + 1
    command[group] = "nogroup"
    assert network.served(command) == f"80 {NOBODY}"


def test_open_then_drop(network: Network) -> None:
    assert network.served(development(network, "sudo gateway dev")) == f"80 {NOBODY}"


def test_a_socket_from_systemd_for_the_development_server(network: Network) -> None:
    command = [*AS_NOBODY, *network.gateway, "dev", "shop:application", "--no-reloader"]
    assert network.served([sys.executable, "-c", BY_SYSTEMD, *command]) == f"80 {NOBODY}"


def test_a_socket_from_systemd_for_lighttpd(network: Network, pool: Settings) -> None:
    done = subprocess.run([*GATEWAY, "front", "lighttpd", pool.file, "--listen", "127.0.0.1:80"], env=ENVIRONMENT,
                          capture_output=True, text=True, check=True, timeout=30)  # fmt: skip
    (line,) = re.findall(r"```lighttpd\n(.*?)```", GUIDE, re.DOTALL)
    configuration = network.place / "lighttpd.conf"
    configuration.write_text(done.stdout + line)
    command = [*AS_NOBODY, *front_command("lighttpd", network.place, configuration)]
    assert network.served([sys.executable, "-c", BY_SYSTEMD, *command]) == f"80 {NOBODY}"


@pytest.mark.parametrize("name", ["nginx", "lighttpd"])
def test_a_front_end(network: Network, pool: Settings, name: str) -> None:
    words = of_guide(f"gateway front {name}")
    words = [{"www-data": "nobody", "/etc/gateway/sites.toml": str(pool.file)}.get(word, word) for word in words[1:-1]]
    words += ["--group", "nogroup", *(["--run-directory", str(network.place)] if name == "nginx" else [])]
    done = subprocess.run([*GATEWAY, *words], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=30)
    configuration = network.place / f"{name}.conf"
    configuration.write_text(done.stdout)
    with network.start(front_command(name, network.place, configuration)) as program:
        program.wait_for(network.listens)
        assert network.ask() == (200, f"80 {NOBODY}")
        assert network.ask("else.example")[0] == 503
        assert {user_of(pid) for pid in children(program.pid) or [program.pid]} == {NOBODY}


def test_a_redirect(network: Network, pool: Settings) -> None:
    """What listens on 8080 says so, and the binding is found by what the client has asked for."""
    own = network.place / "nginx"
    own.mkdir()
    os.chown(own, NOBODY, -1)
    words = ["front", "nginx", pool.file, "--listen", "127.0.0.1:8080", "--run-directory", own]
    done = subprocess.run([*GATEWAY, *map(str, words)], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    configuration = network.place / "redirected.conf"
    configuration.write_text(done.stdout)
    rules = [of_guide("iptables -t nat -A PREROUTING"), of_guide("iptables -t nat -A OUTPUT")]
    with network.start([*AS_NOBODY, *front_command("nginx", own, configuration)]) as program:
        program.wait_for(lambda: network.listens(8080))
        try:
            for rule in rules:
                added = network.run(rule)
                assert added.returncode == 0, added.stderr
            assert network.ask() == (200, f"8080 {NOBODY}")
            assert network.ask("shop.example:8080")[0] == 503
        finally:
            network.run(["iptables", "-t", "nat", "-F"])


def test_a_machine_on_which_port_80_is_everybodys(network: Network) -> None:
    (setting,) = [word for word in of_guide("sysctl net") if "=" in word]
    name, _, value = setting.partition("=")
    there = f"/proc/sys/{name.replace('.', '/')}"
    assert network.run(["sh", "-c", f"echo {value} >{there}"]).returncode == 0
    try:
        command = [*AS_NOBODY, *network.gateway, "dev", "shop:application", "--port", "80", "--no-reloader"]
        assert network.served(command) == f"80 {NOBODY}"
    finally:
        network.run(["sh", "-c", f"echo 1024 >{there}"])
