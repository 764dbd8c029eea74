"""Starlette in one file: `gateway serve hello:app --app-dir examples/starlette`, then /hello."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"greeting": "Hello from Starlette\n"}


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.state.greeting)


async def upload(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


class Stamp(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-stamp"] = request.url.path
        return response


routes = [
    Route("/hello", hello),
    Mount("/below", routes=[Route("/hello", hello)]),
    Route("/size", upload, methods=["POST"]),
]
app = Starlette(routes=routes, middleware=[Middleware(Stamp)], lifespan=lifespan)
