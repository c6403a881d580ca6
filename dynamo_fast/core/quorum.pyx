"""When is a request answered? The counting of replies towards R, W and DW (paper 4.5), as a pure decision.

A copy on the same machine as another protects from nothing that the other does not, so answers count by distinct hosts as
far as the homes of the partition have them: with all homes on distinct hosts this is plain counting, with several workers on
one host they count once until every host has answered that could. So do copies on disk.

A write between two placements (change.py) asks the homes in both, each once, and wants the numbers in each: an answer of a home in
both counts in both. Where a placement has fewer homes than are wanted, all of them are.

Of one who is asked in one placement alone an answer may count in the other one too, in place of a slot that has failed there and that
nobody else can take (`quorum_cover`). Its copy is one machine's copy: it is one bit, and so counts once in each of the two.

Invariants: acked and failed are disjoint; durable is a subset of acked; a request that has been reached stays reached,
because bits are only ever added to acked and durable; every slot is of the first placement, the second or both, and once it is of one it stays.
"""

cimport cython


cdef extern from *:
    int popcount "__builtin_popcount"(unsigned int) noexcept nogil


cdef inline uint32_t lowest(int count) noexcept nogil:
    """So many bits from the lowest on, up to all 32."""
    return <uint32_t>((<unsigned long long>1 << count) - 1)


cdef uint32_t host_mask(const Quorum *quorum, uint32_t homes) noexcept nogil:
    cdef uint32_t mask = 0
    cdef int i
    for i in range(quorum.homes):
        if homes & (1u << i):
            mask |= 1u << quorum.host[i]
    return mask


cdef bint on_enough_hosts(const Quorum *quorum, uint32_t homes, int wanted, int hosts) noexcept nogil:
    return wanted <= 1 or popcount(host_mask(quorum, homes)) >= min(wanted, hosts)


cdef bint enough_in_both(const Quorum *quorum, uint32_t acked, uint32_t durable) noexcept nogil:
    return (popcount(acked & quorum.first) >= quorum.wanted and popcount(durable & quorum.first) >= quorum.wanted_durable
            and popcount(acked & quorum.second) >= quorum.second_wanted
            and popcount(durable & quorum.second) >= quorum.second_wanted_durable
            and on_enough_hosts(quorum, acked & quorum.first, quorum.wanted, quorum.hosts)
            and on_enough_hosts(quorum, durable & quorum.first, quorum.wanted_durable, quorum.hosts)
            and on_enough_hosts(quorum, acked & quorum.second, quorum.second_wanted, quorum.second_hosts)
            and on_enough_hosts(quorum, durable & quorum.second, quorum.second_wanted_durable, quorum.second_hosts))


cdef bint enough(const Quorum *quorum, uint32_t acked, uint32_t durable) noexcept nogil:
    if quorum.second:
        return enough_in_both(quorum, acked, durable)
    if popcount(acked) < quorum.wanted or popcount(durable) < quorum.wanted_durable:
        return False
    # With all homes on distinct hosts, plain counting has said it all.
    return quorum.hosts == quorum.homes or (on_enough_hosts(quorum, acked, quorum.wanted, quorum.hosts)
                                            and on_enough_hosts(quorum, durable, quorum.wanted_durable, quorum.hosts))


cdef void quorum_begin(Quorum *quorum, const uint16_t *hosts, uint8_t homes, uint8_t wanted, uint8_t wanted_durable) noexcept nogil:
    """Start counting for a partition whose homes, up to HOMES_MAX, sit on `hosts`."""
    quorum.homes = homes
    quorum.wanted = min(wanted, homes)
    quorum.wanted_durable = min(wanted_durable, homes)
    quorum.first, quorum.second = lowest(homes), 0
    quorum.acked = quorum.durable = quorum.failed = 0
    quorum_group(quorum, hosts)


cdef void quorum_begin_both(Quorum *quorum, const uint16_t *hosts, uint8_t homes, uint8_t first, uint32_t second, uint8_t wanted,
                            uint8_t wanted_durable) noexcept nogil:
    """Start counting between two placements: the first `first` slots are the homes in one, those in the mask `second` in the other."""
    cdef int count = popcount(second)
    quorum.homes, quorum.first, quorum.second, quorum.covered = homes, lowest(first), second, 0
    quorum.wanted, quorum.wanted_durable = min(wanted, first), min(wanted_durable, first)
    quorum.second_wanted, quorum.second_wanted_durable = <uint8_t>min(<int>wanted, count), <uint8_t>min(<int>wanted_durable, count)
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
    if quorum.second:
        quorum.hosts = popcount(host_mask(quorum, quorum.first))
        quorum.second_hosts = popcount(host_mask(quorum, quorum.second))


cdef uint32_t with_one_more(const Quorum *quorum, uint32_t counted) noexcept nogil:
    """Those that count in a placement, and one who is asked in the other alone: on a machine of its own if there is such a one."""
    cdef uint32_t there = host_mask(quorum, counted & ~quorum.failed)
    cdef uint32_t others = lowest(quorum.homes) & ~counted & ~quorum.failed
    cdef uint32_t chosen = others & -others
    cdef int i
    for i in range(quorum.homes):
        if others >> i & 1 and not there >> quorum.host[i] & 1:
            chosen = 1u << i
            break
    return counted | chosen


cdef void quorum_cover(Quorum *quorum, int slot) noexcept nogil:
    """Between two placements: nobody can be asked in place of who has failed in `slot`, so one who is asked anyway counts for it, in each
    placement in which it counts. Once for a slot, so that never more homes are made up for than have failed.

    No more machines are wanted for it than before. If the home answers after all its answer counts as well: it is another copy.
    """
    cdef uint32_t bit = 1u << slot
    if quorum.second == 0 or quorum.covered & bit:
        return
    quorum.covered |= bit
    if quorum.first & bit:
        quorum.first = with_one_more(quorum, quorum.first)
    if quorum.second & bit:
        quorum.second = with_one_more(quorum, quorum.second)


cdef bint quorum_reached(const Quorum *quorum) noexcept nogil:
    return enough(quorum, quorum.acked, quorum.durable)


cdef bint quorum_possible(const Quorum *quorum) noexcept nogil:
    """Could it still be reached if everyone who has not failed answers, durably?"""
    cdef uint32_t hopeful = lowest(quorum.homes) & ~quorum.failed
    return enough(quorum, hopeful, hopeful)


@cython.final
cdef class QuorumCount:
    """The same counting for Python: tests, and code that is not on the hot path.

    QuorumCount(hosts, wanted, wanted_durable=0, first=0, second=0): `hosts` holds one number per home, equal numbers are one machine.
    Between two placements the homes from 0 to `first` - 1 are those in one, those whose bits are set in `second` those in the other.
    Raises ValueError for no homes or more than 16 in a placement.
    """

    cdef Quorum quorum

    def __init__(self, hosts, int wanted, int wanted_durable=0, int first=0, uint32_t second=0):
        cdef uint16_t numbers[SLOTS_MAX]
        cdef int homes = len(hosts)
        if not 1 <= (first if second else homes) <= HOMES_MAX or popcount(second) > HOMES_MAX:
            raise ValueError(f"a partition has 1 to {HOMES_MAX} homes in a placement, not {homes}")
        if second and (first > homes or lowest(first) | second != lowest(homes)):
            raise ValueError("between two placements everyone who is asked is a home in one of them")
        if wanted < 1 or not 0 <= wanted_durable:
            raise ValueError("at least one answer is wanted")
        for i, host in enumerate(hosts):
            numbers[i] = host
        wanted, wanted_durable = min(wanted, 255), min(wanted_durable, 255)
        if second:
            quorum_begin_both(&self.quorum, numbers, homes, first, second, wanted, wanted_durable)
        else:
            quorum_begin(&self.quorum, numbers, homes, wanted, wanted_durable)

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

    def cover(self, int home):
        """Nobody can be asked in place of home number `home`, which has failed: one who counts in the other placement alone does for it."""
        self.check(home)
        quorum_cover(&self.quorum, home)

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
