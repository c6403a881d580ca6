"""Which key the next request goes to: uniform, by Zipf's law, or every key once in order.

Keys may be split into groups, one per server, so that each connection draws only keys whose first home is the server at
its other end; without groups all connections draw from all keys. A key with a request in flight is not drawn again: a
draw that meets one is repeated, so with Zipf's law and many connections the hottest keys get a little less than their share.
"""

cimport cython
from libc.math cimport exp, floor, log
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from dynamo_fast.load.keys cimport KeySpace
from dynamo_fast.load.random cimport random_below, random_u64

cdef enum:
    UNIFORM = 0
    ZIPF = 1
    ONCE = 2
    REDRAWS = 32             # after that many busy keys the next free one by number is taken

KINDS = {"uniform": UNIFORM, "zipf": ZIPF, "once": ONCE}


cdef inline double zipf_integral(double x, double s) noexcept nogil:
    """The integral of x**-s from 1 to x."""
    return log(x) if s == 1.0 else (exp((1.0 - s) * log(x)) - 1.0) / (1.0 - s)


cdef inline double zipf_inverse(double area, double s) noexcept nogil:
    return exp(area) if s == 1.0 else exp(log(1.0 + area * (1.0 - s)) / (1.0 - s))


@cython.final
cdef class Draw:
    """Draws from `keys` in the order "uniform", "zipf" (exponent 0 < s <= 4) or "once".

    `group_of` has one byte per key, the number of its group, 0..groups-1; None puts all keys into one group.
    Raises ValueError when they do not fit together or a group would be empty.
    """

    def __cinit__(self, KeySpace keys not None, str order not None, *, double exponent=0.99, uint64_t seed=1,
                  bytes group_of=None, uint32_t groups=1):
        cdef uint32_t number
        if order not in KINDS:
            raise ValueError(f"keys are drawn uniform, zipf or once, not {order!r}")
        if not 0.0 < exponent <= 4.0:
            raise ValueError(f"the exponent of Zipf's law lies in 0..4, above 0, not {exponent}")
        if group_of is not None and len(group_of) != keys.count:
            raise ValueError(f"there are {keys.count} keys and {len(group_of)} groups of keys")
        if not 1 <= groups <= 256 or (group_of is not None and max(group_of) >= groups):
            raise ValueError("there are 1..256 groups, and every key is in one of them")
        self.keys = keys
        self.order = order
        self.kind = KINDS[order]
        self.exponent = exponent
        self.random = seed
        self.groups = 1 if group_of is None else groups
        self.group = <Group *>calloc(self.groups, sizeof(Group))
        if self.group == NULL:
            raise MemoryError
        if group_of is None:
            self.group[0].count = keys.count
        else:
            self._split(group_of)
        for number in range(self.groups):
            if self.group[number].count == 0:
                raise ValueError(f"group {number} has no keys")
            self._prepare_zipf(&self.group[number])

    def __dealloc__(self):
        free(self.group)
        free(self.members)

    cdef _split(self, bytes group_of):
        """Sorts the key numbers by group, by counting."""
        cdef const uint8_t *of = group_of
        cdef uint32_t key, number, start = 0
        cdef Group *group
        self.members = <uint32_t *>malloc(self.keys.count * sizeof(uint32_t))
        if self.members == NULL:
            raise MemoryError
        for key in range(self.keys.count):
            self.group[of[key]].count += 1
        for number in range(self.groups):
            self.group[number].start = start
            start += self.group[number].count
        for key in range(self.keys.count):
            group = &self.group[of[key]]
            self.members[group.start + group.cursor] = key
            group.cursor += 1
        for number in range(self.groups):
            self.group[number].cursor = 0

    cdef _prepare_zipf(self, Group *group):
        cdef double s = self.exponent
        group.zipf_low = zipf_integral(1.5, s) - 1.0
        group.zipf_high = zipf_integral(group.count + 0.5, s)
        group.zipf_accept = 2.0 - zipf_inverse(zipf_integral(2.5, s) - exp(-s * log(2.0)), s)

    cdef uint32_t _zipf_rank(self, Group *group) noexcept nogil:
        """0..count-1 with weights (rank + 1)**-s: rejection-inversion (Hoermann and Derflinger 1996), no tables."""
        cdef double s = self.exponent, area, x, rank
        while True:
            area = (random_u64(&self.random) >> 11) * (1.0 / (<uint64_t>1 << 53))
            area = group.zipf_high + area * (group.zipf_low - group.zipf_high)
            x = zipf_inverse(area, s)
            rank = floor(x + 0.5)
            if rank < 1.0:
                rank = 1.0
            elif rank > group.count:
                rank = group.count
            if rank - x <= group.zipf_accept or area >= zipf_integral(rank + 0.5, s) - exp(-s * log(rank)):
                return <uint32_t>rank - 1

    cdef int64_t draw(self, uint32_t number) noexcept nogil:
        cdef Group *group = &self.group[number if number < self.groups else 0]
        cdef uint32_t place = 0, attempt, key
        if self.kind == ONCE and group.cursor == group.count:
            return -1
        for attempt in range(group.count + REDRAWS):
            if self.kind == ONCE:
                place = group.cursor
                group.cursor += 1
            elif attempt >= REDRAWS:
                place = place + 1 if place + 1 < group.count else 0
            elif self.kind == ZIPF:
                place = self._zipf_rank(group)
            else:
                place = random_below(&self.random, group.count)
            key = group.start + place if self.members == NULL else self.members[group.start + place]
            if not self.keys.keys[key].busy:
                self.keys.keys[key].busy = 1
                return key
        return -1

    def take(self, uint32_t group=0):
        """The next key's number, as a connection of that group would draw it, or None at the end; it stays busy."""
        cdef int64_t key = self.draw(group)
        return None if key < 0 else key

    def give_back(self, uint32_t key):
        """Ends the request that take() began."""
        if key >= self.keys.count:
            raise IndexError(f"there are {self.keys.count} keys, and no number {key}")
        self.keys.keys[key].busy = 0
