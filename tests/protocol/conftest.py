"""Everything in this folder is tested twice: in pure Python, and with the twin in C."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from gateway.protocol import fastcgi, headers, records, scgi
from tests.compiling import compile_twin, load_twin

PYTHON = SimpleNamespace(
    decode_params=records.decode_params,
    decode_whole_head=records.decode_whole_head,
    encode_answer=records.encode_answer,
    decode_headers=headers.decode_headers,
)


@pytest.fixture(scope="session")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled twin."""
    return compile_twin(tmp_path_factory.mktemp("twin"))


@pytest.fixture(scope="session")
def twin(extension: Path) -> ModuleType:
    """The module `twin` on the compiled one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GATEWAY_PURE", raising=False)
        return load_twin(extension)


@pytest.fixture(scope="module", params=["python", "c"], autouse=True)
def codec(request: pytest.FixtureRequest, twin: ModuleType) -> Iterator[ModuleType | SimpleNamespace]:
    """The functions that the twin stands for, one time of each kind, which connections use meanwhile."""
    functions = twin if request.param == "c" else PYTHON
    with pytest.MonkeyPatch.context() as patch:
        for name in vars(PYTHON):
            patch.setattr(scgi if name == "decode_headers" else fastcgi, name, getattr(functions, name))
        yield functions
