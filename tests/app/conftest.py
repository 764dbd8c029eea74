"""What tests that import other people's modules need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import imports


@pytest.fixture
def fresh_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules, import hooks and arguments of a process that has loaded nothing yet, with tmp_path to import from."""
    modules, finders, changes, argv = dict(sys.modules), list(sys.meta_path), dict(imports._changes), sys.argv
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield
    for name in sys.modules.keys() - modules.keys():
        del sys.modules[name]
    sys.modules.update(modules)
    sys.meta_path[:], sys.argv, sys.path[:] = finders, argv, path
    imports._changes.clear()
    imports._changes.update(changes)
