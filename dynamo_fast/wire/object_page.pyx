"""Pages of whole objects: what a node tells of a partition in one CONTROL reply (docs/protocol.md, `range`).

An object is announced by u8 bytes of the bucket's name, u16 bytes of the key and u32 bytes of the object; then the three follow. Objects
stand back to back, in ascending order of their store keys, which are not told: the receiver computes them, since it would have to check
them anyway. A page is one value of bytes for MessagePack, so that neither end makes Python objects of what it holds.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from dynamo_fast.core.bytes cimport load_u16, load_u32, store_u16, store_u32
from dynamo_fast.wire.buffer cimport Buffer

cdef enum:
    HEAD = 7                    # bytes before an object's names
    BUCKET_BYTES_MAX = 64
    KEY_BYTES_MAX = 4096

OBJECTS_MAX = PAGE_OBJECTS_MAX


cdef int next_object(const uint8_t **at, const uint8_t *end, PageObject *found) noexcept nogil:
    cdef const uint8_t *head = at[0]
    if head == end:
        return 0
    if end - head < HEAD:
        return -1
    found.bucket_bytes = head[0]
    found.key_bytes = load_u16(head + 1)
    found.object_bytes = load_u32(head + 3)
    if found.bucket_bytes > BUCKET_BYTES_MAX or not 1 <= found.key_bytes <= KEY_BYTES_MAX:
        return -1
    if <size_t>(end - head - HEAD) < <size_t>found.bucket_bytes + found.key_bytes + found.object_bytes:
        return -1
    found.bucket = head + HEAD
    found.key = found.bucket + found.bucket_bytes
    found.object = found.key + found.key_bytes
    at[0] = found.object + found.object_bytes
    return 1


@cython.final
cdef class ObjectPageWriter:
    """A page in the making. `bytes()` is the page."""

    def __cinit__(self):
        self.objects = Buffer(0xFFFFFFFF)

    def __bytes__(self) -> bytes:
        return PyBytes_FromStringAndSize(<const char *>self.objects.data + self.objects.head, self.objects.size())

    cdef int add(self, const uint8_t *bucket, uint8_t bucket_bytes, const uint8_t *key, uint16_t key_bytes,
                 const uint8_t *object, uint32_t object_bytes) except -1:
        cdef uint8_t head[HEAD]
        head[0] = bucket_bytes
        store_u16(head + 1, key_bytes)
        store_u32(head + 3, object_bytes)
        self.objects.append(head, HEAD)
        self.objects.append(bucket, bucket_bytes)
        self.objects.append(key, key_bytes)
        self.objects.append(object, object_bytes)
        self.count += 1
        self.size += <Py_ssize_t>bucket_bytes + key_bytes + object_bytes
        return 0

    def push(self, bytes bucket not None, bytes key not None, bytes packed not None) -> None:
        """`add` for Python; ValueError for names of a size that none has."""
        if PyBytes_GET_SIZE(bucket) > BUCKET_BYTES_MAX or not 1 <= PyBytes_GET_SIZE(key) <= KEY_BYTES_MAX or PyBytes_GET_SIZE(packed) >> 32:
            raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes and a bucket's name at most {BUCKET_BYTES_MAX}")
        self.add(<const uint8_t *>PyBytes_AS_STRING(bucket), <uint8_t>len(bucket), <const uint8_t *>PyBytes_AS_STRING(key),
                 <uint16_t>len(key), <const uint8_t *>PyBytes_AS_STRING(packed), <uint32_t>len(packed))


def objects_of(bytes page not None) -> list[tuple[bytes, bytes, bytes]]:
    """(bucket, key, object) of all objects of a page; ValueError when it cannot be taken apart."""
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(page)
    cdef const uint8_t *end = at + PyBytes_GET_SIZE(page)
    cdef PageObject one
    cdef int more = next_object(&at, end, &one)
    cdef list found = []
    while more == 1:
        found.append((one.bucket[:one.bucket_bytes], one.key[:one.key_bytes], one.object[:one.object_bytes]))
        more = next_object(&at, end, &one)
    if more < 0:
        raise ValueError("a page of objects that is cut short, or announces what cannot be")
    return found
