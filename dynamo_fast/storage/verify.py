"""Everything that can be checked of a data directory while no node uses it; nothing in it is changed.

Runs as a process of its own, `python -m dynamo_fast.storage.verify DIRECTORY` with the cluster's secret in hex, or an empty line, on
standard input: LMDB takes a process along when its pages are damaged beyond reading. Standard output gets JSON lines, of which
`dynamo-fast check` makes a table: {"done": n, "total": m} now and then, {"damage": [what, where, count, advice]} for each
kind of damage, and at the end {"figures": {...}}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb

from dynamo_fast.core.digest import key_position
from dynamo_fast.core.merkle import Forest, entry_hash
from dynamo_fast.disk import Disk, File
from dynamo_fast.storage.checkpoint import MOVED_ROW
from dynamo_fast.storage.directory import FORMAT
from dynamo_fast.storage.log import segment_number
from dynamo_fast.storage.log_start import LogStart
from dynamo_fast.storage.recovery import Replay
from dynamo_fast.storage.schema import decode_record, encode_store_key
from dynamo_fast.storage.scrubbing import ALL, LAST
from dynamo_fast.storage.tables import Tables, open_read_only
from dynamo_fast.storage.write_buffer import WriteBuffer

RANGES = 16
LEAVES = 256
PLACES_MAX = 3  # named for each kind of damage
STEP_RECORDS = 10_000  # between two lines of progress

STARTS = "the next start steps over it and makes the partitions suspect; anti-entropy fetches them from the other homes"
SCRUBS = "start the node: a scrub or a read finds it, and anti-entropy fetches the record from the other homes"
MENDS = "start the node: the scrub sums the leaf up anew"
RESTORE = "start this node anew, empty; it fetches everything from the other homes"


class Ignored(File):
    """Takes what recovery would change of a file, and changes nothing."""

    def __init__(self) -> None:
        super().__init__(-1)

    def truncate(self, length: int) -> None:
        pass

    def sync(self) -> None:
        pass


class Untouched(Disk):
    """The machine's disk, of which nothing is changed."""

    def open(self, path: Path, *, create: bool = False) -> File:
        return Ignored()

    def remove(self, path: Path) -> None:
        pass


class Verification:
    """`run` once; `tell` gets the lines."""

    def __init__(self, path: Path, secret: bytes | None, tell: Callable[[dict[str, object]], None]) -> None:
        self.path, self.secret, self.tell = path, secret, tell
        self.figures: dict[str, object] = {"records": 0, "log_records": 0, "log_bytes": 0, "torn_bytes": 0, "suspects": []}
        self.log_is_whole = False
        self._found: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def damage(self, what: str, where: str, advice: str, count: int = 1) -> None:
        kind = (what, advice)
        self._counts[kind] = self._counts.get(kind, 0) + count
        places = self._found.setdefault(kind, [])
        if len(places) <= PLACES_MAX and where not in places:
            places.append(where)

    def run(self) -> None:
        description = self.describe()
        if description is not None:
            self.verify(description)
        for (what, advice), places in self._found.items():
            where = ", ".join(places[:PLACES_MAX]) + (", ..." if len(places) > PLACES_MAX else "")
            self.tell({"damage": [what, where, self._counts[what, advice], advice]})
        self.tell({"figures": self.figures})

    def describe(self) -> dict[str, Any] | None:
        """storage.json, None when it cannot be used."""
        file = self.path / "storage.json"
        try:
            found = json.loads(file.read_bytes())
        except (OSError, ValueError):
            found = None
        partitions = found.get("partitions") if isinstance(found, dict) else None
        if not isinstance(found, dict) or not isinstance(partitions, int) or not 1 <= partitions <= 65536 or partitions & (partitions - 1):
            self.damage("a description that cannot be read", "storage.json", RESTORE)
            return None
        if found.get("format") != FORMAT:
            self.damage(
                f"storage format {found.get('format')}, where this version reads {FORMAT}", "storage.json", "use the version that wrote it"
            )
            return None
        return found

    def verify(self, description: dict[str, Any]) -> None:
        partitions = description["partitions"]
        self.read_suspects(partitions)
        forest = Forest(partitions, LEAVES)
        moved, transaction = [0] * 256, 0
        tables = self.open_tables()
        if tables is not None:
            transaction = tables.environment.info()["last_txnid"]
            try:
                moved = self.read_rows(tables, forest)
            except lmdb.Error as error:
                self.damage("pages of LMDB that cannot be read", f"lmdb/ ({error})", RESTORE)
        buffer = self.replay(description, forest, moved, transaction)
        if tables is not None:
            try:
                self.read_records(tables, forest, buffer, partitions)
            except lmdb.Error as error:
                self.damage("pages of LMDB that cannot be read", f"lmdb/ ({error})", RESTORE)
            tables.environment.close()

    def read_suspects(self, partitions: int) -> None:
        file = self.path / "suspect.json"
        if not file.exists():
            return
        try:
            self.figures["suspects"] = sorted(frozenset(range(partitions)).intersection(json.loads(file.read_bytes())))
        except (OSError, ValueError, TypeError):
            self.damage("a list of suspects that cannot be read", "suspect.json", "start the node: it takes all partitions for suspect")

    def open_tables(self) -> Tables | None:
        try:
            return open_read_only(self.path / "lmdb")
        except lmdb.Error as error:
            self.damage("an LMDB that cannot be opened", f"lmdb/ ({error})", RESTORE)
            return None

    def read_rows(self, tables: Tables, forest: Forest) -> list[int]:
        """The leaves into the forest; the log positions up to which LMDB has everything."""
        moved: list[int] = []
        with tables.environment.begin() as transaction:
            with transaction.cursor(tables.leaves) as cursor:
                for key, row in cursor:
                    partition = int.from_bytes(key, "big")
                    if len(key) == 4 and len(row) == 8 * LEAVES and partition < forest.partitions:
                        forest.load(partition, row)
                    else:
                        self.damage("rows of leaves with a wrong length or partition", f"lmdb/ leaves {key[:8].hex()}", MENDS)
            for range_index in range(RANGES):
                row = transaction.get(bytes([range_index]), db=tables.moved) or bytes(MOVED_ROW.size)
                if len(row) != MOVED_ROW.size:
                    self.damage("rows of moved positions with a wrong length", f"lmdb/ moved {range_index}", RESTORE)
                moved += MOVED_ROW.unpack(row.ljust(MOVED_ROW.size, b"\0")[: MOVED_ROW.size])
        return moved

    def replay(self, description: dict[str, Any], forest: Forest, moved: list[int], transaction: int) -> WriteBuffer:
        """The log, record by record, as the next start would read it."""
        log = self.path / "log"
        disk = Untouched()
        if not log.is_dir():
            self.damage("a log that is gone", "log/", STARTS)
            return WriteBuffer(1)
        paths = [log / name for name in disk.list(log) if segment_number(name) is not None]
        buffer = WriteBuffer(max(1, sum(disk.size(path) for path in paths)))
        start = LogStart(disk, log).read()
        if start is None:
            self.damage("a beginning of the log that cannot be read", "log/start", STARTS)
        replay = Replay(disk, buffer, forest, moved)
        complete = (self.path / "clean").exists() or description.get("boot_id") == disk.boot_id() != ""
        replay.run(log, start, transaction, complete, 0)
        for position, partition in replay.rot_places:
            whose = "every partition" if partition is None else f"partition {partition}"
            if partition is not None or start is not None:
                self.damage("records of the log that are damaged or gone", f"log position {position} ({whose})", STARTS)
        end = self.clean_end()
        if replay.end < end or (end and replay.torn_bytes):
            self.damage("an end of the log that is damaged or gone", f"log position {replay.end}", STARTS)
        self.figures |= {"log_records": replay.records + replay.skipped, "log_bytes": replay.log_bytes, "torn_bytes": replay.torn_bytes}
        self.log_is_whole = not replay.rot_records and replay.end >= end
        return buffer

    def clean_end(self) -> int:
        """Where a clean end has left the log; 0 when there was none."""
        try:
            return int((self.path / "clean").read_bytes())
        except (OSError, ValueError):
            return 0

    def read_records(self, tables: Tables, forest: Forest, buffer: WriteBuffer, partitions: int) -> None:
        """Each record of LMDB; then the leaves: those in LMDB against its records, and those after replay against all there is."""
        in_tables, visible = Forest(partitions, LEAVES), Forest(partitions, LEAVES)
        newer = dict(buffer.scan(bytes(24), LAST, ALL, True))
        for store_key, record in newer.items():
            if record is not None:
                visible.replace(store_key[:16], 0, decode_record(record).hash)
        done = 0
        with tables.environment.begin() as transaction:
            total = transaction.stat(tables.records)["entries"]
            for store_key, entry in self.sound_records(transaction, tables, in_tables):
                if entry and store_key not in newer:
                    visible.replace(store_key[:16], 0, entry)
                done += 1
                if done % STEP_RECORDS == 0:
                    self.tell({"done": done, "total": total})
                if done > total:
                    break  # damaged pages may lead round and round
            if done != total:
                self.damage("records that LMDB counts and does not show", "lmdb/", SCRUBS, abs(total - done))
            stored = Forest(partitions, LEAVES)
            with transaction.cursor(tables.leaves) as cursor:
                for key, row in cursor:
                    if len(key) == 4 and len(row) == 8 * LEAVES and int.from_bytes(key, "big") < partitions:
                        stored.load(int.from_bytes(key, "big"), row)
        self.figures["records"] = done
        fits = self.compare(stored, in_tables, "leaves in LMDB that are not the sums of its records")
        if fits and self.log_is_whole:
            self.compare(forest, visible, "leaves that are not the sums of log and LMDB together")

    def sound_records(self, transaction: lmdb.Transaction[bytes], tables: Tables, in_tables: Forest) -> Iterator[tuple[bytes, int]]:
        """(store key, hash) of every record, hash 0 for one that cannot be read; what can goes into the forest."""
        before = b""
        with transaction.cursor(tables.records) as cursor:
            for store_key, record in cursor:
                if len(store_key) != 24 or store_key <= before:
                    self.damage("store keys out of order or of a wrong length", f"lmdb/ {store_key[:24].hex()}", RESTORE)
                    if len(store_key) != 24:
                        continue
                before = store_key
                place = f"lmdb/ partition {in_tables.place(store_key[:16])[0]}"
                try:
                    parts = decode_record(record)
                except ValueError:
                    self.damage("records in LMDB that cannot be read", place, SCRUBS)
                    yield store_key, 0
                    continue
                in_tables.replace(store_key[:16], 0, parts.hash)
                position = key_position(parts.key, parts.bucket)
                wanted = encode_store_key(self.secret, position, parts.key, parts.bucket) if self.secret else position
                if not store_key.startswith(wanted):
                    self.damage("records under the store key of another", place, SCRUBS)
                elif entry_hash(position, parts.packed) != parts.hash:
                    self.damage("records whose hash is not their object's", place, SCRUBS)
                yield store_key, parts.hash

    def compare(self, found: Forest, wanted: Forest, what: str) -> bool:
        fits = True
        for partition in range(found.partitions):
            differing = found.diff(wanted, partition)
            if differing:
                self.damage(what, f"partition {partition}", MENDS, len(differing))
                fits = False
        return fits


def main(arguments: list[str]) -> None:
    secret = bytes.fromhex(sys.stdin.readline().strip()) or None
    Verification(Path(arguments[0]), secret, lambda line: print(json.dumps(line), flush=True)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
