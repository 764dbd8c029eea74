"""Bottle: `gateway up hello:app --app-dir examples/bottle` (docs/examples/bottle.md)."""

import hashlib
import os
from pathlib import Path

from bottle import Bottle, redirect, request, response

app = Bottle()
TEXT = "text/plain; charset=utf-8"


@app.get("/")
def index():
    return Path(__file__).parent.with_name("page.html").read_text()


@app.get("/hello", name="hello")
def hello():
    response.content_type = TEXT
    return "Hello from Bottle\n"


@app.post("/form")
def form():
    response.content_type = TEXT
    return f"Hello, {request.forms.name}\n"


@app.post("/upload")
def upload():
    file = request.files["file"]
    digest = hashlib.file_digest(file.file, "sha256").hexdigest()
    return {"name": file.raw_filename, "size": file.file.seek(0, os.SEEK_END), "sha256": digest}


@app.get("/download")
def download():
    response.content_type = "text/csv"
    response.set_header("Content-Disposition", "attachment; filename=squares.csv")
    return (f"{number},{number**2}\n" for number in range(5_000))


@app.get("/old")
def old():
    redirect(app.get_url("hello"))


@app.get("/visits")
def visits():
    count = int(request.get_cookie("visits", 0)) + 1
    response.content_type = TEXT
    response.set_cookie("visits", str(count), path="/")
    return f"{count}\n"


if __name__ == "__main__":
    import gateway

    gateway.run(app)
