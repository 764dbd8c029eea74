"""A web.py site that shows what answers it: `gateway serve demo:app --app-dir examples/demo`, or `gateway up`."""

from __future__ import annotations

import hashlib
import itertools
import os
import pathlib
import platform
import time
from collections.abc import Iterator

import web

urls = (
    "/", "Index",
    "/form", "Form",
    "/upload", "Upload",
    "/slow", "Slow",
    "/error", "Error",
)  # fmt: skip
app = web.application(urls, globals())

_templates = str(pathlib.Path(__file__).with_name("templates"))
render = web.template.render(_templates, base="layout", globals={"ctx": web.ctx})
parts = web.template.render(_templates)

requests = itertools.count(1)  # in this process: every worker counts for itself


class Index:
    def GET(self) -> object:
        variables = sorted((name, str(value)) for name, value in web.ctx.env.items())
        _html()
        return render.index(way(), facts(), variables)


class Form:
    def GET(self) -> object:
        _html()
        return render.form("", "")

    def POST(self) -> object:
        fields = web.input(name="", message="")
        _html()
        return render.form(fields.name.strip(), fields.message.strip())


class Upload:
    def GET(self) -> object:
        _html()
        return render.upload(None, "")

    def POST(self) -> object:
        file = web.input(file={}).file  # a large one has gone to a temporary file, not to memory
        _html()
        if not getattr(file, "filename", ""):
            return render.upload(None, "no file was chosen")
        with file.file:
            digest = hashlib.file_digest(file.file, "sha256").hexdigest()
        return render.upload(web.storage(name=file.filename, size=f"{file.size:,}", sha256=digest), "")


class Slow:
    def GET(self) -> Iterator[str]:
        """A page that leaves piece by piece, each when it is there."""
        _html()
        web.header("X-Accel-Buffering", "no")  # nginx would collect them
        head, tail = str(render.slow("\0")).split("\0")

        def pieces() -> Iterator[str]:
            yield head
            for number in range(1, 9):
                yield str(parts.step(number, time.strftime("%H:%M:%S")))
                time.sleep(0.5)
            yield tail

        return pieces()


class Error:
    def GET(self) -> str:
        raise RuntimeError(
            "the demo raises this on purpose: the visitor sees a plain 500, the error log this traceback"
        )


def way() -> list[tuple[str, str]]:
    """The stations of this request, each with what it speaks to the next one."""
    server = web.ctx.env.get("SERVER_SOFTWARE", "server")
    stations = [("Browser", "HTTP"), (server.split("/")[0], "WSGI"), ("demo:app", "web.py")]
    if "GATEWAY_INTERFACE" in web.ctx.env:  # a front-end and a pool
        stations[1:2] = [(server.split("/")[0], "FastCGI"), (f"worker {os.getpid()}", "WSGI")]
    return stations


def facts() -> list[tuple[str, str, str]]:
    """What answers: a name, a value, and what it means."""
    environ = web.ctx.env
    found = [
        ("Front", environ.get("SERVER_SOFTWARE", ""), "took the request and serves /sta itself"),
        ("Worker", f"process {os.getpid()}", f"its request number {next(requests)} since it started"),
        ("Pool", environ.get("gateway.pool", ""), f"kept up by process {os.getppid()}"),
        ("Application", environ.get("gateway.application", ""), "chosen by host, port and path"),
        ("Host", web.ctx.host, f"port {environ.get('SERVER_PORT', '')}, mounted at {web.ctx.homepath or '/'}"),
        ("Client", web.ctx.ip, f"speaks {environ.get('SERVER_PROTOCOL', '')}"),
        ("Code", f"web.py {web.__version__}", f"{platform.python_implementation()} {platform.python_version()}"),
    ]
    return [fact for fact in found if fact[1]]


def _html() -> None:
    web.header("Content-Type", "text/html; charset=utf-8")


if __name__ == "__main__":
    app.run()
