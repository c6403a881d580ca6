"""The engine whose records do not outlive the process: the write buffer alone, for tests, caches and simulations."""

cimport cython
from libc.stdint cimport uint8_t

from dynamo_fast.core.merkle cimport Forest
from dynamo_fast.storage.arena cimport Slot
from dynamo_fast.storage.engine cimport FIND_NOTHING, FIND_RECORD, ROOM_NONE, ROOM_PLENTY, ROOM_SOFT, Engine
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, RecordView, record_view
from dynamo_fast.storage.suspects cimport Suspects
from dynamo_fast.storage.write_buffer cimport WriteBuffer, record_of

import trio

from dynamo_fast.storage import scrubbing
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.report import LeafFindings
from dynamo_fast.storage.write_buffer import BufferFull

LEAVES = 256  # of a partition's Merkle tree


@cython.final
cdef class MemoryEngine(Engine):
    """`MemoryEngine(partitions=1024, bytes_max=1 GiB)`: beyond the limit `room` is none, at four times it stores fail.

    All partitions are suspect at first: whatever the process before had acknowledged is lost.
    """

    def __cinit__(self, *, partitions: int = 1024, bytes_max: int = 1 << 30):
        self.forest = Forest(partitions, LEAVES)
        self.suspected = Suspects(partitions)
        self.suspected.add(range(partitions))
        self.buffer = WriteBuffer(bytes_max)
        self.bytes_max = bytes_max

    cdef int find(self, const uint8_t *store_key, RecordView *view) except -1:
        cdef Slot *slot = self.buffer.find(store_key)
        if slot == NULL:
            return FIND_NOTHING
        record_view(record_of(slot), slot.n, view)
        return FIND_RECORD

    cdef void fetch_ahead(self, const uint8_t *store_key, int step) noexcept nogil:
        self.buffer.fetch_ahead(store_key, step)
        if step == 0:
            self.forest.fetch_ahead(store_key)

    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t old_hash) except -1:
        cdef RecordView view
        cdef int code = record_view(record, n, &view)
        assert code == 0, "only records are stored"
        try:
            self.buffer.store(store_key, record, n, 0, 0, NULL)
        except BufferFull as error:
            raise StorageError(f"{error}; raise the limit") from error
        self.forest.update(self.forest.partition_of(store_key), self.forest.leaf_of(store_key), old_hash, view.hash)
        self.puts += 1
        self.position_bytes += n
        return 0

    cdef int remove(self, const uint8_t *store_key, uint64_t old_hash) except -1:
        # Nothing lies behind the buffer that a mark would have to hide.
        if self.buffer.take_out(store_key):
            self.forest.update(self.forest.partition_of(store_key), self.forest.leaf_of(store_key), old_hash, 0)
            self.removals += 1
            self.position_bytes += STORE_KEY_BYTES
        return 0

    cdef int end_pass(self) except -1:
        return 0

    cdef uint64_t log_position(self) noexcept:
        return self.position_bytes

    cdef uint64_t durable_position(self) noexcept:
        return self.position_bytes

    cdef int room(self) noexcept:
        cdef uint64_t taken = self.buffer.region.chunks_taken * self.buffer.region.chunk_bytes
        if taken >= self.bytes_max:
            return ROOM_NONE
        return ROOM_SOFT if taken >= self.bytes_max // 5 * 4 else ROOM_PLENTY

    def scan(self, bytes start not None, bytes end not None, limit: int) -> list:
        return self.buffer.scan(start, end, limit)

    def recompute(self, partition: int, leaf: int, mac_key: bytes | None = None) -> LeafFindings:
        start, end = scrubbing.leaf_range(partition, leaf, self.forest.partitions, self.forest.leaf_count)
        sums = scrubbing.sum_up(self.buffer.scan(start, end, scrubbing.ALL), iter(()), None)
        corrected = scrubbing.correct(self.forest, partition, leaf, start, sums.visible)
        if corrected:
            self.suspect(partition)
        return LeafFindings(sums.visible_records, corrected=corrected)

    def statistics(self) -> dict:
        return {
            "engine": "memory",
            "puts": self.puts,
            "removals": self.removals,
            "buffer_records": self.buffer.records,
            "buffer_bytes": self.buffer.memory_bytes,
            "buffer_bytes_max": self.bytes_max,
            "read_only": None,
        }

    async def run(self, offload: object) -> None:
        await trio.sleep_forever()
