"""Pyramid: `gateway up hello:application --app-dir examples/pyramid` (docs/examples/pyramid.md)."""

import hashlib
import os
from pathlib import Path

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.response import Response


def index(request):
    return Response(Path(__file__).parent.with_name("page.html").read_text())


def hello(request):
    return Response("Hello from Pyramid\n", content_type="text/plain")


def form(request):
    return Response(f"Hello, {request.POST['name']}\n", content_type="text/plain")


def upload(request):
    field = request.POST["file"]
    digest = hashlib.file_digest(field.file, "sha256").hexdigest()
    return {"name": field.filename, "size": field.file.seek(0, os.SEEK_END), "sha256": digest}


def download(request):
    rows = (f"{number},{number**2}\n".encode() for number in range(5_000))
    return Response(app_iter=rows, content_type="text/csv", content_disposition="attachment; filename=squares.csv")


def old(request):
    return HTTPFound(request.route_url("hello"))


def visits(request):
    count = int(request.cookies.get("visits", 0)) + 1
    response = Response(f"{count}\n", content_type="text/plain")
    response.set_cookie("visits", str(count))
    return response


with Configurator() as config:
    for name, view, options in [
        ("index", index, {}),
        ("hello", hello, {}),
        ("form", form, {"request_method": "POST"}),
        ("upload", upload, {"request_method": "POST", "renderer": "json"}),
        ("download", download, {}),
        ("old", old, {}),
        ("visits", visits, {}),
    ]:
        config.add_route(name, "/" if name == "index" else f"/{name}")
        config.add_view(view, route_name=name, **options)
    application = config.make_wsgi_app()

if __name__ == "__main__":
    import gateway

    gateway.run(application)
