"""Every dot that any replica ever stored, and what it named: a dot is never issued twice, and never names two versions.

Shown each record as it is stored, on whichever node; a record that nobody stored claims nothing. Also knows which put made which dots,
so that a checker can tell a put that was applied twice, by two coordinators, from one that was applied once.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy

from dynamo_fast.core.bytes cimport store_u64
from dynamo_fast.core.siblings cimport SiblingView, object_next
from dynamo_fast.storage.schema cimport STORE_KEY_BYTES, RecordView, record_view

cdef enum:
    DOT_BYTES = 32  # node[16], epoch u64, counter u64


@cython.final
cdef class DotRegistry:
    """DotRegistry(): one for all nodes of a cluster."""

    def __cinit__(self):
        self.named = {}
        self.of_put = {}
        self.violations = []

    cdef int note(self, bytes store_key, const uint8_t *record, size_t n) except -1:
        cdef RecordView view
        cdef SiblingView sibling
        cdef size_t offset = 0
        cdef uint8_t place[56]
        if record_view(record, n, &view) != 0:
            return 0
        memcpy(place, <const char *>store_key, STORE_KEY_BYTES)
        while object_next(view.object, view.object_n, &offset, &sibling) == 1:
            memcpy(place + 24, sibling.node, 16)
            store_u64(place + 40, sibling.epoch)
            store_u64(place + 48, sibling.counter)
            key = PyBytes_FromStringAndSize(<const char *>place, 56)
            put_id = sibling.request_id[:16]
            version = (put_id, sibling.flags, sibling.timestamp_ms, sibling.value[:sibling.value_n])
            known = self.named.get(key)
            if known is None:
                self.named[key] = version
                self.of_put.setdefault(put_id, []).append((store_key, key[24:], self.now_s))
            elif known != version:
                self.violations.append(f"the dot {key[24:].hex()} of {store_key.hex()} names two versions: {known!r} and {version!r}")
        return 0

    def dots(self, bytes put_id not None) -> list[tuple[bytes, bytes, float]]:
        """The (store key, dot, `now_s` then) that a put was given, in order of appearance; a dot is node[16], epoch and counter,
        little-endian."""
        return self.of_put.get(put_id, [])

    def put_of(self, bytes store_key not None, bytes dot not None) -> bytes | None:
        """The id of the put that made a dot."""
        known = self.named.get(store_key + dot)
        return None if known is None else known[0]

    def __len__(self) -> int:
        return len(self.named)
