"""A web server that starts scripts for every request: Apache with mod_cgid, lighttpd with mod_cgi."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.running import AS_SOMEBODY, HERE, ROOT, Program, Settings, front, listens
from tests.waiting import free_port

MODULES = "/usr/lib/apache2/modules"
APACHE = """
ServerRoot {place}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {place}/apache.pid
ErrorLog {place}/apache.log
DefaultRuntimeDir {place}
Mutex default:{place}
ScriptSock {place}/cgid.sock
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule alias_module {modules}/mod_alias.so
LoadModule cgid_module {modules}/mod_cgid.so
ScriptAlias /cgi-bin/ {place}/cgi-bin/
"""
LIGHTTPD = """
server.modules = ( "mod_alias", "mod_cgi" )
server.bind = "127.0.0.1"
server.port = {port}
server.document-root = "{place}/cgi-bin"
server.errorlog = "{place}/lighttpd.log"
server.breakagelog = "{place}/scripts.log"
server.stream-response-body = 1
alias.url = ( "/cgi-bin/" => "{place}/cgi-bin/" )
cgi.assign = ( ".cgi" => "" )
"""


@dataclass
class CgiServer:
    """A web server that starts a script for each request below /cgi-bin/NAME.cgi."""

    port: int
    place: Path
    settings: Settings

    @property
    def said(self) -> str:
        """What the scripts have written to standard error, among what the server itself has to say."""
        return "".join(path.read_text() for path in self.place.glob("*.log"))


@contextlib.contextmanager
def cgi_server(name: str, place: Path, commands: Mapping[str, str], *, environment: str = "") -> Iterator[CgiServer]:
    """Apache or lighttpd; `commands` are Python's words for sh, by the names of their scripts.

    `environment` are further variables, as sh writes them.
    """
    (place / "cgi-bin").mkdir()
    settings = Settings(place)
    variables = f"PYTHONPATH={ROOT}:{HERE} JOURNAL={place}/journal GATES={place}/gates HTTP_PROXY=$HTTP_PROXY"
    for script, command in commands.items():
        start = place / "cgi-bin" / f"{script}.cgi"
        start.write_text(f"#!/bin/sh\n{variables} {environment} exec {sys.executable} {command}\n")
        start.chmod(0o755)
    port = free_port()
    if name == "lighttpd":
        with front("lighttpd", place, LIGHTTPD.format(port=port, place=place), port):
            yield CgiServer(port, place, settings)
        return
    (place / "apache.conf").write_text(APACHE.format(port=port, place=place, modules=MODULES))
    apache = [*AS_SOMEBODY, "apache2", "-D", "FOREGROUND", "-f", place / "apache.conf"]
    with Program(apache, place / "apache.out", env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}) as program:
        program.wait_for(lambda: listens(port))
        yield CgiServer(port, place, settings)
        program.signal(signal.SIGKILL)  # which spares the two seconds that it gives mod_cgid's daemon
