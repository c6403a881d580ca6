"""splitmix64 (Steele, Lea and Flood, 2014): a seeded generator of one word, good enough to choose keys and bytes."""

from libc.stdint cimport uint32_t, uint64_t


cdef inline uint64_t random_u64(uint64_t *state) noexcept nogil:
    cdef uint64_t z
    state[0] += <uint64_t>0x9E3779B97F4A7C15
    z = state[0]
    z = (z ^ (z >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * <uint64_t>0x94D049BB133111EB
    return z ^ (z >> 31)


cdef inline uint32_t random_below(uint64_t *state, uint32_t bound) noexcept nogil:
    """Uniform in 0..bound-1, with a bias below bound / 2**32."""
    return <uint32_t>(((random_u64(state) >> 32) * bound) >> 32)
