"""Addresses of listeners and peers as settings and commands write them: `/path.sock`, `unix:/path.sock`,
`127.0.0.1:9000`, `[::1]:9000`, `fd:0`, `systemd`, `systemd:NAME`."""

from __future__ import annotations

import ipaddress
import os
import re
import socket

from gateway.record import Record

_PORT = re.compile(r"[1-9][0-9]{0,4}\Z", re.ASCII)
_DESCRIPTOR_NAME = re.compile(r"[ -9;-~]{1,255}\Z")  # systemd.socket(5), FileDescriptorName=


class UnixAddress(Record):
    """A Unix socket by its path."""

    path: str

    def __str__(self) -> str:
        return self.path


class TcpAddress(Record):
    """An IP address and a port."""

    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


class InheritedAddress(Record):
    """A listening socket that this process was given: `fd:N`, or with `fd` None one of systemd's (LISTEN_FDS): those
    called `name` (LISTEN_FDNAMES), or all."""

    fd: int | None
    name: str = ""

    def __str__(self) -> str:
        if self.fd is not None:
            return f"fd:{self.fd}"
        return f"systemd:{self.name}" if self.name else "systemd"


Address = UnixAddress | TcpAddress | InheritedAddress


def parse_address(text: str) -> Address:
    """Read an address; a ValueError says what is wrong with it and how one is written."""
    if text.startswith("unix:"):
        return _unix(text, text[5:])
    if text.startswith("systemd:"):
        return _systemd(text, text[8:])
    if "/" in text:
        return _unix(text, text)
    if text == "systemd":
        return InheritedAddress(None)
    if text.startswith("fd:"):
        if not text[3:].isascii() or not text[3:].isdigit():
            raise ValueError(f"{text!r}: write the number of an open file descriptor, as in fd:0")
        return InheritedAddress(int(text[3:]))
    return _tcp(text)


def _unix(text: str, path: str) -> UnixAddress:
    if not path.startswith("/"):
        raise ValueError(f"{text!r}: the path of a Unix socket is absolute, as in /run/gateway/main.sock")
    if len(path.encode()) > 107:
        raise ValueError(f"{text!r}: the path of a Unix socket has at most 107 bytes")
    return UnixAddress(path)


def _systemd(text: str, name: str) -> InheritedAddress:
    if not _DESCRIPTOR_NAME.match(name):
        raise ValueError(
            f"{text!r}: write the FileDescriptorName of a .socket unit, as in systemd:shop; it has at most 255 "
            "characters of ASCII and no colon"
        )
    return InheritedAddress(None, name)


def _tcp(text: str) -> TcpAddress:
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.match(port) or int(port) > 65535:
        raise ValueError(f"{text!r} is no address: write /path.sock, 127.0.0.1:9000, [::1]:9000, fd:0 or systemd")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ip = ipaddress.ip_address(bare)
    except ValueError:
        raise ValueError(f"{text!r}: the host is an IP address, as in 127.0.0.1:9000 or [::1]:9000") from None
    if (ip.version == 6) != (bare != host):
        raise ValueError(f"{text!r}: an IPv6 address is written in brackets, as in [::1]:9000")
    return TcpAddress(ip, int(port))


def resolve(host: str, port: int) -> TcpAddress:
    """The address of a host by name or number and a port; "" is every address of this machine. Raises ValueError."""
    try:
        ip = ipaddress.ip_address(host or "0.0.0.0")
    except ValueError:
        try:
            ip = ipaddress.ip_address(socket.gethostbyname(host))
        except OSError as error:
            raise ValueError(f"({host!r}, {port}): the host is not known: {error.strerror}") from None
    if not 0 < port <= 65535:
        raise ValueError(f"({host!r}, {port}): a port is a number from 1 to 65535")
    return TcpAddress(ip, port)


def runtime_directory() -> str:
    """Where sockets are by default: /run/gateway for root, else the user's own runtime directory."""
    if os.geteuid() == 0:
        return "/run/gateway"
    return os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
