"""What `on_worker_start` may name, and what is said of each mistake."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app.loader import LoadError, call

SOURCE = """
called = []
number = 3
def connect():
    called.append(1)
def fail():
    raise ConnectionError("no database")
def leave():
    raise SystemExit(4)
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "hooked.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("hooked", None)


def test_it_is_called_once() -> None:
    call("hooked:connect", "on_worker_start")
    assert sys.modules["hooked"].called == [1]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("hooked", "'hooked' is not written as module:callable"),
        ("hooked:connect()", "'hooked:connect()' is not written as module:callable"),
        ("hooked connect", "'hooked connect' is not written as module:callable"),
        ("hooked:conect", "module 'hooked' has no 'conect': did you mean 'connect'?"),
        ("hooked:number", "hooked:number is of type int, not a callable"),
        ("hookd:connect", "there is no module 'hookd'"),
        ("hooked:fail", "hooked:fail raised ConnectionError when it was called: no database"),
        ("hooked:leave", "hooked:leave called sys.exit(4) when it was called"),
    ],
)
def test_each_mistake_names_the_setting(target: str, message: str) -> None:
    with pytest.raises(LoadError) as caught:
        call(target, "on_worker_start")
    assert str(caught.value).startswith(f"on_worker_start: {message}")


def test_the_traceback_begins_in_the_application() -> None:
    with pytest.raises(LoadError) as caught:
        call("hooked:fail", "on_worker_start")
    tried, _, traceback = caught.value.traceback.partition("Traceback (most recent call last):\n")
    lines = traceback.splitlines()
    assert tried.startswith("  tried     hooked:fail()\n")
    assert lines[0].endswith('hooked.py", line 7, in fail')
    assert lines[-1] == "ConnectionError: no database"
