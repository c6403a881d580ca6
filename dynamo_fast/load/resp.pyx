"""RESP2, as far as a load needs it: SET, GET, and WAIT after each SET when replicas are to confirm it.

Source: the protocol's specification at redis.io (RESP2). Replies come in order; a SET with its WAIT counts as one
request, answered when the WAIT is.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy

from dynamo_fast.load.keys cimport KEY_NAME_BYTES
from dynamo_fast.load.protocol cimport (
    PUT, REPLY_ERROR, REPLY_NOT_FOUND, REPLY_OK, REPLY_TOO_FEW_REPLICAS, Operation, Protocol, Reply,
)

cdef enum:
    OVERHEAD_BYTES_MAX = 160     # all of SET and WAIT but name and value


cdef inline uint8_t *put_bytes(uint8_t *out, const char *text, size_t n) noexcept nogil:
    memcpy(out, text, n)
    return out + n


cdef uint8_t *put_number(uint8_t *out, uint64_t number) noexcept nogil:
    """Decimal digits and the end of the line."""
    cdef uint8_t digits[20]
    cdef int n = 0
    while True:
        digits[n] = <uint8_t>(48 + number % 10)
        n += 1
        number //= 10
        if number == 0:
            break
    while n:
        n -= 1
        out[0] = digits[n]
        out += 1
    return put_bytes(out, b"\r\n", 2)


cdef uint8_t *put_bulk(uint8_t *out, const uint8_t *data, size_t n) noexcept nogil:
    out = put_number(put_bytes(out, b"$", 1), n)
    memcpy(out, data, n)
    return put_bytes(out + n, b"\r\n", 2)


cdef int decimal_digits(uint64_t number) noexcept nogil:
    cdef int n = 1
    while number >= 10:
        number //= 10
        n += 1
    return n


cdef ssize_t line_bytes(const uint8_t *data, size_t n) noexcept nogil:
    """The length of the first line with its end; 0 when it is incomplete, -1 when it is none."""
    cdef const uint8_t *end = <const uint8_t *>memchr(data, 10, n)
    if end == NULL:
        return 0 if n < 4096 else -1
    return end + 1 - data if end > data and (end - 1)[0] == 13 else -1


cdef int read_number(const uint8_t *data, size_t line, int64_t *number) noexcept nogil:
    """The number of a line such as :12 or $-1; 0, or -1 when it is none."""
    cdef size_t at = 1
    cdef bint negative = line > 3 and data[1] == 45
    if negative:
        at = 2
    if at + 2 >= line or line > 20:
        return -1
    number[0] = 0
    while at + 2 < line:
        if not 48 <= data[at] <= 57:
            return -1
        number[0] = number[0] * 10 + data[at] - 48
        at += 1
    if negative:
        number[0] = -number[0]
    return 0


cdef void keep_error(const uint8_t *data, size_t line, Reply *reply) noexcept nogil:
    reply.status = REPLY_ERROR
    reply.text = data + 1
    reply.text_bytes = line - 3


@cython.final
cdef class RespProtocol(Protocol):
    """SET and GET; with `wait_replicas` above 0 each SET is followed by `WAIT wait_replicas wait_timeout_ms`."""

    def __cinit__(self, uint32_t wait_replicas=0, uint32_t wait_timeout_ms=1000):
        self.in_order = True
        self.wait_replicas = wait_replicas
        self.wait_timeout_ms = wait_timeout_ms

    cdef size_t request_bytes_max(self, size_t value_bytes, size_t context_bytes) noexcept nogil:
        return OVERHEAD_BYTES_MAX + KEY_NAME_BYTES + value_bytes

    cdef size_t write_put(self, uint8_t *out, uint64_t id, const uint8_t *name, const uint8_t *value,
                          size_t value_bytes, const uint8_t *context, size_t context_bytes) noexcept nogil:
        cdef uint8_t *at = put_bytes(out, b"*3\r\n$3\r\nSET\r\n", 13)
        at = put_bulk(put_bulk(at, name, KEY_NAME_BYTES), value, value_bytes)
        if self.wait_replicas:
            at = put_bytes(at, b"*3\r\n$4\r\nWAIT\r\n$", 15)
            at = put_number(at, decimal_digits(self.wait_replicas))
            at = put_number(at, self.wait_replicas)
            at = put_number(put_bytes(at, b"$", 1), decimal_digits(self.wait_timeout_ms))
            at = put_number(at, self.wait_timeout_ms)
        return at - out

    cdef size_t write_get(self, uint8_t *out, uint64_t id, const uint8_t *name) noexcept nogil:
        return put_bulk(put_bytes(out, b"*2\r\n$3\r\nGET\r\n", 13), name, KEY_NAME_BYTES) - out

    cdef ssize_t parse(self, const uint8_t *data, size_t n, Operation oldest, Reply *reply) noexcept nogil:
        if oldest == PUT:
            return self._parse_set(data, n, reply)
        return self._parse_get(data, n, reply)

    cdef ssize_t _parse_set(self, const uint8_t *data, size_t n, Reply *reply) noexcept nogil:
        cdef ssize_t line = line_bytes(data, n), wait = 0
        cdef int64_t replicas = 0
        if line <= 0:
            return line
        if data[0] == 45:
            keep_error(data, line, reply)
        elif data[0] == 43:
            reply.status = REPLY_OK
        else:
            return -1
        if not self.wait_replicas:
            return line
        wait = line_bytes(data + line, n - line)
        if wait <= 0:
            return wait
        if data[line] == 45:
            keep_error(data + line, wait, reply)
            reply.unknown = 1
        elif data[line] != 58 or read_number(data + line, wait, &replicas) < 0:
            return -1
        elif replicas < self.wait_replicas and reply.status == REPLY_OK:
            reply.status = REPLY_TOO_FEW_REPLICAS
            reply.unknown = 1
        return line + wait

    cdef ssize_t _parse_get(self, const uint8_t *data, size_t n, Reply *reply) noexcept nogil:
        cdef ssize_t line = line_bytes(data, n)
        cdef int64_t length = 0
        if line <= 0:
            return line
        if data[0] == 45:
            keep_error(data, line, reply)
            return line
        if data[0] != 36 or read_number(data, line, &length) < 0 or length < -1:
            return -1
        if length < 0:
            reply.status = REPLY_NOT_FOUND
            return line
        if n < <size_t>(line + length + 2):
            return 0
        reply.status = REPLY_OK
        reply.siblings = 1
        reply.value = data + line
        reply.value_bytes = length
        return line + length + 2
