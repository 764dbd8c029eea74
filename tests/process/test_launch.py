"""Starting programs as somebody else."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys

import pytest

from gateway.process.identity import Identity, IdentityError, find_identity
from gateway.process.launch import launch
from gateway.process.limits import StepError

PYTHON = "/usr/bin/python3"  # one that every user may run
SHOW = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(),
    "capabilities": int(status["CapEff"], 16), "no_new_privileges": int(status["NoNewPrivs"]),
    "leads_its_group": os.getpgid(0) == os.getpid(), "fds": sorted(int(n) for n in os.listdir("/proc/self/fd")),
}))
"""


def shown_by(identity: Identity | None, **options: object) -> dict[str, object]:
    process = launch(
        [PYTHON, "-c", SHOW], identity=identity, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, **options
    )  # type: ignore[arg-type]
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    shown: dict[str, object] = json.loads(output)
    return shown


def test_everything_of_root_is_given_up() -> None:
    nobody = find_identity("nobody")
    if os.geteuid() != 0:
        with pytest.raises(StepError, match="Operation not permitted"):
            shown_by(nobody)
        return
    shown = shown_by(nobody, no_new_privileges=True)
    assert shown["uids"] == [nobody.uid] * 3
    assert shown["gids"] == [nobody.gid] * 3
    assert shown["groups"] == list(nobody.groups)
    assert shown["capabilities"] == 0
    assert shown["no_new_privileges"] == 1


def test_the_reason_of_a_step_that_fails_is_told() -> None:
    def fail() -> None:
        raise StepError("rlimit_files: 7 cannot be set")

    with pytest.raises(StepError, match="rlimit_files: 7 cannot be set"):
        shown_by(None, as_master=fail)


def test_only_the_standard_descriptors_are_inherited() -> None:
    reading, writing = os.pipe()
    try:
        shown = shown_by(None)
        assert isinstance(shown["fds"], list)
        assert len(shown["fds"]) == 4  # 0, 1, 2 and the one that lists them
        assert shown["leads_its_group"] is True
    finally:
        os.close(reading)
        os.close(writing)


def test_it_dies_with_its_parent() -> None:
    script = (
        "import subprocess, sys\n"
        "from gateway.process.launch import launch\n"
        "child = launch(['sleep', '60'], stdin=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = os.pidfd_open(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    assert select.select([child], [], [], 5)[0], "it outlived its parent"
    os.close(child)


def test_a_step_that_fails_reaches_the_caller() -> None:
    with pytest.raises(FileNotFoundError):
        launch(["/nowhere/program"], stdin=subprocess.DEVNULL)
    with pytest.raises(FileNotFoundError):
        launch(["true"], stdin=subprocess.DEVNULL, cwd="/nowhere")


@pytest.mark.parametrize(
    ("user", "group", "named"), [("nobody-such", "", "user 'nobody-such'"), ("root", "no-such", "group 'no-such'")]
)
def test_an_unknown_name_is_named(user: str, group: str, named: str) -> None:
    with pytest.raises(IdentityError, match=named):
        find_identity(user, group)
    assert find_identity("0").name == "root"
    assert find_identity("root", "0").gid == 0
