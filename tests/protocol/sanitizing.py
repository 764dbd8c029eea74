"""Runs the tests of what is in C, and then the long comparison, with all of it compiled under ASan and UBSan.

python -m tests.protocol.sanitizing [SECONDS] [--only-differential]
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig

TESTS = (
    "tests/protocol",
    "tests/app/test_scope_in_c.py",
    "tests/net/test_line.py",
    "tests/net/test_quick.py",
    "tests/net/test_quick_bodies.py",
    "tests/net/test_quick_log.py",
    "tests/net/test_wiring.py",
    "tests/process/test_scoreboard.py",
)
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"


def runtime() -> str:
    """The compiler's library that has to be loaded before everything else. Exits where there is none."""
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    path = subprocess.run([*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(path):
        sys.exit(f"{compiler[0]} has no libasan.so")
    return path


def main(arguments: list[str]) -> None:
    """Run; the exit code is that of the first that fails."""
    seconds = next((argument for argument in arguments if not argument.startswith("-")), "60")
    environment = {
        **os.environ,
        "TWIN_CFLAGS": FLAGS,
        "LD_PRELOAD": runtime(),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps much to its end; test_twin looks for leaks
        "GATEWAY_PURE": "",
        "PYTHONMALLOC": "malloc",  # so that a byte too far is seen in small objects as well
    }
    commands = [["tests.protocol.differential", seconds]]
    if "--only-differential" not in arguments:
        commands.insert(
            0,
            ["pytest", "-q", *TESTS, "-k", "not million and not sanitizers and not memory and not allocated"],
        )
    for command in commands:
        done = subprocess.run([sys.executable, "-m", *command], env=environment)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
