"""`gateway-spawn` as a command: what it starts, on which socket, and the line that each mistake gets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import ROOT, alive
from tests.waiting import wait_until

# A program as FastCGI 1.0 §2.2 describes it: its socket is file descriptor 0. It says what it is to each that connects.
PROGRAM = """
import json, os, socket
listener = socket.socket(fileno=0)
while True:
    peer, _ = listener.accept()
    facts = {"pid": os.getpid(), "cwd": os.getcwd(), "uid": os.getresuid(), "gid": os.getresgid(),
             "groups": os.getgroups(), "children": os.environ.get("PHP_FCGI_CHILDREN")}
    try:
        peer.sendall(json.dumps(facts).encode())
    except OSError:
        pass
    peer.close()
"""

HOWTO = ROOT / "docs" / "howto" / "spawn.md"


class Spawner:
    """Runs the command, and ends what it has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = str(folder / "s")
        self.program = folder / "program.py"
        self.program.write_text(PROGRAM)
        self.pids: list[int] = []

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.spawn", *arguments], capture_output=True, text=True, timeout=30
        )
        self.pids += [int(pid) for pid in re.findall(r"PID: (\d+)", done.stdout)]
        return done

    def start(self, *flags: str) -> subprocess.CompletedProcess[str]:
        done = self(*flags, "--", sys.executable, str(self.program))
        assert (done.returncode, done.stderr) == (0, "")
        return done


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawner]:
    spawner = Spawner(tmp_path)
    tmp_path.chmod(0o755)
    yield spawner
    for pid in spawner.pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in spawner.pids))


def ask(address: str | tuple[str, int]) -> dict[str, object]:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(10)
        sock.connect(address)
        facts: dict[str, object] = json.loads(sock.makefile("rb").read())
        return facts


def free_port(ip: str) -> int:
    with socket.create_server((ip, 0), family=socket.AF_INET6 if ":" in ip else socket.AF_INET) as server:
        port: int = server.getsockname()[1]
        return port


def test_a_unix_socket_on_file_descriptor_0(spawn: Spawner) -> None:
    spawn.start("-s", spawn.socket, "-d", str(spawn.folder), "-C", "3")
    facts = ask(spawn.socket)
    assert facts["pid"] == spawn.pids[0]
    assert facts["cwd"] == str(spawn.folder)
    assert facts["children"] == "3"
    assert stat.S_IMODE(os.stat(spawn.socket).st_mode) == 0o660


def test_the_mode_of_the_socket(spawn: Spawner) -> None:
    spawn.start("-s", spawn.socket, "-M", "0606")
    assert stat.S_IMODE(os.stat(spawn.socket).st_mode) == 0o606


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_tcp(spawn: Spawner, ip: str) -> None:
    port = free_port(ip)
    spawn.start("-a", ip, "-p", str(port))
    assert ask((ip, port))["pid"] == spawn.pids[0]


def test_tcp_is_loopback_unless_told_otherwise(spawn: Spawner) -> None:
    port = free_port("127.0.0.1")
    spawn.start("-p", str(port))
    assert ask(("127.0.0.1", port))["pid"] == spawn.pids[0]
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()]
    assert f"0100007F:{port:04X}" in listening
    assert f"00000000:{port:04X}" not in listening


def test_several_on_one_socket_and_the_pid_file(spawn: Spawner) -> None:
    pid_file = spawn.folder / "pids"
    spawn.start("-s", spawn.socket, "-F", "3", "-P", str(pid_file))
    assert len(set(spawn.pids)) == 3
    assert [int(line) for line in pid_file.read_text().splitlines()] == spawn.pids
    for left in (2, 1):
        gone = spawn.pids.pop()
        os.kill(gone, signal.SIGKILL)
        wait_until(lambda gone=gone: not alive(gone))
        assert ask(spawn.socket)["pid"] in spawn.pids[:left]


def test_a_command_line_for_the_shell(spawn: Spawner) -> None:
    done = spawn("-s", spawn.socket, "-f", f"{sys.executable} '{spawn.program}'")
    assert done.returncode == 0
    assert ask(spawn.socket)["pid"] == spawn.pids[0]


def test_becoming_the_program(spawn: Spawner) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.spawn", "-n", "-s", spawn.socket, "--", sys.executable, str(spawn.program)]
    ) as process:
        wait_until(lambda: os.path.exists(spawn.socket))
        assert ask(spawn.socket)["pid"] == process.pid
        process.kill()


def test_another_user(spawn: Spawner) -> None:
    if os.geteuid() != 0:
        assert spawn("-s", spawn.socket, "-u", "nobody", "--", "true").returncode == 100
        return
    spawn.folder.chmod(0o777 | stat.S_ISVTX)
    spawn("-s", spawn.socket, "-u", "www-data", "-f", "/usr/bin/sleep 60")
    (pid,) = spawn.pids
    status = Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^Uid:\s+33\s+33\s+33\s+33$", status, re.MULTILINE)
    assert re.search(r"^Gid:\s+33\s+33\s+33\s+33$", status, re.MULTILINE)
    assert re.search(r"^Groups:\s+33\s*$", status, re.MULTILINE)
    assert (os.stat(spawn.socket).st_uid, os.stat(spawn.socket).st_gid) == (33, 33)


def test_the_owner_of_the_socket(spawn: Spawner) -> None:
    done = spawn("-s", spawn.socket, "-U", "www-data", "-G", "daemon", "-f", "/usr/bin/sleep 60")
    if os.geteuid() != 0:
        assert done.returncode == 100
        return
    assert (os.stat(spawn.socket).st_uid, os.stat(spawn.socket).st_gid) == (33, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-s", "{socket}"], 100, "name the program to start, as in: gateway-spawn -s /run/shop.sock -- /srv/shop/"),
        (["--", "true"], 100, "name one socket: -s PATH for a Unix socket, or -p PORT for a TCP port"),
        (["-s", "{socket}", "-p", "9000", "true"], 100, "name one socket: "),
        (["-p", "99999", "true"], 100, "-a and -p: '127.0.0.1:99999' is no address"),
        (["-a", "front", "-p", "9000", "true"], 100, "-a and -p: 'front:9000': the host is an IP address"),
        (["-s", "{socket}", "-M", "rw", "true"], 100, "-M rw: write three octal digits, as in -M 0660"),
        (["-s", "{socket}", "-F", "none", "true"], 100, "Invalid value for '-F'"),
        (["-s", "{socket}", "-F", "0", "true"], 100, "Invalid value for '-F'"),
        (["-c", "/srv", "-s", "{socket}", "true"], 100, "No such option"),
        (["-s", "{socket}", "--", "/no/such/program"], 111, "/no/such/program: No such file or directory"),
        (["-s", "{socket}", "-d", "/no/such/folder", "--", "true"], 111, "/no/such/folder: No such file or directory"),
        (["-s", "{socket}", "-P", "/no/such/pids", "--", "true"], 111, "/no/such/pids: No such file or directory"),
        (["-s", "{socket}", "--", "false"], 111, "false ended at once with exit code 1; start it by hand to see why"),
        (["-s", "{socket}", "-n", "--", "/no/such/program"], 111, "/no/such/program: No such file or directory"),
        (["-s", "/no/such/folder/s", "--", "true"], 111, "cannot listen in /no/such/folder: "),
        (["-s", "{socket}", "-n", "--supervise", "true"], 100, "-n and --supervise exclude each other: "),
        (["-s", "{socket}", "--control", "/c", "true"], 100, "--control needs --supervise: "),
        (["-s", "{socket}", "--kill-signal", "TERM", "true"], 100, "--kill-signal needs --supervise: "),
        (["-s", "{socket}", "--process-control-timeout", "9", "true"], 100, "--process-control-timeout needs --superv"),
        (["-s", "{socket}", "--first-look", "9", "true"], 100, "--first-look needs --supervise: "),
        (["-s", "{socket}", "--supervise", "--kill-signal", "TREM", "true"], 100, "--kill-signal: 'TREM' is no signal"),
        (["-s", "{socket}", "--supervise", "-F", "10000", "true"], 100, "max_children: a pool has at most"),
    ],
)  # fmt: skip
def test_mistakes(spawn: Spawner, arguments: list[str], code: int, message: str) -> None:
    done = spawn(*(argument.replace("{socket}", spawn.socket) for argument in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"gateway-spawn: {message}")
    assert done.stderr.count("\n") == 1
    assert not os.path.exists(spawn.socket)


def test_a_socket_that_somebody_serves_is_left_alone(spawn: Spawner) -> None:
    spawn.start("-s", spawn.socket)
    first = os.stat(spawn.socket).st_ino
    done = spawn("-s", spawn.socket, "--", "true")
    assert done.returncode == 75
    assert done.stderr.startswith(f"gateway-spawn: cannot listen on {spawn.socket}: ")
    assert os.stat(spawn.socket).st_ino == first
    assert ask(spawn.socket)["pid"] == spawn.pids[0]


@pytest.mark.parametrize("flag", ["-h", "-?", "--help"])
def test_help(spawn: Spawner, flag: str) -> None:
    done = spawn(flag)
    assert done.returncode == 0
    assert all(f"  -{letter}" in done.stdout for letter in "sapbMUGugFCPdnfvh")


def test_the_howto_names_flags_that_exist(spawn: Spawner) -> None:
    supervised = HOWTO.read_text().partition("## From spawn-fcgi")[0]
    flags = set(re.findall(r"`(--?[A-Za-z-]+)[` ]", supervised))
    assert {"--first-look", "--kill-signal", "-F"} <= flags
    shown = spawn("-h").stdout
    assert [flag for flag in flags if f"  {flag} " not in shown] == []


def test_version(spawn: Spawner) -> None:
    assert re.fullmatch(r"gateway-spawn \d+\.\d+\.\d+\n", spawn("-v").stdout)
