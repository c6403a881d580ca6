"""The disk's part of the seam to the world: every file that a node keeps is opened, written and synced through a `Disk`.

`Disk` is the machine's own. Tests and the simulator give others: full ones, failing ones, ones that remember what a
power cut would have left. All methods may wait for the hardware, but for those that say that a pass of the loop may
call them. All raise OSError, with the kernel's number, when the disk refuses.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class File:
    """An open file of the machine. Offsets and lengths are bytes."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The kernel's descriptor, for C; -1 for a file that has none, whose `sync` and `write_at` are then called instead."""
        return self._descriptor

    def write_at(self, data: bytes | memoryview, offset: int) -> int:
        """Writes at an offset; how many bytes were taken, maybe fewer than given. Into the page cache: a pass may call it."""
        return os.pwrite(self._descriptor, data, offset)

    def sync(self) -> None:
        """Returns when what was written, and the length, would survive a power cut."""
        os.fdatasync(self._descriptor)

    def truncate(self, length: int) -> None:
        os.ftruncate(self._descriptor, length)

    def reserve(self, length: int) -> None:
        """Takes space for that many bytes, zeros until written, so that later writes below find room; ENOSPC when there is none."""
        os.posix_fallocate(self._descriptor, 0, length)

    def close(self) -> None:
        """Twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Lock:
    """A locked file: for as long as this is open, and no longer than the process lives."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        """Unlocks; twice does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Disk:
    """The file system of the machine we run on."""

    def open(self, path: Path, *, create: bool = False) -> File:
        """For writing; FileNotFoundError unless it exists or `create`, which makes it empty (and FileExistsError if it is not new)."""
        return File(os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0), 0o644))

    def read(self, path: Path) -> bytes:
        """All of a file."""
        return path.read_bytes()

    def read_into(self, path: Path, target: bytearray) -> int:
        """All of a file into the start of target, which grows when it is too short; how many bytes that was."""
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if len(target) < size:
                target.extend(bytes(size - len(target)))
            view, done = memoryview(target)[:size], 0
            while done < size and (count := file.readinto(view[done:])):
                done += count
            return done

    def replace(self, path: Path, data: bytes) -> None:
        """Gives the file this content, whole or not at all, and on disk when this returns."""
        beside = path.with_name(path.name + ".new")
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        self.sync_directory(path.parent)

    def size(self, path: Path) -> int:
        """Bytes in a file."""
        return path.stat().st_size

    def exists(self, path: Path) -> bool:
        return path.exists()

    def list(self, directory: Path) -> list[str]:
        """Names in a directory, sorted."""
        return sorted(os.listdir(directory))

    def make_directory(self, path: Path) -> None:
        """With its parents, unless it is there; on disk when this returns."""
        missing = [parent for parent in (path, *path.parents) if not parent.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for made in missing:
            self.sync_directory(made.parent)

    def rename(self, source: Path, target: Path) -> None:
        """Takes the place of target if there is one. On disk after `sync_directory`."""
        os.replace(source, target)

    def remove(self, path: Path) -> None:
        """On disk after `sync_directory`."""
        os.remove(path)

    def sync_directory(self, path: Path) -> None:
        """Returns when the names in a directory would survive a power cut."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: Path, *, wait: bool = False) -> Lock:
        """Locks a file, made if missing, against every other process and caller; BlockingIOError when somebody has it, or waits."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            os.close(descriptor)
            raise
        return Lock(descriptor)

    def free_bytes(self, path: Path) -> int:
        """Space that this process may still take on the file system of path."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize

    def boot_id(self) -> str:
        """Another one after every start of the kernel: writes of the same boot have not been cut off by a loss of power."""
        return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""

    def clock_ns(self) -> int:
        """Nanoseconds, never going back, to time the disk's work with. A pass may call it."""
        return time.monotonic_ns()
