"""The `gateway-spawn` command: opens a socket and starts any FastCGI program on it, with the flags of spawn-fcgi.

The program finds the socket at file descriptor 0 (FastCGI 1.0 §2.2) and runs as the user that was named. Unlike
spawn-fcgi's, TCP sockets are on 127.0.0.1 unless -a says otherwise: FastCGI knows no password. With --supervise it
stays, as the master of a pool of such programs (`process.program`).
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from gateway import __version__
from gateway.net.address import Address, UnixAddress, parse_address
from gateway.net.listeners import Listener, ListenError, SocketFile, open_listeners
from gateway.process.identity import Identity, IdentityError, find_identity
from gateway.process.launch import launch
from gateway.process.limits import StepError
from gateway.process.replace import replace_process
from gateway.record import Record
from gateway.settings import Brief, ConfigError, Gateway, Pool, Settings

USAGE, SYSTEM = 100, 111
_FIRST_LOOK = 0.1  # seconds; a program that cannot run has ended by then


class Order(Record):
    """What the flags ask for."""

    argv: tuple[str, ...]
    command: str
    directory: str | None
    ip: str
    port: str
    path: str
    backlog: int
    mode: str
    owner: str
    owner_group: str
    user: str
    group: str
    count: int
    children: str | None
    pid_file: str
    no_fork: bool
    supervise: bool
    control: str | None
    kill_signal: str | None
    process_control_timeout: float | None
    first_look: float | None


@click.command(
    context_settings={
        "help_option_names": ["-h", "-?", "--help"],
        "allow_interspersed_args": False,
        "max_content_width": 100,
    }
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- PROGRAM [ARGUMENT]...]")
@click.option("-s", "path", default="", metavar="PATH", help="listen on a Unix socket")
@click.option("-p", "port", default="", metavar="PORT", help="listen on a TCP port")
@click.option("-a", "ip", default="127.0.0.1", metavar="ADDRESS", help="IP address for -p (default: 127.0.0.1)")
@click.option("-b", "backlog", default=1024, type=click.IntRange(1), metavar="N", help="listen queue (default: 1024)")
@click.option("-M", "mode", default="0660", metavar="MODE", help="mode of the Unix socket, octal (default: 0660)")
@click.option("-U", "owner", default="", metavar="USER", help="owner of the Unix socket (default: that of -u)")
@click.option("-G", "owner_group", default="", metavar="GROUP", help="group of the Unix socket (default: that of -g)")
@click.option("-u", "user", default="", metavar="USER", help="user that the program runs as (root only)")
@click.option("-g", "group", default="", metavar="GROUP", help="group that it runs as (default: the user's own)")
@click.option("-F", "count", default=1, type=click.IntRange(1), metavar="N", help="how many to start (default: 1)")
@click.option("-C", "children", default=None, metavar="N", help="for PHP: PHP_FCGI_CHILDREN in its environment")
@click.option("-P", "pid_file", default="", metavar="PATH", help="file for the process IDs, one a line (not with -n)")
@click.option("-d", "directory", default=None, metavar="PATH", help="the program's working directory")
@click.option("-n", "no_fork", is_flag=True, help="become the program instead of starting it, for a supervisor")
@click.option("-f", "command", default="", metavar="COMMAND", help="program as a line for /bin/sh, instead of PROGRAM")
@click.option("--supervise", is_flag=True, help="stay, and keep as many running as -F says; -P is then of this process")
@click.option("--control", metavar="PATH", help="socket for gateway status, reload and stop (default: beside -s)")
@click.option("--kill-signal", metavar="SIGNAL", help="lets the program finish its request and exit (default: TERM)")
@click.option(
    "--process-control-timeout",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="how long it may take for that before it is killed (default: 30)",
)
@click.option(
    "--first-look",
    type=click.FloatRange(0.01),
    metavar="SECONDS",
    help="how long it has to run to count as started (default: 0.1)",
)
@click.version_option(__version__, "-v", "-V", "--version", message="gateway-spawn %(version)s")
def spawn(**flags: Any) -> int:
    """Start a FastCGI program on a socket of its own."""
    order = Order(**flags)
    argv = _argv(order)
    identity = _identity(order)
    if order.supervise:
        return _supervise(order, argv, identity)
    _check_unsupervised(order)
    listener = open_listeners(_address(order), backlog=order.backlog, file=_socket_file(order, identity))[0]
    # Programs wait in accept(2), and whether that waits belongs to the socket, not to a process.
    listener.socket.setblocking(True)
    if order.no_fork:
        _become(order, argv, listener, identity)
    return _start(order, argv, listener, identity)


def _argv(order: Order) -> list[str]:
    if order.argv:
        return list(order.argv)
    if not order.command.strip():
        raise ConfigError("name the program to start, as in: gateway-spawn -s /run/shop.sock -- /srv/shop/app.fcgi")
    return ["/bin/sh", "-c", f"exec {order.command}"]


def _identity(order: Order) -> Identity | None:
    if not order.user and not order.group:
        return None
    if os.geteuid() != 0:
        raise ConfigError("-u and -g need root: leave them out, or start gateway-spawn as root")
    return find_identity(order.user or "0", order.group)


def _address(order: Order) -> Address:
    if bool(order.path) == bool(order.port):
        raise ConfigError("name one socket: -s PATH for a Unix socket, or -p PORT for a TCP port")
    if order.path:
        return UnixAddress(os.path.abspath(order.path))
    ip = f"[{order.ip}]" if ":" in order.ip and not order.ip.startswith("[") else order.ip
    try:
        return parse_address(f"{ip}:{order.port}")
    except ValueError as error:
        raise ConfigError(f"-a and -p: {error}") from None


def _socket_file(order: Order, identity: Identity | None) -> SocketFile:
    if not re.fullmatch("0?[0-7]{3}", order.mode):
        raise ConfigError(f"-M {order.mode}: write three octal digits, as in -M 0660")
    owner = find_identity(order.owner or str(os.geteuid()), order.owner_group) if _names_owner(order) else identity
    if owner is None:
        return SocketFile(int(order.mode, 8))
    return SocketFile(int(order.mode, 8), owner.uid, owner.gid)


def _names_owner(order: Order) -> bool:
    if (order.owner or order.owner_group) and os.geteuid() != 0:
        raise ConfigError("-U and -G need root: leave them out, or start gateway-spawn as root")
    return bool(order.owner or order.owner_group)


def _environment(order: Order) -> dict[str, str]:
    return dict(os.environ) | ({"PHP_FCGI_CHILDREN": order.children} if order.children else {})


def _check_unsupervised(order: Order) -> None:
    for flag in ("control", "kill_signal", "process_control_timeout", "first_look"):
        if getattr(order, flag) is not None:
            raise ConfigError(f"--{flag.replace('_', '-')} needs --supervise: otherwise nobody stays who could use it")


def _supervise(order: Order, argv: Sequence[str], identity: Identity | None) -> int:
    """Be the master of one pool, whose workers are the program's processes."""
    from gateway.config import default_control
    from gateway.net.address import runtime_directory
    from gateway.process import entry
    from gateway.process.program import Program, ProgramRunner

    if order.no_fork:
        raise ConfigError("-n and --supervise exclude each other: to become the program, or to stay and start it again")
    program = Program(tuple(argv), identity, _kill_signal(order), int(1000 * (order.first_look or _FIRST_LOOK)))
    pool = _pool(order, identity)
    control = order.control or default_control(pool.listen[0])
    if os.geteuid() == 0 and os.path.dirname(control) == runtime_directory():
        os.makedirs(runtime_directory(), 0o755, exist_ok=True)  # /run is empty after each start of the machine
    name = os.path.basename((order.argv or order.command.split())[0])
    settings = Settings(gateway=Gateway(control=control, pid_file=order.pid_file), pools={name: pool})
    return entry.serve(Brief(settings=settings), make_runner=functools.partial(ProgramRunner, program=program))


def _kill_signal(order: Order) -> int:
    from gateway.process.program import find_signal

    try:
        return find_signal(order.kill_signal or "TERM")
    except ValueError as error:
        raise ConfigError(f"--kill-signal: {error}") from None


def _pool(order: Order, identity: Identity | None) -> Pool:
    """The flags as a pool's settings. Its user is left out: the program's identity is found, and nothing of gateway's
    has to be readable for it.
    """
    file = _socket_file(order, identity)
    return Pool(
        listen=(str(_address(order)),),
        listen_backlog=order.backlog,
        listen_mode=f"{file.mode:04o}",
        listen_owner=str(file.uid) if file.uid >= 0 else "",
        listen_group=str(file.gid) if file.gid >= 0 else "",
        max_children=order.count,
        start_timeout=Pool().start_timeout + (order.first_look or _FIRST_LOOK),
        process_control_timeout=order.process_control_timeout or Pool().process_control_timeout,
        app_dir=order.directory or "",
        clear_env=False,
        env={"PHP_FCGI_CHILDREN": order.children} if order.children else {},
    )


def _become(order: Order, argv: Sequence[str], listener: Listener, identity: Identity | None) -> NoReturn:
    try:
        replace_process(argv, listener.socket.fileno(), identity=identity, env=_environment(order), cwd=order.directory)
    finally:
        listener.close()


def _start(order: Order, argv: Sequence[str], listener: Listener, identity: Identity | None) -> int:
    """Start as many as were asked for; the socket stays while one of them runs."""
    running: list[int] = []
    try:
        _write_pids(order.pid_file, [])  # a file that cannot be written is known before anything runs
        started: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(order.count):
                started.append(_launch(order, argv, listener, identity))
        finally:
            running = _first_look(argv[0] if order.argv else order.command, started)
            _write_pids(order.pid_file, running)
    finally:
        if running:
            listener.socket.close()
        else:
            listener.close()
    return 0 if len(running) == order.count else SYSTEM


def _write_pids(path: str, pids: Sequence[int]) -> None:
    if path:
        Path(path).write_text("".join(f"{pid}\n" for pid in pids))


def _launch(
    order: Order, argv: Sequence[str], listener: Listener, identity: Identity | None
) -> subprocess.Popen[bytes]:
    try:
        return launch(
            argv,
            identity=identity,
            stdin=listener.socket.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(order),
            cwd=order.directory,
            die_with_parent=False,
        )
    except (subprocess.SubprocessError, StepError) as error:
        raise OSError(f"cannot start {argv[0]}: {error}") from error


def _first_look(name: str, started: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Report what became of each process; return the process IDs of those that run."""
    deadline = time.monotonic() + _FIRST_LOOK
    running = []
    for process in started:
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            click.echo(f"gateway-spawn: {name} runs, PID: {process.pid}")
            running.append(process.pid)
        else:
            how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
            _tell(f"{name} ended at once {how}; start it by hand to see why")
    return running


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what went wrong is one line on standard error."""
    try:
        return int(spawn.main(arguments, "gateway-spawn", standalone_mode=False) or 0)
    except click.UsageError as error:
        _tell(f"{error.format_message()} (gateway-spawn -h)")
        return USAGE
    except (ConfigError, IdentityError) as error:
        _tell(str(error))
        return USAGE
    except ListenError as error:
        _tell(str(error))
        return error.exit_code
    except OSError as error:
        _tell(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return SYSTEM


def _tell(message: str) -> None:
    click.echo(f"gateway-spawn: {message}", err=True)


if __name__ == "__main__":
    sys.exit(main())
