"""When is a request answered? The counting of replies towards R, W and DW (paper 4.5), as a pure decision.

A copy on the same machine as another protects from nothing that the other does not, so answers count by distinct hosts as
far as the homes of the partition have them: with all homes on distinct hosts this is plain counting, with several workers on
one host they count once until every host has answered that could. So do copies on disk.

Invariants: acked and failed are disjoint; durable is a subset of acked; a request that has been reached stays reached,
because bits are only ever added to acked and durable.
"""

cimport cython


cdef extern from *:
    int popcount "__builtin_popcount"(unsigned int) noexcept nogil


cdef unsigned int host_mask(const Quorum *quorum, unsigned int homes) noexcept nogil:
    cdef unsigned int mask = 0
    cdef int i
    for i in range(quorum.homes):
        if homes & (1u << i):
            mask |= 1u << quorum.host[i]
    return mask


cdef bint on_enough_hosts(const Quorum *quorum, unsigned int homes, int wanted) noexcept nogil:
    # With all homes on distinct hosts, plain counting has said it all.
    return quorum.hosts == quorum.homes or wanted <= 1 or popcount(host_mask(quorum, homes)) >= min(wanted, <int>quorum.hosts)


cdef bint enough(const Quorum *quorum, unsigned int acked, unsigned int durable) noexcept nogil:
    if popcount(acked) < quorum.wanted or popcount(durable) < quorum.wanted_durable:
        return False
    return on_enough_hosts(quorum, acked, quorum.wanted) and on_enough_hosts(quorum, durable, quorum.wanted_durable)


cdef void quorum_begin(Quorum *quorum, const uint16_t *hosts, uint8_t homes, uint8_t wanted, uint8_t wanted_durable) noexcept nogil:
    """Start counting for a partition whose homes sit on `hosts`."""
    quorum.homes = homes
    quorum.wanted = min(wanted, homes)
    quorum.wanted_durable = min(wanted_durable, homes)
    quorum.acked = quorum.durable = quorum.failed = 0
    quorum_group(quorum, hosts)


cdef void quorum_group(Quorum *quorum, const uint16_t *hosts) noexcept nogil:
    """The copies sit on `hosts` now, one number per home: one of them may have a substitute. Cost: homes squared, 3 as a rule.

    Only before the quorum is reached: a copy on another host may ask for one more host than there was before.
    """
    cdef int i, j, groups = 0
    for i in range(quorum.homes):
        quorum.host[i] = groups
        for j in range(i):
            if hosts[j] == hosts[i]:
                quorum.host[i] = quorum.host[j]
                break
        else:
            groups += 1
    quorum.hosts = groups


cdef bint quorum_reached(const Quorum *quorum) noexcept nogil:
    return enough(quorum, quorum.acked, quorum.durable)


cdef bint quorum_possible(const Quorum *quorum) noexcept nogil:
    """Could it still be reached if everyone who has not failed answers, durably?"""
    cdef unsigned int hopeful = ((1u << quorum.homes) - 1) & ~quorum.failed
    return enough(quorum, hopeful, hopeful)


@cython.final
cdef class QuorumCount:
    """The same counting for Python: tests, and code that is not on the hot path.

    QuorumCount(hosts, wanted, wanted_durable=0): `hosts` holds one number per home, equal numbers are one machine.
    Raises ValueError for no homes or more than 16.
    """

    cdef Quorum quorum

    def __init__(self, hosts, int wanted, int wanted_durable=0):
        cdef uint16_t numbers[HOMES_MAX]
        if not 1 <= len(hosts) <= HOMES_MAX:
            raise ValueError(f"a partition has 1 to {HOMES_MAX} homes, not {len(hosts)}")
        if wanted < 1 or not 0 <= wanted_durable:
            raise ValueError("at least one answer is wanted")
        for i, host in enumerate(hosts):
            numbers[i] = host
        quorum_begin(&self.quorum, numbers, len(hosts), min(wanted, 255), min(wanted_durable, 255))

    def ack(self, int home, *, bint durable=False):
        """Home number `home` (0-based place in `hosts`) has answered, and holds the write on disk if `durable`."""
        self.check(home)
        self.quorum.acked |= 1u << home
        self.quorum.failed &= ~(1u << home)
        if durable:
            self.quorum.durable |= 1u << home

    def fail(self, int home):
        """Home number `home` will not answer; an answer that has come already stays counted."""
        self.check(home)
        if not self.quorum.acked & (1u << home):
            self.quorum.failed |= 1u << home

    cdef int check(self, int home) except -1:
        if not 0 <= home < self.quorum.homes:
            raise IndexError(f"no home {home} among {self.quorum.homes}")
        return 0

    @property
    def reached(self):
        return quorum_reached(&self.quorum)

    @property
    def possible(self):
        return quorum_possible(&self.quorum)
