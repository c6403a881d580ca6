"""Nodes in virtual time in the middle of a change of members: each is told by hand how far it is, and has what a change moves data with."""

from __future__ import annotations

from collections.abc import Iterable

from dynamo_fast.core.change import Step
from dynamo_fast.core.in_force import in_force
from dynamo_fast.core.placement import Placement, first_placement
from dynamo_fast.core.succession import member_of
from dynamo_fast.node.cluster import UnderWay
from dynamo_fast.node.keys import homes_of
from dynamo_fast.node.ranges import Ranges
from dynamo_fast.node.transfer import Transfer
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.storage.schema import decode_record, encode_record
from dynamo_fast.wire import replica_messages as replica
from tests.node.exchanging import ExchangingNode


class Holdings:
    """What the data plane does for those that move partitions, in plain Python over the node's records."""

    def __init__(self, node: ExchangingNode) -> None:
        self.node = node

    def own_hints(self, store_keys: list[bytes]) -> int:
        own = self.node.node.delivery.own_partitions()
        owned = 0
        for store_key in store_keys:
            record = self.node.records.get(store_key)
            if record is None or self.node.records.forest.place(store_key[:16])[0] not in own:
                continue
            parts = decode_record(record)
            if parts.owed:
                kept = encode_record(parts.key, parts.packed, parts.bucket, hash=parts.hash)
                self.node.records.put(store_key, kept, parts.hash)
                owned += 1
        return owned

    def remove_old_copies(self, versions: list[tuple[bytes, int]]) -> int:
        if self.node.records.read_only:
            raise StorageError(self.node.records.read_only)
        own = self.node.node.delivery.own_partitions()
        removed = 0
        for store_key, hash in versions:
            record = self.node.records.get(store_key)
            if record is None or self.node.records.forest.place(store_key[:16])[0] in own:
                continue
            parts = decode_record(record)
            if not parts.owed and parts.hash == hash:
                removed += self.node.records.delete(store_key, hash)
        return removed


def placement_over(nodes: Iterable[ExchangingNode], view: object) -> Placement:
    """A first placement of these alone."""
    members = [view.members[node.id] for node in nodes]  # type: ignore[attr-defined]
    return first_placement([member_of(entry) for entry in members], 64, 3)


def work_by(node: ExchangingNode, placement: Placement) -> None:
    """The data plane takes and serves what this placement makes the node a home of."""
    entries = [node.view.everyone[one] for one in placement.node_ids]
    node.told.set_placement(in_force(placement), [entry.host for entry in entries], [entry.address for entry in entries])


def begin(nodes: Iterable[ExchangingNode], old: Placement, new: Placement, step: Step = Step.SYNCED) -> None:
    """All do that step of the change. Nodes of the old placement take writes by that one, the others by the new one."""
    for node in nodes:
        cluster = node.node.cluster
        cluster.placement = old if step < Step.SWITCHED else new
        cluster.change = UnderWay(old, new, step)
        work_by(node, old if node.id in old.node_ids else new)


def settle(nodes: Iterable[ExchangingNode], new: Placement) -> None:
    for node in nodes:
        node.node.cluster.placement, node.node.cluster.change = new, None
        work_by(node, new)


def equip(node: ExchangingNode) -> Transfer:
    """A transfer of this node's; and it answers others' from now on."""
    parts = node.node
    ranges = Ranges(env=parts.env, cluster=parts.cluster, engine=parts.engine, delivery=parts.delivery, admission=parts.admission)
    parts.control.on(replica.RangeRequest, ranges.answer, nodes_only=True)
    return Transfer(
        env=parts.env, cluster=parts.cluster, engine=parts.engine, data_plane=parts.data_plane, holdings=Holdings(node), peers=parts.peers,
        delivery=parts.delivery, ranges=ranges, anti_entropy=parts.anti_entropy, directory=parts.cluster._directory,
    )  # fmt: skip


def partition_of(node: ExchangingNode, key: bytes) -> int:
    return node.records.forest.place(node.store_key(key)[:16])[0]


def homes_in(placement: Placement, nodes: Iterable[ExchangingNode], partition: int) -> list[ExchangingNode]:
    return [node for node in nodes if partition in homes_of(placement, node.id)]
