"""Starlette's middleware and lifespan behind both front-ends; the other frameworks are in test_examples.py."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import ROOT, Settings, site


def test_starlette(front_name: str, place: Path) -> None:
    pool = {"app_dir": str(ROOT / "examples" / "starlette"), "max_children": 1}
    with site(front_name, Settings(place, pool, [{"name": "starlette", "app": "hello:app"}])) as running:
        answer = fetch(running.port, "/below/hello")
        assert (answer.text, answer.headers["x-stamp"]) == ("Hello from Starlette\n", "/below/hello")
        assert fetch(running.port, "/hello", "HEAD").headers["content-length"] == "21"
        assert fetch(running.port, "/size", "POST", body=bytes(3_000_000)).text == "3000000"
        assert fetch(running.port, "/nothing-here").status == 404
        assert "Traceback" not in running.master.said
