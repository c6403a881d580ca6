"""CONTROL messages about who belongs to the cluster: histories exchanged, births, and changes asked for."""

from __future__ import annotations

from typing import Annotated

import msgspec

from dynamo_fast.core.change import Progress
from dynamo_fast.core.lineage import PlacementRecord
from dynamo_fast.core.membership import Id16, MemberChange, Name, NodeEntry, Record

GOSSIP_RECORDS_MAX = 256  # change records in one message; the next round brings the rest
GOSSIP_IDS_MAX = 1 << 20

Ids = Annotated[list[Id16], msgspec.Meta(max_length=GOSSIP_IDS_MAX)]
AllProgress = Annotated[list[Progress], msgspec.Meta(max_length=4096)]
Records = Annotated[list[Record], msgspec.Meta(max_length=GOSSIP_RECORDS_MAX)]


class GossipRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="op", tag="gossip"):
    """One step of an exchange of histories: records the other lacks, ids wanted from it, and the sender's digest after that."""

    digest: Id16
    records: Records = []
    wanted: Ids = []
    progress: AllProgress = []  # while a change is under way: how far every node that is known of has said to be
    later_start: Annotated[int, msgspec.Meta(ge=0)] = 0  # of the node that is spoken to, where more starts of it are known than it has said
    quiet: bool = True  # not: the sender takes a change to be under way, and wants to hear the same
    wall_ms: int = 0  # the sender's clock


class BirthRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="birth"):
    """A node that was started with `--bootstrap` asks the first of the list to make the cluster."""

    member: NodeEntry
    bootstrap: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=4096)]


class GossipReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="op", tag="gossip"):
    """`digest` of the answering node's history; all its `ids` when the digests differed and nothing was given or wanted; the `records`
    that were wanted."""

    digest: Id16
    ids: Ids | None = None
    records: Records = []
    progress: AllProgress = []
    wall_ms: int = 0
    later_start: Annotated[int, msgspec.Meta(ge=0)] = 0


class BirthReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="birth"):
    """Whom the birth still waits for; nobody once the cluster is born, and then `records` is its history."""

    waiting_for: list[str] = []
    records: Records = []


class ChangeRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="change"):
    """Change the members, all of it in one step. Refused when the outcome would be less safe, unless `unsafe` insists."""

    changes: Annotated[list[MemberChange], msgspec.Meta(min_length=1, max_length=256)]
    unsafe: bool = False


class ChangeReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="change"):
    """The changes are on this node's disk under these ids. `number` of the placement that takes them in; 0: they wait for a change that is
    under way."""

    ids: Ids
    number: int


class TableRequest(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="table"):
    """The placement with this digest, for a node that cannot compute it."""

    digest: Id16


class TableReply(msgspec.Struct, frozen=True, kw_only=True, tag_field="op", tag="table"):
    """The parts of a placement; `table` as in PlacementReply, over `node_ids`."""

    record: PlacementRecord
    replicas: Annotated[int, msgspec.Meta(ge=1, le=16)]
    node_ids: Annotated[list[Id16], msgspec.Meta(min_length=1, max_length=4096)]
    table: bytes


MembershipRequest = GossipRequest | BirthRequest | ChangeRequest | TableRequest
MembershipReply = GossipReply | BirthReply | ChangeReply | TableReply
