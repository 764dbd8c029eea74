"""Connections that nginx keeps to the pool: no request is lost, and each body is the right one."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.browsing import Post, over_connections
from tests.end_to_end.running import Settings, site


def test_posts_over_kept_connections(place: Path) -> None:
    with site("nginx", Settings(place), keepalive=16) as running:
        assert "keepalive 16;" in (place / "nginx.conf").read_text()
        assert "fastcgi_keep_conn on;" in (place / "nginx.conf").read_text()
        posts = [Post("/echo", b"%d:" % n + bytes([n % 256]) * (n * 7919 % 70_000)) for n in range(1600)]
        answers = over_connections(running.port, posts, 16)
        wrong = [(post.body[:8], status) for post, status, body in answers if (status, body) != (200, post.body)]
        assert (wrong, len(answers)) == ([], 1600)
        assert sum(worker["requests"] for worker in running.master.workers()) == 1600
