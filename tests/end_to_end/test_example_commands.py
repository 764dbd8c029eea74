"""docs/examples: each page's first command shows the example, as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.examples import frameworks
from tests.end_to_end.running import ENVIRONMENT, ROOT, Program
from tests.waiting import free_port

PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs" / "examples").glob("*.md"))}

SHOWN = {"httpbin": ["/get"], "jsonstore": ["/"], "django": ["/hello", "/admin/login/", "/sta/admin/css/base.css"]}


@pytest.fixture(scope="module")
def examples() -> Iterator[Path]:
    """A copy of the folder, in which the examples may write."""
    with frameworks.prepared() as folder:
        yield folder


@pytest.mark.parametrize("page", PAGES)
def test_the_command_of_the_page(page: str, examples: Path, place: Path) -> None:
    """From the top of the checkout, with a port of the test's own."""
    command = re.search(r"```sh\n(.*)\n", PAGES[page])
    assert command
    port = free_port()
    environment = ENVIRONMENT | {"PATH": f"{Path(sys.executable).parent}:{ENVIRONMENT['PATH']}"}
    line = f"exec {command[1]} --port {port}"
    with Program(["sh", "-c", line], place / "log", cwd=examples.parent, env=environment) as program:
        program.wait_for(lambda: re.search(rf"^http://\S+:{port}/$", program.said, re.MULTILINE), 60)
        host = "flask.localhost" if page == "README" else "127.0.0.1"
        for path in SHOWN.get(page, ("/hello",)):
            assert fetch(port, path, Host=f"{host}:{port}").status == 200, program.said
        assert "Traceback" not in program.said


def test_fastapi_by_itself_needs_no_bridge_to_wsgi() -> None:
    script = "import sys; sys.modules['a2wsgi'] = None; import hello; hello.app"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT / "examples" / "fastapi", check=True, timeout=60)


def test_every_example_has_a_page() -> None:
    # What `make run` shows, what howto/publisher.md is about, and what is there for the tests of ASGI.
    unshown = {"demo", "publisher", "starlette"}
    folders = {path.name for path in (ROOT / "examples").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - unshown == PAGES.keys() - {"README", "httpbin"}
