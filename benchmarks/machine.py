"""What figures depend on: the machine, its kernel, and the programs that were measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from typing import Any

from tests.end_to_end.running import ENVIRONMENT


def first_line(*command: str) -> str:
    """What a program says of its version."""
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT, timeout=20)
    return (said.stdout or said.stderr).splitlines()[0]


def surroundings() -> dict[str, Any]:
    """Today, here, and with these versions."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": first_line("nginx", "-v"),
    }
