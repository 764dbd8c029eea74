"""What is closed to a user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.net.access import closed_at
from tests.end_to_end.running import short_place

STRANGER = 54_321  # a user ID that nobody has


@pytest.fixture
def place() -> Iterator[Path]:
    with short_place() as place:
        yield place


@pytest.mark.parametrize(
    ("folder", "file", "closed"),
    [
        (0o755, 0o644, ""),
        (0o711, 0o604, ""),
        (0o700, 0o644, "folder"),
        (0o744, 0o644, "folder"),
        (0o755, 0o640, "folder/file"),
    ],
)
def test_what_is_closed_to_a_user(place: Path, folder: int, file: int, closed: str) -> None:
    (place / "folder").mkdir()
    (place / "folder/file").touch()
    (place / "folder/file").chmod(file)
    (place / "folder").chmod(folder)
    assert closed_at(str(place / "folder/file"), STRANGER, ()) == (str(place / closed) if closed else "")
    assert closed_at(str(place / "folder/file"), 0, ()) == ""


def test_a_folder_has_to_be_readable_itself(place: Path) -> None:
    place.chmod(0o711)
    assert closed_at(str(place), STRANGER, ()) == str(place)
    place.chmod(0o750)
    assert closed_at(str(place), STRANGER, {os.stat(place).st_gid}) == ""
    assert closed_at(str(place), os.stat(place).st_uid, ()) == ""
