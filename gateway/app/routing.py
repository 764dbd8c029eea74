"""Whose request it is: parameters → host, port and path → site; the same for WSGI and ASGI."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway import settings
from gateway.app.bindings import Bindings
from gateway.app.environ import Rejected, check_escapes, host_and_port, mount, normalise, request_path, server_name
from gateway.app.loader import Application
from gateway.protocol.events import RequestHead, Role

_NONE_ELSEWHERE: Mapping[str, Sequence[str]] = {}
_MOST_HOSTS = 1_000  # that are known to a quick way at a time, and
_MOST_PORTS = 16  # of each


class Site:
    """An application that is bound somewhere: its callable, or why there is none.

    `label`: under which requests to its host are counted.
    """

    __slots__ = ("application", "error", "label", "name")

    def __init__(self, name: str, application: Application | None, error: str | None = None, label: int = 0) -> None:
        self.name = name
        self.application = application
        self.error = error
        self.label = label

    def __str__(self) -> str:
        return self.name


class Known(NamedTuple):
    """What is bound to a host, a port and a path; where it is the same for every path, not to be looked for again."""

    application: Application
    name: str
    label: int
    host: str  # in canonical form
    server_name: str  # for a request without SERVER_NAME


class ByPath:
    """What is bound to a host and port, each path to its own."""

    __slots__ = ("_bindings", "_host", "_port", "_server_name")

    def __init__(self, bindings: Bindings[Site], host: str, port: int, server_name: str) -> None:
        self._bindings = bindings
        self._host = host
        self._port = port
        self._server_name = server_name

    def __call__(self, environ: dict[str, Any]) -> Known | None:
        """Mount what is bound to the path of an environ that is complete; None where there is nothing that runs."""
        path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        found = self._bindings.find(self._host, self._port, path)
        if found is None or (application := found[0].application) is None:
            return None
        site, prefix = found
        if prefix:
            mount(environ, path, prefix)
        return Known(application, site.name, site.label, self._host, self._server_name)


class Router:
    """Makes an environ of a request's parameters, and finds the site that it is for."""

    def __init__(
        self,
        entries: Iterable[tuple[settings.Binding, Site]],
        *,
        own: int,
        port_from: str = "server",
        unknown_host: int = 503,
        max_body: int = 0,
        authorizer: Site | None = None,
        elsewhere: Mapping[str, Sequence[str]] = _NONE_ELSEWHERE,
    ) -> None:
        """`own`: how many keys of an environ are the gateway's; `max_body` in bytes, 0 for no limit.

        `authorizer` is asked by front-ends that want one (FastCGI 1.0 §6.3), about any host and path; without it, what
        is bound there. `elsewhere`: the hosts of other pools, by what these are called. Raises BindingConflict and
        ValueError for bindings that cannot be.
        """
        self._bindings = Bindings(entries)
        # For a quick way: what is known of hosts, by HTTP_HOST and SERVER_PORT.
        self.hosts: dict[str, dict[str, Known | ByPath]] = {}
        self.notes_hosts = False
        self._authorizer = authorizer
        self._elsewhere = Bindings(
            (settings.Binding(hostname=host), pools) for pools, hosts in elsewhere.items() for host in hosts
        )
        self._own = own
        self.port_from = port_from
        self._unknown_host = unknown_host
        self.max_body = max_body or sys.maxsize

    def route(self, head: RequestHead) -> tuple[Site, str, int | None]:
        """Complete the environ, but for the body, in place; return the site, which has an application, the host in
        canonical form, and the length of the body if that is known. Raises Rejected.
        """
        environ = head.params
        normalise(environ, head.repeats, self._own, plain=head.plain)
        host, port = host_and_port(environ, self.port_from)
        path, prefix = request_path(environ)
        if "%" in path:
            check_escapes(environ["REQUEST_URI"])
        if self._authorizer is not None and head.role is Role.AUTHORIZER:
            site, bound_prefix = self._authorizer, "/"
        else:
            found = self._bindings.find(host, port, path)
            if found is None:
                raise Rejected(self._unknown_host, f"nothing is bound to {host}:{port}{self._where_else(host, port)}")
            site, bound_prefix = found
        if site.application is None:
            raise Rejected(503, site.error or f"application {site.name!r} is not running")
        mount(environ, path, bound_prefix or prefix)
        environ["gateway.application"] = site.name
        size = environ.get("CONTENT_LENGTH")
        if size is not None:
            size = int(size)
            if size > self.max_body:
                raise Rejected(413, f"CONTENT_LENGTH is {size}, max_body {self.max_body}")
        if self.notes_hosts:
            self._note(environ, host, port)
        return site, host, size

    def _where_else(self, host: str, port: int) -> str:
        """What the log says of the pool that a front-end should have asked."""
        found = self._elsewhere.find(host, port, "")
        return "" if found is None else f" in this pool, but in {found[0]}: the front-end sends it to the wrong one"

    def known(self, environ: dict[str, Any]) -> Known | ByPath | None:
        """For a quick way: what is bound to the host of a request that has HTTP_HOST and SERVER_PORT; None where these
        are refused. It is in `hosts` from here on.
        """
        try:
            host, port = host_and_port(environ, self.port_from)
        except Rejected:
            return None
        return self._note(environ, host, port)

    def _note(self, environ: dict[str, Any], host: str, port: int) -> Known | ByPath | None:
        """Let the quick way know what is bound to a host as it is written.

        What there is to be known is the clients' to choose, so it is forgotten before it becomes much.
        """
        text = environ.get("HTTP_HOST")
        if text is None:
            return None
        known: Known | ByPath
        site = self._bindings.find_for_all_paths(host, port)
        if site is not None and site.application is not None:
            known = Known(site.application, site.name, site.label, host, server_name(environ))
        else:
            known = ByPath(self._bindings, host, port, server_name(environ))
        if len(self.hosts) >= _MOST_HOSTS:
            self.hosts.clear()
        ports = self.hosts.setdefault(text, {})
        if len(ports) >= _MOST_PORTS:
            ports.clear()
        ports[environ["SERVER_PORT"]] = known
        return known
