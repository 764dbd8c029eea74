"""Records of the error log, in a process whose standard error is a file or, for all it can tell, the journal."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_through_the_master_a_record_has_its_priority_and_the_master_stamps_it() -> None:
    _, said = written("from gateway import log\nlog.through_master()\n" + WRITE)
    assert said == [
        "<3>an error",
        "<5>two\\x0alines, <2>and a priority that is none",
        "<4>first",
        "<4>second",
    ]
    _, stamped = written(f"from gateway import log\nlog.relay(7, {[*said, '<0>worst', '<7>least', '<8>none']!r})")
    assert [line[24:] for line in stamped] == [
        "[7] an error",
        "[7] two\\x0alines, <2>and a priority that is none",
        "[7] first",
        "[7] second",
        "[7] worst",
        "[7] least",
        "[7] <8>none",
    ]
    _, prioritised = written(
        "from gateway import log\nlog.relay(7, ['<0>worst', '<4>bad', '<7>least', 'plain'])", "{device}:{inode}"
    )
    assert prioritised == ["<3>[7] worst", "<4>[7] bad", "<5>[7] least", "<5>[7] plain"]


def test_as_json_a_record_is_an_object() -> None:
    pid, said = written("from gateway import log\nlog.use_json(True)\n" + WRITE)
    records = [json.loads(line) for line in said]
    assert [(record["level"], record["message"]) for record in records] == [
        ("error", "an error"),
        ("notice", "two\nlines, <2>and a priority that is none"),
        ("warning", "first"),
        ("warning", "second"),
    ]
    assert {record["pid"] for record in records} == {pid}
    assert all(re.fullmatch(STAMP, record["time"] + " ") for record in records)


@pytest.mark.parametrize("relayed", [False, True])
def test_a_log_that_takes_no_more_is_not_waited_for(relayed: bool) -> None:
    script = (
        "import os, sys\n"
        "from gateway import log\n"
        "reading, writing = os.pipe()\n"
        "os.dup2(writing, 2)\n"
        f"if {relayed}: log.through_master()\n"
        "told = []\n"
        "log.call_on_loss(lambda: told.append(1))\n"
        "while not log.lost(): log.line('x' * 2000)\n"
        "for _ in range(1000): log.line('lost as well')\n"
        "os.read(reading, 1 << 20)\n"
        "log.line('after that')\n"
        "sys.stdout.write(f'{log.lost()} {len(told)} {os.read(reading, 1000)}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    lost, told, rest = done.stdout.split(" ", 2)
    assert (lost, told) == ("1001", "1001")
    assert "after that\\n" in rest
