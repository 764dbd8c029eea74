"""Listening sockets: made (Unix sockets atomically, with owner and mode), or inherited (fd N, systemd's LISTEN_FDS)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from typing import Protocol

from gateway.net.address import Address, InheritedAddress, TcpAddress, UnixAddress, parse_address
from gateway.net.handover import Keep
from gateway.record import Record

_FIRST_SYSTEMD_FD = 3  # sd_listen_fds(3): SD_LISTEN_FDS_START


class Heir(Protocol):
    """Who takes the connections of a listener that its own workers do not have (`kept.KeptQueue`)."""

    def has_room(self) -> bool:
        """Whether `give` will take one more."""

    def give(self, sock: socket.SocketType, *, kept: bool) -> bool:
        """Take a copy of a connection."""


class ListenError(Exception):
    """A listener cannot be made. `str()` is one line with the remedy; `exit_code` is 100 or 111."""

    def __init__(self, message: str, exit_code: int = 111) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class AddressInUse(ListenError):
    """Another process serves this address (exit 75)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 75)


class SocketFile(Record):
    """Permissions of a Unix socket: mode bits, and owner and group by number (-1: left as they are)."""

    mode: int = 0o660
    uid: int = -1
    gid: int = -1


class Listener(Record):
    """A listening, non-blocking socket; `inode` identifies the file of a Unix socket that this process made."""

    socket: socket.socket
    address: Address
    inode: tuple[int, int] | None = None

    @property
    def loss(self) -> str:
        """What has become of the file that this process made, where nobody can connect by it any more; else ""."""
        if not self.inode or not isinstance(self.address, UnixAddress):
            return ""
        try:
            return "" if _inode(self.address.path) == self.inode else "has been replaced"
        except (FileNotFoundError, NotADirectoryError):
            return "has been removed"
        except OSError:  # nobody knows
            return ""

    def change(self, backlog: int, file: SocketFile) -> None:
        """Give it another length of its queue and, if this process made its file, other permissions. Raises OSError."""
        self.socket.listen(backlog)
        if self.inode and isinstance(self.address, UnixAddress):
            path = self.address.path
            with _locked(path):
                if _inode(path) == self.inode:
                    os.chown(path, file.uid, file.gid, follow_symlinks=False)
                    os.chmod(path, file.mode)

    def close(self) -> None:
        """Close the socket, and remove its file if this process made it and nobody has replaced it since."""
        self._remove_file()
        self.socket.close()

    def retire(self, heir: Heir | None) -> bool:
        """Close the socket for all processes that have it, where this one made it; others of them go on.

        Connections to a Unix socket that nobody has accepted yet are given to `heir`. Return False where it has no room
        for all of them: the socket is still open then, without a name, and is to be retired once more.
        """
        self._remove_file()
        if isinstance(self.address, TcpAddress):
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RD)  # copies of it would keep the port
        elif self.inode:
            self.socket.setblocking(False)  # a foreign program's waits
            if not self.pass_on(heir):
                return False
        self.socket.close()
        return True

    def pass_on(self, heir: Heir | None) -> bool:
        """Give the connections that wait to `heir`, as far as it has room; return whether none waits any more.

        Without an heir they are closed.
        """
        with contextlib.suppress(OSError):
            while heir is None or heir.has_room():
                with self.socket.accept()[0] as waiting:
                    if heir is not None:
                        heir.give(waiting, kept=False)
            return False
        return True

    def hand_over(self, keep: Keep) -> tuple[int, str, tuple[int, int] | None]:
        """See `handover`; systemd's own descriptors are not among them."""
        return keep(self.socket.fileno()), str(self.address), self.inode

    @classmethod
    def take_over(cls, fd: int, address: str, inode: tuple[int, int] | None) -> Listener:
        """See `handover`."""
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        return cls(sock, parse_address(address), inode and (inode[0], inode[1]))

    def _remove_file(self) -> None:
        if self.inode and isinstance(self.address, UnixAddress):
            path = self.address.path
            with contextlib.suppress(OSError), _locked(path):
                if _inode(path) == self.inode:
                    os.unlink(path)


def open_listeners(address: Address, *, backlog: int = 511, file: SocketFile | None = None) -> list[Listener]:
    """Open the listeners of one address (for `systemd` there may be several). Raises ListenError."""
    if isinstance(address, UnixAddress):
        return [_open_unix(address, backlog, file or SocketFile())]
    if isinstance(address, TcpAddress):
        return [_open_tcp(address, backlog)]
    return _take_from_systemd(address.name) if address.fd is None else [_inherit(address.fd)]


def fd_is_listening(fd: int) -> bool:
    """Say whether the file descriptor is a listening stream socket (FastCGI 1.0 §2.2, FCGI_LISTENSOCK_FILENO)."""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        with socket.socket(fileno=os.dup(fd)) as sock:
            return sock.type == socket.SOCK_STREAM and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def who_may_connect(listener: Listener, allowed: Sequence[str] = ()) -> str:
    """Describe who may connect, for the start message and for the operator whose front-end is refused.

    `allowed`: the IP addresses that alone may, over TCP.
    """
    if not isinstance(listener.address, UnixAddress):
        return f"{', '.join(allowed)} may connect" if allowed else "whoever reaches this address may connect"
    return describe_access(listener.address.path)


def describe_access(path: str) -> str:
    """Describe which users the file permissions of a Unix socket, and of the folders above it, let connect."""
    status = os.stat(path)
    mode = stat.S_IMODE(status.st_mode)
    who = [f"user {_user_name(status.st_uid)}"] if mode & 0o200 else []
    who += [f"group {_group_name(status.st_gid)}"] if mode & 0o020 else []
    who += ["everyone"] if mode & 0o002 else []
    text = f"mode {mode:04o}: {', '.join(who) or 'nobody'} may connect"
    closed = _closed_folder(path)
    return f"{text}, but the folder {closed} lets only its owner in" if closed else text


def _open_unix(address: UnixAddress, backlog: int, file: SocketFile) -> Listener:
    path = address.path
    _check_folder(os.path.dirname(path))
    try:
        with _locked(path):
            _check_free(path)
            return Listener(_bind_unix(path, backlog, file), address, _inode(path))
    except OSError as error:
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from error


def _check_folder(folder: str) -> None:
    """Refuse a folder in which somebody else could replace the socket, or in which none can be made."""
    try:
        status = os.stat(folder)
    except OSError as error:
        remedy = f"create it first, as in: mkdir -p {folder}" if error.errno == errno.ENOENT else "check the path"
        raise ListenError(f"cannot listen in {folder}: {error.strerror}; {remedy}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        me = _user_name(os.geteuid())
        raise ListenError(
            f"cannot listen in {folder}: user {me} may not write there; choose another --listen or chown it"
        )
    if status.st_mode & 0o002 and not status.st_mode & stat.S_ISVTX:
        raise ListenError(
            f"cannot listen in {folder}: every user may replace files there; use a folder of your own or chmod o-w it",
            100,
        )


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the lock of a socket's path, so that of many starts at once exactly one makes it."""
    folder, name = os.path.split(path)
    lock = os.path.join(folder, f".{name}.lock")
    while True:
        fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        # Whoever held the lock before has removed the file: a lock on a removed file keeps nobody out.
        if os.fstat(fd).st_nlink:
            break
        os.close(fd)
    try:
        yield
    finally:
        os.unlink(lock)
        os.close(fd)


def _check_free(path: str) -> None:
    """Refuse a path that a live server owns, or that holds anything but a socket; a stale socket may be replaced."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ListenError(
            f"cannot listen on {path}: something that is no socket is there; remove it or choose another path", 100
        )
    if _answers(path):
        raise AddressInUse(f"cannot listen on {path}: another process serves it; stop that one or choose another path")


def _answers(path: str) -> bool:
    """Say whether a process listens on the socket at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # its queue is full: it lives
            return True
    return True


def _bind_unix(path: str, backlog: int, file: SocketFile) -> socket.socket:
    """Make the socket under a temporary name, listening only once owner and mode are right, then move it to `path`."""
    temporary = f"{os.path.dirname(path)}/.{os.getpid():x}"  # short: a socket's path has at most 107 bytes
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    old = os.umask(0o777 & ~file.mode)
    try:
        sock.bind(temporary)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(old)
    try:
        if file.uid != -1 or file.gid != -1:
            os.chown(temporary, file.uid, file.gid, follow_symlinks=False)
        sock.listen(backlog)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        sock.close()
        raise
    return sock


def _inode(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def _open_tcp(address: TcpAddress, backlog: int) -> Listener:
    family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(address.ip), address.port))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"cannot listen on {address}: another process uses this port; stop it or choose another"
            ) from error
        raise ListenError(f"cannot listen on {address}: {error.strerror}") from error
    return Listener(sock, address)


def _take_from_systemd(name: str) -> list[Listener]:
    """Duplicate the descriptors that systemd calls `name`, or all ("").

    Its own stay open at their numbers for as long as this process lives: other addresses choose from them, a pool that
    a reload adds may, and a program that this process executes in its place finds them again.
    """
    given = given_by_systemd()
    taken = [_duplicate(fd, InheritedAddress(None, own)) for fd, own in given if name in ("", own)]
    if taken:
        return taken
    if not given:
        raise ListenError("no socket from systemd: start this by a .socket unit, or name an address to listen on", 100)
    names = ", ".join(dict.fromkeys(own or "one without a name" for _, own in given))
    raise ListenError(
        f"no socket from systemd is called {name}, only {names}; write FileDescriptorName={name} in its .socket unit",
        100,
    )


def given_by_systemd() -> list[tuple[int, str]]:
    """The descriptors that systemd passed to this very process, with their names (sd_listen_fds_with_names(3))."""
    pid, count = os.environ.get("LISTEN_PID", ""), os.environ.get("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isascii() or not count.isdigit():
        return []
    fds = range(_FIRST_SYSTEMD_FD, _FIRST_SYSTEMD_FD + int(count))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return list(zip(fds, names if len(names) == len(fds) else [""] * len(fds), strict=True))


def _inherit(fd: int) -> Listener:
    """Take a descriptor away from its number: 0 becomes standard input again."""
    listener = _duplicate(fd, InheritedAddress(fd))
    null = os.open(os.devnull, os.O_RDONLY)
    if fd == 0:
        os.dup2(null, fd)
    else:
        os.close(fd)
    os.close(null)
    return listener


def _duplicate(fd: int, address: InheritedAddress) -> Listener:
    if not fd_is_listening(fd):
        raise ListenError(
            f"file descriptor {fd} is no listening socket; let lighttpd, spawn-fcgi or systemd start this", 100
        )
    os.set_inheritable(fd, False)
    sock = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10))
    sock.setblocking(False)
    return Listener(sock, address)


def _closed_folder(path: str) -> str:
    """Name the first folder above `path` that lets only its owner pass, or ""."""
    parts = path.split("/")[1:-1]
    for count in range(1, len(parts) + 1):
        folder = "/" + "/".join(parts[:count])
        if not os.stat(folder).st_mode & 0o011:
            return folder
    return ""


def _user_name(uid: int) -> str:
    import pwd

    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _group_name(gid: int) -> str:
    import grp

    with contextlib.suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)
