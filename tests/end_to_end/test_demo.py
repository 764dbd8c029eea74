"""`gateway up`: the demo behind each front-end, as `make run` shows it, and a picture of it in a browser."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    ROOT,
    Program,
    Settings,
    alive,
    descendants,
    short_place,
    site,
)
from tests.waiting import free_port, wait_until

FORM = "application/x-www-form-urlencoded"
OUTPUT = HERE.parent / "output"
SERVER = {"nginx": "nginx", "lighttpd": "lighttpd", "embedded": "Werkzeug"}
CHROMIUM = [
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
]  # fmt: skip


@dataclass
class Demo:
    front: str
    port: int
    program: Program


@pytest.fixture(scope="module", params=sorted(SERVER))
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    """The demo behind each front-end; Ctrl-C ends it, and nothing of it may be left."""
    port = free_port()
    with short_place() as place:
        # SIGINT is ignored at first, as in what a shell starts with `&`: Ctrl-C has to work all the same.
        command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *GATEWAY, "up", "--front", request.param]
        command += ["--port", str(port)]
        program = Program(command, place / "log", cwd=ROOT)
        try:
            program.wait_for(lambda: f"http://127.0.0.1:{port}/" in program.said, 30)
            yield Demo(request.param, port, program)
            started = descendants(program.pid)
            os.killpg(program.pid, signal.SIGINT)
            assert program.wait(10) == 0, program.said
            wait_until(lambda: not any(map(alive, started)), what="the end of everything that was started")
        finally:
            program.stop()


def test_front_page_is_web_py(demo: Demo) -> None:
    answer = fetch(demo.port, "/")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "/sta/" in answer.text


def test_static_files_come_from_the_front(demo: Demo) -> None:
    first = min(path for path in (ROOT / "static").rglob("*") if path.is_file())
    answer = fetch(demo.port, f"/sta/{first.relative_to(ROOT / 'static')}")
    assert (answer.status, answer.body) == (200, first.read_bytes())
    assert answer.headers["server"].startswith(SERVER[demo.front])


def test_missing_static_file_is_404_of_the_front(demo: Demo) -> None:
    answer = fetch(demo.port, "/sta/none.css")
    assert (answer.status, answer.headers["server"].startswith(SERVER[demo.front])) == (404, True)


def test_every_link_of_the_front_page_works(demo: Demo) -> None:
    links = set(re.findall(r'(?:href|src)="(/[^"#]*)"', fetch(demo.port, "/").text))
    assert len(links) >= 4
    statuses = {link: fetch(demo.port, link).status for link in links if not re.search("raise|error|slow", link)}
    assert set(statuses.values()) == {200}, statuses


def test_screenshot(demo: Demo) -> None:
    OUTPUT.mkdir(exist_ok=True)
    picture = OUTPUT / f"demo-{demo.front}.png"
    picture.unlink(missing_ok=True)
    with short_place() as profile:
        subprocess.run(
            [*CHROMIUM, f"--user-data-dir={profile}/p", "--window-size=1100,1400", f"--screenshot={picture}",
             f"http://127.0.0.1:{demo.port}/"],
            env=ENVIRONMENT | {"HOME": str(profile)}, check=True, timeout=90,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    # Width and height are in the first chunk of a PNG file (ISO 15948 §11.2.2); a blank page would be far smaller.
    data = picture.read_bytes()
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (1100, 1400)
    assert len(data) > 20_000


def test_demo_and_gateway_keep_to_pep_3333(place: Path, front_name: str) -> None:
    """Every page, and each way to post to one, under wsgiref.validate."""
    source = f"import sys\nsys.path.insert(0, {str(ROOT / 'examples/demo')!r})\n"
    source += "from wsgiref.validate import validator\nfrom demo import app\napplication = validator(app.wsgifunc())\n"
    (place / "validated.py").write_text(source)
    applications = [{"name": "demo", "app": "validated:application"}]
    part = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        + b"\0" * 200_000
        + b"\r\n--x--\r\n"
    )
    with site(front_name, Settings(place, {"app_dir": str(place)}, applications)) as running:
        asked = [(path, way) for path in ("/", "/form", "/upload", "/slow", "/none") for way in ("GET", "HEAD")]
        with ThreadPoolExecutor(len(asked)) as browsers:
            statuses = browsers.map(lambda page: fetch(running.port, *page).status, asked)
            assert list(statuses) == [404 if path == "/none" else 200 for path, _ in asked]
        form = fetch(running.port, "/form", "POST", body=b"name=Ada&message=hi", Content_Type=FORM)
        assert (form.status, "Ada" in form.text) == (200, True)
        upload = fetch(running.port, "/upload", "POST", body=part, Content_Type="multipart/form-data; boundary=x")
        assert (upload.status, hashlib.sha256(b"\0" * 200_000).hexdigest() in upload.text) == (200, True)
        assert fetch(running.port, "/error").status == 500
        wait_until(lambda: "the demo raises this on purpose" in running.master.said)
        assert "AssertionError" not in running.master.said
