"""What a change of members is decided by before anybody is asked for it, and how far one is by what the nodes say.

Who is meant by a name, who may join and as what. The nodes decide the rest: a plan that would make data less safe is refused there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dynamo_fast.client.errors import BadRequest, DynamoError
from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.wire.control_messages import ChangeStatus, StatusReply

ID_PREFIX_MIN = 4  # hexadecimal digits of an id that name a node, if only one has them
STEPS = tuple(step.name.lower() for step in Step)


@dataclass(frozen=True, slots=True)
class ChangeProgress:
    """How far the cluster is with changes of its members. Counts are sums over the nodes that answered."""

    settled: bool  # no change is under way or waits, nobody holds what is no longer its own, and all nodes say so and know the same
    from_number: int = 0  # of the placement that goes; 0 when no change is under way
    to_number: int = 0
    step: str = "none"  # what the node does that is least far (core/change.py)
    waiting_for: tuple[str, ...] = ()  # addresses of those who have not told of it yet
    silent: tuple[str, ...] = ()  # addresses of those that did not answer
    handing_over: tuple[str, ...] = ()  # addresses of those that have departed and still hold something
    waiting_changes: int = 0  # asked for and not taken in yet
    partitions_wanted: int = 0  # replicas of partitions to be copied by nodes that gain them
    partitions_done: int = 0
    bytes_moved: int = 0
    bytes_per_s: float = 0.0
    seconds_left: float | None = None  # of the node that needs longest; None when nobody can tell
    old_copies: int = 0  # records that nodes hold and are no homes of any more


def found(nodes: Sequence[NodeEntry], name: str) -> NodeEntry:
    """The one of these nodes that has this address, or this host alone, or an id that begins so; ValueError when none has, or several."""
    those = [node for node in nodes if node.address == name]
    those = those or [node for node in nodes if node.host == name]
    those = those or [node for node in nodes if len(name) >= ID_PREFIX_MIN and node.id.hex().startswith(name.lower())]
    if len(those) != 1:
        known = ", ".join(node.address for node in those or nodes)
        raise ValueError(f"{name!r} is {'more than one node' if those else 'no node of this cluster'}: {known}")
    return those[0]


def newcomer(status: StatusReply, members: Sequence[NodeEntry], instead_of: NodeEntry | None = None) -> NodeEntry:
    """The entry of a node that is to become a member, from what it says of itself; BadRequest when it must not become one.

    A zone that it does not name is that of its host, of the node it replaces, or of the whole cluster if there is only one.
    """
    if status.member or any(member.id == status.node_id for member in members):
        raise BadRequest(f"{status.address} is a member already")
    if status.state in ("leaving", "left"):
        raise BadRequest(f"{status.address} has left this cluster and cannot come back as the same node: give it an empty data directory")
    storage: Mapping[str, Any] = status.statistics.get("storage", {})
    if storage.get("lmdb_records", 0) + storage.get("buffer_records", 0):
        raise BadRequest(f"{status.address} holds records of an earlier life: start it with an empty data directory")
    same = next((member for member in members if member.address == status.address), None)
    if same is not None and same != instead_of:
        raise BadRequest(
            f"{status.address} is the address of member {same.id.hex()}, and the node there is another one; if that member will not come"
            f" back, use `dynamo-fast replace {same.id.hex()[:8]} {status.address} --dead`"
        )
    return NodeEntry(id=status.node_id, address=status.address, host=status.host, zone=zone_of(status, members, instead_of),
                     weight=status.weight if instead_of is None else instead_of.weight)  # fmt: skip


def zone_of(status: StatusReply, members: Sequence[NodeEntry], instead_of: NodeEntry | None) -> str:
    """The zone of a node that is to become a member; BadRequest when it names none and there are several."""
    if status.zone:
        return status.zone
    zones = {member.zone for member in members if member.host == status.host}
    zones = zones or ({instead_of.zone} if instead_of is not None else {member.zone for member in members})
    if len(zones) > 1:
        raise BadRequest(f"{status.address} names no zone, and the cluster has {', '.join(sorted(zones))}: start it with --zone")
    return next(iter(zones), "")


def names_for_ids(text: str, nodes: Collection[NodeEntry]) -> str:
    """A sentence of a node for a person: addresses for ids."""
    for node in nodes:
        text = text.replace(node.id.hex(), node.address)
    return text


def progress_of(statuses: Mapping[str, StatusReply | DynamoError]) -> ChangeProgress:
    """From every node's account of itself, by address."""
    told = [status for status in statuses.values() if isinstance(status, StatusReply)]
    silent = tuple(address for address, status in statuses.items() if not isinstance(status, StatusReply))
    changes = [status.change for status in told if status.change is not None]
    beside = {entry.id: entry.address for status in told for entry in status.beside}
    handing_over = tuple(sorted(status.address for status in told if status.state == "leaving"))
    old_copies = total(told, "parting", "old_copies")
    same = len({(status.history_digest, status.placement_number) for status in told}) == 1
    if not changes:
        settled = bool(told) and same and not silent and not beside and not handing_over and not old_copies and all(map(looked, told))
        return ChangeProgress(settled=settled, silent=silent, handing_over=handing_over, old_copies=int(old_copies))
    under_way = [change for change in changes if change.step != STEPS[0]]
    slowest: ChangeStatus = min(under_way or changes, key=lambda change: (-change.to_number, step_number(change.step)))
    left = [float(seconds) for status in told if (seconds := status.statistics.get("transfer", {}).get("seconds_left")) is not None]
    return ChangeProgress(
        settled=False, from_number=slowest.from_number if under_way else 0, to_number=slowest.to_number if under_way else 0,
        step=slowest.step, waiting_for=tuple(sorted(slowest.waiting_for)), silent=silent,
        handing_over=handing_over, waiting_changes=max(change.waiting_changes for change in changes),
        partitions_wanted=int(total(told, "transfer", "partitions_wanted")),
        partitions_done=int(total(told, "transfer", "partitions_done")), bytes_moved=int(total(told, "transfer", "bytes")),
        bytes_per_s=total(told, "transfer", "bytes_per_s"), seconds_left=max(left, default=None), old_copies=int(old_copies),
    )  # fmt: skip


def looked(status: StatusReply) -> bool:
    """Whether the node knows if it holds old copies: it looks for them some time after a change. Before the first one nobody does."""
    number = status.placement_number
    return number == 1 or status.statistics.get("parting", {}).get("looked_through", number) == number


def step_number(step: str) -> int:
    """Its place among the steps, from 0; a step of a later version comes last."""
    return STEPS.index(step) if step in STEPS else len(STEPS)


def total(statuses: Sequence[StatusReply], group: str, figure: str) -> float:
    """The sum of one figure over those nodes that have it."""
    return sum(status.statistics.get(group, {}).get(figure) or 0 for status in statuses)
