"""CPU time and memory of servers as the kernel accounts them, helper processes included."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on (the second, the name, may hold spaces); empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def with_descendants(pids: Iterable[int]) -> set[int]:
    """These processes and everything they started that still runs."""
    running = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    parents = {pid: int(fields[1]) for pid in running if (fields := stat_fields(pid))}
    found = {pid for pid in pids if pid in parents}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, of what runs below them, and of the children that they have waited for."""
    ticks = 0
    for pid in with_descendants(pids):
        fields = stat_fields(pid)
        if fields:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_S


def resident_bytes(pids: Iterable[int]) -> int:
    """Resident memory of these processes and of what runs below them."""
    total = 0
    for pid in with_descendants(pids):
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
    return total


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float, step_s: float = 0.05) -> None:
    """Poll; raises TimeoutError that names what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        time.sleep(step_s)


def wait_quiet(pids: Iterable[int], timeout_s: float = 120.0, share: float = 0.05, window_s: float = 0.5) -> None:
    """Until these processes together use less than that share of one core: what they had put off is done, and paid for."""
    pids = list(pids)
    deadline = time.monotonic() + timeout_s
    before = cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(window_s)
        now = cpu_seconds(pids)
        if now - before < share * window_s:
            return
        before = now
    raise TimeoutError(f"servers were still busy {timeout_s:g} s after their load ended")
