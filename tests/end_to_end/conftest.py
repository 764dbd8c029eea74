"""A folder for every test, and one site behind each front-end for those that only send requests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import Settings, Site, short_place, site

# Networks of their own and ports below 1024 are root's.
collect_ignore = [] if os.geteuid() == 0 else ["test_port_80.py"]

FRONTS = ["nginx", "lighttpd"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A new folder of the test's own."""
    with short_place() as path:
        yield path


@pytest.fixture(params=FRONTS)
def front_name(request: pytest.FixtureRequest) -> str:
    """Each front-end in turn, for tests that start it themselves."""
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=FRONTS)
def everything(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The application `everything` behind each front-end in turn."""
    with short_place() as path, site(request.param, Settings(path)) as running:
        yield running
