"""Ask flup6 and this engine, and write the page of their differences: `python -m tests.end_to_end.flup.comparing`."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.protocol.client import Ended, ResponseReader, Stderr, Stdout
from tests.end_to_end.flup.cases import CASES, Case
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, Program, listens_at, short_place

SCRIPT = Path(__file__).with_name("pages.fcgi")
FLUP6: Sequence[str] = [sys.executable]
NATIVE: Sequence[str] = GATEWAY
_PATIENCE = 5  # seconds after which a server that does not answer hangs
_LONGEST = 150  # characters of a body that are shown
_TITLE = """# flup6 and this engine, request by request

The same script, which calls `flup.server.fcgi_fork.WSGIServer(…, debug=False).run()`, was run by flup6 1.1.1 as it
is shipped and by `gateway run`, and both were sent the same bytes, with no front-end between. Of {count} requests
{alike} are answered alike; the others are in this table. `tests/end_to_end/test_flup.py` asks both anew and compares
this page with what comes of it. *Logged* is what FCGI_STDERR brings into the front-end's log; the engine's own log
has it, too.

| request | flup6 | this engine | why |
| --- | --- | --- | --- |
"""


@contextlib.contextmanager
def server(command: Sequence[str], place: Path) -> Iterator[Path]:
    """The script, served by an interpreter alone (flup6) or by gateway, on a socket whose path this gives."""
    path = place / "pages.sock"
    program = Program([*command, SCRIPT, path, place / "journal"], place / "log", env=ENVIRONMENT)
    try:
        program.wait_for(lambda: listens_at(path))
        yield path
    finally:
        program.stop()


@dataclass
class Outcome:
    """What came back."""

    out: bytes = b""
    error: bytes = b""
    end: str = "closed"  # complete, closed, hangs
    noted: str = ""

    def __str__(self) -> str:
        parts = [self._answer()]
        if self.error:
            parts.append("logged")
        if self.noted:
            parts.append(self.noted.strip())
        return "; ".join(parts)

    def _answer(self) -> str:
        if not self.out:
            return {"closed": "no answer, the connection is closed", "complete": "an empty answer"}.get(
                self.end, "no answer"
            )
        head, _, body = self.out.partition(b"\r\n\r\n")
        status, *headers = head.decode("latin-1").split("\r\n")
        shown = [status.removeprefix("Status: "), *(line for line in headers if not line.startswith("Content-Type"))]
        text = repr(body if len(body) <= _LONGEST else body[:10] + b"... %d bytes" % len(body))[1:]
        cut = "" if self.end == "complete" else ", then cut"
        return ", ".join(f"`{line}`" for line in shown) + (f" `{text}`" if body else "") + cut


def ask(path: Path, case: Case) -> Outcome:
    """Send a request, and read what comes until the answer is complete or the connection ends."""
    journal = path.with_name("journal")
    journal.unlink(missing_ok=True)
    outcome = Outcome()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(path))
        try:
            connection.sendall(case.encoded())
            _read(connection, outcome, case)
        except TimeoutError:
            outcome.end = "hangs"
        except ConnectionError:
            outcome.end = "closed"
    outcome.noted = journal.read_text() if journal.exists() else ""
    return outcome


def _read(connection: socket.socket, outcome: Outcome, case: Case) -> None:
    if case.raw:
        answer = connection.recv(1000)
        outcome.out = b"values: " + bytes(answer[8 : 8 + int.from_bytes(answer[4:6], "big")])
        outcome.end = "complete"
        return
    reader = ResponseReader("fastcgi")
    while not reader.ended:
        data = connection.recv(65_536)
        for event in reader.receive_data(data) if data else reader.receive_eof():
            match event:
                case Stdout(piece):
                    outcome.out += piece
                case Stderr(piece):
                    outcome.error += piece
                case Ended():
                    outcome.end = "complete"


def outcomes(command: Sequence[str]) -> list[Outcome]:
    """What comes of each case, in their order."""
    with short_place() as place, server(command, place) as path:
        return [ask(path, case) for case in CASES]


@dataclass(frozen=True)
class Compared:
    """A case, and what comes of it in flup6 and in this engine."""

    case: Case
    flup6: Outcome
    native: Outcome

    @property
    def alike(self) -> bool:
        """Every byte of the answers, how they end, and whether something is logged."""
        one, other = (
            (outcome.out, outcome.end, bool(outcome.error), outcome.noted) for outcome in (self.flup6, self.native)
        )
        return one == other


def compare() -> list[Compared]:
    """Ask both."""
    return [Compared(*three) for three in zip(CASES, outcomes(FLUP6), outcomes(NATIVE), strict=True)]


def page(compared: Sequence[Compared]) -> str:
    """The page of those that differ."""
    rows = [row for row in compared if not row.alike]
    cells = ([row.case.what, str(row.flup6), str(row.native), row.case.why] for row in rows)
    table = "".join("| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in row) + " |\n" for row in cells)
    alike = "; ".join(row.case.what for row in compared if row.alike)
    return _TITLE.format(count=len(compared), alike=len(compared) - len(rows)) + table + f"\nAlike: {alike}.\n"


if __name__ == "__main__":
    sys.stdout.write(page(compare()))
