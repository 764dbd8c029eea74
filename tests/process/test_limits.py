"""Resource limits and niceness of a program that is started, and why one cannot be had."""

from __future__ import annotations

import functools
import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.process.identity import find_identity
from gateway.process.launch import launch
from gateway.process.limits import StepError, bound
from gateway.settings import Pool

PYTHON = "/usr/bin/python3"  # one that every user may run
SHOW = """
import json, os, resource
names = ("NOFILE", "CORE", "NPROC")
print(json.dumps([os.getuid(), os.nice(0)] + [resource.getrlimit(getattr(resource, f"RLIMIT_{n}")) for n in names]))
"""


def shown_by(pool: Pool, as_master: Callable[[], None] | None = None) -> list[object]:
    """User, niceness and the limits of open files, core files and processes; as nobody, where that can be."""
    process = launch(
        [PYTHON, "-c", SHOW],
        identity=find_identity("nobody") if os.geteuid() == 0 else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        as_master=as_master or functools.partial(bound, pool),
    )
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    shown: list[object] = json.loads(output)
    return shown


def test_what_is_not_set_is_the_parents() -> None:
    limits = [
        list(resource.getrlimit(n)) for n in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC)
    ]
    assert shown_by(Pool())[1:] == [os.nice(0), *limits]


def test_limits_and_niceness_are_set() -> None:
    pool = Pool(rlimit_files=100, rlimit_core=0, rlimits={"nproc": 300}, process_priority=7)
    assert shown_by(pool)[1:] == [7, [100, 100], [0, 0], [300, 300]]


CAP_SYS_NICE, CAP_SYS_RESOURCE = 23, 24  # capabilities(7); even root may be without them, in a container


def may(capability: int) -> bool:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:")]
    return bool(int(line.split()[1], 16) >> capability & 1)


def test_a_limit_is_raised_before_the_rights_to_do_so_are_given_up() -> None:
    def lower_and_raise() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        bound(Pool(rlimit_files=128))

    if may(CAP_SYS_RESOURCE):
        assert shown_by(Pool(), lower_and_raise)[2] == [128, 128]
    else:
        with pytest.raises(StepError, match=r"rlimit_files: 128 cannot be set: .*; the most is 64"):
            shown_by(Pool(), lower_and_raise)


def test_so_is_the_priority() -> None:
    pool = Pool(process_priority=-3)
    if may(CAP_SYS_NICE):
        shown = shown_by(pool)
        assert shown[:2] == [os.getuid() or find_identity("nobody").uid, -3]
    else:
        with pytest.raises(StepError, match=r"process_priority: -3 cannot be set: .*; only root may write less than 0"):
            shown_by(pool)


def test_what_cannot_be_had_is_named() -> None:
    with pytest.raises(StepError, match=r"rlimit_files: 1099511627776 cannot be set: .*; the most is \d+"):
        shown_by(Pool(rlimit_files=1 << 40))
