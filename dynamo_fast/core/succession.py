"""The placement that follows another when members join, leave, are replaced or change (paper, sections 4.8, 4.9 and 6.2).

A pure function of the parent and of the members before and after: every node that takes the same changes into the same
parent announces the same placement, byte for byte. It is as balanced as a first placement of those members could be, and
reached by moving as few replicas as hosts and zones allow. Plans that would leave data less safe than it is are refused
in a sentence, unless they are asked for as unsafe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dynamo_fast.core.membership import MemberChange, NodeEntry, Record, Roster, in_time, read_change
from dynamo_fast.core.moves import Moves
from dynamo_fast.core.placement import Member, Placement, PlacementError, check_members, spread_of


class UnsafePlan(PlacementError):
    """The placement can be made, and partitions would be less safe, or one node far busier, than before; the text says what would help."""


@dataclass(frozen=True, slots=True)
class Move:
    """What changes in one partition: nodes that become homes of it, and nodes that cease to be. Ids, sorted."""

    partition: int
    gained: tuple[bytes, ...]
    lost: tuple[bytes, ...]


def next_placement(
    parent: Placement,
    before: Sequence[Member],
    after: Sequence[Member],
    replicas: int,
    *,
    replaced: Mapping[bytes, bytes] | None = None,
    changes: Iterable[bytes] = (),
    unsafe: bool = False,
) -> Placement:
    """The child of `parent`, whose members are `before`, for the members `after`; in any order.

    `replicas` is the cluster's N, of which a placement has min(N, members). `replaced` maps the id of a node that goes to that
    of the new one which takes all its places. `changes` are the ids of the change records that make the difference.
    Raises PlacementError when it is impossible, UnsafePlan when it is refused and `unsafe` does not insist.
    """
    check_members(after, parent.partitions, replicas)
    replaced = replaced or {}
    check_succession(parent, before, after, replaced)
    ordered = sorted(after, key=lambda member: member.node_id)
    node_ids = [member.node_id for member in ordered]
    spread = spread_of(ordered, replicas, seed=parent.digest + b"".join(node_ids))
    index_of = {node_id: index for index, node_id in enumerate(node_ids)}
    heirs = [index_of.get(replaced.get(node_id, node_id)) for node_id in parent.node_ids]
    rows = [[heir for node in row[: parent.replicas] if (heir := heirs[node]) is not None] for row in parent.table]
    quotas = spread.quotas(parent.partitions, spread.held(rows))
    if not unsafe:
        refuse_lost_spread(before, after, replicas)
        refuse_full_nodes(parent, ordered, quotas, spread.replicas)
    Moves(rows, quotas, spread.hosts, spread.zones, spread.replicas, spread.dice).run()
    spread.order_homes(rows)
    table = spread.add_fallbacks(rows)
    return Placement.made(parent.number + 1, parent.digest, changes, spread.replicas, node_ids, table)


def placement_after(parent: Placement, roster: Roster, records: Iterable[Record], replicas: int) -> tuple[Placement, Roster]:
    """The placement that takes in the changes of members among these records, and its members. `roster` has the parent's.

    Only what is not taken in yet is given here, and only that is ordered by time: a record that arrives late comes after all
    that its parent took in, whatever it says. What is in the history has been accepted, alone; together it is not refused.
    Raises PlacementError when no table can be made.
    """
    taken = {record.id: change for record in in_time(records) if isinstance((change := read_change(record)), MemberChange)}
    after = roster.after(taken.values())
    before = [member_of(entry) for entry in roster.members.values()]
    placement = next_placement(
        parent, before, [member_of(entry) for entry in after.members.values()], replicas,
        replaced=roster.heirs(taken.values()), changes=taken, unsafe=True,
    )  # fmt: skip
    return placement, after


def member_of(entry: NodeEntry) -> Member:
    """A member as placement sees it."""
    return Member(entry.id, entry.host, entry.zone, entry.weight)


def moves_between(parent: Placement, child: Placement) -> list[Move]:
    """Every partition whose homes differ. Each node gained is one replica to copy."""
    moves = []
    for partition, (old, new) in enumerate(zip(parent.table, child.table, strict=True)):
        was = {parent.node_ids[node] for node in old[: parent.replicas]}
        becomes = {child.node_ids[node] for node in new[: child.replicas]}
        if was != becomes:
            moves.append(Move(partition, tuple(sorted(becomes - was)), tuple(sorted(was - becomes))))
    return moves


def gains(parent: Placement, child: Placement, node_id: bytes) -> dict[int, tuple[bytes, ...]]:
    """By partition, the nodes whose copies this node must have taken over before reads may go to the child: all homes before, where it was
    none of them; those that go without anybody in their place, where there are fewer homes than before. Ids, sorted.
    """
    if node_id not in child.node_ids:
        return {}
    own = child.node_ids.index(node_id)
    wanted: dict[int, tuple[bytes, ...]] = {}
    for partition, (old, new) in enumerate(zip(parent.table, child.table, strict=True)):
        if own not in new[: child.replicas]:
            continue
        were = {parent.node_ids[node] for node in old[: parent.replicas]}
        are = {child.node_ids[node] for node in new[: child.replicas]}
        if node_id not in were:
            wanted[partition] = tuple(sorted(were))
        elif len(are) < len(were):
            wanted[partition] = tuple(sorted(were - are))
    return wanted


def check_succession(parent: Placement, before: Sequence[Member], after: Sequence[Member], replaced: Mapping[bytes, bytes]) -> None:
    """PlacementError unless the members before are the parent's, and every replacement is of one that goes by one that comes."""
    if sorted(member.node_id for member in before) != list(parent.node_ids):
        raise PlacementError(f"the members before are not the {len(parent.node_ids)} nodes of placement {parent.number}")
    ids = {member.node_id for member in after}
    for old, new in replaced.items():
        if old not in parent.node_ids or old in ids:
            raise PlacementError(f"node {old.hex()} is to be replaced, and must be a member before and none after")
        if new in parent.node_ids or new not in ids:
            raise PlacementError(f"node {new.hex()} is to replace another, and must be no member before and one after")
    if len(set(replaced.values())) < len(replaced):
        raise PlacementError("one node cannot replace two")


def refuse_lost_spread(before: Sequence[Member], after: Sequence[Member], replicas: int) -> None:
    """UnsafePlan when partitions would stand on fewer nodes, hosts or zones than they do."""
    if len(after) < min(replicas, len(before)):
        raise UnsafePlan(
            f"{counted(len(after), 'member')} would be left for {replicas} replicas of each partition; let another node join first"
        )
    hosts_before, hosts_after = ({member.host for member in members} for members in (before, after))
    if len(hosts_after) < min(replicas, len(hosts_before)):
        raise UnsafePlan(
            f"replicas of one partition would share a host: {counted(len(hosts_after), 'host')} would be left for {replicas} replicas;"
            " let a node on another host join first"
        )
    zones_before, zones_after = ({member.zone for member in members} for members in (before, after))
    if len(zones_after) < min(replicas, len(zones_before)):
        gone = ", ".join(repr(zone) for zone in sorted(zones_before - zones_after))
        raise UnsafePlan(
            f"partitions that are in {min(replicas, len(zones_before))} zones would be in {len(zones_after)}, because zone {gone} would"
            " have no member left; let a node there, or in another new zone, join first"
        )


def refuse_full_nodes(parent: Placement, ordered: Sequence[Member], quotas: Sequence[int], replicas: int) -> None:
    """UnsafePlan when a node would come to hold every partition though others are there to share: it would see every write."""
    if len(ordered) <= replicas:
        return
    loads = parent.loads()
    for member, quota in zip(ordered, quotas, strict=True):
        if quota < parent.partitions or loads.get(member.node_id) == parent.partitions:
            continue
        others = sum(other.weight for other in ordered if other is not member)
        if member.weight * (replicas - 1) >= others:
            most = max(1, (others - 1) // max(1, replicas - 1))
            raise UnsafePlan(
                f"node {member.node_id.hex()} would hold every partition, for its weight of {member.weight} among {others} of the others"
                f" together; give it {most} at most, or the others more"
            )
        label, value = ("zone", member.zone) if sum(other.zone == member.zone for other in ordered) == 1 else ("host", member.host)
        raise UnsafePlan(
            f"node {member.node_id.hex()} would hold every partition, because it stands alone in {label} {value!r} and each partition has"
            f" a replica there; let more nodes join that {label} in the same step"
        )


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
