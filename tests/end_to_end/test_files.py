"""Files that an application returns by wsgi.file_wrapper: the front-end sends them where it has been told to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import Settings, site
from tests.waiting import wait_until

pytestmark = pytest.mark.alone  # it measures how soon the worker is free

SIZE = 8 << 20
FREE = 2_000  # µs


@pytest.mark.parametrize("front", ["nginx", "lighttpd", "apache"])
def test_the_front_end_sends_the_file_and_the_worker_is_free(front: str, place: Path) -> None:
    content = os.urandom(SIZE)
    files = place / "files"
    files.mkdir()
    name, url = ("a b%c.bin", "/a%20b%25c.bin") if front == "nginx" else ("a b+c.bin", "/a%20b+c.bin")
    (files / name).write_bytes(content)
    told: dict[str, Any] = {"x_accel": {str(files): "/protected"}} if front == "nginx" else {"x_sendfile": [str(files)]}
    pool = {"max_children": 1, "env": {"FILES": str(files)}} | told
    settings = Settings(place, pool, [{"name": "sending", "app": "sending:application"}])
    with site(front, settings) as served:
        lasted = []
        for count in range(1, 6):
            answer = fetch(served.port, url)
            assert (answer.status, answer.body) == (200, content)
            assert answer.headers["content-length"] == str(SIZE)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert not {"x-accel-redirect", "x-sendfile"} & set(answer.headers)
            wait_until(lambda count=count: served.master.workers()[0]["requests"] == count)
            lasted.append(served.master.workers()[0]["request_duration"])
        print(f"{front}: the worker was busy for {[f'{microseconds} µs' for microseconds in lasted]}")
        assert min(lasted) < FREE
        assert fetch(served.port, f"/protected{url}").status != 200  # not from outside
