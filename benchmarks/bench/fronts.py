"""The front-ends, one worker each, with a port for each contender; what they pass on is the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import BACKLOG
from tests.end_to_end.running import USER

FRONTS = ("nginx", "lighttpd")

# What nginx's own fastcgi_params has, but for the paths of files, with the path in PATH_INFO.
_PARAMETERS = {
    "QUERY_STRING": "$query_string",
    "REQUEST_METHOD": "$request_method",
    "CONTENT_TYPE": "$content_type",
    "CONTENT_LENGTH": "$content_length",
    "SCRIPT_NAME": '""',
    "PATH_INFO": "$document_uri",
    "REQUEST_URI": "$request_uri",
    "DOCUMENT_URI": "$document_uri",
    "DOCUMENT_ROOT": "$document_root",
    "SERVER_PROTOCOL": "$server_protocol",
    "REQUEST_SCHEME": "$scheme",
    "GATEWAY_INTERFACE": "CGI/1.1",
    "SERVER_SOFTWARE": "nginx/$nginx_version",
    "REMOTE_ADDR": "$remote_addr",
    "REMOTE_PORT": "$remote_port",
    "SERVER_ADDR": "$server_addr",
    "SERVER_PORT": "$server_port",
    "SERVER_NAME": "$server_name",
    "SCRIPT_FILENAME": "$document_root/hello.php",
}


@dataclass(frozen=True)
class Backend:
    """Where a front-end passes the requests of a port."""

    port: int
    socket: Path
    speaks: str  # fastcgi, uwsgi or http
    keep: int = 0  # connections to it that stay open; 0: one for each request


def nginx(place: Path, backends: Sequence[Backend], root: Path) -> str:
    """nginx's configuration: bodies are streamed, and nothing is written to disk."""
    parameters = "\n".join(
        f"{protocol}_param {name} {value};" for protocol in ("fastcgi", "uwsgi") for name, value in _PARAMETERS.items()
    )
    modules = ("fastcgi", "uwsgi", "proxy")
    streaming = "\n".join(f"{module}_request_buffering off; {module}_max_temp_file_size 0;" for module in modules)
    folders = "\n".join(f"{name}_temp_path {place}/nginx-{name};" for name in ("client_body", *modules, "scgi"))
    servers = "\n".join(_nginx_server(backend) for backend in backends)
    return (
        f"daemon off; worker_processes 1; pid {place}/nginx.pid; error_log stderr crit;\n"
        f"{f'user {USER};' if USER else ''}\nevents {{ worker_connections 8192; }}\n"
        f"http {{ access_log off; root {root}; keepalive_requests 1000000000; client_max_body_size 0;\n"
        f"large_client_header_buffers 8 32k; server_names_hash_bucket_size 128;\n"
        f"{folders}\n{parameters}\n{streaming}\n{servers}\n}}\n"
    )


def _nginx_server(backend: Backend) -> str:
    name = f"backend{backend.port}"
    passing = {"fastcgi": "fastcgi_pass ", "uwsgi": "uwsgi_pass ", "http": "proxy_pass http://"}[backend.speaks]
    more = "fastcgi_keep_conn on;" if backend.keep else ""
    if backend.speaks == "http":  # what FastCGI has parameters for
        more = (
            "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; "
            "proxy_set_header X-Forwarded-Proto $scheme;"
        )
        if backend.keep:
            more += ' proxy_http_version 1.1; proxy_set_header Connection "";'
    keep = f"keepalive {backend.keep}; keepalive_requests 1000000000;" if backend.keep else ""
    return (
        f"upstream {name} {{ server unix:{backend.socket} max_fails=0; {keep} }}\n"
        f"server {{ listen 127.0.0.1:{backend.port} backlog={BACKLOG};\n"
        f"  location / {{ {more} {passing}{name}; }} }}"
    )


def lighttpd(place: Path, backends: Sequence[Backend], root: Path) -> str:
    """lighttpd's configuration; it closes its connections to backends after each request.

    PHP-FPM runs files, so the path is that of one, for all.
    """
    servers = "\n".join(_lighttpd_server(backend) for backend in backends)
    return (
        'server.modules = ( "mod_rewrite", "mod_fastcgi", "mod_scgi", "mod_proxy" )\n'
        'url.rewrite-once = ( "^/$" => "/hello.php" )\n'
        f'server.document-root = "{root}"\nserver.bind = "127.0.0.1"\nserver.port = {backends[0].port}\n'
        f'server.errorlog = "{place}/lighttpd-error.log"\nserver.max-keep-alive-requests = 1000000000\n'
        f"server.max-fds = 4096\nserver.listen-backlog = {BACKLOG}\nserver.stream-response-body = 1\n{servers}\n"
    )


def _lighttpd_server(backend: Backend) -> str:
    key, more = {
        "fastcgi": ("fastcgi.server", '"check-local" => "disable"'),
        "uwsgi": ("scgi.server", '"check-local" => "disable"'),
        "http": ("proxy.server", ""),
    }[backend.speaks]
    protocol = 'scgi.protocol = "uwsgi"' if backend.speaks == "uwsgi" else ""
    rule = f'{key} = ( "/" => (( "socket" => "{backend.socket}", {more} )) )'
    return f'$SERVER["socket"] == "127.0.0.1:{backend.port}" {{\n{protocol}\n{rule}\n}}'


def configuration(front: str, place: Path, backends: Sequence[Backend], root: Path) -> str:
    """The text for one of FRONTS."""
    return (nginx if front == "nginx" else lighttpd)(place, backends, root)
