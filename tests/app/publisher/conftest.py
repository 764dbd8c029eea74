"""Sites of a few lines, published and asked without a server."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client, TestResponse

from gateway.app.publisher.application import Publisher, load


class Site:
    """A publisher, and what it answers."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.left_out = publisher.published.left_out
        self._client = Client(publisher)

    def ask(self, url: str, method: str = "GET", **more: Any) -> TestResponse:
        return self._client.open(url, method=method, buffered=True, **more)

    def text(self, url: str, method: str = "GET", **more: Any) -> str:
        """The text of an answer 200."""
        answer = self.ask(url, method, **more)
        assert answer.status_code == 200, (answer.status, answer.text)
        return answer.text

    def wrong(self, url: str, method: str = "GET", **more: Any) -> str:
        """The text of an answer 400."""
        answer = self.ask(url, method, **more)
        assert (answer.status_code, answer.mimetype) == (400, "text/plain"), (answer.status, answer.text)
        return answer.text.removesuffix("\n")


Publish = Callable[..., Site]


@pytest.fixture
def publish(fresh_interpreter: None, tmp_path: Path) -> Publish:
    """Write the module `shop` with the text that is given, or files by path, and publish them."""

    def publish(text: str = "", publisher: str | list[str] = "shop", files: dict[str, str] | None = None) -> Site:
        for name, content in (files or {"shop.py": text}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        return Site(load([publisher] if isinstance(publisher, str) else publisher, importlib.import_module))

    return publish
