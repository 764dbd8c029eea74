"""`gateway dev` and `devcert`: Werkzeug's server over the bindings of the settings, and a certificate for it."""

from __future__ import annotations

import dataclasses
import functools
import glob
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from gateway.app.loader import LoadError, call
from gateway.commands.outcome import USAGE, tell
from gateway.config import read_settings
from gateway.flags import publisher_flag
from gateway.front import development, share
from gateway.front.bound import Bound, failing, load
from gateway.front.development import Options, Place
from gateway.net.access import closed_at
from gateway.net.address import Address, InheritedAddress
from gateway.net.listeners import ListenError, given_by_systemd
from gateway.process.identity import Identity, IdentityError, become, find_identity
from gateway.process.start import working_directory
from gateway.record import replace
from gateway.settings import Application, Binding, ConfigError, Pool, Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


_positive = click.FloatRange(0, min_open=True)


class _Site:
    """What is served, read anew by each process."""

    def __init__(self, target: str, flags: Mapping[str, Any], names: Sequence[str], any_port: bool) -> None:
        """`names`: the applications to serve, all by default. `any_port`: bindings count for whatever port is used."""
        self._target = os.path.abspath(target) if os.path.isfile(target) else target
        self._names = names
        self._flags = flags
        self._any_port = any_port
        self.settings = Settings()

    def read(self) -> Settings:
        """Read the settings; what is wrong with single applications is told. Raises ConfigError."""
        loaded = read_settings(self._target, self._flags)
        applications = loaded.settings.applications
        known = [application.name for application in applications]
        for name in self._names:
            if name not in known:
                raise ConfigError(f"--application {name}: there is none of this name, only {', '.join(known)}")
        chosen = tuple(self._on_port(a) for a in applications if not self._names or a.name in self._names)
        if not chosen:
            raise ConfigError("\n".join(loaded.problems))
        for application in chosen:
            working_directory(loaded.settings.pools[application.pool])
        tell(*loaded.problems)
        self.settings = replace(loaded.settings, applications=chosen)
        return self.settings

    def _on_port(self, application: Application) -> Application:
        if not self._any_port:
            return application
        bindings = tuple(replace(binding, port="*") for binding in application.bindings)
        return replace(application, bindings=bindings)

    def files(self) -> tuple[str, ...]:
        """The settings files that were read, for the reloader to watch."""
        included = (path for pattern in self.settings.included for path in glob.glob(pattern))
        return (self._target, *included) if os.path.isfile(self._target) else ()

    def make(self, first: bool) -> WSGIApplication:
        """Load the applications. What leaves nothing to serve ends the command the first time; later it is shown in
        their place, until a file is changed.

        Raises ConfigError, and Exit for what has been told.
        """
        try:
            return self._load(first)
        except ConfigError as error:
            if first:
                raise
            tell(*str(error).splitlines())
            return failing(error)
        except LoadError as error:
            tell(f"{error}\n{error.traceback}")
            if first:
                raise click.exceptions.Exit(USAGE) from error
            return failing(error)

    def _load(self, first: bool) -> WSGIApplication:
        settings = self.read()
        pools = [pool for name, pool in settings.pools.items() if settings.of_pool(name)]
        folders = [os.path.abspath(pool.app_dir or ".") for pool in pools]
        for pool, folder in zip(pools, folders, strict=True):
            sys.path[:0] = [folder, *_python_path(pool, folder)]
            os.environ.update(pool.env)
            if pool.python and os.path.abspath(pool.python) != sys.executable:
                tell(
                    f"python: this server runs in {sys.executable}, not in {pool.python}; start the gateway beside that"
                )
        os.chdir(working_directory(pools[0]))
        _make_room(settings.applications, folders)
        loaded = load(settings.applications)
        tell(*(f"{failure.message}\n{failure.traceback}" for failure in loaded.failures))
        if first and not loaded.works:
            raise click.exceptions.Exit(USAGE)
        for hook in filter(None, (pool.on_worker_start for pool in pools)):
            call(hook, "on_worker_start")
        try:
            return Bound(loaded.entries, pools[0])
        except ValueError as error:
            raise ConfigError(f"{self._target}: {error}") from error


def _python_path(pool: Pool, folder: str) -> list[str]:
    """What the interpreter of a pool, which is started with its environment in `folder`, takes from PYTHONPATH."""
    return [os.path.join(folder, entry) for entry in pool.env.get("PYTHONPATH", "").split(os.pathsep) if entry]


def _make_room(applications: Iterable[Application], folders: Iterable[str]) -> None:
    """Forget modules of the standard library that have an application's name: web.py's documentation calls its script
    code.py, and the debugger has imported the other `code` already.
    """
    for application in applications:
        name = (application.app or application.moduleName).partition(":")[0].partition(".")[0]
        if any(
            os.path.exists(os.path.join(folder, name + end)) for folder in folders for end in (".py", "/__init__.py")
        ):
            sys.modules.pop(name, None)


def _ports(settings: Settings) -> list[int]:
    """The ports that the bindings name; where they name none, $PORT, else 8080."""
    named = {b.port for a in settings.applications for b in a.bindings if isinstance(b.port, int)}
    return sorted(named) or [development.default_port()]


def _addresses(settings: Settings, host: str, port: int | None) -> list[Address]:
    if port is None and given_by_systemd():
        return [InheritedAddress(None)]
    if host.startswith("unix:"):
        return [development.address(host, 0)]
    return [development.address(host, each) for each in (_ports(settings) if port is None else [port])]


def _greet(settings: Settings, options: Options, places: Sequence[Place]) -> None:
    """Say where each application is."""
    bound = [(application, binding) for application in settings.applications for binding in application.bindings]
    if all(binding == Binding() for _, binding in bound):
        development.greet(places, options)
        return
    tell(development.WARNING)
    for place in places:
        rows = [
            (place.url(options.scheme, "" if b.hostname == "*" else b.hostname) + b.path.lstrip("/"), a.name)
            for a, b in bound
            if b.port in ("*", place.port)
        ]
        for url, name in rows:
            click.echo(f"{url:{max(len(url) for url, _ in rows)}}  {name}")


def _identity(user: str, app_dir: str) -> Identity | None:
    """Whom to become once the sockets are open, who has to reach `app_dir` and the interpreter. Raises ConfigError."""
    if not user:
        return None
    try:
        identity = find_identity(user)
    except IdentityError as error:
        raise ConfigError(str(error)) from error
    if os.geteuid() not in (0, identity.uid):
        raise ConfigError(f"--user {user}: only root can become another user; start this as root or leave it out")
    for path in (os.path.abspath(app_dir), sys.executable, os.path.dirname(os.__file__), str(share.PACKAGE)):
        if os.geteuid() != identity.uid and (closed := closed_at(path, identity.uid, identity.groups)):
            raise ConfigError(
                f"--user {user}: {identity.name} may not enter or read {closed}, where {path} is; "
                "open it to that user, move it, or name another"
            )
    return identity


def _become(identity: Identity) -> None:
    if identity.uid != os.geteuid():
        become(identity)
    os.environ.update(HOME=identity.home, USER=identity.name, LOGNAME=identity.name)


def _pair(text: str) -> tuple[str, str]:
    prefix, equals, folder = text.partition("=")
    if not equals or not prefix.startswith("/"):
        raise ConfigError(f"--static-files {text}: write /PREFIX=FOLDER, as in /media=uploads")
    return prefix, os.path.abspath(folder)


def _check_folders(static_files: Mapping[str, str]) -> None:
    """Refuse folders that are not there, but for the bundled one, which nobody has named. Raises ConfigError."""
    for prefix, path in static_files.items():
        if not os.path.exists(path) and path != str(share.folder("static")):
            raise ConfigError(f"{prefix}: there is no folder {path}; create it or name another")


def _checked_pin(pin: str) -> str:
    """Werkzeug takes no notice of what is none, and makes one. Raises ConfigError."""
    if pin != "off" and not pin.replace("-", "").isdecimal():
        raise ConfigError(f"--pin {pin}: write digits, as in 123-456-789, or off")
    return pin


def _options(flags: dict[str, Any]) -> Options:
    """Raises ConfigError."""
    flags = dict(flags)
    static, adhoc = flags.pop("static"), flags.pop("adhoc")
    certificate, key = flags.pop("certificate"), flags.pop("certificate_key")
    if adhoc and certificate:
        raise ConfigError("--adhoc and --certificate exclude each other")
    if key and not certificate:
        raise ConfigError("--certificate-key goes with a --certificate: name that, too")
    pair = (os.path.abspath(certificate), os.path.abspath(key or certificate))
    return Options(
        static_files=development.static_files(static) | dict(map(_pair, flags.pop("static_files"))),
        extra_files=tuple(map(os.path.abspath, flags.pop("extra_files"))),
        ssl_context="adhoc" if adhoc else pair if certificate else "",
        **flags,
    )


def _flags(command: Callable[..., int]) -> Callable[..., int]:
    """The parameters of Werkzeug's `run_simple`."""
    for option in reversed(
        [
            click.option("--reloader/--no-reloader", "use_reloader", default=True, help="restart when a file changes"),
            click.option(
                "--reloader-type",
                default="auto",
                type=click.Choice(["auto", "stat", "watchdog"]),
                help="how it sees that: watchdog, where it is installed, or stat",
            ),
            click.option(
                "--reloader-interval", default=1.0, type=_positive, metavar="SECONDS", help="how often (default: 1)"
            ),
            click.option("--extra-files", multiple=True, metavar="FILE", help="to be watched as well (repeatable)"),
            click.option(
                "--exclude-patterns", multiple=True, metavar="PATTERN", help="files not to be watched (repeatable)"
            ),
            click.option("--debugger/--no-debugger", "use_debugger", default=True, help="show tracebacks as pages"),
            click.option(
                "--evalex/--no-evalex", "use_evalex", default=True, help="let whoever knows the PIN run code in them"
            ),
            click.option(
                "--pin", default="", metavar="PIN", help="the debugger's PIN, or off (default: one it prints)"
            ),
            click.option("--threaded/--no-threaded", default=True, help="a thread for each request"),
            click.option(
                "--processes",
                default=1,
                type=click.IntRange(1),
                metavar="N",
                help="requests run in up to so many forked processes instead (default: 1)",
            ),
            click.option(
                "--request-handler",
                default="",
                metavar="MODULE:CLASS",
                help="in the place of werkzeug.serving:WSGIRequestHandler",
            ),
            click.option("--static", default=None, metavar="FOLDER", help="served as /sta/ (default: the bundled one)"),
            click.option(
                "--static-files",
                multiple=True,
                metavar="/PREFIX=FOLDER",
                help="further folders to be served (repeatable)",
            ),
            click.option(
                "--passthrough-errors",
                is_flag=True,
                help="let what is raised end its thread, or with --no-threaded --no-reloader the server",
            ),
            click.option("--adhoc", is_flag=True, help="TLS, with a certificate for this run"),
            click.option("--certificate", default="", metavar="FILE", help="TLS: PEM file, as from `gateway devcert`"),
            click.option("--certificate-key", default="", metavar="FILE", help="PEM file of its key"),
        ]
    ):
        command = option(command)
    return command


@click.command()
@click.argument("target", default="")
@click.option(
    "--host", default="127.0.0.1", metavar="HOST", help="name, IP address or unix://PATH (default: 127.0.0.1)"
)
@click.option("--port", default=None, type=click.IntRange(0, 65_535), metavar="N",
              help="instead of the bindings' ports; 0: a free one (default without any: $PORT, else 8080)")  # fmt: skip
@click.option("--application", "names", multiple=True, metavar="NAME", help="serve this one alone (repeatable)")
@click.option("--app-dir", default="", metavar="PATH", help="first on sys.path (default: where this is started)")
@click.option("--user", default="", metavar="USER", help="whom root becomes once it has opened the sockets")
@publisher_flag
@_flags
def dev(target: str, host: str, port: int | None, **flags: Any) -> int:
    """Serve with debugger and reloader.

    For the author of TARGET, a settings file or MODULE:CALLABLE; never for visitors. Hosts, ports and paths are
    dispatched as by `serve`, on the ports that the bindings name. Sockets from systemd are served where there are any.
    """
    app_dir, names, user, pin = (flags.pop(name) for name in ("app_dir", "names", "user", "pin"))
    own = {"publisher": flags.pop("publisher")} | ({"app_dir": os.path.abspath(app_dir)} if app_dir else {})
    site = _Site(target, own, names, any_port=port is not None or host.startswith("unix:"))
    options = _options(flags)
    if pin:
        os.environ["WERKZEUG_DEBUG_PIN"] = _checked_pin(pin)
    make = functools.partial(_make, site, _identity(user, app_dir), options)
    if development.is_served_by_another():
        return development.run(make, [], options, lambda places: None)
    _check_folders(options.static_files)
    settings = site.read()
    try:
        return development.run(
            make, _addresses(settings, host, port), options, functools.partial(_greet, settings, options)
        )
    except ListenError as error:
        if not isinstance(error.__cause__, PermissionError):
            raise
        remedy = "--port 8080 serves the same there; docs/howto/port-80.md has the ways to a port below 1024"
        raise ListenError(f"{error}; {remedy}", error.exit_code) from error


def _make(site: _Site, identity: Identity | None, options: Options, first: bool) -> tuple[WSGIApplication, Options]:
    """See `development.run`."""
    if identity is not None:
        _become(identity)
    application = site.make(first)
    hosts = {binding.hostname for a in site.settings.applications for binding in a.bindings} - {"*"}
    return application, dataclasses.replace(
        options,
        extra_files=(*options.extra_files, *site.files()),
        trusted_hosts=tuple(sorted(host.removeprefix("*") for host in hosts)),
    )


@click.command()
@click.argument("base", default="development")
@click.option("--host", default="localhost", metavar="NAME", help="whom it is for, and all below (default: localhost)")
def devcert(base: str, host: str) -> int:
    """Make a certificate for `gateway dev`.

    Writes BASE.crt and BASE.key (default: development.crt and .key), signed by itself and valid for a year.
    """
    from werkzeug.serving import make_ssl_devcert

    if existing := [path for path in (f"{base}.crt", f"{base}.key") if os.path.lexists(path)]:
        raise ConfigError(f"{existing[0]} is there already; remove it or name another BASE")
    before = os.umask(0o077)
    try:
        certificate, key = make_ssl_devcert(base, host=host)
    except TypeError as error:
        raise ConfigError("a certificate is made by the library cryptography: pip install cryptography") from error
    finally:
        os.umask(before)
    click.echo(f"{certificate} and {key} are for {host} and *.{host}:")
    click.echo(f"gateway dev --certificate {certificate} --certificate-key {key} TARGET")
    return 0
