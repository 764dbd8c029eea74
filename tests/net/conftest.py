"""What drivers do is tested with the ordinary way of requests alone, and with the quick one in C and in Python."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from gateway.net import purequick
from tests.compiling import QUICK, compile_extension, load
from tests.net.driving import choose_way


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


@pytest.fixture(scope="module", params=["C", "Python"])
def quick_type(request: pytest.FixtureRequest, extension: type) -> type:
    """`Quick` of either."""
    return extension if request.param == "C" else purequick.Quick


@pytest.fixture(scope="module", params=["ordinary", "C", "Python"])
def way(request: pytest.FixtureRequest, extension: type) -> Iterator[str]:
    """Which way requests go meanwhile where a driver has both: for the modules that use it."""
    with pytest.MonkeyPatch.context() as patch:
        choose_way(patch, {"ordinary": None, "C": extension, "Python": purequick.Quick}[request.param])
        yield request.param
