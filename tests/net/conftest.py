"""What drivers do is tested twice: the ordinary way of requests, and with the quick way in C beside it."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from gateway.net import quick
from tests.compiling import QUICK, compile_extension, load


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """`_quick`, compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GATEWAY_PURE", raising=False)
        return load("gateway.net._quick", compile_extension(QUICK, tmp_path_factory.mktemp("quick")))


@pytest.fixture(scope="session")
def extension(compiled: ModuleType) -> type:
    """`_quick.Quick`, compiled."""
    found: type = compiled.Quick
    return found


@pytest.fixture(scope="module", params=["ordinary", "quick"])
def way(request: pytest.FixtureRequest, extension: type) -> Iterator[str]:
    """Which way requests go meanwhile where a driver has both: for the modules that use it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "Quick", extension if request.param == "quick" else None)
        yield request.param
