"""Programs that a test runs for real: any command, `gateway serve`, nginx, lighttpd; each ends with its test."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from gateway.config import read_settings
from gateway.front.render import render
from gateway.net import control
from tests.waiting import free_port, wait_until

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GATEWAY = [sys.executable, "-m", "gateway"]
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
ENVIRONMENT |= {"PYTHONPATH": str(ROOT), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "SECRET": "of the master"}
# Apache refuses to run anything as root, and whoever it would become may not read root's own interpreter.
AS_SOMEBODY = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
USER = "" if os.geteuid() else "root"  # a master that is root has to be told whose workers it starts


@contextlib.contextmanager
def short_place() -> Iterator[Path]:
    """A new folder with a path short enough for Unix sockets, which everybody may enter."""
    place = Path(tempfile.mkdtemp(prefix="gw"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


class Program:
    """A command in a session of its own, with its output in a file."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] = ENVIRONMENT,
        stdin: Any = subprocess.DEVNULL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.log = log
        self.command = [str(word) for word in command]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=stdin,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=env,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        """Everything it has written so far."""
        return self.log.read_text(errors="backslashreplace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 15.0) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(seconds)

    def wait_for(self, ready: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Wait for a condition that this program brings about; its early end is the failure."""
        try:
            value = wait_until(lambda: ready() or self.process.poll() is not None, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.command} said {self.said}") from None
        assert self.process.poll() is None, f"{self.command} ended with {self.process.returncode}: {self.said}"
        return value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it, and everything of its session that is still there."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        for pid in session(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


def stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (proc(5)), or None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def processes() -> Iterator[tuple[int, list[str]]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            yield int(entry), fields


def alive(pid: int) -> bool:
    """Whether it runs: a zombie does not."""
    fields = stat(pid)
    return fields is not None and fields[0] not in "ZX"


def children(pid: int) -> list[int]:
    return [child for child, fields in processes() if int(fields[1]) == pid]


def session(leader: int) -> list[int]:
    return [pid for pid, fields in processes() if int(fields[3]) == leader]


def descendants(pid: int) -> list[int]:
    return [below for child in children(pid) for below in (child, *descendants(child))]


def proportional_size(pid: int) -> int:
    """PSS in KiB: private memory, and each shared page divided by the number of its sharers (proc(5))."""
    return _memory(pid, "Pss")


def private_size(pid: int) -> int:
    """What a process has written, or has had since its fork, in KiB: that nobody shares."""
    return _memory(pid, "Private_Dirty")


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(f"no {name} of {pid}")


@dataclass
class Settings:
    """A settings file of one pool, and the places that it names."""

    place: Path
    pool: dict[str, Any] = field(default_factory=dict)
    applications: list[dict[str, Any]] = field(
        default_factory=lambda: [{"name": "everything", "app": "everything:application"}]
    )

    more: dict[str, dict[str, Any]] = field(default_factory=dict)  # further values of any table

    def __post_init__(self) -> None:
        (self.place / "gates").mkdir(exist_ok=True)
        self.write()

    @property
    def file(self) -> Path:
        return self.place / "settings.json"

    @property
    def socket(self) -> Path:
        return self.place / "pool.sock"

    @property
    def control(self) -> Path:
        return self.place / "control.sock"

    @property
    def pid_file(self) -> Path:
        return self.place / "gateway.pid"

    def write(self) -> None:
        """Write the file; an application without bindings is given everything."""
        pool = {
            "listen": str(self.socket), "app_dir": str(HERE), "max_children": 4, "user": USER,
            "env": {"JOURNAL": str(self.place / "journal"), "GATES": str(self.place / "gates")},
        } | self.pool  # fmt: skip
        everywhere = {"bindings": [{"hostname": "*", "port": "*"}]}
        text = {
            "gateway": {"control": str(self.control), "pid_file": str(self.pid_file)} | self.more.get("gateway", {}),
            "pools": {"main": pool} | self.more.get("pools", {}),
            "applications": [everywhere | application for application in self.applications],
        }
        self.file.write_text(json.dumps(text, indent=1))

    def journal(self) -> list[str]:
        """The lines that the application has written."""
        path = self.place / "journal"
        return path.read_text().splitlines() if path.exists() else []

    def open_gate(self, name: str) -> None:
        (self.place / "gates" / name).touch()


def is_whole(pool: dict[str, Any]) -> bool:
    """Whether a pool that `gateway status` shows has just the workers that it wants, all of them ready."""
    pids = {worker["pid"] for worker in pool["workers"]}  # with several threads each has several rows
    wanted: int = pool["wanted"]
    serving = all(worker["state"] in ("idle", "busy") for worker in pool["workers"])
    return pool["generation"] > 0 and len(pids) == wanted and serving


class Master(Program):
    """`gateway serve` with a settings file."""

    def __init__(self, settings: Settings, *, source: Path = ROOT, wrapper: Sequence[str] = ()) -> None:
        """Its code comes from `source`; the command `wrapper` executes what is put behind it."""
        self.settings = settings
        environment = ENVIRONMENT | {"PYTHONPATH": str(source)}
        log = settings.place / "gateway.log"
        super().__init__([*wrapper, *GATEWAY, "serve", settings.file], log, cwd=settings.place, env=environment)

    def status(self) -> dict[str, Any]:
        return control.call(str(self.settings.control), {"command": "status"}, 5)

    def workers(self, *states: str) -> list[dict[str, Any]]:
        """The workers in one of the states; all when none is named; none when the master does not answer."""
        try:
            (pool,) = self.status()["pools"]
        except control.ControlError:
            return []
        return [worker for worker in pool["workers"] if not states or worker["state"] in states]

    def ready(self) -> bool:
        """Whether every worker there should be is one that takes requests."""
        try:
            pools = self.status()["pools"]
        except control.ControlError:
            return False
        return all(map(is_whole, pools))

    def wait_ready(self, seconds: float = 20.0) -> Master:
        self.wait_for(self.ready, seconds)
        return self


def interpreter_for(user: str) -> str:
    """An interpreter that `user` may run; the one of the tests may be in somebody's home."""
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):
            subprocess.run([sys.executable, "-c", ""], user=user, check=True, timeout=30)
            return sys.executable
    return "/usr/bin/python3"


def everybodys_copy(place: Path, *names: str) -> tuple[str, Path]:
    """An interpreter, gateway and packages that any user may read: those of the tests may be in a private folder."""
    packages = place / "packages"
    shutil.copytree(ROOT / "gateway", packages / "gateway")
    for name in names:
        sources = [path for entry in sys.path for path in Path(entry or ".").glob(f"{name}*") if path.stem == name]
        assert sources, name
        for source in sources:  # two of `multipart`: python-multipart has a folder of the name of the other's module
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, packages / source.name)
            for metadata in source.parent.glob(f"{name}-*.dist-info"):
                shutil.copytree(metadata, packages / metadata.name, dirs_exist_ok=True)
    python = os.path.realpath(sys.executable)
    readable = all(os.stat(folder).st_mode & 0o005 == 0o005 for folder in [python, *map(str, Path(python).parents)])
    return sys.executable if readable else "/usr/bin/python3", packages


@contextlib.contextmanager
def serving(settings: Settings, **options: Any) -> Iterator[Master]:
    """A master whose workers are all ready, with the options of `Master`."""
    master = Master(settings, **options)
    try:
        yield master.wait_ready()
    finally:
        master.stop()


@dataclass
class Site:
    """A pool behind a front-end: what the tests of requests talk to."""

    front: str
    port: int
    settings: Settings
    master: Master
    program: Program


def front_configuration(name: str, settings: Settings, port: int, **options: Any) -> str:
    """The bundled configuration of a front-end for a settings file; it may stay root where the tests are."""
    options = {"user": USER if name == "nginx" else "", "run_directory": str(settings.place)} | options
    return render(name, read_settings(str(settings.file), {}).settings, listen=f"127.0.0.1:{port}", **options)


def by_scgi(configuration: str) -> str:
    """A bundled configuration, speaking the other protocol."""
    for fastcgi, scgi in [
        ("fastcgi_param ", "scgi_param "), ("fastcgi_pass", "scgi_pass"), ("$fastcgi_script_name", "$uri"),
        ("fastcgi.server", "scgi.server"), ("mod_fastcgi", "mod_scgi"),
    ]:  # fmt: skip
        configuration = configuration.replace(fastcgi, scgi)
    return configuration.replace("scgi_param GATEWAY_INTERFACE", "scgi_param SCGI 1;\n    scgi_param GATEWAY_INTERFACE")


def front_command(name: str, place: Path, configuration: Path) -> list[str]:
    file = str(configuration)
    commands = {
        "nginx": ["nginx", "-e", "stderr", "-p", str(place), "-c", file],
        "lighttpd": ["lighttpd", "-D", "-f", file],
        "haproxy": ["haproxy", "-db", "-f", file],
        "apache": [*AS_SOMEBODY, "apache2", "-D", "FOREGROUND", "-f", file],
        "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config", file],
    }
    return commands[name]


@contextlib.contextmanager
def front(name: str, place: Path, configuration: str, port: int) -> Iterator[Program]:
    """A front-end that takes connections on `port`."""
    path = place / f"{name}.conf"
    path.write_text(configuration)
    environment = ENVIRONMENT | {
        "HOME": str(place),
        "XDG_DATA_HOME": str(place),
        "XDG_CONFIG_HOME": str(place),
    }  # Caddy
    program = Program(front_command(name, place, path), place / f"{name}.log", cwd=place, env=environment)
    try:
        program.wait_for(lambda: listens(port))
        yield program
    finally:
        program.stop()


def listens(port: int) -> bool:
    """Whether 127.0.0.1 takes connections on `port`, read from the kernel's table so that no connection is made."""
    wanted = f"0100007F:{port:04X}"
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1] == wanted and row.split()[3] == "0A" for row in rows)


def listens_at(path: Path) -> bool:
    """Whether a Unix socket is at `path` that takes connections: bind(2) makes its file, listen(2) comes later."""
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    takes = {row[7]: bool(int(row[3], 16) & 0x10000) for row in rows if len(row) > 7}  # __SO_ACCEPTCON, <linux/net.h>
    return path.exists() and takes.get(str(path), True)  # gateway's own listened before they were moved there


@contextlib.contextmanager
def site(name: str, settings: Settings, *, source: Path = ROOT, **options: Any) -> Iterator[Site]:
    """A pool with `settings` behind the front-end `name`; `options` go to its bundled configuration."""
    port = free_port()
    configuration = front_configuration(name, settings, port, **options)
    with serving(settings, source=source) as master, front(name, settings.place, configuration, port) as program:
        yield Site(name, port, settings, master, program)
