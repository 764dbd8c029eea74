"""flup6's preforked server with `hello`, on a socket, with so many workers: `flup_hello.py SOCKET WORKERS`."""

from __future__ import annotations

import sys

from flup.server.fcgi_fork import WSGIServer

from benchmarks.bench.applications.hello import application

if __name__ == "__main__":
    path, workers = sys.argv[1], int(sys.argv[2])
    numbers = {"minSpare": workers, "maxSpare": workers, "maxChildren": workers}
    WSGIServer(application, bindAddress=path, debug=False, **numbers).run()
