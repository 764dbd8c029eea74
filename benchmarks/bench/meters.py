"""What processes have used: CPU time, memory and its peak, all from /proc (proc(5))."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tests.end_to_end.running import processes, proportional_size

_PEAK = "5"  # written to /proc/PID/clear_refs: VmHWM begins anew


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    below: dict[int, list[int]] = {}
    for child, fields in processes():
        below.setdefault(int(fields[1]), []).append(child)
    found = [pid]
    for each in found:
        found += below.get(each, [])
    return found


def cpu_nanoseconds(pids: Iterable[int]) -> int:
    """What all threads of the processes have run for since they started."""
    return sum(_of_process(pid) for pid in pids)


def _of_process(pid: int) -> int:
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end meanwhile
            total += int((thread / "schedstat").read_text().split()[0])
    return total


def shared_out(pids: Iterable[int]) -> float:
    """MiB of memory of the processes together, each shared page counted once (PSS)."""
    return sum(map(proportional_size, pids)) / 1024


def resident(pid: int) -> float:
    """MiB that a process has in memory."""
    return _status(pid, "VmRSS") / 1024


def peak(pid: int) -> float:
    """MiB that a process has had in memory at most, since its start or `forget_peak`."""
    return _status(pid, "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    """Let the peak begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text(_PEAK)


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(f"no {name} of {pid}")
