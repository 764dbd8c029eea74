"""What drivers do is tested twice: the ordinary way of requests, and with the quick way in C beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.net import quick
from tests.compiling import QUICK, compile_extension, load


@pytest.fixture(scope="session")
def extension(tmp_path_factory: pytest.TempPathFactory) -> type:
    """`_quick.Quick`, compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GATEWAY_PURE", raising=False)
        found: type = load("gateway.net._quick", compile_extension(QUICK, tmp_path_factory.mktemp("quick"))).Quick
        return found


@pytest.fixture(scope="module", params=["ordinary", "quick"])
def way(request: pytest.FixtureRequest, extension: type) -> Iterator[str]:
    """Which way requests go meanwhile where a driver has both: for the modules that use it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quick, "Quick", extension if request.param == "quick" else None)
        yield request.param
