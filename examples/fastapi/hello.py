"""FastAPI: `gateway up hello:app --app-dir examples/fastapi` (docs/examples/fastapi.md)."""

import functools
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import Cookie, FastAPI, Form, Request, UploadFile
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, StreamingResponse

app = FastAPI()


@app.get("/")
async def index() -> HTMLResponse:
    return HTMLResponse(Path(__file__).parent.with_name("page.html").read_text())


@app.get("/hello")
async def hello() -> PlainTextResponse:
    return PlainTextResponse("Hello from FastAPI\n")


@app.post("/form")
async def form(name: Annotated[str, Form()]) -> PlainTextResponse:
    return PlainTextResponse(f"Hello, {name}\n")


@app.post("/upload")
def upload(file: UploadFile) -> dict[str, str | int | None]:  # no coroutine: FastAPI runs it in a thread
    digest = hashlib.file_digest(file.file, "sha256").hexdigest()
    return {"name": file.filename, "size": file.file.seek(0, os.SEEK_END), "sha256": digest}


@app.get("/download")
async def download() -> StreamingResponse:
    async def rows() -> AsyncIterator[str]:
        for number in range(5_000):
            yield f"{number},{number**2}\n"

    return StreamingResponse(rows(), media_type="text/csv")


@app.get("/old")
async def old(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("hello"), 302)


@app.get("/visits")
async def visits(visits: Annotated[int, Cookie()] = 0) -> PlainTextResponse:
    response = PlainTextResponse(f"{visits + 1}\n")
    response.set_cookie("visits", str(visits + 1))
    return response


@functools.cache
def _bridge():
    from a2wsgi import ASGIMiddleware  # which the application itself does not need

    return ASGIMiddleware(app)  # it starts a thread, so not before a worker is forked


def application(environ, start_response):
    """The same as a WSGI application: for a pool that has others of these, and for CGI."""
    return _bridge()(environ, start_response)


if __name__ == "__main__":
    import gateway

    gateway.run(application)
