"""Whom a pool runs as, and where."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.process.start import pool_identity, working_directory
from gateway.settings import ConfigError, Pool
from tests.end_to_end.running import ROOT, interpreter_for, short_place

ASK = """
import sys
from gateway.process.start import pool_identity
from gateway.settings import ConfigError, Pool
try:
    print(pool_identity(Pool(user=sys.argv[1], group=sys.argv[2])))
except ConfigError as error:
    print(error)
"""


def told_nobody(user: str, group: str) -> str:
    """What somebody who is not root gets to hear of a pool's user and group."""
    with short_place() as place:
        shutil.copytree(ROOT / "gateway", place / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            [interpreter_for("nobody"), "-c", ASK, user, group],
            capture_output=True,
            text=True,
            check=True,
            cwd=place,
            timeout=30,
            **(
                {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
                if not os.geteuid()
                else {}
            ),
        )  # type: ignore[call-overload]
    return str(done.stdout).strip()


def me() -> pwd.struct_passwd:
    return pwd.getpwuid(os.geteuid()) if os.geteuid() else pwd.getpwnam("nobody")


@pytest.mark.parametrize("named", [False, True])
def test_a_group_of_others_is_refused(named: bool) -> None:
    told = told_nobody(me().pw_name if named else "", "root")
    assert told == (
        f"only root can give a pool the group root, to which {me().pw_name} does not belong; "
        "start gateway as root, make the user a member, or leave `group` out"
    )


def test_an_own_group_is_no_change() -> None:
    assert told_nobody("", grp.getgrgid(me().pw_gid).gr_name) == "None"


def test_another_user_is_refused() -> None:
    assert told_nobody("root", "").startswith("only root can run a pool as root")


def test_a_pool_without_user_and_group_stays_who_it_is() -> None:
    assert pool_identity(Pool()) is None


def test_the_working_directory_is_app_dir_or_below_or_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    assert working_directory(Pool()) == os.path.join(os.getcwd(), "")
    assert working_directory(Pool(app_dir=str(tmp_path), chdir="work")) == str(tmp_path / "work")
    assert working_directory(Pool(app_dir=str(tmp_path), chdir="/")) == "/"
    with pytest.raises(ConfigError, match=r"chdir: there is no folder .*/none; create it or name another"):
        pool_identity(Pool(app_dir=str(tmp_path), chdir="none"))
