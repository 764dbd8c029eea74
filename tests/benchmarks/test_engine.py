"""`python -m benchmarks.engine` measures all sides: gateway takes at most a third of what flup6 takes under web.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone  # it measures, or has to be fast

ROOT = Path(__file__).parent.parent.parent


def test_the_engine_is_cheaper_than_flup6() -> None:
    command = [sys.executable, "-m", "benchmarks.engine", "1000"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    ratios = [float(text) for text in re.findall(r"python / flup6 +([0-9.]+)", output)]
    assert len(ratios) == 3
    assert max(ratios) < 0.8, output
    assert ratios[2] <= 1 / 3, output
