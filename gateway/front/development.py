"""Runs applications by hand, on Werkzeug's server with its debugger and reloader: for their author, never for visitors.

One process opens the sockets, and starts another that serves them, anew whenever a file has changed: no connection is
refused meanwhile, and the sockets may be root's where the applications are not. Without reloader one process does both.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from werkzeug.debug import DebuggedApplication
from werkzeug.middleware.shared_data import SharedDataMiddleware
from werkzeug.serving import (
    WSGIRequestHandler,
    generate_adhoc_ssl_context,
    load_ssl_context,
    make_server,
    run_simple,
)

from gateway.app import loader
from gateway.front import share
from gateway.front.bound import only
from gateway.front.interrupt import interruptible
from gateway.net.address import Address, TcpAddress, UnixAddress, resolve
from gateway.net.listeners import Listener, ListenError, open_listeners
from gateway.settings import ConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

_HANDED = "GATEWAY_DEVELOPMENT"  # what the first process tells the one that serves
_CHANGED = 3  # exit code by which Werkzeug's reloader says that a file has changed
_BACKLOG = 128
_LOOK_EVERY = 0.2  # seconds
_END_TIMEOUT = 5.0  # seconds that the process that serves has to end
_USAGE = 100
WARNING = "this server is for development: pages show source; for visitors there is `gateway serve`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The parameters of Werkzeug's `run_simple` by its names, but for what is listened on and what is run."""

    use_reloader: bool = True
    use_debugger: bool = True
    use_evalex: bool = True
    extra_files: tuple[str, ...] = ()
    exclude_patterns: tuple[str, ...] = ()
    reloader_interval: float = 1.0  # seconds
    reloader_type: str = "auto"
    threaded: bool = True
    processes: int = 1
    request_handler: str = ""  # MODULE:CLASS
    static_files: Mapping[str, str] = field(default_factory=dict)
    passthrough_errors: bool = False
    ssl_context: Literal["", "adhoc"] | tuple[str, str] = ""  # or the PEM files of certificate and key
    trusted_hosts: tuple[str, ...] = ()  # at which the debugger may be used, beside localhost

    @property
    def scheme(self) -> str:
        """What URLs begin with."""
        return "https" if self.ssl_context else "http"


class Place(NamedTuple):
    """Where a socket listens: an IP address, or "unix://" with a path, and a port."""

    host: str
    port: int

    def url(self, scheme: str, name: str = "") -> str:
        """The URL of the host `name` there, by default of the address itself."""
        if not self.port:
            return self.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{scheme}://{name or (f'[{shown}]' if ':' in shown else shown)}:{self.port}/"


Make = Callable[[bool], tuple["WSGIApplication", Options]]  # told whether it is the first time
Greet = Callable[[Sequence[Place]], object]


def address(host: str, port: int) -> Address:
    """What to listen on: a path after "unix://", else a host by name or number and a port, 0 for a free one.

    Raises ConfigError.
    """
    if host.startswith("unix:"):
        return UnixAddress(os.path.abspath(host.removeprefix("unix:").removeprefix("//")))
    try:
        return TcpAddress(resolve(host, port or 1).ip, port)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def default_port() -> int:
    """$PORT, else 8080. Raises ConfigError."""
    port = os.environ.get("PORT") or "8080"
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"PORT is {port!r} in the environment: set it to a number up to 65535, or unset it for 8080")
    return int(port)


def run_alone(application: Any, static: str | None) -> int:
    """Serve a script's application at $PORT, else 8080, until Ctrl-C; return the exit code.

    `static` is the folder served as /sta/, by default the bundled one.
    """
    options = Options(static_files=static_files(static))
    try:
        made = only(application), options
        places = [address("127.0.0.1", default_port())]
        return run(lambda first: made, places, options, lambda where: greet(where, options), _wait_for_change)
    except (ConfigError, ListenError) as error:
        print(f"gateway: {error}", file=sys.stderr)
        return getattr(error, "exit_code", _USAGE)


def _wait_for_change(since: float) -> None:
    """Return when a file that the script is made of has been changed `since` it was started and failed."""
    print("gateway: waiting for the script to be mended; Ctrl-C stops this", file=sys.stderr)
    while not _has_changed(since, ()):
        time.sleep(_LOOK_EVERY)


def _module_files() -> list[str]:
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return [os.path.abspath(file) for file in files if file]


def _changed_at(file: str) -> float:
    """When a file was changed, in seconds since 1970; 0 where there is none."""
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0


def static_files(folder: str | None) -> dict[str, str]:
    """What /sta/ serves: a folder, None for the bundled one, or "" for nothing."""
    path = str(share.folder("static")) if folder is None else folder
    return {"/sta": os.path.abspath(path)} if path else {}


def greet(places: Sequence[Place], options: Options) -> None:
    """Say where an application is that answers everything."""
    print(f"gateway: {WARNING}", file=sys.stderr)
    for place in places:
        print(f"{place.url(options.scheme)}  (development server{_extras(options)})", flush=True)


def _extras(options: Options) -> str:
    used = [name for name, on in (("debugger", options.use_debugger), ("reloader", options.use_reloader)) if on]
    return f", with {' and '.join(used)}" if used else ""


def run(
    make: Make,
    addresses: Sequence[Address],
    options: Options,
    greet: Greet,
    wait: Callable[[float], object] | None = None,
) -> int:
    """Serve what `make` gives, in the process that serves, at `addresses` until Ctrl-C; return the exit code.

    `greet` is told once where that is. `wait` returns when what was started at a time, and failed, has been changed
    since; without it, `make` is not to fail but the first time. Raises ListenError, and what `make` raises, where there
    is no reloader.
    """
    if handed := os.environ.pop(_HANDED, ""):
        # A compiled file is taken for its source's as long as second and size agree: not when one is saved again soon.
        sys.dont_write_bytecode = True
        message = json.loads(handed)
        threading.Thread(target=_end_with_parent, args=[message["tie"]], daemon=True).start()
        began = time.time()
        with interruptible(), contextlib.suppress(KeyboardInterrupt):
            application, made = make(message["first"])
            if _has_changed(since=began, files=made.extra_files):
                return _CHANGED
            _serve(application, made, [(fd, Place(*place)) for fd, place in message["sockets"]])
        return 0
    with interruptible(), _opened(addresses) as listeners, contextlib.suppress(KeyboardInterrupt):
        sockets = [(listener.socket.fileno(), _place(listener)) for listener in listeners]
        greet([place for _, place in sockets])
        if options.use_reloader:
            return _restart_on_change(sockets, wait)
        _serve(*make(True), sockets)
    return 0


def is_served_by_another() -> bool:
    """Whether another process has the sockets, which starts this one anew when a file has changed."""
    return _HANDED in os.environ


@contextlib.contextmanager
def _opened(addresses: Sequence[Address]) -> Iterator[list[Listener]]:
    listeners: list[Listener] = []
    try:
        for each in addresses:
            listeners += open_listeners(each, backlog=_BACKLOG)
        for listener in listeners:
            listener.socket.setblocking(True)
        yield listeners
    finally:
        for listener in listeners:
            listener.close()


def _place(listener: Listener) -> Place:
    name = listener.socket.getsockname()
    if isinstance(name, str):
        path = listener.address.path if isinstance(listener.address, UnixAddress) else name
        return Place(f"unix://{path}", 0)
    return Place(name[0], name[1])


def _restart_on_change(sockets: Sequence[tuple[int, Place]], wait: Callable[[float], object] | None) -> int:
    """Let another process serve, and the next whenever one ends for a change; return the exit code of the last."""
    tie, kept = os.pipe()
    fds = [fd for fd, _ in sockets]
    first = True
    while True:
        message = json.dumps({"sockets": sockets, "tie": tie, "first": first})
        environment = {**os.environ, **_of_werkzeug(fds[0]), _HANDED: message}
        command = [sys.executable, *sys.orig_argv[1:]]
        began = time.time()
        serving = subprocess.Popen(command, env=environment, pass_fds=[*fds, tie])
        try:
            code = serving.wait()
        except KeyboardInterrupt:
            serving.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                serving.wait(_END_TIMEOUT)
            serving.kill()
            serving.wait()
            raise
        if code > 0 and code != _CHANGED and not first and wait is not None:
            wait(began)
        elif code != _CHANGED:
            os.close(kept)
            os.close(tie)
            return code
        first = False


def _of_werkzeug(fd: int) -> dict[str, str]:
    """Variables by which Werkzeug's server knows that it is one that the reloader started, and its socket."""
    return {"WERKZEUG_RUN_MAIN": "true", "WERKZEUG_SERVER_FD": str(fd)}


def _end_with_parent(tie: int) -> None:
    """End this process when the one that has started it is gone, however that ended."""
    os.read(tie, 1)
    os._exit(0)


def _has_changed(since: float, files: Iterable[str]) -> bool:
    """Whether a module or one of the files was changed while they were read: the reloader begins to look only later.

    One that is dated in the future, as archives and other machines' clocks make them, has not been changed just now.
    """
    now = time.time()
    return any(since < _changed_at(file) <= now for file in (*_module_files(), *files))


def _serve(application: WSGIApplication, options: Options, sockets: Sequence[tuple[int, Place]]) -> None:
    """Serve until Ctrl-C, or until the reloader ends this process."""
    os.environ.update(_of_werkzeug(sockets[0][0]))  # it shows the debugger's PIN only then
    context = _ssl_context(options)
    handler = _request_handler(options.request_handler)
    if options.use_debugger:
        # Frames of a traceback are kept in the process that raised: a fork of it would be gone.
        application = DebuggedApplication(application, evalex=options.use_evalex and options.processes == 1)
        application.trusted_hosts += [*options.trusted_hosts, *(place.host for _, place in sockets)]
    if options.static_files:
        application = SharedDataMiddleware(application, dict(options.static_files))
    served: dict[str, Any] = {
        "threaded": options.threaded and options.processes == 1,
        "processes": options.processes,
        "request_handler": handler,
        "passthrough_errors": options.passthrough_errors,
        "ssl_context": context,
    }
    for fd, place in sockets[1:]:
        server = make_server(*place, application, fd=fd, **served)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        run_simple(
            *sockets[0][1],
            application,
            use_reloader=options.use_reloader,
            extra_files=options.extra_files,
            exclude_patterns=(*options.exclude_patterns, *_installed()),
            reloader_interval=options.reloader_interval,  # type: ignore[arg-type]
            reloader_type=_reloader_type(options.reloader_type),
            **served,
        )
    except Exception as error:
        if not options.passthrough_errors or isinstance(error, ConfigError):
            raise
        traceback.print_exception(error)
        sys.exit(_USAGE)


def _request_handler(target: str) -> Any:
    """The class that MODULE:CLASS names, None for Werkzeug's own. Raises ConfigError."""
    if not target:
        return None
    try:
        found = loader.named(target)
    except loader.LoadError as error:
        raise ConfigError(f"--request-handler: {error}") from error
    if not isinstance(found, type) or not issubclass(found, WSGIRequestHandler):
        raise ConfigError(f"--request-handler: {target} is no class made of werkzeug.serving.WSGIRequestHandler")
    return found


def _reloader_type(wanted: str) -> str:
    """What looks for changes. Raises ConfigError."""
    try:
        from watchdog.utils.patterns import match_any_paths
    except ImportError as error:
        if wanted == "watchdog":
            raise ConfigError("watchdog is not installed: pip install 'watchdog<7', or --reloader-type stat") from error
        return "stat"
    # Werkzeug 3.1 asks for *.py, which from watchdog 7 on is no file in any folder.
    if match_any_paths(["/shop/web.py"], included_patterns=["*.py"]):
        return wanted
    if wanted == "watchdog":
        raise ConfigError("this watchdog is too new for Werkzeug: pip install 'watchdog<7', or --reloader-type stat")
    return "stat"


def _installed() -> Iterator[str]:
    """Patterns of what nobody edits, and of which there is so much that watchdog, which watches folders as a whole,
    would hear of nothing else.
    """
    for name in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield f"{sysconfig.get_path(name)}*"


def _ssl_context(options: Options) -> ssl.SSLContext | None:
    """What TLS is spoken with. Raises ConfigError."""
    if not options.ssl_context:
        return None
    try:
        if options.ssl_context == "adhoc":
            return generate_adhoc_ssl_context()
        return load_ssl_context(*options.ssl_context)
    except TypeError as error:
        raise ConfigError("an ad-hoc certificate needs the library cryptography: pip install cryptography") from error
    except OSError as error:  # an SSLError is one
        files = " and ".join(filter(None, options.ssl_context))
        raise ConfigError(f"{files} cannot be used for TLS: {error.strerror or error}") from error
