"""Unchanged applications of Flask, Django and Pyramid, by MODULE:CALLABLE behind both front-ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import ROOT, Settings, site


@pytest.mark.parametrize(
    ("framework", "target"), [("flask", "hello:app"), ("django", "hello:application"), ("pyramid", "hello:application")]
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
