"""Runs an application by hand, with Werkzeug's debugger and reloader: for its author, never for visitors."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from werkzeug.serving import is_running_from_reloader, run_simple

from gateway.front import share
from gateway.net import probe

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def run(
    application: WSGIApplication, *, host: str = "127.0.0.1", port: int | None = None, static: str | None = None
) -> int:
    """Serve `application` until Ctrl-C; `port` is by default the environment's PORT, else 8080.

    `static` is the folder served as /sta/, by default the bundled one. Raises OSError when nothing can listen there.
    """
    port = int(os.environ.get("PORT", "8080")) if port is None else port
    if not is_running_from_reloader():
        if reason := probe.refusal(host, port):
            raise OSError(errno.EADDRINUSE, f"cannot listen on {host}:{port}: {reason}; choose another port")
        print(f"http://{host}:{port}/  (development server, with debugger and reloader)", flush=True)
    folder = str(share.folder("static")) if static is None else static
    files: dict[str, str | tuple[str, str]] | None = {"/sta": folder} if folder else None
    run_simple(host, port, application, use_reloader=True, use_debugger=True, threaded=True, static_files=files)
    return 0
