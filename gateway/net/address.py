"""Addresses of listeners and peers as settings and commands write them: `/path.sock`, `unix:/path.sock`,
`127.0.0.1:9000`, `[::1]:9000`, `fd:0`, `systemd`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_PORT = re.compile(r"[1-9][0-9]{0,4}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket by its path."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address and a port."""

    ip: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"


@dataclass(frozen=True, slots=True)
class InheritedAddress:
    """A listening socket that this process was given: `fd:N`, or `systemd` (LISTEN_FDS) with `fd` None."""

    fd: int | None

    def __str__(self) -> str:
        return "systemd" if self.fd is None else f"fd:{self.fd}"


Address = UnixAddress | TcpAddress | InheritedAddress


def parse_address(text: str) -> Address:
    """Read an address; a ValueError says what is wrong with it and how one is written."""
    if text.startswith("unix:"):
        return _unix(text, text[5:])
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
