"""Where the log begins: without it, a first segment that a disk lost would look like one that was deleted on purpose.

What stood before is in LMDB alone, as of a transaction that is written down beside it: an LMDB whose last transaction is an older one has
lost what the log no longer has. One damaged page is enough for that, when it is the one that names the newest tree.

The file `start` has two slots of a sector each, written in turn and in place, so that it needs no room on a full disk
and a torn write leaves the other slot. A slot is u64 sequence, u64 position, u64 transaction, u32 CRC-32C of the three, little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

from dynamo_fast.core.checksum import crc32c
from dynamo_fast.disk import Disk

SLOT = struct.Struct("<QQQI")
SLOT_BYTES = 512


def checksum(sequence: int, position: int, transaction: int) -> int:
    return crc32c(SLOT.pack(sequence, position, transaction, 0)[:-4])


class Beginning(NamedTuple):
    """Everything before this position of the log is in LMDB, at the latest since the transaction of this id."""

    position: int
    transaction: int


class LogStart:
    """The file: everything before what it names may be deleted from the log."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk, self._directory, self._path = disk, directory, directory / "start"
        self._sequence = 0

    def create(self) -> None:
        """A log that begins at 0; on disk when this returns."""
        if self._disk.exists(self._path):
            self._disk.remove(self._path)
        self._write_slot(1, Beginning(0, 0), create=True)
        self._disk.sync_directory(self._directory)

    def read(self) -> Beginning | None:
        """None when the disk has lost it."""
        content = bytearray()
        try:
            self._disk.read_into(self._path, content)
        except OSError:
            return None
        slots = [SLOT.unpack_from(content, at) for at in (0, SLOT_BYTES) if len(content) >= at + SLOT.size]
        found = [(sequence, Beginning(*begins)) for sequence, *begins, crc in slots if crc == checksum(sequence, *begins)]
        self._sequence, beginning = max(found, default=(0, None))
        return beginning

    def write(self, beginning: Beginning) -> None:
        """On disk when this returns; only then may segments before it be deleted."""
        self._write_slot(self._sequence + 1, beginning, create=not self._disk.exists(self._path))

    def _write_slot(self, sequence: int, beginning: Beginning, *, create: bool) -> None:
        slot = SLOT.pack(sequence, *beginning, checksum(sequence, *beginning)).ljust(SLOT_BYTES, b"\0")
        file = self._disk.open(self._path, create=create)
        try:
            if create:
                file.write_at(bytes(2 * SLOT_BYTES), 0)
            file.write_at(slot, sequence % 2 * SLOT_BYTES)
            file.sync()
        finally:
            file.close()
        self._sequence = sequence
