"""Three members and nodes that wait, in virtual time, and changes of members asked of them as an operator would."""

from __future__ import annotations

from dynamo_fast.core.membership import Change, NodeEntry
from dynamo_fast.wire.membership_messages import ChangeReply, ChangeRequest
from tests.node.exchanging import ExchangingNode
from tests.node.virtual import World

ADDRESSES = ["10.0.0.1:7400", "10.0.0.2:7400", "10.0.0.3:7400"]
FRESH = ["10.0.0.4:7400", "10.0.0.5:7400", "10.0.0.6:7400"]


def born(world: World) -> list[ExchangingNode]:
    return [ExchangingNode(world, one, node__bootstrap=list(ADDRESSES)) for one in ADDRESSES]


def spare(world: World, address: str) -> ExchangingNode:
    return ExchangingNode(world, address, node__seeds=list(ADDRESSES))


async def ready(world: World, *spares: str) -> tuple[list[ExchangingNode], list[ExchangingNode]]:
    """Three members, and nodes that wait."""
    members, waiting = born(world), [spare(world, address) for address in spares]
    await world.start(*members)
    await world.until(lambda: all(one.view and len(one.peers) == 2 for one in members))
    await world.start(*waiting)
    await world.until(lambda: all(one.view for one in waiting))
    return members, waiting


def entry(node: ExchangingNode) -> NodeEntry:
    return node.node.cluster.own


async def ask(node: ExchangingNode, *changes: Change, unsafe: bool = False) -> ChangeReply:
    return await node.node.changes.answer(None, ChangeRequest(changes=list(changes), unsafe=unsafe))


def settled(nodes: list[ExchangingNode], number: int, members: int) -> bool:
    """All work by placement `number`, of so many members, alone."""
    clusters = [one.node.cluster for one in nodes if one.node]
    return all(
        one.change is None and one.placement is not None and one.placement.number == number and len(one.placement.node_ids) == members
        for one in clusters
    )
