"""Unchanged applications of frameworks, by MODULE:CALLABLE behind both front-ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import ROOT, Settings, site


@pytest.mark.parametrize(
    ("framework", "target"),
    [
        ("flask", "hello:app"),
        ("django", "hello:application"),
        ("pyramid", "hello:application"),
        ("django", "hello:asgi"),
        ("fastapi", "hello:app"),
        ("starlette", "hello:app"),
    ],
)
def test_hello(framework: str, target: str, front_name: str, place: Path) -> None:
    folder = ROOT / "examples" / framework
    settings = Settings(
        place,
        {"app_dir": str(folder), "max_children": 2},
        [{"name": framework, "app": target}],
    )
    with site(front_name, settings) as running:
        answer = fetch(running.port, "/hello")
        assert (answer.status, b"Hello" in answer.body) == (200, True), answer
        assert fetch(running.port, "/nothing-here").status == 404


def asynchronous(framework: str, target: str, place: Path) -> Settings:
    pool = {"app_dir": str(ROOT / "examples" / framework), "max_children": 1}
    return Settings(place, pool, [{"name": framework, "app": target}])


def test_fastapi(front_name: str, place: Path) -> None:
    with site(front_name, asynchronous("fastapi", "hello:app", place)) as running:
        assert fetch(running.port, "/threaded").text == '{"hello":"from a thread"}'
        assert fetch(running.port, "/size", "POST", body=bytes(3_000_000)).text == '{"size":3000000}'
        assert fetch(running.port, "/stream").text == "0\n1\n2\n"
        assert fetch(running.port, "/hello", "HEAD").status == 405
        assert "Traceback" not in running.master.said


def test_starlette(front_name: str, place: Path) -> None:
    with site(front_name, asynchronous("starlette", "hello:app", place)) as running:
        answer = fetch(running.port, "/below/hello")
        assert (answer.text, answer.headers["x-stamp"]) == ("Hello from Starlette\n", "/below/hello")
        assert fetch(running.port, "/hello", "HEAD").headers["content-length"] == "21"
        assert fetch(running.port, "/size", "POST", body=bytes(3_000_000)).text == "3000000"
        assert "Traceback" not in running.master.said
