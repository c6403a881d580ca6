"""Which nodes hold which partition, and who stands in for them (paper, sections 4.2, 4.3 and 6.2, strategy 3).

A placement is a table with one row per partition: all nodes in preference order, the homes first. It is a pure function of
the members, in integers, so that every node computes the same one whatever order it heard of them in; once announced it
never changes, and its name goes with every request between replicas.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dynamo_fast.core.digest import md5
from dynamo_fast.core.lineage import NO_PARENT, PlacementRecord
from dynamo_fast.core.ring import Ring
from dynamo_fast.core.spread import Spread

# Changes whenever the same members, or the same parent and changes, would be given another table.
ALGORITHM = 2
NODE_ID_BYTES = 16
PARTITIONS_MAX = 65536
REPLICAS_MAX = 16
MEMBERS_MAX = 1024
# Entries of a table, partitions times nodes: 8 MiB when sent, some seconds to compute.
ENTRIES_MAX = 1 << 22
WEIGHT_MAX = 65536

Table = tuple[tuple[int, ...], ...]


class PlacementError(ValueError):
    """No placement can be made from these members, or these bytes are none; the text says why and what would help."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node as placement sees it. Weight is relative: a node of weight 2 is given twice the partitions of one of 1."""

    node_id: bytes
    host: str
    zone: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Placement:
    """A table and what it is known by. Rows hold indices into `node_ids`, which is sorted."""

    record: PlacementRecord
    replicas: int  # homes of every partition: the first entries of a row
    node_ids: tuple[bytes, ...]
    table: Table
    # What it is told from all others by: MD5 of the table, and of where it comes from for all but the first. Asked for all the time.
    digest: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self.record.digest)

    @property
    def number(self) -> int:
        return self.record.number

    @property
    def parent_digest(self) -> bytes:
        return self.record.parent_digest

    @property
    def algorithm(self) -> int:
        return self.record.algorithm

    @property
    def partitions(self) -> int:
        return len(self.table)

    @property
    def name(self) -> int:
        """What requests between replicas carry: the number, then the digest's first four bytes (little-endian), as a u64."""
        return self.number << 32 | int.from_bytes(self.digest[:4], "little")

    def ring(self) -> Ring:
        """The table as lookups want it. Takes some milliseconds: to be kept."""
        return Ring(self.partitions, self.replicas, self.table)

    def table_bytes(self) -> bytes:
        """Every row, one after another, as little-endian u16: what peers and clients are sent."""
        return packed(self.table)

    def loads(self) -> dict[bytes, int]:
        """Of how many partitions each node is a home."""
        held = [0] * len(self.node_ids)
        for row in self.table:
            for node in row[: self.replicas]:
                held[node] += 1
        return dict(zip(self.node_ids, held, strict=True))

    @staticmethod
    def made(
        number: int, parent_digest: bytes, changes: Iterable[bytes], replicas: int, node_ids: Sequence[bytes], table: Table
    ) -> Placement:
        """A placement that this version has computed."""
        table_digest = md5(canonical_bytes(ALGORITHM, replicas, node_ids, packed(table)))
        record = PlacementRecord(number, parent_digest, tuple(sorted(changes)), ALGORITHM, table_digest)
        return Placement(record, replicas, tuple(node_ids), table)

    @staticmethod
    def from_table(record: PlacementRecord, replicas: int, node_ids: Sequence[bytes], table_bytes: bytes) -> Placement:
        """The placement that another node sent. Raises PlacementError when these cannot be its parts, or are not what its record says."""
        ids = tuple(node_ids)
        if not ids or any(len(node_id) != NODE_ID_BYTES for node_id in ids) or list(ids) != sorted(set(ids)):
            raise PlacementError(f"a placement names its nodes by {NODE_ID_BYTES} bytes each, sorted, every one once")
        partitions, rest = divmod(len(table_bytes), 2 * len(ids))
        if rest:
            raise PlacementError(f"a table of {len(ids)} nodes has {2 * len(ids)} bytes a row, but {rest} are left over")
        check_numbers(partitions, replicas)
        if replicas > len(ids):
            raise PlacementError(f"{len(ids)} nodes cannot be {replicas} distinct homes")
        table = tuple(struct.iter_unpack(f"<{len(ids)}H", table_bytes))
        for partition, row in enumerate(table):
            if sorted(row) != list(range(len(ids))):
                raise PlacementError(f"partition {partition} does not list every node once")
        if md5(canonical_bytes(record.algorithm, replicas, ids, table_bytes)) != record.table_digest:
            raise PlacementError(f"placement {record.number} came with a table of another digest than its record's")
        return Placement(record, replicas, ids, table)


def packed(table: Sequence[Sequence[int]]) -> bytes:
    row = struct.Struct(f"<{len(table[0])}H")
    return b"".join([row.pack(*nodes) for nodes in table])


def canonical_bytes(algorithm: int, replicas: int, node_ids: Sequence[bytes], table_bytes: bytes) -> bytes:
    """What a table's digest is taken of: u16 algorithm, u16 replicas, u32 nodes, the sorted node ids, the table."""
    return struct.pack("<HHI", algorithm, replicas, len(node_ids)) + b"".join(node_ids) + table_bytes


def check_numbers(partitions: int, replicas: int) -> None:
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise PlacementError(f"partitions must be a power of two from 1 to {PARTITIONS_MAX}, not {partitions}")
    if not 1 <= replicas <= REPLICAS_MAX:
        raise PlacementError(f"replicas must be from 1 to {REPLICAS_MAX}, not {replicas}")


def check_members(members: Sequence[Member], partitions: int, replicas: int) -> None:
    check_numbers(partitions, replicas)
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise PlacementError(f"a placement needs 1 to {MEMBERS_MAX} members, not {len(members)}")
    zone_of: dict[str, str] = {}
    seen: set[bytes] = set()
    for member in members:
        name = member.node_id.hex()
        if len(member.node_id) != NODE_ID_BYTES:
            raise PlacementError(f"a node id has {NODE_ID_BYTES} bytes, but {name or 'one'} has {len(member.node_id)}")
        if member.node_id in seen:
            raise PlacementError(f"node {name} is a member twice")
        seen.add(member.node_id)
        if not 1 <= member.weight <= WEIGHT_MAX:
            raise PlacementError(f"node {name} has weight {member.weight}; weights go from 1 to {WEIGHT_MAX}")
        zone = zone_of.setdefault(member.host, member.zone)
        if zone != member.zone:
            raise PlacementError(f"host {member.host!r} is said to be in zone {zone!r} and in zone {member.zone!r}; it can be in one")
    if partitions * len(members) > ENTRIES_MAX:
        raise PlacementError(
            f"{partitions} partitions times {len(members)} nodes are {partitions * len(members)} entries of a table that holds "
            f"at most {ENTRIES_MAX}; use fewer partitions or fewer nodes"
        )
    held = partitions * min(replicas, len(members))
    if held < len(members):
        raise PlacementError(
            f"{partitions} partitions with {min(replicas, len(members))} replicas are {held} to hold, so {len(members)} nodes "
            "cannot have one each; use more partitions or fewer nodes"
        )


def spread_of(ordered: Sequence[Member], replicas: int, seed: bytes) -> Spread:
    """Members, in the order of their ids, as core/spread.py wants them."""
    return Spread(
        [member.host for member in ordered],
        [member.zone for member in ordered],
        [member.weight for member in ordered],
        min(replicas, len(ordered)),
        seed=int.from_bytes(md5(seed)[:8], "little"),
    )


def first_placement(members: Sequence[Member], partitions: int, replicas: int) -> Placement:
    """The placement a cluster is born with.

    Each partition gets min(replicas, members) homes: distinct nodes, on as many distinct hosts and in as many distinct
    zones as there are. Nodes hold partitions, and come first in preference lists, in proportion to their weights; when one
    is dead, what it held is spread over the others in the same way. Raises PlacementError when the plan is impossible.
    """
    check_members(members, partitions, replicas)
    ordered = sorted(members, key=lambda member: member.node_id)
    node_ids = tuple(member.node_id for member in ordered)
    spread = spread_of(ordered, replicas, seed=b"".join(node_ids))
    return Placement.made(1, NO_PARENT, (), spread.replicas, node_ids, spread.table(partitions))
