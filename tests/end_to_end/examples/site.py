"""The site that every framework's example is: what each of its pages has to do, wherever it is mounted."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

from tests.end_to_end.browsing import Answer, fetch

FORM = "application/x-www-form-urlencoded"
PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Mount:
    """Where an example answers: at a host, below a path."""

    port: int
    host: str
    path: str = ""

    def fetch(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        return fetch(self.port, self.path + path, method, body=body, Host=f"{self.host}:{self.port}", **headers)

    def post(self, path: str, **fields: str) -> Answer:
        return self.fetch(path, "POST", urlencode(fields).encode(), Content_Type=FORM)


@dataclass(frozen=True)
class Example:
    """An example where it is tested: at a host of its own, and below a path of another."""

    name: str
    host: Mount
    below: Mount


Check = Callable[[Example], None]


def hello(example: Example) -> None:
    answer = example.host.fetch("/hello")
    assert (answer.status, answer.text) == (200, f"Hello from {example.name}\n"), answer
    assert answer.headers["content-type"].startswith("text/plain"), answer


def form(example: Example) -> None:
    answer = example.host.post("/form", name="Jürgen & Söhne")
    assert (answer.status, answer.text) == (200, "Hello, Jürgen & Söhne\n"), answer


@functools.cache
def _file(size: int) -> tuple[bytes, str]:
    """A form with a file of so many bytes, and what the file's digest is."""
    content = os.urandom(size)
    head = '--limit\r\nContent-Disposition: form-data; name="file"; filename="noise.bin"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode() + content + b"\r\n--limit--\r\n", hashlib.sha256(content).hexdigest()


def upload(example: Example, size: int = 20_000_000) -> None:
    body, digest = _file(size)
    answer = example.host.fetch("/upload", "POST", body, Content_Type="multipart/form-data; boundary=limit")
    assert answer.status == 200, answer
    assert json.loads(answer.body) == {"name": "noise.bin", "size": size, "sha256": digest}, answer


def small_upload(example: Example) -> None:
    """Frameworks keep a small file in memory."""
    upload(example, 3)


def download(example: Example) -> None:
    answer = example.host.fetch("/download")
    assert answer.status == 200, answer
    assert answer.text == "".join(f"{number},{number**2}\n" for number in range(5_000))
    assert "content-length" not in answer.headers, answer.headers  # its size was not known before its end


def redirect(example: Example) -> None:
    for mount in dict.fromkeys((example.host, example.below)):
        answer = mount.fetch("/old")
        assert answer.status in (302, 303), answer
        here = f"http://{mount.host}:{mount.port}{mount.path}"
        assert urljoin(f"{here}/old", answer.headers["location"]) == f"{here}/hello", answer.headers
    if example.below != example.host:
        assert example.below.fetch("/hello").text == f"Hello from {example.name}\n"


def cookies(example: Example) -> None:
    first = example.host.fetch("/visits")
    assert (first.status, first.text) == (200, "1\n"), first
    second = example.host.fetch("/visits", Cookie=_pair(first))
    assert (second.status, second.text) == (200, "2\n"), second


def _pair(answer: Answer) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


def admin(example: Example) -> None:
    """Log in to Django's admin, and see it, below the path."""
    front = example.below.fetch("/admin/")
    assert front.status == 302, front
    assert urlsplit(front.headers["location"]).path == f"{example.below.path}/admin/login/", front.headers
    login = example.below.fetch("/admin/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', login.text)
    assert token, login
    fields = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": PASSWORD, "next": "/"}
    entered = example.below.fetch(
        "/admin/login/", "POST", urlencode(fields).encode(), Content_Type=FORM, Cookie=_pair(login)
    )
    assert entered.status == 302, entered
    seen = example.below.fetch("/admin/", Cookie=_pair(entered))
    assert (seen.status, "Site administration" in seen.text) == (200, True), seen


def static(example: Example) -> None:
    """The style sheet that the admin's pages ask for, which the front-end answers by itself."""
    link = re.search(r'href="(/sta/admin/css/base[\w.]*css)"', example.below.fetch("/admin/login/").text)
    assert link
    answer = fetch(example.host.port, link[1])
    assert (answer.status, answer.headers["content-type"]) == (200, "text/css"), answer


FEATURES: dict[str, Check] = {
    "`/hello`": hello,
    "form": form,
    "small upload": small_upload,
    "upload of 20 MB": upload,
    "streamed download": download,
    "redirect below a path": redirect,
    "cookies": cookies,
}
OF_DJANGO: dict[str, Check] = {"admin": admin, "`/sta`": static}
