"""examples/jsonstore where no front-end would ask it so, and where its file fails; the rest is in test_examples.py."""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from tests.end_to_end.running import ROOT


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture
def application(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(ROOT / "examples" / "jsonstore")
    monkeypatch.setenv("JSONSTORE", str(file))
    application = importlib.import_module("jsonstore").JSONStore({"path": str(file)})
    yield application
    application.store._connection.close()


def test_a_file_that_fails(application: Any, file: Path) -> None:
    client = Client(application)
    assert client.get("/").json == {}
    connection = sqlite3.connect(file)
    connection.execute("DROP TABLE document")
    connection.close()
    answer = client.get("/")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert json.loads(answer.data)["detail"] == "the store cannot be used at this moment"


def test_a_change_that_fails_is_none(application: Any) -> None:
    client = Client(application)
    client.put("/a", json=[1])
    deep = {"a": [[[1]]]}
    for _ in range(97):
        deep = {"a": deep}
    assert client.put("/a/0", json=deep).status_code == 400  # deeper than allowed only where it would be put
    assert client.get("/").json == {"a": [1]}
    assert client.put("/b", json=2).status_code == 201


def test_a_path_that_is_no_text(application: Any) -> None:
    answer = Client(application).get("/", environ_overrides={"PATH_INFO": "/\xff"})
    assert (answer.status_code, json.loads(answer.data)["instance"]) == (400, "/%FF")


def test_by_a_server_that_says_how_long_the_body_is(application: Any) -> None:
    client = Client(application)
    assert client.put("/", data=b'{"a": 1}', environ_overrides={"wsgi.input_terminated": False}).status_code == 204
    assert client.get("/a").json == 1
