"""Apache: mod_proxy_fcgi, mod_proxy_scgi and mod_fcgid."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.running import GATEWAY, HERE, ROOT

CLIENT = "Apache 2.4.71"
SERVER = """ServerRoot "{place}"
DefaultRuntimeDir "{place}"
PidFile "{place}/apache.pid"
ErrorLog /dev/stderr
ServerName localhost
Listen 127.0.0.1:{port}
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
Define modules /usr/lib/apache2/modules
LoadModule mpm_event_module ${{modules}}/mod_mpm_event.so
LoadModule authz_core_module ${{modules}}/mod_authz_core.so
LoadModule alias_module ${{modules}}/mod_alias.so
LoadModule proxy_module ${{modules}}/mod_proxy.so
LoadModule proxy_fcgi_module ${{modules}}/mod_proxy_fcgi.so
LoadModule proxy_scgi_module ${{modules}}/mod_proxy_scgi.so
LoadModule fcgid_module ${{modules}}/mod_fcgid.so
DocumentRoot "{place}"
AllowEncodedSlashes On
"""
SPAWNED = """#!/bin/sh
exec {command}
"""


def with_lines(place: Path, port: int, lines: str) -> str:
    """A server of one process with these lines."""
    return SERVER.format(place=place, port=port) + lines


def by_handler(place: Path, port: int, socket: Path) -> str:
    """mod_proxy_fcgi as the handler of everything."""
    handler = f'"proxy:unix:{socket}|fcgi://localhost/"'
    return with_lines(place, port, f"<Location />\nSetHandler {handler}\n</Location>\n")


def by_pass(place: Path, port: int, socket: Path, more: str = "") -> str:
    """mod_proxy_fcgi below a URL."""
    return with_lines(place, port, f'ProxyPass "/" "unix:{socket}|fcgi://localhost/" {more}\n')


def by_scgi(place: Path, port: int, socket: Path) -> str:
    """mod_proxy_scgi below a URL."""
    return with_lines(place, port, f'ProxyPass "/" "unix:{socket}|scgi://localhost/"\n')


def spawning(place: Path, port: int, app: str) -> str:
    """mod_fcgid, which starts a script for all URLs."""
    start = place / "start.fcgi"
    command = " ".join([*GATEWAY, "serve", app, "--app-dir", str(HERE)])
    start.write_text(SPAWNED.format(command=command))
    start.chmod(0o755)
    return with_lines(
        place,
        port,
        f"""FcgidIPCDir "{place}/fcgid"
FcgidProcessTableFile "{place}/fcgid.shm"
FcgidMaxProcesses 2
FcgidInitialEnv PYTHONPATH {ROOT}
FcgidInitialEnv JOURNAL {place}/journal
FcgidInitialEnv GATES {place}/gates
ScriptAlias "/" "{start}/"
<Directory "{place}">
SetHandler fcgid-script
Options ExecCGI
Require all granted
</Directory>
""",
    )
