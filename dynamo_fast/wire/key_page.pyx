"""Pages of keys: what a node tells of its keys in one CONTROL reply (docs/protocol.md, `keys_page`), and the merge of several nodes' pages.

An entry is the 24 bytes of the store key, u16 bytes of the key, the key. Entries stand back to back, each store key greater than the one
before: the order in which nodes keep their records, so that a page is written without sorting and pages are merged by looking at their
heads. A node that lists and a client that merges handle hundreds of thousands of keys a second here, one Python object for each key shown.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from dynamo_fast.core.bytes cimport load_u16, store_u16
from dynamo_fast.wire.buffer cimport Buffer

cdef enum:
    STORE_KEY = 24
    HEAD = STORE_KEY + 2        # bytes of an entry before its key
    KEY_BYTES_MAX = 4096

STORE_KEY_BYTES = STORE_KEY


@cython.final
cdef class KeyPageWriter:
    """A page in the making. `len()` is its bytes so far, `bytes()` the page."""

    def __cinit__(self):
        self.entries = Buffer(0xFFFFFFFF)

    def __len__(self) -> int:
        return self.entries.size()

    def __bytes__(self) -> bytes:
        return PyBytes_FromStringAndSize(<const char *>self.entries.data + self.entries.head, self.entries.size())

    cdef int add(self, const uint8_t *store_key, const uint8_t *key, uint16_t key_bytes) except -1:
        cdef uint8_t n[2]
        store_u16(n, key_bytes)
        self.entries.append(store_key, STORE_KEY)
        self.entries.append(n, 2)
        self.entries.append(key, key_bytes)
        self.count += 1
        return 0

    def push(self, bytes store_key not None, bytes key not None) -> None:
        """`add` for Python; ValueError for a store key or a key of a size that none has."""
        if PyBytes_GET_SIZE(store_key) != STORE_KEY or not 1 <= PyBytes_GET_SIZE(key) <= KEY_BYTES_MAX:
            raise ValueError(f"a store key has {STORE_KEY} bytes and a key 1 to {KEY_BYTES_MAX}, not {len(store_key)} and {len(key)}")
        self.add(<const uint8_t *>PyBytes_AS_STRING(store_key), <const uint8_t *>PyBytes_AS_STRING(key), <uint16_t>len(key))


@cython.final
cdef class KeyPage:
    """`KeyPage(entries, after, until)`: a page as it came, and how much of it has been taken.

    Its store keys lie behind `after` (24 bytes, or none: from the start) and not behind `until` (24 bytes). ValueError, saying what
    is wrong, for entries that do not, are out of order or cut short: a node's word is not believed here.
    """

    cdef bytes entries
    cdef const uint8_t *at      # the next entry
    cdef const uint8_t *end

    def __cinit__(self, bytes entries not None, bytes after not None, bytes until not None):
        if PyBytes_GET_SIZE(after) not in (0, STORE_KEY) or PyBytes_GET_SIZE(until) != STORE_KEY:
            raise ValueError(f"a page lies between store keys of {STORE_KEY} bytes")
        self.entries = entries
        self.at = <const uint8_t *>PyBytes_AS_STRING(entries)
        self.end = self.at + PyBytes_GET_SIZE(entries)
        cdef const uint8_t *at = self.at
        cdef const uint8_t *before = <const uint8_t *>PyBytes_AS_STRING(after) if PyBytes_GET_SIZE(after) else NULL
        cdef const uint8_t *last = <const uint8_t *>PyBytes_AS_STRING(until)
        cdef uint16_t key_bytes
        while at != self.end:
            if self.end - at < HEAD:
                raise ValueError("the last entry of a page is cut short")
            key_bytes = load_u16(at + STORE_KEY)
            if not 1 <= key_bytes <= KEY_BYTES_MAX or self.end - at - HEAD < key_bytes:
                raise ValueError(f"an entry of a page announces a key of {key_bytes} bytes")
            if (before != NULL and memcmp(at, before, STORE_KEY) <= 0) or memcmp(at, last, STORE_KEY) > 0:
                raise ValueError("an entry of a page is out of order")
            before = at
            at += HEAD + key_bytes

    @property
    def told(self) -> bool:
        """Whether every entry has been taken."""
        return self.at == self.end


def merge_pages(pages, bytes until: bytes | None) -> list[bytes]:
    """Takes from all pages the entries up to and including the store key `until` (None: all) and returns their keys, in order of store key,
    each store key once, as the first of the pages that have it tells it. `until` is empty or has 24 bytes."""
    cdef list open_pages = [page for page in pages if not (<KeyPage?>page).told]
    cdef list keys = []
    cdef Py_ssize_t count = len(open_pages), i, least
    cdef const uint8_t *last = NULL
    cdef const uint8_t *head
    cdef int order
    if until is not None:
        if PyBytes_GET_SIZE(until) == 0:
            return keys
        if PyBytes_GET_SIZE(until) != STORE_KEY:
            raise ValueError(f"a store key has {STORE_KEY} bytes, not {len(until)}")
        last = <const uint8_t *>PyBytes_AS_STRING(until)
    cdef const uint8_t **heads = <const uint8_t **>malloc((count + 1) * sizeof(void *))
    cdef const uint8_t **ends = <const uint8_t **>malloc((count + 1) * sizeof(void *))
    try:
        if heads == NULL or ends == NULL:
            raise MemoryError
        for i in range(count):
            heads[i], ends[i] = (<KeyPage>open_pages[i]).at, (<KeyPage>open_pages[i]).end
        while True:
            least = -1
            for i in range(count):
                if heads[i] != ends[i] and (least < 0 or memcmp(heads[i], heads[least], STORE_KEY) < 0):
                    least = i
            if least < 0 or (last != NULL and memcmp(heads[least], last, STORE_KEY) > 0):
                break
            head = heads[least]
            keys.append(PyBytes_FromStringAndSize(<const char *>head + HEAD, load_u16(head + STORE_KEY)))
            for i in range(count):
                if heads[i] != ends[i] and memcmp(heads[i], head, STORE_KEY) == 0:
                    heads[i] += HEAD + load_u16(heads[i] + STORE_KEY)
        for i in range(count):
            (<KeyPage>open_pages[i]).at = heads[i]
    finally:
        free(heads)
        free(ends)
    return keys
