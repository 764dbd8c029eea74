"""What the master needs before it serves: whom each pool runs as, its listeners, the pid file; and `gateway check`."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys

from gateway import log
from gateway.net.access import closed_at
from gateway.net.address import InheritedAddress, parse_address
from gateway.net.listeners import Listener, ListenError, SocketFile, open_listeners, who_may_connect
from gateway.process.handles import BadMessage, Zygote, receive
from gateway.process.identity import Identity, IdentityError, find_identity
from gateway.process.spare import BOOT
from gateway.process.task import Task
from gateway.settings import Brief, ConfigError, Pool

EXIT_OK, EXIT_SETTINGS = 0, 100


def check(brief: Brief) -> list[str]:
    """Import every application as the pools would, and return one message (with traceback) for each that fails."""
    messages: list[str] = []
    settings = brief.settings
    for name, pool in settings.pools.items():
        try:
            identity = pool_identity(pool)
            socket_file(pool, identity)
            _check_logs(pool)
        except ConfigError as error:
            messages.append(settings.named(name, error))
        except OSError as error:
            messages.append(settings.named(name, f"{error.filename}: {error.strerror}"))
        else:
            messages += _check_pool(Task(name, pool, brief.work(name), os.getpid()), identity)
    return messages


def _check_logs(pool: Pool) -> None:
    """Nothing is opened, for that would make the file. Raises ConfigError."""
    for setting, path in (("access_log", pool.access_log), ("slowlog", pool.slowlog)):
        folder = os.path.dirname(os.path.abspath(path))
        if path and not os.path.isdir(folder):
            raise ConfigError(f"{setting}: cannot open {path}: there is no folder {folder}")


def _check_pool(task: Task, identity: Identity | None) -> list[str]:
    try:
        zygote = Zygote(task, identity)
    except (OSError, subprocess.SubprocessError) as error:
        return [f"pool {task.name}: cannot start a zygote: {error}"]
    try:
        readable, _, _ = select.select([zygote.channel], [], [], task.pool.start_timeout)
        message = receive(zygote.channel) if readable else {}
    except BadMessage as error:
        return [f"pool {task.name}: its zygote sent {error}"]
    finally:
        zygote.discard()
        zygote.process.wait()
    if message is None:
        return [f"pool {task.name}: its zygote ended with status {zygote.process.returncode} before it was ready"]
    if not message:
        return [f"pool {task.name}: not loaded within start_timeout ({task.pool.start_timeout:g} s)"]
    messages = [(failure["message"] + "\n" + failure["traceback"]).rstrip() for failure in message["failures"]]
    if message["error"]:
        messages.append(f"pool {task.name}: {message['error']}\n{message['traceback']}".rstrip())
    return messages


def pool_identity(pool: Pool) -> Identity | None:
    """Whom the pool runs as: None to stay who we are. Raises ConfigError."""
    working_directory(pool)
    if not pool.user and not pool.group:
        return None
    try:
        identity = find_identity(pool.user or str(os.geteuid()), pool.group)
    except IdentityError as error:
        raise ConfigError(str(error)) from error
    if os.geteuid() != 0:
        _check_own(pool, identity)
        return None
    for path in (pool.python or sys.executable, BOOT, pool.app_dir or os.getcwd(), working_directory(pool)):
        if closed := closed_at(path, identity.uid, identity.groups):
            raise ConfigError(
                f"user {identity.name} may not read {closed}, where {path} is; "
                "open it to that user, move it, or name another user"
            )
    return identity


def _check_own(pool: Pool, identity: Identity) -> None:
    """Refuse what only root can give a pool. Raises ConfigError."""
    if identity.uid != os.geteuid():
        raise ConfigError(f"only root can run a pool as {identity.name}; start gateway as root or leave `user` out")
    if pool.group and identity.gid not in (os.getegid(), *os.getgroups()):
        name = identity.name
        raise ConfigError(
            f"only root can give a pool the group {pool.group}, to which {name} does not belong; "
            "start gateway as root, make the user a member, or leave `group` out"
        )


def working_directory(pool: Pool) -> str:
    """Where the pool's processes work. Raises ConfigError where there is no such folder."""
    if pool.app_dir and not os.path.isdir(pool.app_dir):
        raise ConfigError(f"app_dir: there is no folder {os.path.abspath(pool.app_dir)}; create it or name another")
    path = os.path.join(os.path.abspath(pool.app_dir or "."), pool.chdir)
    if pool.chdir and not os.path.isdir(path):
        raise ConfigError(f"chdir: there is no folder {path}; create it or name another")
    return path


def open_pool_listeners(
    pool: Pool, identity: Identity | None, opened: dict[str, tuple[Listener, ...]]
) -> tuple[Listener, ...]:
    """Open what the pool listens on and is not among `opened`, by address, yet, or has lost its file: what is new is
    added there.

    Raises ListenError and ConfigError.
    """
    file = socket_file(pool, identity)
    listeners: list[Listener] = []
    for address in dict.fromkeys(str(parse_address(text)) for text in pool.listen):
        before = opened.get(address, ())
        found = tuple(listener for listener in before if not listener.loss)
        if not found:
            loss = before[-1].loss if before else ""
            found = tuple(open_listeners(parse_address(address), backlog=pool.listen_backlog, file=file))
            opened[address] = (*before, *found)
            for listener in found:
                _tell(listener, pool, loss)
        listeners += found
    if not listeners:
        raise ListenError("a pool has no address to listen on; name one with --listen", EXIT_SETTINGS)
    return tuple(listeners)


def _tell(listener: Listener, pool: Pool, loss: str) -> None:
    if isinstance(listener.address, InheritedAddress):
        return
    who = who_may_connect(listener, pool.listen_allowed_clients)
    if loss:
        log.line(f"{listener.address} {loss}: listening on it again ({who})", log.Level.WARNING)
    else:
        log.line(f"listening on {listener.address} ({who})")


def socket_file(pool: Pool, identity: Identity | None) -> SocketFile:
    """Owner and mode of the pool's Unix sockets: by default its own user and group. Raises ConfigError."""
    uid, gid = (identity.uid, identity.gid) if identity else (-1, -1)
    try:
        if pool.listen_owner:
            uid = find_identity(pool.listen_owner).uid
        if group := pool.listen_group or pool.group:
            gid = find_identity(str(os.geteuid()), group).gid
    except IdentityError as error:
        raise ConfigError(str(error)) from error
    return SocketFile(int(pool.listen_mode, 8), uid, gid)


def write_pid(path: str) -> None:
    """Write the process ID under a temporary name and move it to its own, so that nobody reads half of it."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(f"{os.getpid()}\n")
    os.rename(temporary, path)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
