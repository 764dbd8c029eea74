"""HTTP clients of the tests: one request, and bounded loads."""

from __future__ import annotations

import asyncio
import http.client
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """What came back; `body` is b"" for HEAD."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def fetch(
    port: int, path: str, method: str = "GET", *, body: bytes | Iterable[bytes] | None = None, **headers: str
) -> Answer:
    """One request on a connection of its own; an iterable body goes chunked. `X_Name="v"` sends the header X-Name."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        chunked = body is not None and not isinstance(body, bytes)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, sent, encode_chunked=chunked)
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


@dataclass(frozen=True)
class Post:
    """A request of a load: what is sent, and when after the load's start (seconds)."""

    path: str
    body: bytes
    at: float = 0.0
    content_type: str = "application/octet-stream"


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Answer(int(head[0].split()[1]), fields, body)


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, post: Post, connection: str) -> Answer:
    head = (
        f"POST {post.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: {connection}\r\n"
        f"Content-Length: {len(post.body)}\r\nContent-Type: {post.content_type}\r\n\r\n"
    )
    writer.write(head.encode() + post.body)
    return await _answer(reader)


async def _kept(port: int, posts: list[Post]) -> list[tuple[Post, int, bytes]]:
    """Send the posts one after the other on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        answers = [await _send(reader, writer, post, "keep-alive") for post in posts]
        return [(post, answer.status, answer.body) for post, answer in zip(posts, answers, strict=True)]
    finally:
        writer.close()
        await writer.wait_closed()


@dataclass(frozen=True)
class Timed:
    """The answer to one post of a load; status 0 stands for a connection that broke, and `body` then says how."""

    post: Post
    status: int
    body: bytes
    seconds: float  # from the connection's opening to the answer's last byte
    headers: Mapping[str, str] = field(default_factory=dict)


async def _alone(port: int, post: Post, patience: float) -> Timed:
    """Send one post on a connection of its own."""
    clock = asyncio.get_running_loop().time
    begun = clock()
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                answer = await _send(reader, writer, post, "close")
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:  # TimeoutError is an OSError
        answer = Answer(0, {}, repr(error).encode())
    return Timed(post, answer.status, answer.body, clock() - begun, answer.headers)


def over_connections(port: int, posts: list[Post], connections: int) -> list[tuple[Post, int, bytes]]:
    """Send the posts over so many kept client connections at once, each as fast as the answers come."""

    async def load() -> list[tuple[Post, int, bytes]]:
        parts = await asyncio.gather(*(_kept(port, posts[n::connections]) for n in range(connections)))
        return [answer for part in parts for answer in part]

    return asyncio.run(asyncio.wait_for(load(), 60))


async def timed(port: int, posts: Iterable[Post], patience: float) -> list[Timed]:
    """Send each post at its own time, however long the others take; an answer that takes `patience` seconds is none.

    `posts` are in the order of their times.
    """
    clock = asyncio.get_running_loop().time
    start = clock()
    sent = []
    for post in posts:
        await asyncio.sleep(start + post.at - clock())  # the pace of the load, not a wait for something
        sent.append(asyncio.create_task(_alone(port, post, patience)))
    return await asyncio.gather(*sent)


async def at_pace(port: int, posts: Iterable[Post]) -> list[tuple[Post, int, bytes]]:
    """Send each post at its own time, however long the others take."""
    return [(answer.post, answer.status, answer.body) for answer in await timed(port, posts, 60)]


def work(rate: float, slow: float = 0.0) -> Iterator[Post]:
    """Numbered requests without end for the page `work`, so many a second, every twentieth of which takes `slow` s."""
    for n in itertools.count():
        yield Post(f"/work?id={n}&seconds={slow if n % 20 == 0 else 0}", b"%d" % n, n / rate)


def _during(task: asyncio.Future[T], posts: Iterable[Post], more: int) -> Iterator[Post]:
    """The posts whose time comes while a task runs, and so many that come after it."""
    for post in posts:
        if task.done():
            more -= 1
        if more < 0:
            return
        yield post


def while_running(
    port: int, posts: Iterable[Post], steps: Callable[[], T], *, more: int = 100
) -> tuple[list[tuple[Post, int, bytes]], T]:
    """Send each post at its own time for as long as `steps` runs in a thread, and so many more; return what it does."""

    async def both() -> tuple[list[tuple[Post, int, bytes]], T]:
        running = asyncio.ensure_future(asyncio.to_thread(steps))
        answers = await at_pace(port, _during(running, posts, more))
        return answers, await running

    return asyncio.run(both())
