"""Retries make one version: the ids of the puts that this coordinator has lately made a dot for.

A client that got no answer sends the same put again, with the same 16-byte id. While the first one's version is still a
sibling, the object itself shows the id; once a later put has replaced it, only this memory can tell that the retry must not
make a second dot. An id is kept for at least twice the longest deadline of the puts around it.

Two open-addressing tables, young and old: an id is added to the young one; when the period is over the old one is dropped
whole and the young one takes its place, so an id lives one to two periods, nothing is ever deleted singly, and a turn is one
free. Bounded: at `ids_max` young ids there is no room and the put is answered `overload`.

Ids come from clients: places are salted, so that nobody can aim at one chain.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset


cdef extern from *:
    void prefetch "__builtin_prefetch"(const void *at) noexcept nogil

cdef enum:
    FIRST_CAPACITY = 4096


cdef uint64_t place_of(const uint8_t *put_id, uint64_t salt, uint64_t capacity) noexcept nogil:
    cdef uint64_t mixed = (load_u64(put_id) ^ salt) * <uint64_t>0x9E3779B97F4A7C15
    mixed = (mixed ^ (mixed >> 29) ^ load_u64(put_id + 8)) * <uint64_t>0xBF58476D1CE4E5B9
    return (mixed ^ (mixed >> 32)) & (capacity - 1)


cdef bint table_has(const PutIdTable *table, const uint8_t *put_id, uint64_t salt) noexcept nogil:
    cdef uint64_t place
    if table.capacity == 0:
        return False
    place = place_of(put_id, salt, table.capacity)
    while not is_free(table.ids + 16 * place):
        if memcmp(table.ids + 16 * place, put_id, 16) == 0:
            return True
        place = (place + 1) & (table.capacity - 1)
    return False


cdef inline bint is_free(const uint8_t *place) noexcept nogil:
    return load_u64(place) == 0 and load_u64(place + 8) == 0


cdef void table_insert(PutIdTable *table, const uint8_t *put_id, uint64_t salt) noexcept nogil:
    cdef uint64_t place = place_of(put_id, salt, table.capacity)
    while not is_free(table.ids + 16 * place):
        place = (place + 1) & (table.capacity - 1)
    memcpy(table.ids + 16 * place, put_id, 16)
    table.count += 1


cdef int table_grow(PutIdTable *table, uint64_t salt) except -1:
    cdef PutIdTable grown
    cdef uint64_t i
    grown.capacity = max(<uint64_t>FIRST_CAPACITY, table.capacity * 2)
    grown.count = 0
    grown.ids = <uint8_t *>calloc(grown.capacity, 16)
    if grown.ids == NULL:
        raise MemoryError
    for i in range(table.capacity):
        if not is_free(table.ids + 16 * i):
            table_insert(&grown, table.ids + 16 * i, salt)
    free(table.ids)
    table[0] = grown
    return 0


cdef class PutIds:
    """PutIds(salt, ids_max): `salt` is any random 64-bit number, `ids_max` bounds each of the two tables."""

    def __cinit__(self, uint64_t salt, Py_ssize_t ids_max):
        memset(&self.young, 0, sizeof(PutIdTable))
        memset(&self.old, 0, sizeof(PutIdTable))
        self.salt = salt
        self.ids_max = ids_max
        self.period_ms = 0
        self.rotate_ms = 0

    def __dealloc__(self):
        free(self.young.ids)
        free(self.old.ids)

    cdef void fetch_ahead(self, const uint8_t *put_id) noexcept nogil:
        if self.young.capacity:
            prefetch(self.young.ids + 16 * place_of(put_id, self.salt, self.young.capacity))
        if self.old.capacity:
            prefetch(self.old.ids + 16 * place_of(put_id, self.salt, self.old.capacity))

    cdef bint seen(self, const uint8_t *put_id) noexcept nogil:
        return table_has(&self.young, put_id, self.salt) or table_has(&self.old, put_id, self.salt)

    cdef bint room(self, int64_t deadline_ms, int64_t now_ms) noexcept:
        """Lets time pass, makes sure that ids added now live for twice `deadline_ms` (a length of time), and says if one fits."""
        if now_ms >= self.rotate_ms:
            free(self.old.ids)
            self.old = self.young
            memset(&self.young, 0, sizeof(PutIdTable))
            # The old ones stay for as long as the longest deadline among them asks for, however short those of the next are.
            self.rotate_ms = now_ms + max(self.period_ms, 2 * deadline_ms)
            self.period_ms = 2 * deadline_ms
        elif 2 * deadline_ms > self.period_ms:
            self.period_ms = 2 * deadline_ms
        return self.young.count < <uint64_t>self.ids_max

    cdef int add(self, const uint8_t *put_id) except -1:
        """Remember `put_id`; the caller has asked `room` first. An id of zeros is nobody's and stays so."""
        if is_free(put_id):
            return 0
        if 4 * self.young.count >= 3 * self.young.capacity:
            table_grow(&self.young, self.salt)
        table_insert(&self.young, put_id, self.salt)
        return 0

    def remember(self, bytes put_id not None, int64_t deadline_ms, int64_t now_ms):
        """`room` and `add`: True when the id is remembered, False when the table is full. Raises ValueError unless 16 bytes."""
        if len(put_id) != 16:
            raise ValueError("a put id has 16 bytes")
        if not self.room(deadline_ms, now_ms):
            return False
        self.add(<const uint8_t *><char *>put_id)
        return True

    def __contains__(self, bytes put_id not None):
        return len(put_id) == 16 and self.seen(<const uint8_t *><char *>put_id)

    def __len__(self):
        return self.young.count + self.old.count
