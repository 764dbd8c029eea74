"""`python -m benchmarks.streams` holds streams and says what they take."""

from __future__ import annotations

import subprocess
import sys

from tests.end_to_end.running import ROOT


def test_streams_are_held() -> None:
    command = [sys.executable, "-m", "benchmarks.streams", "--streams", "20", "--seconds", "1"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("20 of 20 streams held by 2 workers")
    assert "KiB a stream" in said
