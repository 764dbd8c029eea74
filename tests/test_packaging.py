"""What `pip install` gives: the contents of wheel and sdist, and the commands in an empty environment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import free_port, wait_until

ROOT = Path(__file__).parent.parent
SHARED = {"demo": "examples/demo", "lighttpd": "lighttpd", "nginx": "nginx", "static": "static"}
# No compiler is to be needed, and none is found but where one is given.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "CC": "false"} | {
    name: value for name, value in os.environ.items() if name.startswith("PIP_")
}
FOR_EVERY_PYTHON = "--config-setting=--build-option=--py-limited-api=cp311"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist of a copy of the checkout: the wheel is built from the sdist."""
    top = tmp_path_factory.mktemp("build")
    unwanted = shutil.ignore_patterns(
        ".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "output", "build", "*.so"
    )
    shutil.copytree(ROOT, top / "checkout", ignore=unwanted)
    build(top, ENVIRONMENT)
    (wheel,), (sdist,) = (top / "dist").glob("*.whl"), (top / "dist").glob("*.tar.gz")
    return wheel, sdist


def build(top: Path, environment: dict[str, str], *arguments: str) -> None:
    """Fill `dist` in `top` from `checkout` there."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *arguments, "--outdir", top / "dist", top / "checkout"],
        check=True, stdout=subprocess.DEVNULL, env=environment, timeout=100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an empty environment that the wheel was installed into."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=60)
    subprocess.run(
        [str(place / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "-q", str(distributions[0])],
        check=True, env=ENVIRONMENT, timeout=100,
    )  # fmt: skip
    return place / "bin"


def expected_files() -> Iterator[tuple[str, str]]:
    """Every file that the installed package needs: its path in the checkout, and in the wheel."""
    for path in (ROOT / "gateway").rglob("*"):
        if path.suffix in (".py", ".pyi", ".html", ".j2") or path.name == "py.typed":
            relative = str(path.relative_to(ROOT))
            yield relative, relative
    for name, folder in SHARED.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not {"__pycache__", "run"} & set(path.parts):
                yield str(path.relative_to(ROOT)), f"gateway/share/{name}/{path.relative_to(ROOT / folder)}"


def test_wheel_holds_every_file(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = set(wheel.namelist())
    assert {inside for _, inside in expected_files()} - names == set()
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_holds_nothing_else(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names - {inside for _, inside in expected_files()} == set()


def test_sdist_holds_every_file(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {path for path, _ in expected_files()} | {"pyproject.toml", "README.md", "LICENSE"}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "gateway").rglob("_*.[ch]")}
    assert wanted - names == set()


def unpacked(sdist: Path, place: Path) -> Path:
    """A folder for `build` whose checkout is the content of `sdist`."""
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (source,) = place.iterdir()
    source.rename(place / "checkout")
    return place


def test_with_a_compiler_the_wheel_holds_the_twin_for_every_python(
    distributions: tuple[Path, Path], tmp_path: Path
) -> None:
    top = unpacked(distributions[1], tmp_path)
    build(top, {name: value for name, value in ENVIRONMENT.items() if name != "CC"}, "--wheel", FOR_EVERY_PYTHON)
    (path,) = (top / "dist").glob("*-cp311-abi3-*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        wheel.extractall(tmp_path / "installed")
    assert names - {inside for _, inside in expected_files()} == {
        f"gateway/{name}.abi3.so" for name in ("app/_scope", "net/_quick", "process/_row", "protocol/_records")
    }
    script = "from gateway.protocol import fastcgi; print(fastcgi.decode_params.__module__)"
    for value, module in (("", "twin"), ("1", "records")):
        environment = {**ENVIRONMENT, "GATEWAY_PURE": value, "PYTHONPATH": str(tmp_path / "installed")}
        said = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=30
        )
        assert (said.stdout, said.stderr) == (f"gateway.protocol.{module}\n", "")


@pytest.mark.parametrize("command", ["gateway", "gateway-spawn"])
def test_commands_are_installed(installed: Path, command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(installed / command), "--version"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.1.0" in done.stdout


def test_up_shows_the_demo_outside_a_checkout(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [str(installed / "gateway"), "up", "--front", "embedded", "--port", str(port)]
    with open(tmp_path / "log", "wb") as log:
        running = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=tmp_path, env=ENVIRONMENT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}/"
        wait_until(lambda: url in (tmp_path / "log").read_text() or running.poll(), 30, "the URL")
        with urllib.request.urlopen(url, timeout=10) as page:
            assert b"<html" in page.read()
        first = next(p for p in sorted((ROOT / "static").rglob("*")) if p.is_file()).relative_to(ROOT / "static")
        with urllib.request.urlopen(f"{url}sta/{first}", timeout=10) as file:
            assert file.read() == (ROOT / "static" / first).read_bytes()
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(10) == 0, (tmp_path / "log").read_text()
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
