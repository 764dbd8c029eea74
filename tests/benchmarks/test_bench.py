"""`python -m benchmarks.bench` measures what is there, compares turn by turn, and names what is not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.bench import meters
from benchmarks.bench.generator import Load, drive
from benchmarks.bench.plot import svg
from benchmarks.bench.report import figures, table
from benchmarks.bench.rows import ROWS, Row, Sample
from benchmarks.bench.wrk import read
from tests.end_to_end.running import ROOT
from tests.waiting import wait_until

HELLO = next(row for row in ROWS if row.name == "hello")
SAMPLES: dict[str, list[Sample]] = {
    "gateway": [{"cpu": 10.0, "rate": 4000.0}, {"cpu": 40.0, "rate": 1000.0}, {"cpu": 20.0, "rate": 2000.0}],
    "gateway, kept": [{"cpu": 5.0, "rate": 8000.0}, {"cpu": 10.0, "rate": 4000.0}, {"cpu": 10.0, "rate": 4000.0}],
    "C on libfcgi, kept: hello": [
        {"cpu": 20.0, "rate": 2000.0},
        {"cpu": 40.0, "rate": 0.0},
        {"cpu": 80.0, "rate": 0.0},
    ],
}


class Slow(BaseHTTPRequestHandler):
    """Takes 50 ms for /slow, and refuses whoever sends the header Refuse."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(0.05 if self.path == "/slow" else 0.0)
        self.send_response(503 if self.headers["Refuse"] else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_ratio_is_the_median_of_the_turns_ratios() -> None:
    found = figures(HELLO, SAMPLES, {})
    assert found["medians"]["gateway"] == {"cpu": 20.0, "rate": 2000.0}
    assert found["ratios"]["gateway / C on libfcgi, kept: hello"] == {"cpu": 0.5, "rate": 2.0}
    assert found["ratios"]["gateway, kept / gateway"] == {"cpu": 0.5, "rate": 2.0}


def test_difference_is_the_median_of_the_turns_differences() -> None:
    row = next(row for row in ROWS if row.name == "observed")
    samples = {"log and deadlines": SAMPLES["gateway"], "none of them": SAMPLES["gateway, kept"]}
    assert figures(row, samples, {})["differences"] == {
        "log and deadlines and none of them": {"cpu": 10.0, "rate": -3000.0}
    }


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_table_is_at_most_80_columns_wide(row: Row) -> None:
    sample = {metric.key: 12_345.6 for metric in row.metrics}
    text = table(row, {contender.name: [sample] for contender in row.contenders})
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80, text
    assert all(line.startswith(each.name) for line, each in zip(lines[3:], row.contenders, strict=True))


def test_plot_has_a_bar_for_each_contender() -> None:
    image = ET.fromstring(svg({"hello": figures(HELLO, SAMPLES, {})}))
    space = "{http://www.w3.org/2000/svg}"
    bars = [float(bar.attrib["width"]) for bar in image.findall(f"{space}g/{space}rect")]
    assert bars[0] == pytest.approx(2 * bars[1], rel=0.01)
    assert len(bars) == len(SAMPLES)


def test_cpu_time_of_a_process_and_its_children_is_counted() -> None:
    spin = "import os, time; os.fork(); t = time.process_time\nwhile t() < 0.2: pass\nprint(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            process.stdout.readline()
            pids = meters.tree(process.pid)
            assert len(pids) == 2
            assert 0.4e9 < meters.cpu_nanoseconds(pids) < 4e9
            assert meters.cpu_nanoseconds(pids[:1]) < 0.8 * meters.cpu_nanoseconds(pids)
        finally:
            for pid in reversed(meters.tree(process.pid)):
                os.kill(pid, 9)


def test_peak_of_memory_begins_anew() -> None:
    block = bytearray(b"x") * (64 << 20)
    assert meters.peak(os.getpid()) >= 64
    del block
    meters.forget_peak(os.getpid())
    assert wait_until(lambda: meters.peak(os.getpid()) < meters.resident(os.getpid()) + 32)


@pytest.mark.alone  # it measures
def test_generator_tells_quick_requests_from_slow_ones(port: int) -> None:
    outcome = drive(port, Load(connections=4, seconds=0.5, slow_share=0.3))
    assert outcome.errors == 0
    assert min(outcome.slow) >= 0.05
    assert sorted(outcome.quick)[len(outcome.quick) // 2] < 0.05


@pytest.mark.alone  # it measures
def test_generator_keeps_its_pace_and_counts_refusals(port: int) -> None:
    outcome = drive(port, Load(connections=5, seconds=0.5, rate=100))
    assert len(outcome.quick) == pytest.approx(50, abs=5)
    refused = drive(port, Load(connections=2, seconds=0.2, rate=50, headers={"Refuse": "yes"}))
    assert refused.quick == []
    assert refused.errors >= 5


def test_wrk_is_understood() -> None:
    served = read(
        "  6000 requests in 1.00s, 1.00MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n"
        "  Non-2xx or 3xx responses: 4\nRequests/sec:   5999.50\nTransfer/sec:      1.00MB\n"
    )
    assert (served.requests, served.rate, served.errors) == (6000, 5999.5, 7)
    with pytest.raises(ValueError, match="wrk said: unable to connect"):
        read("unable to connect")


def test_row_is_measured_and_absent_peers_are_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.bench", "hello", "--repeats", "1", "--results", str(tmp_path)]
    for name in ("gateway", "flup6", "uWSGI, FastCGI"):
        command += ["--contender", name]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=90).stdout
    results = json.loads((tmp_path / "bench.json").read_text())
    hello = results["rows"]["hello"]
    assert 0 < hello["medians"]["gateway"]["cpu"] < 10_000
    assert hello["medians"]["flup6"]["rate"] > 10
    assert "gateway / flup6" in hello["ratios"]
    assert ("uWSGI, FastCGI" in hello["medians"]) != ("not installed, and left out: uWSGI, FastCGI" in said)
    assert str(ROOT) not in json.dumps(results)
    assert (tmp_path / "bench.svg").exists()


def test_large_bodies_arrive_whole() -> None:
    command = [sys.executable, "-m", "benchmarks.bench", "upload", "file", "--repeats", "1", "--mebibytes", "8"]
    said = subprocess.run(
        [*command, "--contender", "gateway"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=90
    ).stdout
    assert said.count("\ngateway  ") == 2


def test_unknown_row_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.bench", "helo"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "no such row: helo; there are hello, " in refused.stderr
