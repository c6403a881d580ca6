"""The write buffer: every record that is not yet in LMDB, in memory (the paper's object buffer, section 6.1).

Positions are cut into 16 ranges, since LMDB takes a batch from one stretch of the key space ten times cheaper than one
from everywhere. A range has an active generation, into which records go, and while it is being moved to LMDB a frozen
one before it, which does not change until it is dropped whole.

A removed key keeps a slot with a mark in place of the record: it hides what LMDB holds until the checkpoint has deleted
that, and goes with its generation. A slot remembers the hash of LMDB's version through all versions and marks that pass
over it, so that the checkpoint takes out of the leaf just what is in it.

A generation has 256 small hash tables, chosen by the next bits of the position. So no table is ever rehashed at length
(one of 60,000 records in a generation has 230), a partition is a few tables, and a scan sorts a table at a time. Within
a table the place is the keyed half of the store key, which no client can choose.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memmove

from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.storage.arena cimport REMOVED_BYTES, slot_hash, slot_removed
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES

cdef enum:
    CELLS_MIN = 8

cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *at) noexcept nogil

cdef uint64_t TAG_MASK = <uint64_t>0xffff << 48


class BufferFull(Exception):
    """The region's address space is used up: four times the limit at which puts are refused."""


cdef inline unsigned int range_of(const uint8_t *store_key) noexcept nogil:
    return store_key[0] >> 4


cdef inline unsigned int table_of(const uint8_t *store_key) noexcept nogil:
    return <unsigned int>((store_key[0] & 15) << 4 | store_key[1] >> 4)


@cython.final
cdef class Generation:
    """Records of one range; made and dropped by a `WriteBuffer`."""

    def __cinit__(self, Region region not None):
        self.region = region
        self.arena = Arena(region)

    def __dealloc__(self):
        cdef int i
        for i in range(TABLES):
            free(self.tables[i].cells)

    @property
    def memory_bytes(self) -> int:
        """Memory held: chunks and tables."""
        return self.arena.chunks * self.region.chunk_bytes + self.table_bytes

    def stretches(self) -> bytes:
        """(offset u64, bytes in use u64) of each stretch of the region that holds this generation's slots."""
        cdef size_t i, n = self.arena.stretch_n
        out = PyBytes_FromStringAndSize(NULL, 16 * n)
        cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(out)
        for i in range(n):
            memcpy(to + 16 * i, &self.arena.stretches[i].offset, 16)
        return out

    cdef Slot *find(self, const uint8_t *store_key) noexcept nogil:
        cdef Table *table = &self.tables[table_of(store_key)]
        if table.cells == NULL:
            return NULL
        cdef uint64_t hash = load_u64(store_key + 16), cell
        cdef uint32_t i = <uint32_t>hash & table.mask
        cdef Slot *slot
        while True:
            cell = table.cells[i]
            if cell == 0:
                return NULL
            if (cell ^ hash) & TAG_MASK == 0:
                slot = <Slot *>(self.region.base + ((cell & ~TAG_MASK) - 1) * 8)
                if memcmp(slot.store_key, store_key, STORE_KEY_BYTES) == 0:
                    return slot
            i = (i + 1) & table.mask

    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t base_hash, uint64_t position,
                   uint64_t *replaced) noexcept nogil:
        cdef Slot *old = self.find(store_key)
        cdef Slot *slot
        if old != NULL and replaced != NULL:
            replaced[0] = slot_hash(old)
        if old != NULL and n <= old.capacity:
            self.removed += <uint64_t>(n == REMOVED_BYTES) - slot_removed(old)
            self.record_bytes += n - old.n
            old.n = <uint32_t>n
            memmove(<uint8_t *>old + sizeof(Slot), record, n)
            return 1
        cdef Table *table = &self.tables[table_of(store_key)]
        if old == NULL and (table.cells == NULL or 8 * (table.used + 1) > 5 * (table.mask + 1)) and self.grow(table) < 0:
            return -1
        cdef uint32_t capacity
        cdef int64_t offset = self.arena.allocate(n, &capacity)
        if offset < 0:
            return -1
        slot = <Slot *>(self.region.base + offset)
        slot.n = <uint32_t>n
        memcpy(slot.store_key, store_key, STORE_KEY_BYTES)
        memcpy(<uint8_t *>slot + sizeof(Slot), record, n)
        cdef uint64_t hash = load_u64(store_key + 16)
        cdef uint64_t old_cell = 0
        if old != NULL:
            self.removed -= slot_removed(old)       # the mark fits into every slot: what needs a larger one is a record
            slot.base_hash = old.base_hash
            old_cell = (<uint64_t>(<uint8_t *>old - self.region.base) // 8 + 1) | (hash & TAG_MASK)
            self.record_bytes -= old.n
            self.arena.release(<uint8_t *>old - self.region.base, old.capacity)
        else:
            slot.base_hash = base_hash
            if self.records == 0:
                self.first_position = position
            self.records += 1
            self.removed += n == REMOVED_BYTES
            table.used += 1
        self.record_bytes += n
        cdef uint32_t i = <uint32_t>hash & table.mask
        while table.cells[i] != old_cell:
            i = (i + 1) & table.mask
        table.cells[i] = (<uint64_t>offset // 8 + 1) | (hash & TAG_MASK)
        return 0 if old == NULL else 1

    cdef bint take_out(self, const uint8_t *store_key) noexcept nogil:
        cdef Slot *slot = self.find(store_key)
        if slot == NULL:
            return False
        cdef Table *table = &self.tables[table_of(store_key)]
        cdef uint32_t gap = <uint32_t>load_u64(store_key + 16) & table.mask, i, home
        cdef uint64_t cell = (<uint64_t>(<uint8_t *>slot - self.region.base) // 8 + 1) | (load_u64(store_key + 16) & TAG_MASK)
        while table.cells[gap] != cell:
            gap = (gap + 1) & table.mask
        # Whoever is found past the gap, and could stand in it, moves there: a chain has no holes.
        i = gap
        while True:
            i = (i + 1) & table.mask
            cell = table.cells[i]
            if cell == 0:
                break
            home = <uint32_t>load_u64((<Slot *>(self.region.base + ((cell & ~TAG_MASK) - 1) * 8)).store_key + 16) & table.mask
            if ((i - home) & table.mask) >= ((i - gap) & table.mask):
                table.cells[gap] = cell
                gap = i
        table.cells[gap] = 0
        table.used -= 1
        self.records -= 1
        self.removed -= slot_removed(slot)
        self.record_bytes -= slot.n
        self.arena.release(<uint8_t *>slot - self.region.base, slot.capacity)
        return True

    cdef int grow(self, Table *table) noexcept nogil:
        """Twice the cells, or the first few."""
        cdef uint32_t mask = 2 * table.mask + 1 if table.cells != NULL else CELLS_MIN - 1
        cdef uint64_t *cells = <uint64_t *>calloc(<size_t>mask + 1, sizeof(uint64_t))
        if cells == NULL:
            return -1
        cdef uint32_t i, to
        cdef uint64_t cell
        if table.cells != NULL:
            for i in range(table.mask + 1):
                cell = table.cells[i]
                if cell:
                    to = <uint32_t>load_u64((<Slot *>(self.region.base + ((cell & ~TAG_MASK) - 1) * 8)).store_key + 16) & mask
                    while cells[to]:
                        to = (to + 1) & mask
                    cells[to] = cell
            self.table_bytes -= (<uint64_t>table.mask + 1) * sizeof(uint64_t)
            free(table.cells)
        self.table_bytes += (<uint64_t>mask + 1) * sizeof(uint64_t)
        table.cells = cells
        table.mask = mask
        return 0


@cython.final
cdef class WriteBuffer:
    """`WriteBuffer(bytes_max)`; the limit only sizes the region, and is kept by the engine."""

    def __cinit__(self, bytes_max: int):
        cdef unsigned int i
        self.region = Region(bytes_max)
        self.active = [Generation(self.region) for _ in range(RANGES)]
        self.frozen = [None] * RANGES
        for i in range(RANGES):
            self.active_now[i] = <void *>self.active[i]
            self.frozen_now[i] = NULL

    @property
    def memory_bytes(self) -> int:
        """Memory held by all generations."""
        return sum(generation.memory_bytes for generation in (*self.active, *self.frozen) if generation is not None)

    @property
    def records(self) -> int:
        """Records held, and marks of removed ones; a key in both generations of its range counts twice."""
        return sum(generation.records for generation in (*self.active, *self.frozen) if generation is not None)

    @property
    def removed(self) -> int:
        """Of `records`, the marks."""
        return sum(generation.removed for generation in (*self.active, *self.frozen) if generation is not None)

    cdef Generation active_of(self, unsigned int range_index):
        return <Generation>self.active_now[range_index]

    cdef Generation frozen_of(self, unsigned int range_index):
        return self.frozen[range_index]

    cdef Slot *find(self, const uint8_t *store_key) noexcept nogil:
        cdef unsigned int r = range_of(store_key)
        cdef Slot *slot = (<Generation>self.active_now[r]).find(store_key)
        if slot == NULL and self.frozen_now[r] != NULL:
            slot = (<Generation>self.frozen_now[r]).find(store_key)
        return slot

    cdef Slot *find_active(self, const uint8_t *store_key) noexcept nogil:
        return (<Generation>self.active_now[range_of(store_key)]).find(store_key)

    cdef int store(self, const uint8_t *store_key, const uint8_t *record, size_t n, uint64_t base_hash, uint64_t position,
                   uint64_t *replaced) except -1:
        cdef int code = (<Generation>self.active_now[range_of(store_key)]).store(store_key, record, n, base_hash, position, replaced)
        if code < 0:
            raise BufferFull(f"the write buffer has no room for a record of {n} bytes")
        return code

    cdef int remove(self, const uint8_t *store_key, uint64_t base_hash, uint64_t position, uint64_t *replaced) except -1:
        cdef uint8_t mark = 0
        return self.store(store_key, &mark, REMOVED_BYTES, base_hash, position, replaced)

    cdef bint take_out(self, const uint8_t *store_key) noexcept nogil:
        return (<Generation>self.active_now[range_of(store_key)]).take_out(store_key)

    cdef void fetch_ahead(self, const uint8_t *store_key, int step) noexcept nogil:
        cdef Table *table = &(<Generation>self.active_now[range_of(store_key)]).tables[table_of(store_key)]
        cdef uint64_t hash = load_u64(store_key + 16), cell
        cdef uint32_t i
        cdef const uint8_t *slot
        if step == 0:
            prefetch(table)
        elif table.cells == NULL:
            return
        elif step == 1:
            prefetch(&table.cells[<uint32_t>hash & table.mask])
        else:
            i = <uint32_t>hash & table.mask
            cell = table.cells[i]
            while cell != 0 and (cell ^ hash) & TAG_MASK != 0:
                i = (i + 1) & table.mask
                cell = table.cells[i]
            if cell != 0:
                slot = self.region.base + ((cell & ~TAG_MASK) - 1) * 8
                prefetch(slot)
                prefetch(slot + 64)
                prefetch(slot + 128)
                prefetch(slot + 192)
                prefetch(slot + 256)
                prefetch(slot + 320)

    cdef Generation freeze(self, unsigned int range_index):
        """The range's active generation becomes its frozen one (there is none now) and an empty one takes its place."""
        assert self.frozen_now[range_index] == NULL, "a range is frozen once at a time"
        fresh = Generation(self.region)
        cdef Generation frozen = self.active[range_index]
        self.frozen[range_index] = frozen
        self.frozen_now[range_index] = <void *>frozen
        self.active[range_index] = fresh
        self.active_now[range_index] = <void *>fresh
        return frozen

    cdef int drop_frozen(self, unsigned int range_index) except -1:
        self.frozen_now[range_index] = NULL
        self.frozen[range_index] = None
        return 0

    def oldest_range(self) -> int | None:
        """The range whose active records have waited longest; None when there are none."""
        waiting = [((<Generation>g).first_position, r) for r, g in enumerate(self.active) if g.records]
        return min(waiting)[1] if waiting else None

    def oldest_position(self, default: int) -> int:
        """The log position from which on the log is still needed: no record in here is older. `default` when empty."""
        positions = [g.first_position for g in (*self.active, *self.frozen) if g is not None and g.records]
        return min(positions, default=default)

    def scan(self, bytes start not None, bytes end not None, limit: int, removed: bool = False) -> list:
        """The first `limit` (store key, record) with start <= store key < end, in order, each key's newest record.

        With `removed` the removed keys up to there are listed too, with None, and do not count.
        """
        cdef Py_ssize_t wanted = limit
        cdef bint marks = removed
        if PyBytes_GET_SIZE(start) != STORE_KEY_BYTES or PyBytes_GET_SIZE(end) != STORE_KEY_BYTES:
            raise ValueError(f"store keys have {STORE_KEY_BYTES} bytes")
        cdef const uint8_t *low = <const uint8_t *>PyBytes_AS_STRING(start)
        cdef const uint8_t *high = <const uint8_t *>PyBytes_AS_STRING(end)
        cdef unsigned int prefix, last = high[0] << 4 | high[1] >> 4
        cdef Finds finds
        found = []
        finds.slots = NULL
        finds.room = 0
        try:
            for prefix in range(low[0] << 4 | low[1] >> 4, last + 1):
                finds.n = 0
                gather(<Generation>self.active_now[prefix >> 8], prefix & 255, low, high, &finds)
                if self.frozen_now[prefix >> 8] != NULL:
                    gather(<Generation>self.frozen_now[prefix >> 8], prefix & 255, low, high, &finds)
                if finds.n and list_finds(&finds, found, &wanted, marks):
                    break
        finally:
            free(finds.slots)
        return found


# Slots that a scan has found, each with its age: the newer generation sorts first.
cdef struct Find:
    Slot *slot
    uint32_t age

cdef struct Finds:
    Find *slots
    size_t n
    size_t room


cdef int compare_finds(const void *a, const void *b) noexcept nogil:
    cdef int order = memcmp((<Find *>a).slot.store_key, (<Find *>b).slot.store_key, STORE_KEY_BYTES)
    return order if order else <int>(<Find *>a).age - <int>(<Find *>b).age


cdef int gather(Generation generation, unsigned int table_index, const uint8_t *low, const uint8_t *high, Finds *finds) except -1:
    """Adds the slots of one table that lie in [low, high)."""
    cdef Table *table = &generation.tables[table_index]
    cdef Slot *slot
    cdef Find *grown
    cdef uint32_t i, age = finds.n != 0
    if table.cells == NULL:
        return 0
    for i in range(table.mask + 1):
        if table.cells[i] == 0:
            continue
        slot = <Slot *>(generation.region.base + ((table.cells[i] & ~TAG_MASK) - 1) * 8)
        if memcmp(slot.store_key, low, STORE_KEY_BYTES) < 0 or memcmp(slot.store_key, high, STORE_KEY_BYTES) >= 0:
            continue
        if finds.n == finds.room:
            grown = <Find *>realloc(finds.slots, (2 * finds.room + 64) * sizeof(Find))
            if grown == NULL:
                raise MemoryError
            finds.slots = grown
            finds.room = 2 * finds.room + 64
        finds.slots[finds.n].slot = slot
        finds.slots[finds.n].age = age
        finds.n += 1
    return 0


cdef bint list_finds(Finds *finds, list found, Py_ssize_t *wanted, bint marks) except *:
    """Appends the finds in order, the newest of equal keys only; True when none is wanted any more."""
    cdef size_t i
    cdef Slot *slot
    qsort(finds.slots, finds.n, sizeof(Find), compare_finds)
    for i in range(finds.n):
        if wanted[0] <= 0:
            return True
        slot = finds.slots[i].slot
        if i and memcmp(slot.store_key, finds.slots[i - 1].slot.store_key, STORE_KEY_BYTES) == 0:
            continue
        if not slot_removed(slot):
            found.append((slot.store_key[:STORE_KEY_BYTES], (<uint8_t *>slot + sizeof(Slot))[:slot.n]))
            wanted[0] -= 1
        elif marks:
            found.append((slot.store_key[:STORE_KEY_BYTES], None))
    return wanted[0] <= 0
