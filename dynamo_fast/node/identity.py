"""Who this node is: its data directory, the id made at its first start, and what it knows of the cluster, kept across restarts.

A data directory holds

    LOCK             held with flock while a process uses the directory
    FORMAT           the number of the format of everything here
    identity.json    this node's id, made at its first start and never changed
    starts           how often the directory was started: one that was restored, or copied, has fewer than others remember
    membership       the history of change records: cluster id, secret, members, buckets
    placements       the tables that this node works by: one, or two during a change of members
    progress         what this node has told the others of its part in a change of members
    transfer         while partitions are brought here: how far each has come; empty afterwards
    log/ lmdb/       the records, which are storage's

Whoever can read the directory holds the cluster's secret. A directory that is not ours, or of a newer format, or in use, is refused
with one sentence; nothing in it is touched.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from dynamo_fast.core.membership import History, HistoryError, decode_history, encode_history
from dynamo_fast.env import Env

if TYPE_CHECKING:
    from dynamo_fast.disk import Disk, Lock

FORMAT = 1  # of the whole directory; raised when an older version could not read it any more
FORMAT_FILE, IDENTITY, LOCK, MEMBERSHIP, STARTS = "FORMAT", "identity.json", "LOCK", "membership", "starts"
# What may stand in a directory whose first start was cut short, or that is a file system of its own.
HARMLESS = {FORMAT_FILE, f"{FORMAT_FILE}.new", f"{IDENTITY}.new", LOCK, "lost+found"}


class DirectoryRefused(Exception):
    """This node must not use the directory; the sentence says why and what to do."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`identity.json`; the id is 32 hexadecimal digits."""

    node_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class DataDirectory:
    """An open data directory; `node_id` is 16 bytes, `starts` counts this start too. The lock is held until `close`."""

    def __init__(self, path: Path, node_id: bytes, disk: Disk, lock: Lock, starts: int = 1) -> None:
        self.path = path
        self.node_id = node_id
        self.starts = starts
        self._disk = disk
        self._lock = lock

    def load_history(self) -> History:
        """The history as last saved, empty at the first start; DirectoryRefused when the file is damaged."""
        data = self.read(MEMBERSHIP)
        if data is None:
            return History()
        try:
            return decode_history(data)
        except HistoryError as error:
            raise DirectoryRefused(f"{self.path / MEMBERSHIP}: {error}; restore the file, or start this node anew, empty") from error

    def save_history(self, history: History) -> None:
        """On disk, synced, when this returns; a crash leaves the old file or the new. Blocks: call it through `env.offload`."""
        self.write(MEMBERSHIP, encode_history(history))

    def close(self) -> None:
        self._lock.close()

    def write(self, name: str, data: bytes) -> None:
        """As `save_history`, for any file of this directory."""
        self._disk.replace(self.path / name, data)

    def read(self, name: str) -> bytes | None:
        """A file of this directory, None when there is none."""
        try:
            return self._disk.read(self.path / name)
        except FileNotFoundError:
            return None


def open_directory(path: Path, env: Env) -> DataDirectory:
    """Opens or makes the data directory and takes its lock; DirectoryRefused or OSError when it cannot be used."""
    disk = env.disk
    try:
        disk.make_directory(path)
    except (FileExistsError, NotADirectoryError) as error:
        raise DirectoryRefused(f"{path} is not a directory") from error
    names = set(disk.list(path))
    if IDENTITY not in names and names - HARMLESS:
        listed = ", ".join(sorted(names - HARMLESS)[:3])
        raise DirectoryRefused(f"{path} is not a data directory of dynamo-fast: it holds {listed} and no {IDENTITY}; give an empty one")
    try:
        lock = disk.lock(path / LOCK)
    except BlockingIOError as error:
        raise DirectoryRefused(f"{path} is in use by another process") from error
    try:
        _check_format(path, disk)
        node_id = _node_id(path, env)
        return DataDirectory(path, node_id, disk, lock, _count_start(path, disk))
    except BaseException:
        lock.close()
        raise


def _check_format(path: Path, disk: Disk) -> None:
    """The directory is of our format, or new and marked as such."""
    try:
        text = disk.read(path / FORMAT_FILE).decode("ascii", "replace").strip()
    except FileNotFoundError:
        disk.replace(path / FORMAT_FILE, f"{FORMAT}\n".encode())
        return
    if text != str(FORMAT):
        age = "newer than" if text.isdigit() and int(text) > FORMAT else "not"
        raise DirectoryRefused(
            f"{path} has data format {text[:20]}, {age} format {FORMAT}, which this version reads: use the version that wrote it"
        )


def _count_start(path: Path, disk: Disk) -> int:
    """One more than the directory knew; on disk before anybody hears of it."""
    try:
        text = disk.read(path / STARTS).decode("ascii", "replace").strip()
    except FileNotFoundError:
        text = "0"
    if not text.isdecimal():
        raise DirectoryRefused(f"{path / STARTS} is damaged: {text[:20]!r} is no number; restore the file, or start this node anew, empty")
    starts = int(text) + 1
    disk.replace(path / STARTS, b"%d\n" % starts)
    return starts


def _node_id(path: Path, env: Env) -> bytes:
    """The id in the directory, made and synced at the first start."""
    file = path / IDENTITY
    try:
        data = env.disk.read(file)
    except FileNotFoundError:
        node_id = env.random_bytes(16)
        env.disk.replace(file, msgspec.json.encode(Identity(node_id=node_id.hex())) + b"\n")
        return node_id
    try:
        identity = msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise DirectoryRefused(f"{file} cannot be read as an identity: {error}") from error
    return bytes.fromhex(identity.node_id)
