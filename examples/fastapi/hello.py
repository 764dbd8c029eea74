"""FastAPI in one file: `gateway serve hello:app --app-dir examples/fastapi`, then /hello."""

from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

app = FastAPI()


@app.get("/hello")
async def hello() -> PlainTextResponse:
    return PlainTextResponse("Hello from FastAPI\n")


@app.get("/threaded")
def threaded() -> dict[str, str]:  # no coroutine: FastAPI runs it in a thread
    return {"hello": "from a thread"}


@app.post("/size")
async def size(request: Request) -> dict[str, int]:
    return {"size": sum([len(piece) async for piece in request.stream()])}


@app.get("/stream")
async def stream() -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"

    return StreamingResponse(parts(), media_type="text/plain")
