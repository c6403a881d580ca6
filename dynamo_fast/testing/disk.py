"""Files of a machine in virtual time: a dict that outlives its processes, can refuse, and can be copied.

What `replace` wrote is on disk when it returns, as the real one promises, so a loss of power takes nothing back here. (What it takes back
of the records is the engine's journal; testing/machine.py.)
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from dynamo_fast.disk import Disk, Lock


class VirtualDisk(Disk):
    """`refusal`: not None, every write fails with it. `after_replace` is called after each that worked."""

    def __init__(self) -> None:
        self.files: dict[Path, bytes] = {}
        self.refusal: OSError | None = None
        self.replaced = 0
        self.after_replace: Callable[[], None] = lambda: None
        self._locked: set[Path] = set()

    def make_directory(self, path: Path) -> None:
        if path in self.files:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))

    def list(self, directory: Path) -> list[str]:
        return sorted(file.name for file in self.files if file.parent == directory)

    def exists(self, path: Path) -> bool:
        return path in self.files

    def read(self, path: Path) -> bytes:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from None

    def replace(self, path: Path, data: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.files[path] = data
        self.replaced += 1
        self.after_replace()

    def lock(self, path: Path, *, wait: bool = False) -> Lock:
        if path in self._locked:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable", str(path))
        self._locked.add(path)
        return VirtualLock(self, path)

    def unlock(self, path: Path) -> None:
        self._locked.discard(path)

    def forget_locks(self) -> None:
        """The process that held them is gone."""
        self._locked.clear()


class VirtualLock(Lock):
    def __init__(self, disk: VirtualDisk, path: Path) -> None:
        self._disk, self._path = disk, path

    def close(self) -> None:
        self._disk.unlock(self._path)
