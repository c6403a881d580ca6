"""Who belongs to a simulated cluster, and whether a change of members is over: as somebody sees it who can look into every machine.

A machine may be no member: one that was added waits until somebody has it join, one that has left goes on running for whoever looks at it.
Nodes that run may know different things for a while; where one answer is wanted, it is that of the node that knows most.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from dynamo_fast.core.membership import ClusterView, NodeEntry
from dynamo_fast.core.placement import Placement
from dynamo_fast.node.placements import roster_of
from dynamo_fast.testing.machine import Machine

if TYPE_CHECKING:
    from dynamo_fast.node.node import Node


def newest_view(machines: Iterable[Machine]) -> ClusterView | None:
    """What the longest history that a running node has says of the cluster."""
    known = [one.node.cluster.history for one in machines if one.node is not None]
    return max(known, key=len).view if known else None


def newest_roster(machines: Iterable[Machine]) -> dict[bytes, NodeEntry]:
    """The members as the placements have taken them in, with the weights and zones that count: of two changes of one member that came
    into force in the order in which nodes heard of them, the history shows the later one by its time."""
    nodes = [one.node for one in machines if one.node is not None and one.node.cluster.view is not None]
    if not nodes:
        return {}
    node = max(nodes, key=lambda one: len(one.cluster.history))
    view = node.cluster.view
    assert view is not None
    return dict(roster_of(view, node.succession.lineage(view).chain, node.cluster.history).members)


def newest_placement(machines: Iterable[Machine]) -> Placement | None:
    """By which reads go, as the node that has come furthest knows it."""
    known = [one.node.cluster.placement for one in machines if one.node is not None]
    return max((one for one in known if one is not None), key=lambda one: one.number, default=None)


def members_of(machines: Iterable[Machine]) -> list[Machine]:
    """The machines whose nodes have not departed, whether they run or not."""
    machines = list(machines)
    view = newest_view(machines)
    return [] if view is None else [one for one in machines if one.node_id in view.members]


def connected(machines: Iterable[Machine]) -> bool:
    """Whether every process that runs has started and knows its cluster, and every member among them is connected to every other one."""
    machines = list(machines)
    up = [one for one in machines if one.up]
    if not all(one.node is not None and one.node.cluster.view is not None for one in up):
        return False
    members = [one for one in members_of(machines) if one.up]
    ids = {one.node_id for one in members}
    return all(one.node is not None and ids <= {*one.node.peers.up, one.node_id} for one in members)


def unsettled(machines: Iterable[Machine]) -> list[str]:
    """What is still to be done until the members that run agree on a placement that has taken in every change; a sentence for each."""
    machines = list(machines)
    view = newest_view(machines)
    if view is None:
        return ["no process runs that knows the cluster"]
    names = {one.node_id: one.name for one in machines}
    left = [f"{names.get(node_id, node_id.hex())} is leaving" for node_id in sorted(view.leaving)]
    running = [(one.name, one.node) for one in members_of(machines) if one.node is not None]
    for name, node in running:
        left += unsettled_at(name, node)
    digests = {node.cluster.placement.digest for _, node in running if node.cluster.placement is not None}
    if len(digests) > 1:
        left.append(f"{len(digests)} placements are in force")
    if len({node.cluster.history.digest for _, node in running}) > 1:
        left.append("members know different histories")
    return left


def unsettled_at(name: str, node: Node) -> list[str]:
    """The same as one node sees it."""
    view, placement, change = node.cluster.view, node.cluster.placement, node.cluster.change
    if view is None or placement is None:
        return [f"{name} knows no cluster"]
    if change is not None:
        return [f"{name} does {change.step.name} of the change to placement {change.new.number}"]
    waiting = set(view.member_changes) - taken_in(view, placement)
    left = [f"{len(waiting)} changes wait on {name}"] if waiting else []
    if set(placement.node_ids) != set(view.members):
        left.append(f"placement {placement.number} on {name} has other nodes than there are members")
    return left


def taken_in(view: ClusterView, placement: Placement) -> set[bytes]:
    """The ids of all changes that this placement and those before it have taken in."""
    announced = {record.digest: record for record in view.announced}
    taken: set[bytes] = set()
    record = announced.get(placement.digest)
    while record is not None:
        taken.update(record.changes)
        record = announced.get(record.parent_digest)
    return taken
