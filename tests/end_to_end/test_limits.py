"""What a pool's settings say of its processes: limits, priority, permissions of new files, working directory."""

from __future__ import annotations

import errno
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.asking import parameters
from gateway.net.address import UnixAddress
from gateway.net.client import request
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, ROOT, Master, Settings, descendants, interpreter_for, serving
from tests.waiting import wait_until

BOUND = """
import json, os, resource, sys

def application(environ, start_response):
    os.umask(mask := os.umask(0))
    shown = {
        "files": resource.getrlimit(resource.RLIMIT_NOFILE), "core": resource.getrlimit(resource.RLIMIT_CORE),
        "stack": resource.getrlimit(resource.RLIMIT_STACK), "nice": os.nice(0), "umask": mask, "cwd": os.getcwd(),
        "policy": os.sched_getscheduler(0), "path": sys.path[0], "pid": os.getpid(),
        "oom": int(open("/proc/self/oom_score_adj").read()),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]
"""


@pytest.fixture
def settings(place: Path) -> Settings:
    (place / "bound.py").write_text(BOUND)
    (place / "work").mkdir()
    return Settings(place, {"app_dir": str(place), "max_children": 1}, [{"name": "bound", "app": "bound:application"}])


def ask(settings: Settings) -> dict[str, Any]:
    with request(UnixAddress(str(settings.socket)), parameters("/", "GET", 0, []), timeout=10) as answer:
        shown: dict[str, Any] = json.loads(b"".join(answer.body))
    return shown


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    words = [*GATEWAY, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def test_what_is_set_is_what_workers_have(settings: Settings) -> None:
    settings.pool |= {
        "rlimit_files": 200, "rlimit_core": 0, "rlimits": {"stack": "4M"}, "process_priority": 5, "umask": "0027",
        "chdir": "work",
    }  # fmt: skip
    settings.write()
    with serving(settings):
        shown = ask(settings)
        assert (shown["files"], shown["core"], shown["stack"]) == ([200, 200], [0, 0], [4 << 20, 4 << 20])
        assert (shown["nice"], shown["umask"]) == (5, 0o027)
        assert (shown["cwd"], shown["path"]) == (str(settings.place / "work"), str(settings.place))


def test_what_is_not_set_is_gateways_own(settings: Settings) -> None:
    with serving(settings) as master:
        shown = ask(settings)
        assert shown["files"] == list(resource.prlimit(master.pid, resource.RLIMIT_NOFILE))
        assert shown["nice"] == os.getpriority(os.PRIO_PROCESS, master.pid)
        assert shown["cwd"] == str(settings.place)


@pytest.mark.parametrize("scheduling", ["batch", "inherit"])
def test_workers_do_not_interrupt_who_sends_them_a_request(settings: Settings, scheduling: str) -> None:
    settings.pool["process_scheduling"] = scheduling
    settings.write()
    with serving(settings) as master:
        own = os.sched_getscheduler(master.pid)
        assert own == os.sched_getscheduler(0)
        assert ask(settings)["policy"] == {"batch": os.SCHED_BATCH, "inherit": own}[scheduling]


def test_what_gateway_was_given_is_not_changed(settings: Settings) -> None:
    with serving(settings, wrapper=["chrt", "--idle", "0"]):
        assert ask(settings)["policy"] == os.SCHED_IDLE


# A filter of secure computing, as systemd's SystemCallFilter makes it: system calls of these numbers have this error.
REFUSING = """
import ctypes, os, platform, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
error, *calls = map(int, sys.argv[1].split(","))
code = b"".join(struct.pack("=HBBI", *step) for step in [
    (0x20, 0, 0, 0), *((0x15, len(calls) - i, 0, call) for i, call in enumerate(calls)),
    (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x50000 + error),
])
steps = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(steps)))
assert libc.prctl(38, 1, 0, 0, 0) == 0          # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
os.execvp(sys.argv[2], sys.argv[2:])
"""
SET, GET = {"x86_64": (144, 145), "aarch64": (119, 120)}[platform.machine()]  # sched_setscheduler, sched_getscheduler


def refusing(error: int, *calls: int) -> list[str]:
    return [sys.executable, "-c", REFUSING, ",".join(map(str, (error, *calls)))]


def test_a_sandbox_that_forbids_it_costs_a_warning(settings: Settings) -> None:
    with serving(settings, wrapper=refusing(errno.EPERM, SET)) as master:
        assert ask(settings)["policy"] == os.sched_getscheduler(master.pid)
        wait_until(lambda: "process_scheduling: batch cannot be set: Operation not permitted; allow" in master.said)


def test_a_c_library_that_has_no_scheduling_policies_costs_nothing(settings: Settings) -> None:
    """As musl: its sched_setscheduler and sched_getscheduler are always ENOSYS."""
    (settings.place / "bound.py").write_text(BOUND.replace("os.sched_getscheduler(0)", "None"))
    with serving(settings, wrapper=refusing(errno.ENOSYS, SET, GET)) as master:
        assert ask(settings)["policy"] is None
        assert "process_scheduling" not in master.said


def adjustment(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_workers_are_killed_before_the_master_when_memory_runs_out(settings: Settings) -> None:
    settings.pool["process_dumpable"] = False
    settings.write()
    own = adjustment(os.getpid())
    with serving(settings) as master:
        (worker,) = master.workers()
        assert ask(settings)["oom"] == min(own + 500, 1000)
        assert [adjustment(pid) for pid in (master.pid, *set(descendants(master.pid)) - {worker["pid"]})] == [own] * 2


@pytest.mark.parametrize("dumpable", [True, False])
def test_processes_may_be_closed_to_others_of_their_user(settings: Settings, dumpable: bool) -> None:
    settings.pool |= {"process_dumpable": dumpable}
    if os.geteuid() == 0:
        shutil.copytree(ROOT / "gateway", settings.place / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
        settings.pool |= {"user": "nobody", "python": interpreter_for("nobody")}
    settings.write()
    with serving(settings, source=settings.place if os.geteuid() == 0 else ROOT) as master:
        (worker,) = master.workers()
        owner = Path(f"/proc/{worker['pid']}/environ").stat().st_uid
        assert (owner == 0) is not dumpable
        assert Path(f"/proc/{worker['pid']}/statm").read_text()  # by which max_memory is measured


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"rlimit_files": 1 << 40}, "cannot start a zygote: rlimit_files: 1099511627776 cannot be set: "),
        ({"chdir": "nowhere"}, "chdir: there is no folder "),
    ],
)
def test_what_cannot_be_had_is_refused(settings: Settings, pool: dict[str, Any], said: str) -> None:
    with serving(settings) as master:
        before = master.workers()
        settings.pool |= pool
        settings.write()
        done = run("reload", settings.file)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
        assert [worker["pid"] for worker in master.workers()] == [worker["pid"] for worker in before]
    done = run("check", settings.file)
    assert (done.returncode, said in done.stderr) == (100, True), done.stderr
    start = Master(settings)
    assert start.wait() == 100
    wait_until(lambda: said in start.said)
