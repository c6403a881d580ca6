"""By which placements a node works at some step of a change (change.py): what the data plane is told.

Between two placements the nodes of both are counted together, in the order of their ids; who is no node of a placement stands at the end of
its preference lists, as the last of the fallbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dynamo_fast.core.change import Step
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.ring import Ring


@dataclass(frozen=True, slots=True)
class InForce:
    """`reads` and each of `writes` count in `node_ids`, which are sorted."""

    name: int  # of the placement that this node's requests to others carry
    accepted: tuple[int, ...]  # names that others' requests may carry
    node_ids: tuple[bytes, ...]
    reads: Ring
    writes: tuple[Ring, ...]  # every write wants W answers in each: the one that comes before the one that goes, or the only one
    hint_number: int  # number of the placement in which the slots of hints count
    hint_replicas: int  # homes of a partition in that one
    homes: tuple[Ring, ...]  # whose homes keep what they are sent as their own: during a change those in both, at any step of it


def in_force(old: Placement, new: Placement | None = None, step: Step = Step.NONE) -> InForce:
    """What holds while `new`, if there is one, replaces `old` and this node does that step. Takes as long as filling two tables."""
    if new is None or step < Step.KNOWN:
        return InForce(old.name, (old.name,), old.node_ids, ring := old.ring(), (ring,), old.number, old.replicas, (ring,))
    if step >= Step.SETTLED:
        return in_force(new)
    node_ids = tuple(sorted({*old.node_ids, *new.node_ids}))
    before, after = ring_over(old, node_ids), ring_over(new, node_ids)
    if step < Step.DOUBLE:
        return InForce(old.name, (old.name, new.name), node_ids, before, (before,), old.number, old.replicas, (before, after))
    accepted = (old.name, new.name) if step == Step.DOUBLE else (new.name,)
    reads = before if step < Step.SWITCHED else after
    writes = (after, before) if step < Step.SINGLE else (after,)
    # Two placements announced for one parent have one number, so slots count in the new one only when it is pinned (change.py): all have
    # told of SYNCED. A write to both makes hints for all homes, and between nodes that write to both no slot is ever named.
    hints = old if step < Step.SWITCHED else new
    return InForce(new.name, accepted, node_ids, reads, writes, hints.number, hints.replicas, (after, before))


def ring_over(placement: Placement, node_ids: Sequence[bytes]) -> Ring:
    """The placement's ring over more nodes than its own."""
    place_of = {node_id: place for place, node_id in enumerate(node_ids)}
    own = [place_of[node_id] for node_id in placement.node_ids]
    rest = tuple(sorted(set(range(len(node_ids))) - set(own)))
    return Ring(placement.partitions, placement.replicas, [tuple([own[node] for node in row]) + rest for row in placement.table])
