"""Nodes in virtual time in the middle of a change of members, or behind one: each is told by hand how far it is."""

from __future__ import annotations

from collections.abc import Iterable

from dynamo_fast.core.change import Step
from dynamo_fast.core.in_force import in_force
from dynamo_fast.core.placement import Placement, first_placement
from dynamo_fast.core.succession import member_of
from dynamo_fast.node.cluster import UnderWay
from dynamo_fast.node.keys import homes_of
from tests.node.exchanging import ExchangingNode


def placement_over(nodes: Iterable[ExchangingNode], view: object) -> Placement:
    """A first placement of these alone."""
    members = [view.members[node.id] for node in nodes]  # type: ignore[attr-defined]
    return first_placement([member_of(entry) for entry in members], 64, 3)


def hold_still(node: ExchangingNode) -> None:
    """Goes no step of a change, and parts with nothing, by itself."""

    async def nothing() -> None:
        pass

    node.node.succession._look = nothing
    node.node.parting.round = nothing


def work_by(node: ExchangingNode, old: Placement, new: Placement | None = None, step: Step = Step.NONE) -> None:
    """The data plane takes and serves what follows from that."""
    told = in_force(old, new, step)
    entries = [node.view.everyone[one] for one in told.node_ids]
    node.told.set_placement(told, [entry.host for entry in entries], [entry.address for entry in entries])


def begin(nodes: Iterable[ExchangingNode], old: Placement, new: Placement, step: Step = Step.SYNCED) -> None:
    """All do that step of the change."""
    for node in nodes:
        hold_still(node)
        cluster = node.node.cluster
        cluster.placement = old if step < Step.SWITCHED else new
        cluster.change = UnderWay(old, new, step)
        work_by(node, old, new, step)


def settle(nodes: Iterable[ExchangingNode], new: Placement) -> None:
    for node in nodes:
        hold_still(node)
        node.node.cluster.placement, node.node.cluster.change = new, None
        work_by(node, new)


def partition_of(node: ExchangingNode, key: bytes) -> int:
    return node.records.forest.place(node.store_key(key)[:16])[0]


def homes_in(placement: Placement, nodes: Iterable[ExchangingNode], partition: int) -> list[ExchangingNode]:
    return [node for node in nodes if partition in homes_of(placement, node.id)]
