#!/usr/bin/env python3
"""web.py: `gateway up code:app --app-dir examples/webpy`, or by `gateway run` as a script (docs/examples/webpy.md)."""

import hashlib
import json
import os
from pathlib import Path

import web

urls = (
    "/hello", "hello",
    "/form", "form",
    "/upload", "upload",
    "/download", "download",
    "/old", "old",
    "/visits", "visits",
    "/", "index",
)  # fmt: skip
app = web.application(urls, globals(), True)


class index:
    def GET(self):
        web.header("Content-Type", "text/html; charset=utf-8")
        return Path(__file__).parent.with_name("page.html").read_text()


class hello:
    def GET(self):
        web.header("Content-Type", "text/plain; charset=utf-8")
        return "Hello from web.py\n"


class form:
    def POST(self):
        web.header("Content-Type", "text/plain; charset=utf-8")
        return f"Hello, {web.input().name}\n"


class upload:
    def POST(self):
        field = web.input(file={}).file
        digest = hashlib.file_digest(field.file, "sha256").hexdigest()
        web.header("Content-Type", "application/json")
        return json.dumps({"name": field.filename, "size": field.file.seek(0, os.SEEK_END), "sha256": digest})


class download:
    def GET(self):
        web.header("Content-Type", "text/csv")
        web.header("Content-Disposition", "attachment; filename=squares.csv")
        return (f"{number},{number**2}\n" for number in range(5_000))


class old:
    def GET(self):
        raise web.found("/hello")  # below wherever the application is mounted


class visits:
    def GET(self):
        count = int(web.cookies(visits=0).visits) + 1
        web.setcookie("visits", str(count))
        web.header("Content-Type", "text/plain; charset=utf-8")
        return f"{count}\n"


if __name__ == "__main__":
    app.run()
