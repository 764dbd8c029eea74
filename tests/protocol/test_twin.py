"""The twin in C beside Python: the same for any bytes, no leak, and what decides which of the two is used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocol import headers, records
from gateway.protocol.events import Limits
from tests.compiling import PROTOCOL, load_twin, load_with
from tests.protocol.differential import SAMPLES, Comparison, mutate
from tests.protocol.reading import cut

LIMITS = Limits()
HELLO = SAMPLES[0]
BLOCK = records.encode_params([("REQUEST_METHOD", "GET"), ("HTTP_X", "caf\xe9"), ("REQUEST_METHOD", "PUT")])
HEADERS = b"CONTENT_LENGTH\0" + b"0\0SCGI\0" + b"1\0HTTP_X\0a\0HTTP_X\0b\0"


@pytest.fixture(scope="module")
def codec() -> None:
    """Both sides are named here."""


@pytest.fixture(scope="module")
def comparison(twin: ModuleType) -> Comparison:
    return Comparison(twin)


@settings(max_examples=1000, deadline=None)
@given(data=st.binary(max_size=200), limits=st.builds(Limits, *[st.integers(0, 40)] * 3))
def test_any_bytes(comparison: Comparison, data: bytes, limits: Limits) -> None:
    comparison.compare(data, limits)


@settings(max_examples=1000, deadline=None)
@given(sample=st.sampled_from(SAMPLES), random=st.randoms(use_true_random=False), limited=st.booleans())
def test_mutated_requests(comparison: Comparison, sample: bytes, random: object, limited: bool) -> None:
    limits = Limits(params_size=300, params_count=10, name_size=16) if limited else LIMITS
    comparison.compare(mutate(sample, random), limits)  # type: ignore[arg-type]


@settings(max_examples=500, deadline=None)
@given(
    sample=st.sampled_from(SAMPLES),
    random=st.randoms(use_true_random=False),
    places=st.lists(st.integers(0, 2000), max_size=6),
)
def test_connections_however_their_bytes_are_cut(
    comparison: Comparison, sample: bytes, random: object, places: list[int]
) -> None:
    comparison.compare_connections(cut(mutate(sample, random), places), LIMITS)  # type: ignore[arg-type]


@given(data=st.binary(max_size=50), status=st.integers(-(2**70), 2**70), request_id=st.integers(0, 65_535))
def test_answers(twin: ModuleType, data: bytes, status: int, request_id: int) -> None:
    assert twin.encode_answer(request_id, data, status) == records.encode_answer(request_id, data, status)


def test_known_names_are_interned(twin: ModuleType) -> None:
    params, _ = twin.decode_params(BLOCK, {}, LIMITS)
    assert next(iter(params)) is sys.intern("REQUEST_METHOD")


@pytest.mark.parametrize("arguments", [(), (b"", {}, 1, 1), (b"", [], 1, 1, 1), ("", {}, 1, 1, 1), (b"", {}, 1, "", 1)])
@pytest.mark.parametrize("name", ["decode_params", "decode_whole_head", "decode_headers"])
def test_wrong_arguments_of_decoders(twin: ModuleType, name: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(twin._records, name)(*arguments)


@pytest.mark.parametrize("arguments", [(), (1, b""), ("", b"", 0), (1, "", 0), (1, b"", "")])
def test_wrong_arguments_of_the_encoder(twin: ModuleType, arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        twin._records.encode_answer(*arguments)


@pytest.mark.parametrize(
    "call",
    [
        lambda c, base: c.decode_whole_head(HELLO, base, 9999, 99, 99),
        lambda c, base: c.decode_whole_head(HELLO, base, 9999, 9, 99),
        lambda c, base: c.decode_whole_head(HELLO[:300], base, 9999, 99, 99),
        lambda c, base: c.decode_params(BLOCK, base, 999, 99, 99),
        lambda c, base: c.decode_params(BLOCK[:-1], base, 999, 99, 99),
        lambda c, base: c.decode_headers(HEADERS, base, 999, 99, 99),
        lambda c, base: c.decode_headers(HEADERS[:-1], base, 999, 99, 99),
        lambda c, base: c.encode_answer(1, HELLO, 0),
        lambda c, base: c.encode_answer(65_536, HELLO, 0),
    ],
    ids=["head", "head over a limit", "head cut", "params", "params cut", "headers", "headers cut", "answer", "no id"],
)
def test_no_leak_in_a_million_calls(twin: ModuleType, call: Callable[[ModuleType, dict[str, object]], object]) -> None:
    base: dict[str, object] = {"wsgi.version": (1, 0), "gateway.pool": "x"}
    watched = [base["wsgi.version"], sys.intern("REQUEST_METHOD"), sys.intern("wsgi.version"), base, None, True]
    call(twin._records, base)
    counts = [sys.getrefcount(thing) for thing in watched]
    blocks = sys.getallocatedblocks()
    for _ in range(111_112):  # a million in all cases together
        call(twin._records, base)
    assert sys.getallocatedblocks() - blocks < 100
    assert max(after - before for after, before in zip(map(sys.getrefcount, watched), counts, strict=True)) < 50


def test_modules_take_the_twin_where_there_is_one(twin: ModuleType) -> None:
    fastcgi, scgi = load_with(twin, "fastcgi"), load_with(twin, "scgi")
    assert [fastcgi.decode_params, fastcgi.decode_whole_head, fastcgi.encode_answer, scgi.decode_headers] == [
        twin.decode_params, twin.decode_whole_head, twin.encode_answer, twin.decode_headers,
    ]  # fmt: skip


def test_modules_take_python_where_there_is_no_twin() -> None:
    fastcgi, scgi = load_with(None, "fastcgi"), load_with(None, "scgi")
    assert [fastcgi.decode_params, fastcgi.decode_whole_head, fastcgi.encode_answer, scgi.decode_headers] == [
        records.decode_params, records.decode_whole_head, records.encode_answer, headers.decode_headers,
    ]  # fmt: skip


@pytest.mark.parametrize(("value", "refused"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_environment_chooses_python(
    extension: Path, monkeypatch: pytest.MonkeyPatch, value: str, refused: bool
) -> None:
    monkeypatch.setenv("GATEWAY_PURE", value)
    if refused:
        with pytest.raises(ImportError, match="GATEWAY_PURE is set"):
            load_twin(extension)
    else:
        assert load_twin(extension)


def test_an_interpreter_without_a_gil_gets_python(extension: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_PURE", raising=False)
    monkeypatch.setattr(sys, "abiflags", "t")
    with pytest.raises(ImportError, match="with a GIL"):
        load_twin(extension)


def test_a_twin_that_cannot_be_loaded_does_no_harm(tmp_path: Path) -> None:
    broken = tmp_path / "_records.abi3.so"
    broken.write_bytes(b"\x7fELF, of another machine")
    with pytest.raises(ImportError):
        load_twin(broken)


@pytest.mark.parametrize(
    ("pure", "broken", "used"),
    [("", False, "twin"), ("1", False, "records"), ("", True, "records")],
    ids=["built", "GATEWAY_PURE", "of another machine"],
)
def test_a_pool_with_an_interpreter_of_its_own(
    extension: Path, tmp_path: Path, pure: str, broken: bool, used: str
) -> None:
    package = tmp_path / "gateway"
    shutil.copytree(PROTOCOL.parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    content = b"\x7fELF, of another machine" if broken else extension.read_bytes()
    (package / "protocol" / extension.name).write_bytes(content)
    script = (
        "import boot; boot.load_package(); from gateway.protocol import fastcgi as f; print(f.decode_params.__module__)"
    )
    sanitizer = {name: os.environ[name] for name in ("LD_PRELOAD", "ASAN_OPTIONS") if name in os.environ}
    done = subprocess.run(
        ["/usr/bin/python3", "-B", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=30,
        env={"PATH": os.defpath, "PYTHONPATH": str(package / "process"), "GATEWAY_PURE": pure, **sanitizer},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"gateway.protocol.{used}\n", "")


def test_every_interpreter_from_3_11_on_may_load_it(extension: Path) -> None:
    """Nothing is used that the stable ABI of 3.11 does not have: `Py_LIMITED_API` in the source sees to that."""
    needed = subprocess.run(["nm", "-D", "--undefined-only", extension], capture_output=True, text=True, check=True)
    names = {line.split()[-1] for line in needed.stdout.splitlines()}
    assert {name for name in names if name.startswith("_Py")} <= {
        "_Py_Dealloc",
        "_Py_NoneStruct",
        "_Py_TrueStruct",
        "_Py_FalseStruct",
    }


def test_a_short_run_under_sanitizers() -> None:
    command = [sys.executable, "-m", "tests.protocol.sanitizing", "2", "--only-differential"]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, env=dict(os.environ))
    assert (done.returncode, done.stderr) == (0, "")
    assert "the same" in done.stdout
