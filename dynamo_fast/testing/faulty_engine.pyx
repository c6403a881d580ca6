"""An engine around another one that gets wrong what it is told to: a log write that fails, a disk that is full or slow, a record
that cannot be read.

It errs as the engine with a disk does: after a failed log write what was stored stays visible, and writes are refused until `heal`.

With a journal it also knows what a disk would hold: every store has a log position, a log write makes positions survive the process, a
sync makes them survive a loss of power, and `surviving(position)` is the content as of that position: all stores before it, none after.
"""

from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

from dynamo_fast.storage.engine cimport FIND_RECORD, FIND_ROT, ROOM_NONE, ROOM_SOFT
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, RecordView

from dynamo_fast.storage import scrubbing
from dynamo_fast.storage.engine import ReadOnlyError
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.storage.memory_engine import MemoryEngine


@cython.final
cdef class FaultyEngine(Engine):
    """`FaultyEngine(inner)`: `inner` keeps the records, and should be a MemoryEngine.

    With `journal`, `surviving` can be asked; `dots` is shown every record that is stored.
    """

    def __cinit__(self, Engine inner not None, *, bint journal=False, DotRegistry dots=None):
        self.inner = inner
        self.forest = inner.forest
        self.suspected = inner.suspected    # one and the same
        self.damaged = set()
        self.uncounted = set()
        self.journal = deque() if journal else None
        self.dots = dots

    def heal(self) -> None:
        """The disk takes writes again, and has those that it had refused."""
        self.failure = self.refusal = None
        self.unwritten = False
        self.written_to = self.written

    def finish_syncs(self, position: int | None = None) -> None:
        """All that was written is on disk; or all before that log position."""
        self.synced = max(self.synced, self.written if position is None else position)
        self.syncing = False
        while self.journal and self.journal[0][0] <= self.synced:
            self.journal.popleft()

    def fail_sync(self, str reason not None) -> None:
        """The sync under way has failed: writes are refused for as long as this process lives."""
        self.refusal = reason
        self.syncs_fail = True

    def surviving(self, position: int) -> dict[bytes, bytes]:
        """The records by store key as of a log position, which is not before `durable`."""
        records = dict(self.inner.scan(bytes(STORE_KEY_BYTES), b"\xff" * STORE_KEY_BYTES, 1 << 40))
        for end, store_key, replaced in reversed(self.journal):
            if end <= position:
                break
            if replaced is None:
                records.pop(store_key, None)
            else:
                records[store_key] = replaced
        return records

    def on_disk(self, bytes store_key not None) -> bytes | None:
        """The record as the worst loss of power would leave it."""
        for _, key, replaced in self.journal:
            if key == store_key:
                return replaced
        return self.inner.get(store_key)

    def in_log(self, bytes store_key not None) -> bytes | None:
        """The record as the end of the process would leave it: of what the log was never given nothing is left."""
        replaced, found = None, False
        for end, key, before in reversed(self.journal):
            if end <= self.written_to:
                break
            if key == store_key:
                replaced, found = before, True
        return replaced if found else self.inner.get(store_key)

    def reopen(self, position: int) -> None:
        """Another process opens what there was up to a log position, which is not before `durable`; nothing refuses any more but `failure`."""
        if position < self.written:
            self.put_back(self.surviving(position))
            self.journal = deque(entry for entry in self.journal if entry[0] <= position)
            self.written = self.written_to = position
        self.refusal = self.on_sync = None
        self.syncs_fail = self.syncing = self.unwritten = False

    def put_back(self, records: dict[bytes, bytes]) -> None:
        """The disk holds these records and no others."""
        self.inner = MemoryEngine(partitions=self.inner.forest.partitions)
        self.uncounted.clear()
        self.forest = self.inner.forest
        for store_key, record in sorted(records.items()):
            self.inner.put(store_key, record)

    def replace_disk(self, records: dict[bytes, bytes]) -> None:
        """Another disk is in its place, that holds these records."""
        self.put_back(records)
        self.damaged.clear()
        self.journal.clear()
        self.synced = self.written_to = self.written

    def positions(self) -> list[int]:
        """The log positions after `durable` at which a record ends, ascending."""
        return [end for end, _, _ in self.journal]

    def damage(self, bytes store_key not None) -> None:
        """The record under that store key cannot be read until another one is stored there, or it is removed."""
        self.damaged.add(store_key)

    @property
    def rotten(self) -> frozenset[bytes]:
        """The store keys whose records cannot be read."""
        return frozenset(self.damaged)

    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1:
        if PyBytes_FromStringAndSize(<const char *>store_key, STORE_KEY_BYTES) in self.damaged:
            self.suspected.set(self.forest.partition_of(store_key), True)
            return FIND_ROT
        return self.inner.find(store_key, view)

    cdef uint64_t hash_in_tree(self, const uint8_t *store_key, bytes key, uint64_t old_hash) except? 0:
        """Nobody can tell the hash of a record that cannot be read, which stands in the tree until `recompute` has found out."""
        cdef RecordView view
        if key in self.damaged and key not in self.uncounted and self.inner.find(store_key, &view) == FIND_RECORD:
            return view.hash
        return old_hash

    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) except -1:
        cdef bytes key = PyBytes_FromStringAndSize(<const char *>store_key, STORE_KEY_BYTES)
        if self.refusal is not None:
            raise ReadOnlyError(self.refusal)
        replaced = self.inner.get(key) if self.journal is not None else None
        self.inner.store(store_key, record, n, self.hash_in_tree(store_key, key, old_hash))
        self.damaged.discard(key)
        self.uncounted.discard(key)
        self.unwritten = True
        self.written += n
        if self.journal is not None:
            self.journal.append((self.written, key, replaced))
        if self.dots is not None:
            self.dots.note(key, record, n)
        return 0

    cdef int remove(self, const uint8_t *store_key, uint64_t old_hash) except -1:
        cdef bytes key = PyBytes_FromStringAndSize(<const char *>store_key, STORE_KEY_BYTES)
        if self.refusal is not None:
            raise ReadOnlyError(self.refusal)
        replaced = self.inner.get(key) if self.journal is not None else None
        if replaced is not None and self.on_removal is not None:
            self.on_removal(key, replaced)
        self.inner.remove(store_key, self.hash_in_tree(store_key, key, old_hash))
        self.damaged.discard(key)
        self.uncounted.discard(key)
        self.unwritten = True
        self.written += STORE_KEY_BYTES
        if self.journal is not None:
            self.journal.append((self.written, key, replaced))
        return 0

    cdef int end_pass(self) except -1:
        if not self.unwritten or self.refusal is not None:
            return 0
        if self.failure is not None:
            self.refusal = self.failure
            raise ReadOnlyError(self.refusal)
        self.unwritten = False
        self.writes += 1
        self.written_to = self.written
        return self.inner.end_pass()

    cdef uint64_t log_position(self) noexcept:
        return self.written

    cdef uint64_t durable_position(self) noexcept:
        return self.synced

    cdef int request_sync(self) except -1:
        if self.syncs_fail:
            self.refusal = "an fdatasync failed"
        if self.hold_syncs or self.syncing or self.refusal is not None:
            return 0
        if self.on_sync is None:
            self.finish_syncs()
        else:
            self.syncing = True
            self.on_sync()
        return 0

    cdef int room(self) noexcept:
        if self.full or self.refusal is not None:
            return ROOM_NONE
        return ROOM_SOFT if self.behind else self.inner.room()

    @property
    def read_only(self) -> str | None:
        return self.refusal

    @property
    def failed_fsync(self) -> bool:
        return self.syncs_fail

    def scan(self, bytes start not None, bytes end not None, limit: int) -> list:
        """What cannot be read is passed over, as the engine with a disk does."""
        found = self.inner.scan(start, end, limit + len(self.damaged))
        return [one for one in found if one[0] not in self.damaged][:limit]

    def recompute(self, partition: int, leaf: int, mac_key: bytes | None = None) -> LeafFindings:
        start, end = scrubbing.leaf_range(partition, leaf, self.forest.partitions, self.forest.leaf_count)
        sums = scrubbing.sum_up(self.scan(start, end, scrubbing.ALL), iter(()), None)
        corrected = scrubbing.correct(self.forest, partition, leaf, start, sums.visible)
        self.uncounted |= {key for key in self.damaged if self.forest.place(key[:16]) == (partition, leaf)}
        if corrected:
            self.suspect(partition)
        return LeafFindings(sums.visible_records, corrected=corrected)

    def statistics(self) -> dict:
        return {**self.inner.statistics(), "read_only": self.refusal}

    async def run(self, offload: object) -> None:
        await self.inner.run(offload)

    def close(self) -> None:
        self.inner.close()
