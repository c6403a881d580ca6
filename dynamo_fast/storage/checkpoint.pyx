"""Moves a frozen generation of the write buffer into LMDB; runs in the helper process.

The records are read where the node keeps them, in the shared region, sorted by store key, and written in transactions
of whole granules: sixteenths of the range, so that each is a contiguous batch, and its synced commit short. A
transaction also writes up to which log position its granules are moved, and takes the records' base hashes out of the
Merkle leaves and their own hashes in. So whoever asks twice, since a process died in between, changes nothing twice.
A removed record is deleted, if it is there at all, and only its base hash goes.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp

from dynamo_fast.core.bytes cimport load_u32_be, load_u64, store_u64
from dynamo_fast.storage.arena cimport Slot, slot_hash, slot_removed
from dynamo_fast.storage.schema cimport RecordView, record_check

import struct

from dynamo_fast.storage.mover import STRETCH
from dynamo_fast.storage.scrubbing import leaf_range

cdef extern from "Python.h":
    enum: PyBUF_READ

cdef enum:
    SLOT_HEADER = 40
    LEAVES = 256
    LEAF_BITS = 8

MOVED_ROW = struct.Struct("<16Q")
NO_RECORDS = bytes(8 * LEAVES)  # leaves of a partition in which there is nothing


cdef int compare_slots(const void *a, const void *b) noexcept nogil:
    return memcmp((<Slot **>a)[0].store_key, (<Slot **>b)[0].store_key, 24)


cdef inline unsigned int granule_of(Slot *slot) noexcept nogil:
    return slot.store_key[0] & 15


@cython.final
cdef class Checkpointer:
    """`Checkpointer(tables, region, partitions, transaction_bytes)`: `region` is the node's region, mapped for reading."""

    cdef object tables
    cdef const uint8_t[::1] region
    cdef unsigned int partition_bits
    cdef size_t transaction_bytes       # of records, after which a transaction ends with its granule
    cdef Slot **slots                   # of the generation at hand, in order: slot_n of slot_max
    cdef size_t slot_n
    cdef size_t slot_max

    def __cinit__(self, tables, region, partitions: int, transaction_bytes: int):
        self.tables = tables
        self.region = region
        self.partition_bits = partitions.bit_length() - 1
        self.transaction_bytes = transaction_bytes

    def __dealloc__(self):
        free(self.slots)

    def move(self, range_index: int, position: int, stretches: bytes):
        """Moves what the stretches hold, and says of the whole range that the log is in LMDB up to the position.

        Yields (records, bytes) after each committed transaction; lmdb.Error when one cannot be committed, which may be
        tried again from the start.
        """
        self.collect(stretches)
        moved = self.moved_row(range_index)
        cdef size_t bounds[17]      # slots of granule g: from bounds[g] to bounds[g + 1]
        cdef size_t i = 0, size
        cdef int granule, first = 0
        for granule in range(16):
            bounds[granule] = i
            while i < self.slot_n and granule_of(self.slots[i]) == <unsigned int>granule:
                i += 1
        bounds[16] = i
        while first < 16:
            granule = first
            size = 0
            # What a helper before us has moved is left alone.
            while granule < 16 and moved[granule] < position and (size == 0 or size < self.transaction_bytes):
                for i in range(bounds[granule], bounds[granule + 1]):
                    size += self.slots[i].n
                moved[granule] = position
                granule += 1
            if granule == first:
                first += 1
                continue
            self.commit(bounds[first], bounds[granule], range_index, moved)
            yield bounds[granule] - bounds[first], size
            first = granule

    cdef int collect(self, bytes stretches) except -1:
        """The live slots of the stretches, sorted by store key."""
        cdef Slot *slot
        cdef Slot **grown
        cdef uint64_t offset, end
        self.slot_n = 0
        for offset, used in STRETCH.iter_unpack(stretches):
            end = offset + used
            while offset < end:
                slot = <Slot *>&self.region[offset]
                offset += SLOT_HEADER + slot.capacity
                if slot.n == 0:
                    continue
                if self.slot_n == self.slot_max:
                    grown = <Slot **>realloc(self.slots, (2 * self.slot_max + 1024) * sizeof(Slot *))
                    if grown == NULL:
                        raise MemoryError
                    self.slots = grown
                    self.slot_max = 2 * self.slot_max + 1024
                self.slots[self.slot_n] = slot
                self.slot_n += 1
        qsort(self.slots, self.slot_n, sizeof(Slot *), compare_slots)
        return 0

    def moved_row(self, range_index: int) -> list:
        with self.tables.environment.begin(db=self.tables.moved) as transaction:
            row = transaction.get(bytes([range_index]))
        return [0] * 16 if row is None else list(MOVED_ROW.unpack(row))

    cdef int commit(self, size_t begin, size_t end, int range_index, list moved) except -1:
        """One synced transaction with the slots from begin to end."""
        items = []
        leaves = {}
        cdef size_t i
        cdef Slot *slot
        with self.tables.environment.begin(write=True) as transaction:
            for i in range(begin, end):
                slot = self.slots[i]
                self.change_leaf(transaction, leaves, slot)
                if slot_removed(slot):
                    transaction.delete(PyBytes_FromStringAndSize(<char *>slot.store_key, 24), db=self.tables.records)
                    continue
                items.append((PyBytes_FromStringAndSize(<char *>slot.store_key, 24),
                              PyMemoryView_FromMemory(<char *>slot + SLOT_HEADER, slot.n, PyBUF_READ)))
            with transaction.cursor(self.tables.records) as cursor:
                cursor.putmulti(items, overwrite=True)
            for partition in sorted(leaves):
                self.put_leaves(transaction, partition, leaves[partition])
            transaction.put(bytes([range_index]), MOVED_ROW.pack(*moved), db=self.tables.moved)
        return 0

    def sum_up(self, partition: int, leaf: int) -> None:
        """Makes a leaf the sum over the records in LMDB that can be read, in a transaction of its own; see `scrubbing`."""
        cdef RecordView view
        cdef uint64_t total = 0
        start, end = leaf_range(partition, leaf, 1 << self.partition_bits, LEAVES)
        with self.tables.environment.begin(write=True) as transaction:
            with transaction.cursor(self.tables.records) as cursor:
                found = cursor.set_range(start)
                while found and start <= cursor.key() < end:
                    record = cursor.value()
                    if transaction.get(cursor.key(), db=self.tables.records) == record and record_check(<const uint8_t *><const char *>record, len(record), &view) == 0:
                        total += view.hash
                    found = cursor.next()
            row = bytearray(transaction.get(partition.to_bytes(4, "big"), NO_RECORDS, db=self.tables.leaves))
            store_u64(<uint8_t *>PyByteArray_AS_STRING(row) + 8 * <size_t>leaf, total)
            self.put_leaves(transaction, partition, row)

    cdef int put_leaves(self, transaction, partition, bytearray row) except -1:
        """Nothing is left of a partition whose last record goes."""
        key = partition.to_bytes(4, "big")
        if row == NO_RECORDS:
            transaction.delete(key, db=self.tables.leaves)
        else:
            transaction.put(key, row, db=self.tables.leaves)
        return 0

    cdef int change_leaf(self, transaction, dict leaves, Slot *slot) except -1:
        """In the leaf of a slot's position: the hash of the version that LMDB held out, the new one, if any, in."""
        cdef uint32_t top = load_u32_be(slot.store_key)
        cdef uint32_t partition = <uint32_t>(<uint64_t>top >> (32 - self.partition_bits))
        cdef uint32_t leaf = <uint32_t>((<uint64_t>top << self.partition_bits) & 0xffffffff) >> (32 - LEAF_BITS)
        row = leaves.get(partition)
        if row is None:
            stored = transaction.get(partition.to_bytes(4, "big"), db=self.tables.leaves)
            row = bytearray(NO_RECORDS if stored is None else stored)
            leaves[partition] = row
        cdef uint8_t *cell = <uint8_t *>PyByteArray_AS_STRING(row) + 8 * leaf
        store_u64(cell, load_u64(cell) - slot.base_hash + slot_hash(slot))
        return 0
