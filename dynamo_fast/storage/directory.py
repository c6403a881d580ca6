"""The files around log and LMDB: whose format this is, who uses it, how it was left, and what it has lost.

    storage.json   format number, number of partitions, and the kernel's boot id at the last start
    storage.lock   locked while a process has the engine open
    clean          where the log ended, from a clean close to the next open
    suspect.json   partitions that may have lost records, until somebody has synced them from elsewhere
    log/ lmdb/     the records
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from dynamo_fast.disk import Disk
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.log import segment_number
from dynamo_fast.storage.log_start import LogStart

FORMAT = 1  # raised when a version of this package could not read the directory any more


class StorageDirectory:
    """Opened, checked and locked; StorageError, in one sentence, when it is not ours to use. `close` unlocks."""

    def __init__(self, path: Path, disk: Disk, partitions: int) -> None:
        self.path, self.disk = path, disk
        self.log, self.lmdb = path / "log", path / "lmdb"
        for directory in (path, self.log, self.lmdb):
            disk.make_directory(directory)
        try:
            self._lock = disk.lock(path / "storage.lock")
        except BlockingIOError:
            raise StorageError(f"{path} is in use by another process: stop that one first") from None
        try:
            self._enter(partitions)
        except BaseException:
            self._lock.close()
            raise

    def _enter(self, partitions: int) -> None:
        description = self._describe()
        if description is None and any(segment_number(name) is not None for name in self.disk.list(self.log)):
            raise StorageError(f"{self.path} has a log but no storage.json: it was not made by this program, or has lost files")
        self.first_start = description is None
        self.log_start = LogStart(self.disk, self.log)
        if self.first_start:
            self.log_start.create()  # before storage.json, which says that it is there
        known = description or {"format": FORMAT, "partitions": partitions}
        if known.get("format") != FORMAT:
            raise StorageError(
                f"{self.path} has storage format {known.get('format')}, this version reads format {FORMAT}: use the version that wrote it"
            )
        if known.get("partitions") != partitions:
            raise StorageError(f"{self.path} was made for {known.get('partitions')} partitions, not {partitions}: they never change")
        boot_id = self.disk.boot_id()
        self._clean = self.disk.exists(self.path / "clean")
        self.clean_end = self._read_clean_end()
        self.unclean = not self.first_start and not self._clean
        self.same_boot = not self.first_start and boot_id != "" and known.get("boot_id") == boot_id
        self._description = known | {"boot_id": boot_id}
        self.suspects = self._read_suspects(partitions)
        if self.first_start:
            if self.disk.exists(self.path / "membership"):
                self.set_suspects(range(partitions))  # a member of the cluster has lost all its records
            self._write("storage.json", self._description)

    @property
    def tail_may_be_lost(self) -> bool:
        """Whether the power may have been cut, or an fsync failed, since the last start: what was acknowledged from the page cache alone
        may be gone."""
        return self.unclean and not self.same_boot

    def trust(self) -> None:
        """What this boot of the kernel has written will be there. Only once what may be lost of earlier ones is written down: a
        process that dies before this leaves the next one as wary as it was itself. OSError: the next start will be, too."""
        if not self.same_boot and not self.first_start:
            self._write("storage.json", self._description)

    def distrust(self) -> None:
        """After a failed fsync what this boot of the kernel has written need not be there: the kernel has dropped what it could not
        write, and shows it until it needs the memory. So the next start is as wary as after a loss of power. OSError when not even that
        can be written."""
        self._description |= {"boot_id": ""}
        self._write("storage.json", self._description)

    def begin(self) -> None:
        """Writing begins: from now on an end is unclean until it is marked."""
        if self._clean:
            self.disk.remove(self.path / "clean")
            self.disk.sync_directory(self.path)

    def _describe(self) -> dict[str, object] | None:
        if not self.disk.exists(self.path / "storage.json"):
            return None
        try:
            found = json.loads(self.disk.read(self.path / "storage.json"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise StorageError(f"{self.path / 'storage.json'} is damaged: wanted a JSON object with format and partitions")
        return found

    def _read_suspects(self, partitions: int) -> frozenset[int]:
        if not self.disk.exists(self.path / "suspect.json"):
            return frozenset()
        try:
            return frozenset(range(partitions)).intersection(json.loads(self.disk.read(self.path / "suspect.json")))
        except (ValueError, TypeError):
            return frozenset(range(partitions))  # who knows what stood there

    def set_suspects(self, partitions: Iterable[int]) -> None:
        """Remembers which partitions may have lost records, instead of what was remembered; on disk when this returns."""
        wanted = frozenset(partitions)
        if wanted != self.suspects:
            self._write("suspect.json", sorted(wanted))
            self.suspects = wanted

    def mark_clean(self, log_end: int) -> None:
        """Everything is written and synced, up to that log position."""
        self._write("clean", log_end)

    def _read_clean_end(self) -> int:
        """The log position that the last end, a clean one, has left; 0 when nobody knows."""
        try:
            return int(self.disk.read(self.path / "clean"))
        except (OSError, ValueError):
            return 0

    def _write(self, name: str, content: object) -> None:
        self.disk.replace(self.path / name, json.dumps(content).encode() + b"\n")

    def close(self) -> None:
        self._lock.close()
