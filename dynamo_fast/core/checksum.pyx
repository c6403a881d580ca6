"""CRC-32C, the checksum of frames on the wire and of records at rest (_ext/checksum.h; RFC 3720, appendix B.4)."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "checksum.h" nogil:
    uint32_t checksum_crc32c(uint32_t crc, const uint8_t *data, size_t n)
    uint32_t checksum_crc32c_portable(uint32_t crc, const uint8_t *data, size_t n)
    int checksum_has_instruction()


cdef uint32_t crc32c(uint32_t crc, const uint8_t *data, size_t n) noexcept nogil:
    return checksum_crc32c(crc, data, n)


def _crc32c(const uint8_t[::1] data not None, uint32_t crc=0):
    """The CRC-32C of ``data``; ``crc`` is the checksum of the bytes before it, so that chunks may be fed in turn."""
    if data.shape[0] == 0:
        return crc
    return checksum_crc32c(crc, &data[0], <size_t>data.shape[0])


def crc32c_portable(const uint8_t[::1] data not None, uint32_t crc=0):
    """The same number by table, as on a processor without the instruction; for comparison in tests."""
    if data.shape[0] == 0:
        return crc
    return checksum_crc32c_portable(crc, &data[0], <size_t>data.shape[0])


def has_instruction():
    """Whether this processor computes CRC-32C itself."""
    return checksum_has_instruction() != 0


# Inside Cython the name belongs to the C function; Python sees this one under it.
_crc32c.__name__ = _crc32c.__qualname__ = "crc32c"
globals()["crc32c"] = _crc32c
