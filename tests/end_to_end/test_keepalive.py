"""Connections that nginx keeps to the pool: no request is lost, and each body is the right one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.browsing import Post, over_connections, while_running, work
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, Settings, site
from tests.waiting import wait_until


def test_posts_over_kept_connections(place: Path) -> None:
    with site("nginx", Settings(place), keepalive=16) as running:
        assert "keepalive 16;" in (place / "nginx.conf").read_text()
        assert "fastcgi_keep_conn on;" in (place / "nginx.conf").read_text()
        posts = [Post("/echo", b"%d:" % n + bytes([n % 256]) * (n * 7919 % 70_000)) for n in range(1600)]
        answers = over_connections(running.port, posts, 16)
        wrong = [(post.body[:8], status) for post, status, body in answers if (status, body) != (200, post.body)]
        assert (wrong, len(answers)) == ([], 1600)
        wait_until(lambda: sum(worker["requests"] for worker in running.master.workers()) == 1600)


@pytest.mark.parametrize("pool", [{}, {"max_children": 2, "threads": 4}])
def test_reloads_hand_kept_connections_on(place: Path, pool: dict[str, int]) -> None:
    """Closing one races with nginx's next request, which it does not repeat when it is a POST."""
    with site("nginx", Settings(place, pool), keepalive=16) as running:

        def reload_again_and_again() -> list[int]:
            command = [*GATEWAY, "reload", str(running.settings.file)]
            return [subprocess.run(command, env=ENVIRONMENT, timeout=60).returncode for _ in range(6)]

        answers, codes = while_running(running.port, work(200), reload_again_and_again)
        wrong = [(post.path, status) for post, status, body in answers if (status, body) != (200, post.body)]
        assert wrong == []
        assert sorted(running.settings.journal(), key=int) == [str(n) for n in range(len(answers))]
        assert codes == [0] * 6
