"""Objects: the concurrent versions of one key under one clock, packed (paper 4.4; _ext/object.h has the layout).

The store passes the packed bytes from socket to disk and works on them through the C functions of siblings.pxd. The class
`Siblings` is the same thing for Python: an immutable value around those bytes.
"""

from typing import NamedTuple

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from dynamo_fast.core.bytes cimport load_u64, store_u32
from dynamo_fast.core.vector_clock cimport CLOCK_ENTRY_BYTES, VectorClock, clock_from_entries, pack_dot

cdef extern from "object.h" nogil:
    int c_object_check "object_check"(const uint8_t *packed, size_t n)
    const char *c_object_error "object_error"(int code)
    uint64_t c_object_counter "object_counter"(const uint8_t *packed, size_t n, const uint8_t *node, uint64_t epoch)
    int c_object_covers "object_covers"(const uint8_t *packed, size_t n, const uint8_t *dot)
    uint64_t c_object_reach "object_reach"(const uint8_t *packed, size_t n, const uint8_t *node, uint64_t epoch)
    const uint8_t *c_object_cloud "object_cloud"(const uint8_t *packed, size_t n)
    int c_object_has_request "object_has_request"(const uint8_t *packed, size_t n, const uint8_t *request_id)
    int c_object_next "object_next"(const uint8_t *packed, size_t n, size_t *offset, SiblingView *view)

cdef extern from "siblings.h" nogil:
    int c_object_merge "object_merge"(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n, uint8_t *out,
                                      size_t out_max, size_t *out_n)

cdef extern from "put.h" nogil:
    size_t c_object_put_bound "object_put_bound"(const PutArguments *arguments)
    int c_object_put "object_put"(const PutArguments *arguments, uint8_t *out, size_t out_max, size_t *out_n)
    uint64_t c_epoch_choose "epoch_choose"(const uint8_t *local, size_t local_n, uint64_t mark_nonce, uint64_t mark_epoch,
                                           uint64_t process_nonce, const uint8_t *context, uint32_t context_count,
                                           const uint8_t *dot, const uint8_t *node, uint64_t fresh_epoch, int *alarm)
    int c_epoch_survives_merge "epoch_survives_merge"(const uint8_t *local, size_t local_n, const uint8_t *incoming,
                                                      size_t incoming_n, const uint8_t *node, uint64_t mark_epoch)


cdef extern from "settle.h" nogil:
    int c_object_settle "object_settle"(const uint8_t *packed, size_t n, uint32_t entries_max, uint64_t before_ms, uint8_t *out,
                                        size_t *out_n)


cdef int object_settle(const uint8_t *packed, size_t n, uint32_t entries_max, uint64_t before_ms, uint8_t *out, size_t *out_n) noexcept nogil:
    return c_object_settle(packed, n, entries_max, before_ms, out, out_n)


cdef int object_check(const uint8_t *packed, size_t n) noexcept nogil:
    return c_object_check(packed, n)


cdef const char *object_error(int code) noexcept nogil:
    return c_object_error(code)


cdef int object_merge(const uint8_t *a, size_t a_n, const uint8_t *b, size_t b_n, uint8_t *out, size_t out_max,
                      size_t *out_n) noexcept nogil:
    return c_object_merge(a, a_n, b, b_n, out, out_max, out_n)


cdef size_t object_put_bound(const PutArguments *arguments) noexcept nogil:
    return c_object_put_bound(arguments)


cdef int object_put(const PutArguments *arguments, uint8_t *out, size_t out_max, size_t *out_n) noexcept nogil:
    return c_object_put(arguments, out, out_max, out_n)


cdef uint64_t object_counter(const uint8_t *packed, size_t n, const uint8_t *node, uint64_t epoch) noexcept nogil:
    return c_object_counter(packed, n, node, epoch)


cdef bint object_covers(const uint8_t *packed, size_t n, const uint8_t *dot) noexcept nogil:
    return c_object_covers(packed, n, dot)


cdef uint64_t object_reach(const uint8_t *packed, size_t n, const uint8_t *node, uint64_t epoch) noexcept nogil:
    return c_object_reach(packed, n, node, epoch)


cdef int object_has_request(const uint8_t *packed, size_t n, const uint8_t *request_id) noexcept nogil:
    return c_object_has_request(packed, n, request_id)


cdef int object_next(const uint8_t *packed, size_t n, size_t *offset, SiblingView *view) noexcept nogil:
    return c_object_next(packed, n, offset, view)


cdef uint64_t epoch_choose(const uint8_t *local, size_t local_n, uint64_t mark_nonce, uint64_t mark_epoch,
                           uint64_t process_nonce, const uint8_t *context, uint32_t context_count, const uint8_t *dot,
                           const uint8_t *node, uint64_t fresh_epoch, int *alarm) noexcept nogil:
    return c_epoch_choose(local, local_n, mark_nonce, mark_epoch, process_nonce, context, context_count, dot, node,
                          fresh_epoch, alarm)


cdef int epoch_survives_merge(const uint8_t *local, size_t local_n, const uint8_t *incoming, size_t incoming_n,
                              const uint8_t *node, uint64_t mark_epoch) noexcept nogil:
    return c_epoch_survives_merge(local, local_n, incoming, incoming_n, node, mark_epoch)


class Dot(NamedTuple):
    """The one event that made a sibling."""

    node: bytes
    epoch: int
    counter: int


class Sibling(NamedTuple):
    """One of the concurrent versions. A tombstone is a delete; its value is empty."""

    value: bytes
    tombstone: bool
    dot: Dot
    timestamp_ms: int
    request_id: bytes
    last_write_wins: bool


class ObjectError(ValueError):
    """Bytes that are not a valid object in canonical form."""


class PutRefused(Exception):
    """A put that would leave too many siblings, too large a dot cloud or a full clock; nothing was changed."""


NO_REQUEST = bytes(16)
cdef bytes NEVER_WRITTEN = b"\x01\0\0\0\0\0\0\0"
cdef VectorClock NOTHING_SEEN = VectorClock()


@cython.final
@cython.freelist(64)
cdef class Siblings:
    """The versions of one key that are concurrent, as an immutable value; ``Siblings()`` is a key never written.

    ``packed`` are the bytes that replicas exchange and store: equal contents are equal bytes.
    """

    cdef readonly bytes packed

    def __cinit__(self):
        self.packed = NEVER_WRITTEN

    def __init__(self, bytes packed not None=NEVER_WRITTEN):
        """Wraps bytes from anywhere; `ObjectError` when they are not a valid object in canonical form."""
        cdef int code = c_object_check(<const uint8_t *>PyBytes_AS_STRING(packed), <size_t>PyBytes_GET_SIZE(packed))
        if code < 0:
            raise ObjectError(c_object_error(code).decode())
        self.packed = packed

    @property
    def clock(self):
        """The clock that covers everything these versions have seen."""
        cdef const uint8_t *packed = start(self)
        return clock_from_entries(object_clock(packed), object_clock_count(packed))

    @property
    def cloud(self):
        """The dots that these versions have superseded though the clock does not cover them, as a tuple of `Dot`, sorted."""
        cdef const uint8_t *dot = c_object_cloud(start(self), length(self))
        cdef uint32_t i
        result = []
        for i in range(object_cloud_count(start(self))):
            result.append(Dot((<const char *>dot)[:16], load_u64(dot + 16), load_u64(dot + 24)))
            dot += CLOUD_DOT_BYTES
        return tuple(result)

    @property
    def siblings(self):
        """All versions as a tuple of `Sibling`, sorted by dot, tombstones included."""
        cdef SiblingView view
        cdef size_t offset = 0
        result = []
        while c_object_next(start(self), length(self), &offset, &view):
            result.append(Sibling(
                (<const char *>view.value)[:view.value_n],
                (view.flags & SIBLING_TOMBSTONE) != 0,
                Dot((<const char *>view.node)[:16], view.epoch, view.counter),
                view.timestamp_ms,
                (<const char *>view.request_id)[:16],
                (view.flags & SIBLING_LAST_WRITE_WINS) != 0,
            ))
        return tuple(result)

    @property
    def values(self):
        """The values of all versions that are not deletes, as a tuple of bytes, sorted by dot."""
        cdef SiblingView view
        cdef size_t offset = 0
        result = []
        while c_object_next(start(self), length(self), &offset, &view):
            if not view.flags & SIBLING_TOMBSTONE:
                result.append((<const char *>view.value)[:view.value_n])
        return tuple(result)

    def outline(self):
        """The same versions with empty values. Merging looks at clock, dots and cloud only, so outlines tell what a merge would change."""
        cdef const uint8_t *packed = start(self)
        cdef const uint8_t *from_
        cdef SiblingView view
        cdef size_t offset = 0
        cdef size_t head = OBJECT_HEADER_BYTES + CLOCK_ENTRY_BYTES * object_clock_count(packed)
        cdef size_t cloud = CLOUD_DOT_BYTES * object_cloud_count(packed)
        cdef bytes made = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(head + SIBLING_HEADER_BYTES * object_sibling_count(packed) + cloud))
        cdef uint8_t *to = <uint8_t *>PyBytes_AS_STRING(made)
        memcpy(to, packed, head)
        to += head
        while c_object_next(packed, length(self), &offset, &view):
            from_ = view.value - SIBLING_HEADER_BYTES
            memcpy(to, from_, SIBLING_HEADER_BYTES)
            store_u32(to, 0)
            to += SIBLING_HEADER_BYTES
        memcpy(to, c_object_cloud(packed, length(self)), cloud)
        return wrap(made)

    def merge(self, Siblings other not None):
        """The join of two replicas' versions: what either holds and the other has not seen superseded.

        Associative, commutative and idempotent on all states that puts and merges can reach.
        """
        cdef uint8_t small[SMALL_BYTES]
        cdef uint8_t *to = small
        cdef size_t room = length(self) + length(other), n = 0
        cdef bytes large = None
        if room > SMALL_BYTES:
            large = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>room)
            to = <uint8_t *>PyBytes_AS_STRING(large)
        cdef int code = c_object_merge(start(self), length(self), start(other), length(other), to, room, &n)
        if code == 1 or code == 3:
            return self
        if code == 2:
            return other
        if code < 0:
            raise OverflowError(c_object_error(code).decode())
        return wrap(PyBytes_FromStringAndSize(<const char *>to, <Py_ssize_t>n))

    @staticmethod
    def reconcile(versions):
        """The join of the versions that several replicas returned (the paper's syntactic reconciliation)."""
        result = Siblings()
        for version in versions:
            result = result.merge(version)
        return result

    def put(self, bytes value not None=b"", *, bytes node not None, uint64_t epoch=0, uint64_t timestamp_ms=0,
            VectorClock context=None, dot=None, bytes request_id not None=NO_REQUEST, bint tombstone=False,
            bint overwrite=False, bint last_write_wins=False):
        """These versions after a put at the coordinator (node, epoch), which holds them.

        The siblings that ``context`` covers go, and the one that the event ``dot`` (node, epoch, counter, timestamp_ms) made,
        now or when it arrives; with ``overwrite`` or ``last_write_wins`` all go. One with a new dot comes; its timestamp is
        never behind what the put has seen. ``node`` and ``request_id`` are 16 bytes; a ``tombstone`` has no value; a value is
        at most 2**32 - 1 bytes. `PutRefused` when the clock would pass 1024 entries, there would be more than 1024 siblings,
        or a dot would come into a cloud of 1024; and when the cloud shows a dot of (node, epoch), which needs a new epoch.
        """
        if PyBytes_GET_SIZE(node) != 16 or PyBytes_GET_SIZE(request_id) != 16:
            raise ValueError("node and request ids are 16 bytes")
        if tombstone and value:
            raise ValueError("a tombstone has no value")
        if <size_t>PyBytes_GET_SIZE(value) > 0xFFFFFFFF:
            raise ValueError("a value has at most 2**32 - 1 bytes")
        cdef VectorClock seen = NOTHING_SEEN if context is None else context
        cdef uint8_t packed_dot[CLOCK_ENTRY_BYTES]
        cdef PutArguments arguments = PutArguments(
            local=start(self), local_n=length(self), context=seen.entries, context_count=seen.count,
            dot=pack_dot(dot, packed_dot), overwrite=overwrite,
            node=<const uint8_t *>PyBytes_AS_STRING(node), epoch=epoch, timestamp_ms=timestamp_ms,
            request_id=<const uint8_t *>PyBytes_AS_STRING(request_id), tombstone=tombstone, last_write_wins=last_write_wins,
            value=<const uint8_t *>PyBytes_AS_STRING(value), value_n=<size_t>PyBytes_GET_SIZE(value))
        cdef size_t room = c_object_put_bound(&arguments), n = 0
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>room)
        cdef int code = c_object_put(&arguments, <uint8_t *>PyBytes_AS_STRING(out), room, &n)
        if code < 0:
            raise PutRefused(c_object_error(code).decode())
        return wrap(out[:n])

    def settle(self, uint32_t entries_max, uint64_t before_ms):
        """These versions under a clock without its oldest events: those before ``before_ms`` go until ``entries_max`` are left.

        None goes whose actor made one of these versions. Safe only when no replica, hint or message holds anything older.
        """
        cdef size_t n = 0
        cdef bytes out = PyBytes_FromStringAndSize(NULL, length(self))
        if c_object_settle(start(self), length(self), entries_max, before_ms, <uint8_t *>PyBytes_AS_STRING(out), &n) == 1:
            return self
        return wrap(out[:n])

    def epoch_choose(self, *, bytes node not None, uint64_t mark_nonce, uint64_t mark_epoch, uint64_t process_nonce,
                     uint64_t fresh_epoch, VectorClock context=None, dot=None):
        """Which epoch the next put's dot gets here, and whether to raise an alarm: (epoch, alarm).

        ``mark_epoch`` goes on only if this process stored this version in a put of its own (``mark_nonce`` is its nonce),
        the clock shows (node, mark_epoch), and neither ``context`` nor ``dot`` nor the cloud shows a higher counter for it, which
        would be alarming. Else ``fresh_epoch``, to be drawn at random for this very call.
        """
        if PyBytes_GET_SIZE(node) != 16:
            raise ValueError("a node id is 16 bytes")
        cdef VectorClock seen = NOTHING_SEEN if context is None else context
        cdef uint8_t packed_dot[CLOCK_ENTRY_BYTES]
        cdef int alarm = 0
        cdef uint64_t epoch = c_epoch_choose(start(self), length(self), mark_nonce, mark_epoch, process_nonce, seen.entries,
                                             seen.count, pack_dot(dot, packed_dot), <const uint8_t *>PyBytes_AS_STRING(node),
                                             fresh_epoch, &alarm)
        return epoch, alarm != 0

    def epoch_survives_merge(self, Siblings incoming not None, *, bytes node not None, uint64_t mark_epoch):
        """Whether the mark beside this record may stay when ``incoming`` is merged into it.

        False when incoming shows a higher counter for (node, mark_epoch): a dot was issued that this node does not know of.
        """
        if PyBytes_GET_SIZE(node) != 16:
            raise ValueError("a node id is 16 bytes")
        return c_epoch_survives_merge(start(self), length(self), start(incoming), length(incoming),
                                      <const uint8_t *>PyBytes_AS_STRING(node), mark_epoch) != 0

    def covers(self, dot not None):
        """Whether the event ``dot`` (node, epoch, counter) is among those that clock and cloud cover."""
        cdef uint8_t packed_dot[CLOCK_ENTRY_BYTES]
        return c_object_covers(start(self), length(self), pack_dot((*dot, 0), packed_dot)) != 0

    def reach(self, bytes node not None, uint64_t epoch):
        """Up to which counter clock and cloud together cover all events of the actor."""
        if PyBytes_GET_SIZE(node) != 16:
            raise ValueError("a node id is 16 bytes")
        return c_object_reach(start(self), length(self), <const uint8_t *>PyBytes_AS_STRING(node), epoch)

    def has_request(self, bytes request_id not None):
        """Whether one of these versions was made by this request (16 bytes; all zero is none)."""
        if PyBytes_GET_SIZE(request_id) != 16:
            raise ValueError("a request id is 16 bytes")
        return c_object_has_request(start(self), length(self), <const uint8_t *>PyBytes_AS_STRING(request_id)) != 0

    def __len__(self):
        return object_sibling_count(start(self))

    def __bytes__(self):
        return self.packed

    def __eq__(self, other):
        return self.packed == (<Siblings>other).packed if isinstance(other, Siblings) else NotImplemented

    def __hash__(self):
        return hash(self.packed)

    def __reduce__(self):
        return Siblings, (self.packed,)

    def __repr__(self):
        beyond = f" and {object_cloud_count(start(self))} beyond" if object_cloud_count(start(self)) else ""
        return f"<Siblings {len(self)} under {self.clock!r}{beyond}>"


cdef enum:
    CLOUD_DOT_BYTES = 32  # node[16], epoch, counter
    SMALL_BYTES = 2048  # a merge of this much is built on the stack


cdef inline const uint8_t *start(Siblings siblings) noexcept:
    return <const uint8_t *>PyBytes_AS_STRING(siblings.packed)


cdef inline size_t length(Siblings siblings) noexcept:
    return <size_t>PyBytes_GET_SIZE(siblings.packed)


cdef Siblings wrap(bytes packed):
    # Bytes that C has just written need no second look.
    cdef Siblings result = Siblings.__new__(Siblings)
    result.packed = packed
    return result
