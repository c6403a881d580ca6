"""Sloppy quorum (paper 4.6): requests go to the first N *healthy* nodes of the preference list, not to its first N nodes.

Each home has a *slot*, its place in the preference list. When the home in a slot cannot be reached, or is suspected, the next
healthy node of the partition's order stands in for it: it is asked in the home's stead, its answer counts in the home's slot,
and what it is sent for keeping it keeps as a hint for that home (`handoff.py`). The order of fallbacks differs from partition to
partition, so that a dead node's load spreads over all others.

INVARIANTS
  * A slot counts once, whoever answers for it: home and substitute share one bit, so two copies are never counted for three.
  * One node stands in one slot of a request at most, and each place of the order is tried once, so that substitution ends.
  * Between two placements whoever stands in for a home counts where that home counts: in both if it is one in both. The order is that of
    the placement that comes.
  * When nobody is left who could stand in, one who is asked anyway, and counts in one of two placements alone, counts for the slot in the
    other one too (`quorum_cover`): W nodes of a cluster that can be reached are enough, whichever they are.
  * A suspicion never makes a request fail that patience would have served: a suspected home whose slot nobody can take is asked after all.
  * A strict request has no substitutes: homes alone count.

Why what is acknowledged with a node that counts in both placements, though it was asked in one, is not lost and will be read. It keeps its
copy as one who is asked in the one: as its own, which a home parts with only when W homes in the placement that comes have it on disk
(parting.py), or as a hint for all homes. A get that is without the same homes as the put asks it as well: in the order of either
placement the nodes of the other one are the last of the fallbacks (in_force.py). The home that was away gets no hint. It gets the copy
from the other homes of its placement (anti_entropy.py), and, where none of those was there either, in the exchanges of step SYNCED, which
go both ways (transfer.py); until then a get that asks those homes alone may miss it, as any get may that is not strict.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from dynamo_fast.core.quorum cimport SLOTS_MAX, quorum_cover, quorum_group
from dynamo_fast.node.requests cimport node_in
from dynamo_fast.core.ring cimport Ring
from dynamo_fast.node.view cimport ClusterView

cdef enum:
    PLACES_MAX = 64     # fallbacks that are considered: as many bits as `tried` has


cdef int group(Request request) noexcept:
    """Copies count by the machines they are on now."""
    cdef uint16_t hosts[SLOTS_MAX]
    cdef int slot
    for slot in range(request.quorum.homes):
        hosts[slot] = request.view.host_of[node_in(request, slot)]
    quorum_group(&request.quorum, hosts)
    return 0


cdef int home_slot(Request request, int index) noexcept:
    """The slot of a node as a home, -1 when it is none."""
    cdef int slot
    for slot in range(request.quorum.homes):
        if request.homes[slot] == index:
            return slot
    return -1


cdef int stand(Request request, int slot, int index) noexcept:
    request.standins |= 1u << slot
    request.standin[slot] = <uint16_t>index
    request.quorum.failed &= ~(1u << slot)
    return group(request)


cdef int take_own_slot(Desk desk, Request request) except -1:
    """This node coordinates: in its own slot, or, when it is no home, standing in for the first of them that it cannot reach. It can reach
    none that reads go to, but maybe some that a put between two placements asks besides."""
    cdef ClusterView view = request.view
    cdef Ring ring = request.table.ring
    cdef const uint16_t *order
    cdef int slot = request.table.own[request.partition]
    cdef uint32_t place
    if slot < 0:
        slot = 0
        while slot < request.quorum.homes - 1 and desk.reachable(view, request.homes[slot]) is not None:
            slot += 1
        stand(request, slot, view.own_index)
        order = ring.order(request.partition)
        for place in range(ring.replicas, min(ring.node_count, ring.replicas + PLACES_MAX)):
            if order[place] == view.own_index:
                request.tried |= <uint64_t>1 << (place - ring.replicas)
    request.own_slot = slot
    return slot


cdef int choose_substitute(Desk desk, Request request) except -2:
    """The first healthy fallback that was not tried yet, on a machine of its own if there is one; -1 when there is none."""
    cdef ClusterView view = request.view
    cdef const uint16_t *order = request.table.ring.order(request.partition)
    cdef uint32_t place, replicas = request.table.ring.replicas
    cdef uint32_t end = min(request.table.ring.node_count, replicas + PLACES_MAX)
    cdef int slot, chosen = -1
    cdef bint shares
    for place in range(replicas, end):
        if request.tried >> (place - replicas) & 1 or desk.reachable(view, order[place]) is None:
            continue
        if request.quorum.second and home_slot(request, order[place]) >= 0:
            continue  # a home in the placement that goes has a slot of its own
        shares = False
        for slot in range(request.quorum.homes):
            if not request.quorum.failed & (1u << slot) and view.host_of[node_in(request, slot)] == view.host_of[order[place]]:
                shares = True
        if chosen < 0 or not shares:
            chosen = place
        if not shares:
            break
    if chosen < 0:
        return -1
    request.tried |= <uint64_t>1 << (chosen - <int>replicas)
    return order[chosen]


cdef bint substitute(Desk desk, Request request, int slot) except -1:
    """Finds a node that stands in for whoever is asked in that slot now. False: there is none, and nobody else is to be asked."""
    cdef int index
    if request.strict:
        return False
    index = choose_substitute(desk, request)
    if index < 0:
        quorum_cover(&request.quorum, slot)
        return False
    desk.substitutions += 1
    stand(request, slot, index)
    return True


cdef int look_around(Desk desk, Request request) except -1:
    """At the beginning: a home that has no connection, or is suspected, gets a substitute; where there is none, the slot fails, unless a
    connection is there on which a suspect may still answer."""
    cdef const uint16_t *homes = request.homes
    cdef int slot
    for slot in range(request.quorum.homes):
        if slot == request.own_slot or desk.reachable(request.view, homes[slot]) is not None:
            continue
        request.quorum.failed |= 1u << slot
        request.reasons[slot] = 0
        if not substitute(desk, request, slot) and request.view.peers[homes[slot]] is not None:
            request.quorum.failed &= ~(1u << slot)
    return 0
