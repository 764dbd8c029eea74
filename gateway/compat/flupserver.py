"""What flup's parameters mean on this engine, and the run() of its servers."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from typing import Any

from gateway.app.bindings import canonical_path
from gateway.app.flup import NoDefault, Server
from gateway.compat.serving import FCGI_SOCKET, Served, by_cgi, by_hand, name_of, on_socket
from gateway.net import cgi
from gateway.net.address import parse_address, resolve
from gateway.net.listeners import fd_is_listening
from gateway.record import replace
from gateway.settings import Binding, ConfigError, Pool, ProcessManager

_THREADS = 10  # at most, where the script sets no lower maxThreads: as many as web.py's own server has


def serve(server: Server, overrides: Mapping[str, Any] | None = None) -> bool:
    """Serve until a signal ends it, or the one CGI request is answered; True if the signal was SIGHUP.

    `overrides` are settings of the pool that come before what the script says. Raises ConfigError and ListenError.
    """
    pool = replace(pool_of(server), **(overrides or {}))
    served = Served(
        application=server.wsgifunc(),
        pool=pool,
        bindings=_bindings(server),
        multiprocess=server.multiprocess,
        forks=server.module.forks,
        name=name_of(server.application),
    )
    if pool.listen:
        return on_socket(served, server.stop_by)
    if fd_is_listening(0) and not (cgi.is_cgi() and _is_forced_to_cgi(server)):
        forks = served.forks and "maxChildren" in server.given
        return on_socket(replace(served, pool=replace(pool, listen=FCGI_SOCKET), forks=forks), server.stop_by)
    if cgi.is_cgi():
        by_cgi(replace(served, multiprocess=True))
    else:
        by_hand(served.application)
    return False


def pool_of(server: Server) -> Pool:
    """The pool that a server of flup's asks for. Raises ConfigError."""
    options = server.options
    pool = Pool(protocol=server.module.protocol, clear_env=False, max_body=0)
    if (address := options["bindAddress"]) is not None:
        pool = replace(pool, listen=(_address(server, address),), listen_allowed_clients=_allowed(server, address))
    if (umask := options["umask"]) is not None:
        pool = replace(pool, listen_mode=f"{0o777 & ~umask:04o}")
    if server.multithreaded:
        pool = replace(pool, threads=min(_THREADS, options["maxThreads"]))
    if server.module.forks:
        pool = replace(
            pool,
            pm=ProcessManager.DYNAMIC,
            max_children=max(options["maxChildren"], options["maxSpare"]),
            min_spare_servers=options["minSpare"],
            max_spare_servers=options["maxSpare"],
            max_requests=options["maxRequests"],
            request_terminate_timeout=float(options["timeout"] or 0),
        )
        if pause := options["sockTimeout"]:
            pool = replace(pool, request_body_timeout=float(pause), response_timeout=float(pause))
    return pool


def _address(server: Server, address: Any) -> str:
    """bindAddress as the settings write an address. Raises ConfigError."""
    try:
        if isinstance(address, str):
            return str(parse_address("unix:" + os.path.abspath(address)))
        host, port, *_ = address
        found = resolve(host, int(port))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{_where(server)}: bindAddress={address!r}: {error}") from None
    if not found.ip.is_loopback and not _allowed(server, address):
        raise ConfigError(
            f"{_where(server)}: bindAddress={address!r} can be reached from other machines; name the front-ends that "
            "may connect, in the environment as FCGI_WEB_SERVER_ADDRS=192.0.2.1 or in allowedServers, or bind to "
            "127.0.0.1 or a Unix socket"
        )
    return str(found)


def _allowed(server: Server, address: Any) -> tuple[str, ...]:
    """Who may connect over TCP; of a Unix socket its permissions decide. Raises ConfigError."""
    if isinstance(address, str):
        return ()
    source, named = "allowedServers", server.options.get("allowedServers") or ()
    if server.module.protocol == "fastcgi":
        source, named = "FCGI_WEB_SERVER_ADDRS", os.environ.get("FCGI_WEB_SERVER_ADDRS", "").split(",")
    allowed = tuple(text.strip() for text in named if text.strip())
    for text in allowed:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ConfigError(f"{source} names {text!r}: write IP addresses, as in 192.0.2.1") from None
    return allowed


def _where(server: Server) -> str:
    return f"flup.server.{type(server).__module__.rpartition('.')[2]}.WSGIServer"


def _bindings(server: Server) -> tuple[Binding, ...]:
    """Everything, at the root or prefix that the front-end names, or at `scriptName`. Raises ConfigError."""
    name = server.options.get("scriptName", NoDefault)
    if name is NoDefault or name is None:
        return (Binding(),)
    mounted = Binding(path="/" + name.strip("/"))
    try:
        canonical_path(mounted.path)
    except ValueError as error:
        raise ConfigError(f"{_where(server)}: scriptName={name!r}: {error}") from None
    return (mounted,) if mounted.path == "/" else (mounted, Binding())


def _is_forced_to_cgi(server: Server) -> bool:
    return server.forceCGI or os.environ.get("FCGI_FORCE_CGI", "").upper().startswith("Y")
