"""The servers that `benchmarks.reload` compares: how each is started, told to load new code, and who its workers are.

All have the same number of workers, the same listen queue and an application that does the same; what is not named here
is at its default. One nginx stands before them, with a port for each.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import first_line
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, USER, Master, Program, Settings, children, front
from tests.waiting import free_port

HERE = Path(__file__).parent
WORKERS = 16
BACKLOG = min(2048, int(Path("/proc/sys/net/core/somaxconn").read_text()))


def find(*patterns: str) -> str:
    """The first program of the benchmark's own environment, then of PATH, with such a name; "" when there is none."""
    folders = [HERE / ".venv/bin", *map(Path, ENVIRONMENT["PATH"].split(":"))]
    found = (path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern)))
    return next((str(path) for path in found if os.access(path, os.X_OK)), "")


class Peer:
    """A server with a folder and a port of its own: takes FastCGI, and loads new code on a signal to its master."""

    name = ""
    wanted = ""  # what is missing when `program` is ""
    program = ""
    reload_signal = signal.SIGHUP
    code = "application.py"

    def __init__(self, place: Path, number: int) -> None:
        self.folder = place / str(number)
        self.folder.mkdir()
        self.socket = self.folder / "pool.sock"
        self.port = free_port()

    def version(self) -> str:
        """What runs."""
        return first_line(self.program, "--version")

    def command(self) -> Sequence[str]:
        """How its master is started, with the folder as working directory."""
        raise NotImplementedError  # where `start` does without a command, as the gateway's does

    def start(self) -> Program:
        """Start it with the first version of the application and an empty journal."""
        self.socket.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)
        self.deploy(1)
        return self.run()

    def run(self) -> Program:
        """Start its master."""
        environment = ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"}
        return Program(self.command(), self.folder / "server.log", cwd=self.folder, env=environment)

    @property
    def journal(self) -> Path:
        """Where the application notes what it runs."""
        return self.folder / "journal"

    def deploy(self, version: int, *, broken: bool = False) -> None:
        """Put a version of the application in place, at once; a broken one is a syntax error."""
        text = (HERE / self.code).read_text().replace("VERSION = 1", f"VERSION = {version}")
        new = self.folder / "new"
        new.write_text(text.replace("VERSION =", "VERSION = = ", 1) if broken else text)
        new.rename(self.folder / self.code)

    async def reload(self, master: Program) -> None:
        """Tell it to load new code."""
        if master.process.poll() is None:
            master.signal(self.reload_signal)

    def workers(self, master: Program) -> list[int]:
        """The processes that run requests."""
        return children(master.pid)

    def location(self) -> str:
        """nginx's line that passes a request on."""
        return f"fastcgi_pass unix:{self.socket};"


class PhpFpm(Peer):
    """PHP-FPM as its package has it: a reload does not wait for running requests."""

    name = "PHP-FPM"
    wanted = "the package php-fpm"
    program = find("php-fpm", "php-fpm[0-9]*")
    reload_signal = signal.SIGUSR2
    code = "application.php"
    control_timeout = "0"

    def command(self) -> Sequence[str]:
        """Its settings are a file."""
        configuration = self.folder / "php-fpm.conf"
        configuration.write_text(
            f"[global]\nerror_log = {self.folder}/server.log\nprocess_control_timeout = {self.control_timeout}\n"
            f"[benchmark]\n{f'user = {USER}' if USER else ''}\nlisten = {self.socket}\nlisten.backlog = {BACKLOG}\n"
            f"pm = static\npm.max_children = {WORKERS}\n"
        )
        return [self.program, "-F", *(["-R"] if USER else []), "-y", str(configuration)]


class WaitingPhpFpm(PhpFpm):
    """PHP-FPM as its documentation has it for reloads that lose nothing."""

    name = "PHP-FPM, process_control_timeout = 10s"
    control_timeout = "10s"


class Uwsgi(Peer):
    """uWSGI, with FastCGI."""

    name = "uWSGI"
    wanted = "pip install uwsgi into benchmarks/.venv"
    program = find("uwsgi")

    def command(self) -> Sequence[str]:
        """Without `die-on-term` the end of the benchmark would be one more reload."""
        return [
            self.program, "--master", "--die-on-term", "--processes", str(WORKERS), "--listen", str(BACKLOG),
            "--fastcgi-socket", str(self.socket), "--wsgi-file", self.code,
            "--disable-logging", "--virtualenv", str(HERE / ".venv"),
        ]  # fmt: skip


class Gunicorn(Peer):
    """gunicorn, with its default workers."""

    name = "gunicorn"
    wanted = "pip install gunicorn into benchmarks/.venv"
    program = find("gunicorn")

    def command(self) -> Sequence[str]:
        """It takes HTTP."""
        return [
            self.program, "--workers", str(WORKERS), "--backlog", str(BACKLOG), "--bind", f"unix:{self.socket}",
            "--no-control-socket", "application:application",
        ]  # fmt: skip

    def location(self) -> str:
        """It takes HTTP."""
        return f"proxy_pass http://unix:{self.socket}:;"


class Gateway(Peer):
    """This gateway, told to reload by its command, as its users tell it."""

    name = "gateway"
    program = sys.executable

    def version(self) -> str:
        """What runs."""
        return first_line(*GATEWAY, "--version")

    def run(self) -> Program:
        """Start its master."""
        pool = {"app_dir": str(self.folder), "max_children": WORKERS, "listen_backlog": BACKLOG}
        application = {"name": "application", "app": "application:application"}
        self.settings = Settings(self.folder, pool, [application])
        return Master(self.settings)

    async def reload(self, master: Program) -> None:
        """`gateway reload` returns when the new code serves or has been refused."""
        command = [*GATEWAY, "reload", str(self.settings.file)]
        with (self.folder / "reload.log").open("ab") as said:
            process = await asyncio.create_subprocess_exec(*command, stdout=said, stderr=said, env=ENVIRONMENT)
        await process.wait()

    def workers(self, master: Program) -> list[int]:
        """One child of the master is not a worker but the zygote."""
        assert isinstance(master, Master)
        return [worker["pid"] for worker in master.workers("idle", "busy")]


PEERS: list[type[Peer]] = [PhpFpm, WaitingPhpFpm, Uwsgi, Gunicorn, Gateway]

_PARAMETERS = """
    fastcgi_param REQUEST_METHOD $request_method; fastcgi_param QUERY_STRING $query_string;
    fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param REQUEST_URI $request_uri; fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO $document_uri;
    fastcgi_param SERVER_PROTOCOL $server_protocol; fastcgi_param SERVER_NAME $host;
    fastcgi_param SERVER_PORT $server_port; fastcgi_param REMOTE_ADDR $remote_addr;
    fastcgi_param SCRIPT_FILENAME $document_root/application.php;
"""


def nginx_configuration(place: Path, peers: Sequence[Peer]) -> str:
    """One nginx with a server for each peer. No other backend is tried, and no request is repeated."""
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{peer.port} backlog={BACKLOG}; root {peer.folder};"
        f" location / {{ {peer.location()} }} }}"
        for peer in peers
    )
    folders = "\n".join(
        f"{name}_temp_path {place}/nginx-{name};" for name in ("client_body", "fastcgi", "proxy", "scgi", "uwsgi")
    )
    return (
        f"daemon off; pid {place}/nginx.pid; error_log stderr crit; {f'user {USER};' if USER else ''}\n"
        f"events {{ worker_connections 8192; }}\nhttp {{ access_log off;\n{folders}\n{_PARAMETERS}\n{servers}\n}}\n"
    )


def nginx(place: Path, peers: Sequence[Peer]) -> contextlib.AbstractContextManager[Program]:
    """nginx before all of them, whether they run or not."""
    return front("nginx", place, nginx_configuration(place, peers), peers[-1].port)
