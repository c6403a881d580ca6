"""Contexts: the clock that a get hands out and a put hands back, sealed for one cluster and one key (_ext/mac.h).

The context of one key used on another would silently cover unseen writes, so whatever was altered, or was sealed for
another cluster, key or secret, is refused as a whole.

Of an object that superseded versions before they arrived (_ext/cloud.h) a context has the clock and not the cloud. That is
enough: who writes with it has seen the version w that superseded the dot d, which the clock covers, not d itself. Where d still
stands his version comes to stand beside it, until an object meets it that has the cloud; and every copy of w has it, or had
it merged into what replaced w, so it lasts as w itself does, and two quorums that overlap show it. It cannot be lost by w's
being superseded: a merge keeps the clouds of both sides until the clock covers d, and then d is gone with them. The time of d
does go with the clock, as that of w, which is not before it (put.h).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from dynamo_fast.core.bytes cimport load_u64
from dynamo_fast.core.vector_clock cimport CLOCK_ENTRY_BYTES, VectorClock, clock_from_entries, pack_dot

cdef extern from "mac.h" nogil:
    uint64_t mac_siphash(const uint8_t *key, const uint8_t *data, size_t n)
    size_t c_context_bytes "context_bytes"(uint32_t count, int with_dot)
    void c_context_seal "context_seal"(const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position,
                                       const uint8_t *entries, uint32_t count, const uint8_t *dot, uint8_t *out)
    int c_context_open "context_open"(const uint8_t *mac_key, const uint8_t *cluster_id, const uint8_t *position,
                                      const uint8_t *context, size_t n, const uint8_t **entries, uint32_t *count,
                                      const uint8_t **dot)


cdef uint64_t siphash(const uint8_t *key16, const uint8_t *data, size_t n) noexcept nogil:
    return mac_siphash(key16, data, n)


cdef size_t context_bytes(uint32_t count, bint with_dot) noexcept nogil:
    return c_context_bytes(count, with_dot)


cdef void context_seal(const uint8_t *mac_key16, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *entries,
                       uint32_t count, const uint8_t *dot, uint8_t *out) noexcept nogil:
    c_context_seal(mac_key16, cluster_id, position, entries, count, dot, out)


cdef int context_open(const uint8_t *mac_key16, const uint8_t *cluster_id, const uint8_t *position, const uint8_t *context,
                      size_t n, const uint8_t **entries, uint32_t *count, const uint8_t **dot) noexcept nogil:
    return c_context_open(mac_key16, cluster_id, position, context, n, entries, count, dot)


class BadContext(ValueError):
    """A context that was altered, or sealed for another cluster, key or secret."""


def seal_context(mac_key, cluster_id, position, VectorClock clock not None, dot=None):
    """The context of `clock` for the key at `position` (its 16 bytes of MD5); ``mac_key`` and ``cluster_id`` are 16 bytes.

    ``dot`` is one event more that was seen, without those before it: (node, epoch, counter, timestamp_ms), or None.
    """
    cdef bytes context = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>c_context_bytes(clock.count, dot is not None))
    cdef uint8_t packed[CLOCK_ENTRY_BYTES]
    if clock.count + (dot is not None) > CONTEXT_ENTRIES_MAX:
        raise ValueError(f"a context holds a clock of at most {CONTEXT_ENTRIES_MAX} entries, one less with a dot")
    c_context_seal(sixteen_bytes(mac_key), sixteen_bytes(cluster_id), sixteen_bytes(position), clock.entries, clock.count,
                   pack_dot(dot, packed), <uint8_t *>PyBytes_AS_STRING(context))
    return context


def open_context(mac_key, cluster_id, position, bytes context not None):
    """The (clock, dot or None) inside a context sealed by `seal_context` with the same three; `BadContext` for anything else."""
    cdef const uint8_t *entries
    cdef const uint8_t *dot
    cdef uint32_t count
    if c_context_open(sixteen_bytes(mac_key), sixteen_bytes(cluster_id), sixteen_bytes(position),
                      <const uint8_t *>PyBytes_AS_STRING(context), <size_t>PyBytes_GET_SIZE(context), &entries, &count, &dot) < 0:
        raise BadContext("bad context: altered, or given by another key or cluster; read the key again")
    if dot == NULL:
        return clock_from_entries(entries, count), None
    seen = (<bytes>(<const char *>dot)[:16], load_u64(dot + 16), load_u64(dot + 24), load_u64(dot + 32))
    return clock_from_entries(entries, count), seen


def _siphash(key, const uint8_t[::1] data not None):
    """SipHash-2-4 of ``data`` under a key of 16 bytes, a 64-bit number (Aumasson and Bernstein, 2012)."""
    return mac_siphash(sixteen_bytes(key), &data[0] if data.shape[0] else NULL, <size_t>data.shape[0])


# Inside Cython the name belongs to the C function; Python sees this one under it.
_siphash.__name__ = _siphash.__qualname__ = "siphash"
globals()["siphash"] = _siphash


cdef const uint8_t *sixteen_bytes(value) except NULL:
    # Into the object itself, which the caller keeps alive.
    if not isinstance(value, bytes) or PyBytes_GET_SIZE(value) != 16:
        raise ValueError("MAC keys, cluster ids and positions are 16 bytes")
    return <const uint8_t *>PyBytes_AS_STRING(value)
