"""An engine around another one that gets wrong what it is told to: a log write that fails, a disk that is full or slow, a record
that cannot be read.

It errs as the engine with a disk does: after a failed log write what was stored stays visible, and writes are refused until `heal`.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

from dynamo_fast.storage.engine cimport FIND_ROT, ROOM_NONE, ROOM_SOFT
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, RecordView

from dynamo_fast.storage.engine import ReadOnlyError


@cython.final
cdef class FaultyEngine(Engine):
    """`FaultyEngine(inner)`: `inner` keeps the records, and should be a MemoryEngine."""

    def __cinit__(self, Engine inner not None):
        self.inner = inner
        self.forest = inner.forest
        self.damaged = set()

    def heal(self) -> None:
        """The disk takes writes again, and has those that it had refused."""
        self.failure = self.refusal = None
        self.unwritten = False

    def finish_syncs(self) -> None:
        """All that was written is on disk."""
        self.synced = self.written

    def damage(self, bytes store_key not None) -> None:
        """The record under that store key cannot be read until another one is stored there, or it is removed."""
        self.damaged.add(store_key)

    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1:
        if PyBytes_FromStringAndSize(<const char *>store_key, STORE_KEY_BYTES) in self.damaged:
            return FIND_ROT
        return self.inner.find(store_key, view)

    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) except -1:
        if self.refusal is not None:
            raise ReadOnlyError(self.refusal)
        self.inner.store(store_key, record, n, old_hash)
        self.damaged.discard(PyBytes_FromStringAndSize(<const char *>store_key, STORE_KEY_BYTES))
        self.unwritten = True
        self.written += n
        return 0

    cdef int remove(self, const uint8_t *store_key, uint64_t old_hash) except -1:
        if self.refusal is not None:
            raise ReadOnlyError(self.refusal)
        self.inner.remove(store_key, old_hash)
        self.damaged.discard(PyBytes_FromStringAndSize(<const char *>store_key, STORE_KEY_BYTES))
        self.unwritten = True
        self.written += STORE_KEY_BYTES
        return 0

    cdef int end_pass(self) except -1:
        if not self.unwritten or self.refusal is not None:
            return 0
        if self.failure is not None:
            self.refusal = self.failure
            raise ReadOnlyError(self.refusal)
        self.unwritten = False
        self.writes += 1
        return self.inner.end_pass()

    cdef uint64_t log_position(self) noexcept:
        return self.written

    cdef uint64_t durable_position(self) noexcept:
        return self.synced

    cdef int request_sync(self) except -1:
        if self.syncs_fail:
            self.refusal = "an fdatasync failed"
        elif not self.hold_syncs:
            self.synced = self.written
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
        return self.inner.scan(start, end, limit)

    def statistics(self) -> dict:
        return {**self.inner.statistics(), "read_only": self.refusal}

    async def run(self, offload: object) -> None:
        await self.inner.run(offload)

    def close(self) -> None:
        self.inner.close()
