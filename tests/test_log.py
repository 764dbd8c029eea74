"""Records of the error log, in a process whose standard error is a file or, for all it can tell, the journal."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

WRITE = (
    "from gateway import log\n"
    "log.line('an error', log.Level.ERROR)\n"
    "log.line('two\\nlines, <2>and a priority that is none')\n"
    "log.lines('first\\nsecond', log.Level.WARNING)\n"
)
STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "


def written(script: str, journal: str = "") -> tuple[int, list[str]]:
    """Process ID and lines of a script whose standard error is a stream socket, as the journal's is."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            status = os.fstat(theirs.fileno())
            journal = journal.format(device=status.st_dev, inode=status.st_ino)
            env = {"PYTHONPATH": str(Path(__file__).parent.parent)} | ({"JOURNAL_STREAM": journal} if journal else {})
            process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs.fileno(), env=env)
        with ours.makefile(encoding="utf-8") as file:
            said = file.read().splitlines()
        assert process.wait(10) == 0
    return process.pid, said


def test_for_the_journal_a_record_has_a_priority_and_no_time() -> None:
    pid, said = written(WRITE, "{device}:{inode}")
    assert said == [
        f"<3>[{pid}] an error",
        f"<5>[{pid}] two\\x0alines, <2>and a priority that is none",
        f"<4>[{pid}] first",
        f"<4>[{pid}] second",
    ]


def test_anywhere_else_a_record_has_its_time() -> None:
    for journal in ("", "8:12345", "{device}:{inode}0", "{device}", "junk"):
        pid, said = written(WRITE, journal)
        assert len(said) == 4
        assert re.fullmatch(STAMP + rf"\[{pid}\] an error", said[0])


def test_a_log_file_is_not_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _, said = written(f"from gateway import log\nlog.open_file({str(path)!r})\nlog.line('text')", "{device}:{inode}")
    assert said == []
    assert re.fullmatch(STAMP + r"\[\d+\] text\n", path.read_text())


def test_a_closed_standard_error_stops_nothing() -> None:
    assert written("import os\nfrom gateway import log\nos.close(2)\nlog.line('text')", "{device}:{inode}")[1] == []
