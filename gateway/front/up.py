"""`gateway up`: a pool and a front-end before it, each a child process, until Ctrl-C or until one of them ends.

What cannot work is refused first: a front-end that is not installed, a port that is taken. Then `gateway serve` and
the front-end start in a private directory, and the URL is printed once it truly answers.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from urllib.parse import quote

from gateway.config import read_settings
from gateway.front import share
from gateway.front.interrupt import interruptible
from gateway.front.render import render
from gateway.front.unprivileged import Identity, choose_identity
from gateway.net import probe
from gateway.net.control import ControlError, call
from gateway.record import replace
from gateway.settings import ConfigError, Settings

SYSTEM = 111
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on an ordinary user's PATH, but where Debian puts servers
_NOT_YET = (502, 503, 504)  # what a front-end answers while the pool does not
_REPEATED = ("FastCGI sent in stderr", "FastCGI-stderr")  # what front-ends log of the pool's own messages
_STOP_TIMEOUT = 10.0  # seconds that a child has to end when it is told to
_TICK = 0.05  # seconds between two looks


class _Trouble(Exception):
    """What keeps the site from running; `str()` is what to tell."""


def up(
    target: str = "",
    *,
    front: str = "",
    host: str = "127.0.0.1",
    port: int = 8080,
    app_dir: str = "",
    publisher: Sequence[str] = (),
    static: str = "",
) -> int:
    """Run `target`, by default the demo, behind `front` ("lighttpd", "nginx", "embedded"; default: what is there).

    `publisher` names modules to publish in place of it; `static` is the folder served as /sta/, by default the bundled
    one.

    Returns 0 after Ctrl-C, SIGTERM or SIGHUP, and 111 when something is missing, taken, or ends by itself. Raises
    ConfigError for a mistake in the settings.
    """
    if not target and not publisher:
        target, app_dir = "demo:app", app_dir or str(share.folder("demo"))
    app_dir = os.path.abspath(app_dir) if app_dir else ""
    try:
        with interruptible(), contextlib.suppress(KeyboardInterrupt):
            name, program = _choose(front)
            flags = {"app_dir": app_dir} if app_dir else {}
            settings = read_settings(target, flags | {"publisher": publisher}).settings
            words = [word for name in publisher for word in ("--publisher", name)] or [target]
            site = _Site(words, app_dir, host, port, _folder(static), settings)
            _run(site, name, program)
    except _Trouble as trouble:
        _tell(str(trouble))
        return SYSTEM
    return 0


def _folder(static: str) -> str:
    """The absolute path of the folder of static files. Raises ConfigError."""
    if static and not os.path.isdir(static):
        raise ConfigError(f"--static {static}: there is no such folder")
    return os.path.abspath(static) if static else str(share.folder("static"))


def _choose(front: str) -> tuple[str, str]:
    """The front-end's name, and its program ("" for the embedded one)."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN])
    if front in ("", "lighttpd", "nginx"):
        for name in (front,) if front else ("lighttpd", "nginx"):
            if program := shutil.which(name, path=path):
                return name, program
        if front:
            raise _Trouble(f"{front} is not installed; as root: apt-get install {front}; or use --front embedded")
        front = "embedded"
    if front != "embedded":
        raise ConfigError(f"--front {front}: choose one of nginx, lighttpd or embedded")
    return front, ""


@dataclass(frozen=True, slots=True)
class _Site:
    """What is to be served, and where."""

    words: Sequence[str]  # for `gateway serve`
    app_dir: str
    host: str
    port: int
    static: str
    settings: Settings

    @property
    def what(self) -> str:
        return self.words[-1]

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def shown(self) -> tuple[str, str]:
        """The host with its port, and the path, of some application. Raises ConfigError when none is at the port."""
        bindings = [binding for application in self.settings.applications for binding in application.bindings]
        if not bindings:
            return self.address, "/"
        here = [binding for binding in bindings if binding.port in ("*", self.port)]
        if not here:
            raise ConfigError(
                f"{self.what}: nothing is bound to port {self.port}; use a binding's, as in --port {bindings[0].port}"
            )
        chosen = min(here, key=lambda binding: (binding.path.strip("/") != "", binding.hostname != "*"))
        name = self.address if chosen.hostname == "*" else f"{chosen.hostname.replace('*', 'www')}:{self.port}"
        return name, quote(chosen.path.rstrip("/") + "/")


def _run(site: _Site, name: str, program: str) -> None:
    host, path = site.shown()
    url = f"http://{host}{path}"
    if reason := probe.refusal(site.host, site.port):
        remedy = f"choose another --host, or another port, as in --port {site.port + 1}"
        raise _Trouble(f"cannot listen on {site.address}: {reason}; {remedy}")
    folders = [pool.app_dir or os.getcwd() for pool in site.settings.pools.values()]
    identity = choose_identity([*folders, site.static], _tell)
    ended: queue.SimpleQueue[_Child] = queue.SimpleQueue()
    with _private_directory(identity) as directory, contextlib.ExitStack() as children:
        command, served = _pool(site, directory, identity)
        children.enter_context(_Child("the pool", command, ended))
        sockets = [listen for pool in served.pools.values() for listen in pool.listen if "/" in listen]
        _wait_until(lambda: all(map(os.path.exists, sockets)), ended, "the pool does not listen")
        command = _front(name, program, site, served, directory, identity)
        children.enter_context(_Child(name, command, ended, None if program else identity))
        _wait_until(lambda: _serves(f"{directory}/control.sock"), ended, "no worker is ready")
        _wait_until(lambda: _answers(site, host, path), ended, f"{url} gives no answer")
        print(url, flush=True)
        _tell(f"{site.what} is served by {name}; Ctrl-C stops it")
        raise _Trouble(ended.get().obituary())


class _Child:
    """A running program. Used in a `with` statement, which ends it."""

    def __init__(
        self, name: str, command: Sequence[str], ended: queue.SimpleQueue[_Child], identity: Identity | None = None
    ) -> None:
        """Start `command`, and put this child into `ended` when it has come to an end. Raises OSError."""
        self.name = name
        self._spoke = False
        other = identity if identity and identity.user and identity.uid != 0 else None
        # In a process group of its own: Ctrl-C reaches this process alone, which then stops its children in order.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,
            user=other.uid if other else None,
            group=other.gid if other else None,
            extra_groups=other.groups if other else None,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, args=[ended], daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if not any(mark in line for mark in _REPEATED):
                self._spoke = True
                sys.stderr.write(line)
                sys.stderr.flush()

    def _wait(self, ended: queue.SimpleQueue[_Child]) -> None:
        self._process.wait()
        ended.put(self)

    def obituary(self) -> str:
        """That this child has ended, and how. What it said last has been passed on before."""
        self._reader.join(1.0)  # grandchildren may hold its output open for longer
        code = self._process.wait()
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}" + ("; its last lines are above" if self._spoke else "")

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        """End the program: SIGTERM, then SIGKILL for what is left of its group, as when it died before its workers."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1.0)


@contextlib.contextmanager
def _private_directory(identity: Identity) -> Iterator[str]:
    """A new directory that only `identity`'s group may enter, removed at the end."""
    directory = tempfile.mkdtemp(prefix="gateway-")
    try:
        if identity.user:
            os.chown(directory, -1, identity.gid)
            os.chmod(directory, 0o750)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _pool(site: _Site, directory: str, identity: Identity) -> tuple[list[str], Settings]:
    """The command that serves the site, and its settings as it then reads them."""
    command = [sys.executable, "-m", "gateway", "serve", *site.words, "--control", f"{directory}/control.sock"]
    pools = site.settings.pools
    if len(pools) == 1:
        ((name, pool),) = pools.items()
        pools = {name: replace(pool, listen=(f"{directory}/gateway.sock",))}
        command += ["--listen", f"{directory}/gateway.sock"]
        if site.app_dir:
            command += ["--app-dir", site.app_dir]
        if identity.user and not pool.user:
            command += ["--user", identity.user]
    return command, replace(site.settings, pools=pools)


def _front(name: str, program: str, site: _Site, served: Settings, directory: str, identity: Identity) -> list[str]:
    """The command that starts the front-end, its configuration written."""
    if not program:
        pool = next(iter(served.pools.values()))
        return [sys.executable, "-m", "gateway.front.embedded", pool.listen[0], site.static, site.host, str(site.port)]
    # lighttpd refuses to be told to stay root.
    user = "" if name == "lighttpd" and identity.uid == 0 else identity.user
    text = render(
        name,
        served,
        listen=site.address,
        static=site.static,
        run_directory=directory,
        user=user,
        group=identity.group,
    )
    path = Path(directory, f"{name}.conf")
    path.write_text(text, encoding="utf-8")
    arguments = ["-D", "-f", str(path)] if name == "lighttpd" else ["-e", "stderr", "-p", directory, "-c", str(path)]
    return [program, *arguments]


def _wait_until(
    done: Callable[[], bool], ended: queue.SimpleQueue[_Child], otherwise: str, seconds: float = 75.0
) -> None:
    """Look until `done`; _Trouble when a child has ended or the time is over (applications have 60 s to start)."""
    deadline = monotonic() + seconds
    while not done():
        with contextlib.suppress(queue.Empty):
            raise _Trouble(ended.get(timeout=_TICK).obituary())
        if monotonic() > deadline:
            raise _Trouble(f"{otherwise} after {seconds:g} s")


def _serves(path: str) -> bool:
    """Whether the master at this control socket has a worker that takes requests."""
    try:
        pools = call(path, {"command": "status"}, 5.0)["pools"]
    except ControlError:
        return False
    return any(worker["state"] in ("idle", "busy") for pool in pools for worker in pool["workers"])


def _answers(site: _Site, host: str, path: str) -> bool:
    connection = http.client.HTTPConnection(site.host, site.port, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host, "Connection": "close"})
        return connection.getresponse().status not in _NOT_YET
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tell(message: str) -> None:
    print(f"gateway: {message}", file=sys.stderr, flush=True)
