"""Which files a pool's code comes from, and that a change of one is seen once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.process.sources import Sources, imported_files, stamp


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application's folder, with things in it that are not its own code."""
    folder = tmp_path / "shop"
    for name in ("pages", "venv/lib", "node_modules/x", ".git", "__pycache__"):
        (folder / name).mkdir(parents=True)
        (folder / name / "module.py").write_text("")
    (folder / "web.py").write_text("")
    (folder / "venv" / "pyvenv.cfg").write_text("")
    return folder


@pytest.mark.parametrize("name", ["web.py", "pages/module.py", "pages/new.py", "new.py"])
def test_a_change_is_told_once(folder: Path, name: str) -> None:
    sources = Sources(str(folder))
    assert sources.changed() == ""
    (folder / name).write_text("changed")
    assert sources.changed() == str(folder / name)
    assert sources.changed() == ""
    (folder / name).write_text("changed again")
    assert sources.changed() == str(folder / name)


def test_a_new_package_is_seen(folder: Path) -> None:
    sources = Sources(str(folder))
    (folder / "api").mkdir()
    (folder / "api" / "__init__.py").write_text("")
    assert sources.changed() == str(folder / "api" / "__init__.py")


@pytest.mark.parametrize(
    "name", ["notes.txt", "venv/lib/module.py", "node_modules/x/module.py", ".git/module.py", "__pycache__/module.py"]
)
def test_what_is_not_the_applications_code_is_not_looked_at(folder: Path, name: str) -> None:
    sources = Sources(str(folder))
    (folder / name).write_text("changed")
    assert sources.changed() == ""


def test_a_file_that_is_away_for_a_moment_is_no_change(folder: Path) -> None:
    sources = Sources(str(folder))
    (folder / "web.py").rename(folder / "web.py~")
    assert sources.changed() == ""
    (folder / "web.py~").rename(folder / "web.py")
    assert sources.changed() == ""
    (folder / "web.py").unlink()
    assert sources.changed() == ""
    (folder / "web.py").write_text("saved")
    assert sources.changed() == str(folder / "web.py")


def test_files_that_a_forked_process_notes_are_looked_at(folder: Path, tmp_path: Path) -> None:
    library, missing = tmp_path / "library.py", tmp_path / "missing.py"
    library.write_text("")
    sources = Sources(str(folder))
    pid = os.fork()
    if pid == 0:
        sources.note([str(library), str(missing)])
        os._exit(0)
    os.waitpid(pid, 0)
    sources.take_up()
    assert sources.changed() == ""
    library.write_text("changed")
    assert sources.changed() == str(library)
    missing.write_text("there now")
    assert sources.changed() == str(missing)


def test_what_was_saved_while_it_was_imported_is_a_change(folder: Path) -> None:
    sources = Sources(str(folder))
    (folder / "web.py").write_text("saved meanwhile")
    sources.note([str(folder / "web.py")])
    sources.take_up()
    assert sources.changed() == str(folder / "web.py")


def test_modules_have_files(tmp_path: Path) -> None:
    assert __file__ in imported_files()
    assert stamp(str(tmp_path / "none")) is None
    assert stamp("a\0b") is None
