"""Disks that do what disks do at their worst. Each is the real one with something in between."""

from __future__ import annotations

import errno
import random
from pathlib import Path
from typing import NamedTuple

from dynamo_fast.disk import Disk, File

SECTOR = 512  # bytes that a power cut leaves whole, old or new


class Wrapped(File):
    """A file whose every call goes past its disk first."""

    def __init__(self, inner: File, path: Path, disk: Watched) -> None:
        self.inner, self.path, self.disk = inner, path, disk

    def fileno(self) -> int:
        return -1  # so that syncs come through here

    def write_at(self, data: bytes | memoryview, offset: int) -> int:
        data = self.disk.before("write", self.path, bytes(data), offset)
        return self.inner.write_at(data, offset)

    def sync(self) -> None:
        self.disk.before("sync", self.path)
        self.inner.sync()

    def truncate(self, length: int) -> None:
        self.disk.before("truncate", self.path, b"", length)
        self.inner.truncate(length)

    def reserve(self, length: int) -> None:
        self.disk.before("reserve", self.path)

    def close(self) -> None:
        self.inner.close()


class Watched(Disk):
    """Tells `before` of every change to the log, which may raise, or give back fewer bytes to write."""

    def before(self, what: str, path: Path, data: bytes = b"", offset: int = 0) -> bytes:
        return data

    def open(self, path: Path, *, create: bool = False) -> File:
        if create:
            self.before("create", path)
        return Wrapped(super().open(path, create=create), path, self)

    def remove(self, path: Path) -> None:
        self.before("remove", path)
        super().remove(path)

    def sync_directory(self, path: Path) -> None:
        self.before("sync_directory", path)
        super().sync_directory(path)

    def read_into(self, path: Path, target: bytearray) -> int:
        self.before("read", path)
        return super().read_into(path, target)


class Unhurried(Watched):
    """Puts syncs off for ever: for tests that read back what they wrote and cut no power."""

    def open(self, path: Path, *, create: bool = False) -> File:
        file = super().open(path, create=create)
        file.sync = lambda: None  # type: ignore[method-assign]
        return file


class Failing(Watched):
    """The n-th change fails with an error number; from then on all of its kind, until `healed`."""

    def __init__(self, fails_at: int, code: int = errno.EIO) -> None:
        self.fails_at, self.code = fails_at, code
        self.changes = 0
        self.kind = ""  # of the change that failed
        self.healed = False

    def before(self, what: str, path: Path, data: bytes = b"", offset: int = 0) -> bytes:
        if what == "read":
            return data
        self.changes += 1
        if self.changes == self.fails_at:
            self.kind = what
        if what == self.kind and not self.healed:
            raise OSError(self.code, "a fault of the test")
        return data


class Full(Watched):
    """Has room for so many bytes of log; a write that does not fit whole is cut short, and the next one fails."""

    def __init__(self, room: int) -> None:
        self.room = room

    def before(self, what: str, path: Path, data: bytes = b"", offset: int = 0) -> bytes:
        if what == "write":
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            data = data[: self.room]
            self.room -= len(data)
        return data


class Grudging(Watched):
    """Takes a few bytes at a time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def before(self, what: str, path: Path, data: bytes = b"", offset: int = 0) -> bytes:
        return data[: self.rng.randrange(1, 100)] if what == "write" else data


class Unreadable(Watched):
    """Gives one file back with an error only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def before(self, what: str, path: Path, data: bytes = b"", offset: int = 0) -> bytes:
        if what == "read" and path == self.path:
            raise OSError(errno.EIO, "Input/output error")
        return data


class Change(NamedTuple):
    what: str
    path: Path
    data: bytes
    offset: int


class Recorder(Watched):
    """Remembers every change, so that a power cut at any moment can be made up afterwards."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.marks: list[tuple[int, int]] = []  # (changes so far, what the test noted then)

    def before(self, what: str, path: Path, data: bytes = b"", offset: int = 0) -> bytes:
        self.changes.append(Change(what, path, data, offset))
        return data

    def mark(self, note: int) -> None:
        self.marks.append((len(self.changes), note))

    def image(self, moment: int, rng: random.Random, target: Path) -> None:
        """What the disk may hold when the power is cut before change number `moment`: writes since a file's last sync
        are there or not, sector by sector; names since the directory's last sync are there or not."""
        synced = {}  # path -> index of its last sync
        directory_synced = -1
        for index, change in enumerate(self.changes[:moment]):
            if change.what == "sync":
                synced[change.path] = index
            elif change.what == "sync_directory":
                directory_synced = index
        content: dict[Path, bytearray] = {}
        for index, change in enumerate(self.changes[:moment]):
            if change.what == "create":
                if index <= directory_synced or rng.random() < 0.5:
                    content[change.path] = bytearray()
            elif change.what == "remove":
                if index <= directory_synced or rng.random() < 0.5:
                    content.pop(change.path, None)
            elif change.path in content and change.what == "write":
                write_sectors(content[change.path], change, 1.0 if index <= synced.get(change.path, -1) else 0.5, rng)
            elif change.path in content and change.what == "truncate":
                del content[change.path][change.offset :]
        for path, data in content.items():
            (target / path.name).write_bytes(data)


def write_sectors(content: bytearray, change: Change, chance: float, rng: random.Random) -> None:
    """Each sector of a write, with that chance."""
    end = change.offset + len(change.data)
    if chance == 1.0:
        content.extend(bytes(max(0, end - len(content))))
        content[change.offset : end] = change.data
        return
    for first in range(change.offset // SECTOR * SECTOR, end, SECTOR):
        low, high = max(first, change.offset), min(first + SECTOR, end)
        if rng.random() < chance:
            content.extend(bytes(max(0, high - len(content))))
            content[low:high] = change.data[low - change.offset : high - change.offset]
