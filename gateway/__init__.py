"""An application gateway between lighttpd or nginx and Python web applications: FastCGI and SCGI in, WSGI out."""

from __future__ import annotations

from gateway.app.interruption import RequestTimeout as RequestTimeout

TYPE_CHECKING = False  # a start has something to start before it has the time to import `typing` (`process.spare`)
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"


def run(application: Any) -> int:
    """Serve a WSGI application (PEP 3333), or web.py's, as whatever this script was started as; return the exit code.

    A FastCGI program with its listening socket on fd 0 (lighttpd's `bin-path`, spawn-fcgi), a CGI program, or, started
    by hand, the development server. Under `gateway run --max-children N SCRIPT` the workers of the pool serve it.
    """
    from gateway.app.script import offer
    from gateway.compat.script import serve_as_started

    return int(offer(application, lambda: serve_as_started(application)))
