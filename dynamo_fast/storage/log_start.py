"""Where the log begins: without it, a first segment that a disk lost would look like one that was deleted on purpose.

The file `start` has two slots of a sector each, written in turn and in place, so that it needs no room on a full disk
and a torn write leaves the other slot. A slot is u64 sequence, u64 position, u32 CRC-32C of both, little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path

from dynamo_fast.core.checksum import crc32c
from dynamo_fast.disk import Disk

SLOT = struct.Struct("<QQI")
SLOT_BYTES = 512


class LogStart:
    """The position before which everything in the log has been moved to LMDB and may be deleted."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk, self._directory, self._path = disk, directory, directory / "start"
        self._sequence = 0

    def create(self) -> None:
        """A log that begins at 0; on disk when this returns."""
        if self._disk.exists(self._path):
            self._disk.remove(self._path)
        self._write_slot(1, 0, create=True)
        self._disk.sync_directory(self._directory)

    def read(self) -> int | None:
        """None when the disk has lost it."""
        content = bytearray()
        try:
            self._disk.read_into(self._path, content)
        except OSError:
            return None
        slots = [SLOT.unpack_from(content, at) for at in (0, SLOT_BYTES) if len(content) >= at + SLOT.size]
        found = [(sequence, position) for sequence, position, crc in slots if crc == crc32c(SLOT.pack(sequence, position, 0)[:16])]
        self._sequence, position = max(found, default=(0, 0))
        return position if found else None

    def write(self, position: int) -> None:
        """On disk when this returns; only then may segments before it be deleted."""
        self._write_slot(self._sequence + 1, position, create=not self._disk.exists(self._path))

    def _write_slot(self, sequence: int, position: int, *, create: bool) -> None:
        slot = SLOT.pack(sequence, position, crc32c(SLOT.pack(sequence, position, 0)[:16])).ljust(SLOT_BYTES, b"\0")
        file = self._disk.open(self._path, create=create)
        try:
            if create:
                file.write_at(bytes(2 * SLOT_BYTES), 0)
            file.write_at(slot, sequence % 2 * SLOT_BYTES)
            file.sync()
        finally:
            file.close()
        self._sequence = sequence
