"""Flask: `gateway up hello:app --app-dir examples/flask` (docs/examples/flask.md)."""

import hashlib
import os
from pathlib import Path

from flask import Flask, redirect, request, url_for

app = Flask(__name__)
TEXT = {"Content-Type": "text/plain; charset=utf-8"}


@app.get("/")
def index():
    return Path(__file__).parent.with_name("page.html").read_text()


@app.get("/hello")
def hello():
    return "Hello from Flask\n", TEXT


@app.post("/form")
def form():
    return f"Hello, {request.form['name']}\n", TEXT


@app.post("/upload")
def upload():
    file = request.files["file"]
    digest = hashlib.file_digest(file.stream, "sha256").hexdigest()
    return {"name": file.filename, "size": file.stream.seek(0, os.SEEK_END), "sha256": digest}


@app.get("/download")
def download():
    rows = (f"{number},{number**2}\n" for number in range(5_000))
    return rows, {"Content-Type": "text/csv", "Content-Disposition": "attachment; filename=squares.csv"}


@app.get("/old")
def old():
    return redirect(url_for("hello"))


@app.get("/visits")
def visits():
    count = int(request.cookies.get("visits", 0)) + 1
    response = app.make_response((f"{count}\n", TEXT))
    response.set_cookie("visits", str(count))
    return response


if __name__ == "__main__":
    import gateway

    gateway.run(app)
