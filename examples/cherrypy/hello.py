"""CherryPy: `gateway up hello:application --app-dir examples/cherrypy` (docs/examples/cherrypy.md)."""

import hashlib
import os
from pathlib import Path

import cherrypy

cherrypy.config.update(
    {"environment": "embedded"}
)  # somebody else's process: no reloader, no signals, no log of its own
TEXT = {"tools.response_headers.on": True, "tools.response_headers.headers": [("Content-Type", "text/plain")]}


class Site:
    @cherrypy.expose
    def index(self):
        return Path(__file__).parent.with_name("page.html").read_text()

    @cherrypy.expose
    @cherrypy.config(**TEXT)
    def hello(self):
        return "Hello from CherryPy\n"

    @cherrypy.expose
    @cherrypy.tools.allow(methods=["POST"])
    @cherrypy.config(**TEXT)
    def form(self, name):
        return f"Hello, {name}\n"

    @cherrypy.expose
    @cherrypy.tools.allow(methods=["POST"])
    @cherrypy.tools.json_out()
    def upload(self, file):
        digest = hashlib.file_digest(file.file, "sha256").hexdigest()
        return {"name": file.filename, "size": file.file.seek(0, os.SEEK_END), "sha256": digest}

    @cherrypy.expose
    @cherrypy.config(**{"response.stream": True})
    def download(self):
        cherrypy.response.headers["Content-Type"] = "text/csv"
        cherrypy.response.headers["Content-Disposition"] = "attachment; filename=squares.csv"
        return (f"{number},{number**2}\n" for number in range(5_000))

    @cherrypy.expose
    def old(self):
        raise cherrypy.HTTPRedirect(cherrypy.url("/hello"))

    @cherrypy.expose
    @cherrypy.config(**TEXT)
    def visits(self):
        cookie = cherrypy.request.cookie.get("visits")
        count = int(cookie.value if cookie else 0) + 1
        cherrypy.response.cookie["visits"] = str(count)
        return f"{count}\n"


application = cherrypy.Application(Site(), script_name=None)  # None: the request's own SCRIPT_NAME

if __name__ == "__main__":
    import gateway

    gateway.run(application)
