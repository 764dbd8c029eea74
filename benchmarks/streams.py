"""Many server-sent-event streams at once: how many are held through nginx, and what memory each takes of the workers.

python -m benchmarks.streams [--streams N] [--workers N] [--seconds S]
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.bench.fronts import Backend, configuration
from benchmarks.bench.meters import cpu_nanoseconds, shared_out
from benchmarks.bench.peers import APPLICATIONS
from benchmarks.peers import BACKLOG
from tests.end_to_end.running import Master, Settings, front, serving, short_place
from tests.waiting import free_port

_FILES = 10_000
_REQUEST = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Stream:
    """One client: how many events it has had."""

    def __init__(self) -> None:
        self.events = 0

    async def run(self, port: int) -> None:
        """Read events until it is cancelled. Raises OSError where the connection ends before."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_REQUEST)
            while line := await reader.readline():
                self.events += line.startswith(b"data: ")
            raise OSError("a stream has ended")
        finally:
            writer.close()


def pids(master: Master) -> list[int]:
    """Of the workers."""
    return [worker["pid"] for worker in master.workers()]


async def hold(master: Master, port: int, count: int, seconds: float) -> dict[str, float]:
    """Open the streams, let them run, and return what that took."""
    before = shared_out(pids(master))
    streams = [Stream() for _ in range(count)]
    tasks = [asyncio.create_task(stream.run(port)) for stream in streams]
    began = time.monotonic()
    while any(not stream.events and not task.done() for stream, task in zip(streams, tasks, strict=True)):
        await asyncio.sleep(0.05)
    opened = time.monotonic() - began
    used, events = cpu_nanoseconds(pids(master)), sum(stream.events for stream in streams)
    await asyncio.sleep(seconds)  # the time that they are measured for
    used, events = cpu_nanoseconds(pids(master)) - used, sum(stream.events for stream in streams) - events
    after = shared_out(pids(master))
    held = sum(not task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "held": held, "opened": opened, "before": before, "after": after,
        "each": (after - before) * 1024 / count, "cpu": used / max(1, events) / 1000, "events": events / seconds,
    }  # fmt: skip


def measure(place: Path, count: int, workers: int, seconds: float) -> dict[str, Any]:
    """Serve, hold the streams, and see that the workers are free of them afterwards."""
    pool = {
        "app_dir": str(APPLICATIONS), "max_children": workers, "rlimit_files": _FILES, "max_concurrency": count,
        "listen_backlog": BACKLOG,
    }  # fmt: skip
    settings = Settings(place, pool, [{"name": "events", "app": "events:application"}])
    port = free_port()
    text = configuration("nginx", place, [Backend(port, settings.socket, "fastcgi")], APPLICATIONS)
    with serving(settings) as master, front("nginx", place, text, port):
        found: dict[str, Any] = asyncio.run(hold(master, port, count, seconds))
        master.wait_for(lambda: len(master.workers("idle")) == workers)
        return found


def main() -> int:
    """Measure and print; 1 where streams were lost."""
    parser = argparse.ArgumentParser(description="Many server-sent-event streams at once, through nginx.")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10, help="for which they are held")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, hard), hard))
    with short_place() as place:
        found = measure(place, arguments.streams, arguments.workers, arguments.seconds)
    print(
        f"{found['held']} of {arguments.streams} streams held by {arguments.workers} workers, "
        f"opened within {found['opened']:.1f} s\n"
        f"workers' memory (PSS): {found['before']:.1f} MiB before, {found['after']:.1f} MiB with them: "
        f"{found['each']:.1f} KiB a stream\n"
        f"{found['events']:.0f} events a second, {found['cpu']:.0f} µs of the workers' CPU time for each"
    )
    return 0 if found["held"] == arguments.streams else 1


if __name__ == "__main__":
    sys.exit(main())
