"""Who is compared: how each is started with a socket, an application and a number of workers, all else at its default.

All have a master and the same number of workers, and none logs requests unless it is asked to.
"""

from __future__ import annotations

import abc
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import first_line
from benchmarks.peers import BACKLOG, HERE, find
from tests.end_to_end.running import GATEWAY, ROOT, USER

APPLICATIONS = Path(__file__).parent / "applications"
_LIBFCGI = Path("/usr/include/fcgiapp.h")


@dataclass(frozen=True)
class Job:
    """What a peer is to run, in a folder of its own."""

    folder: Path
    application: str = "hello"  # a module of `applications`
    workers: int = 4
    access_log: bool = False
    bindings: int = 0  # host names besides the one for everything (the gateway alone has such)
    pool: Mapping[str, Any] = field(default_factory=dict)  # further settings (the gateway's)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "pool.sock"

    @property
    def log(self) -> Path:
        """Where it logs requests, if it does."""
        return self.folder / "access.log"


class Peer(abc.ABC):
    """A server that takes requests from a front-end on a Unix socket."""

    name = ""
    wanted = ""  # what is missing when `program` is ""
    program = ""
    speaks = "fastcgi"  # what the front-end passes requests with: fastcgi, uwsgi or http
    has_master = True  # beside its workers

    def version(self) -> str:
        """What runs."""
        return first_line(self.program, "--version")

    @abc.abstractmethod
    def command(self, job: Job) -> Sequence[str]:
        """How its master is started."""

    def settings(self, job: Job) -> str:
        """What a file has of it, in one line; "" where the command says all."""
        return ""


class Gateway(Peer):
    """This gateway, where it can be from an environment that has nothing of its tests: their .pth files cost 30 ms."""

    name = "gateway"
    words = [find("gateway")] if find("gateway") else GATEWAY
    program = words[0]

    def version(self) -> str:
        """What runs, and whether its C twin does."""
        return f"{first_line(*self.words, '--version')}, {'with' if has_twin() else 'without'} what it has in C"

    def settings(self, job: Job) -> str:
        """Its pool."""
        pool = {
            "listen": str(job.socket), "app_dir": str(APPLICATIONS), "max_children": job.workers, "user": USER,
            "listen_backlog": BACKLOG, "max_body": 0, **({"access_log": str(job.log)} if job.access_log else {}),
        } | dict(job.pool)  # fmt: skip
        return json.dumps(pool)

    def command(self, job: Job) -> Sequence[str]:
        """Everything is in a settings file."""
        names = [*(f"host{number}.example" for number in range(job.bindings)), "*"]
        application = {
            "name": "benchmark",
            "app": f"{job.application}:application",
            "bindings": [{"hostname": name, "port": "*"} for name in names],
        }
        settings = {
            "gateway": {"control": str(job.folder / "control.sock")},
            "pools": {"main": json.loads(self.settings(job))},
            "applications": [application],
        }
        file = job.folder / "settings.json"
        file.write_text(json.dumps(settings))
        return [*self.words, "serve", str(file)]


class Uwsgi(Peer):
    """uWSGI with FastCGI, for which nginx cannot keep connections to it."""

    name = "uWSGI, FastCGI"
    wanted = "pip install uwsgi into benchmarks/.venv"
    program = find("uwsgi")
    option = "--fastcgi-socket"

    def version(self) -> str:
        """What runs."""
        return f"uWSGI {super().version()}"

    def command(self, job: Job) -> Sequence[str]:
        """Its buffer for a request's head is too small by default for one of the rows."""
        logging = ["--logto", str(job.log)] if job.access_log else ["--disable-logging"]
        return [
            self.program, "--master", "--die-on-term", "--need-app", "--processes", str(job.workers),
            "--listen", str(BACKLOG), "--buffer-size", "32768", self.option, str(job.socket),
            "--virtualenv", str(HERE / ".venv"), "--chdir", str(APPLICATIONS),
            "--module", f"{job.application}:application", *logging,
        ]  # fmt: skip


class UwsgiOfItsOwn(Uwsgi):
    """uWSGI with its own protocol."""

    name = "uWSGI, uwsgi"
    option = "--uwsgi-socket"
    speaks = "uwsgi"


class UwsgiAsBatch(UwsgiOfItsOwn):
    """The same, scheduled as the gateway's workers are (`process_scheduling`), which uWSGI has no option for."""

    name = "uWSGI, chrt --batch"

    def command(self, job: Job) -> Sequence[str]:
        """By chrt(1)."""
        return ["chrt", "--batch", "0", *super().command(job)]


class Gunicorn(Peer):
    """gunicorn with its default workers, over HTTP."""

    name = "gunicorn"
    wanted = "pip install gunicorn into benchmarks/.venv"
    program = find("gunicorn")
    speaks = "http"

    def command(self, job: Job) -> Sequence[str]:
        """It imports the application in each worker, as it does by default."""
        logging = ["--access-logfile", str(job.log)] if job.access_log else []
        return [
            self.program, "--workers", str(job.workers), "--backlog", str(BACKLOG), "--bind", f"unix:{job.socket}",
            "--no-control-socket", "--chdir", str(APPLICATIONS), f"{job.application}:application", *logging,
        ]  # fmt: skip


class Uvicorn(Peer):
    """uvicorn with uvloop and httptools, over HTTP; one worker of its is its only process."""

    name = "uvicorn"
    wanted = "pip install uvicorn uvloop httptools into benchmarks/.venv"
    program = find("uvicorn")
    speaks = "http"
    has_master = False

    def command(self, job: Job) -> Sequence[str]:
        """As its documentation has it for nginx and a Unix socket: the client's address comes in a header."""
        return [
            self.program, "--uds", str(job.socket), "--workers", str(job.workers), "--backlog", str(BACKLOG),
            "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning",
            "--forwarded-allow-ips", "*", "--app-dir", str(APPLICATIONS), f"{job.application}:application",
        ]  # fmt: skip


class Flup(Peer):
    """flup6's preforked server; `hello` is its only application."""

    name = "flup6"
    wanted = "pip install flup6"
    program = sys.executable if importlib.util.find_spec("flup") else ""

    def version(self) -> str:
        """What runs."""
        return f"flup6 {importlib.metadata.version('flup6')}"

    def command(self, job: Job) -> Sequence[str]:
        """It has no command of its own."""
        return [self.program, "-m", "benchmarks.bench.applications.flup_hello", str(job.socket), str(job.workers)]


class PhpFpm(Peer):
    """PHP-FPM; `hello` is its only application."""

    name = "PHP-FPM"
    wanted = "the package php-fpm"
    program = find("php-fpm", "php-fpm[0-9]*")

    def settings(self, job: Job) -> str:
        """Its pool."""
        user = f"user = {USER}; " if USER else ""
        logging = f"; access.log = {job.log}" if job.access_log else ""
        return f"{user}listen.backlog = {BACKLOG}; pm = static; pm.max_children = {job.workers}{logging}"

    def command(self, job: Job) -> Sequence[str]:
        """Its settings are a file."""
        pool = self.settings(job).replace("; ", "\n")
        file = job.folder / "php-fpm.conf"
        file.write_text(f"[global]\nerror_log = {job.folder}/error.log\n[main]\nlisten = {job.socket}\n{pool}\n")
        return [self.program, "-F", *(["-R"] if USER else []), "-y", str(file)]


class LibFcgi(Peer):
    """A C program on libfcgi, which is compiled when it is started; `hello` is its only application."""

    name = "C on libfcgi"
    wanted = "the packages gcc, libc6-dev and libfcgi-dev"
    program = find("gcc") if _LIBFCGI.exists() else ""

    def command(self, job: Job) -> Sequence[str]:
        """Compile, and run with a parent that only waits."""
        compiled = job.folder / "hello"
        source = APPLICATIONS / "hello.c"
        subprocess.run([self.program, "-O2", "-Wall", "-Werror", "-o", compiled, source, "-lfcgi"], check=True)
        return [str(compiled), str(job.socket), str(job.workers)]


def has_twin() -> bool:
    """Whether what is in C is built: the servers run the code of this checkout (ENVIRONMENT's PYTHONPATH)."""
    return importlib.util.find_spec("gateway.protocol._records") is not None


def printable(peer: Peer, command: Sequence[str], job: Job) -> str:
    """A peer's command and settings without the paths of this machine."""
    settings = peer.settings(job)
    line = " ".join([Path(command[0]).name, *command[1:]]) + (f"   # {settings}" if settings else "")
    return line.replace(str(job.folder), "FOLDER").replace(f"{ROOT}/", "")
