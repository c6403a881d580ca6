"""What a node tells about the cluster and about itself: the placement for clients, the ring for people, its own status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dynamo_fast.core.change import Step
from dynamo_fast.core.membership import ClusterView, NodeEntry
from dynamo_fast.core.options import ClusterDefaults
from dynamo_fast.core.placement import Placement
from dynamo_fast.node.buckets import Buckets
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.metrics import Metrics
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.sessions import SOFTWARE, Session
from dynamo_fast.node.succession import Succession
from dynamo_fast.wire.control_messages import (
    ChangeStatus,
    ClientLimits,
    MemberShare,
    PlacementReply,
    PlacementRequest,
    RingInfoReply,
    RingInfoRequest,
    StatusReply,
    StatusRequest,
)
from dynamo_fast.wire.status import Status

State = Literal["waiting", "starting", "ready", "read-only", "draining", "leaving", "left"]


class Describe:
    """Answers PlacementRequest, RingInfoRequest and StatusRequest. `state` gives the state of the whole node."""

    def __init__(
        self, *, cluster: Cluster, succession: Succession, peers: Peers, buckets: Buckets, metrics: Metrics, defaults: ClusterDefaults,
        limits: ClientLimits, state: Callable[[], State],
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._succession = succession
        self._peers = peers
        self._buckets = buckets
        self._metrics = metrics
        self._defaults = defaults
        self._limits = limits
        self._state = state

    def _known(self) -> tuple[ClusterView, Placement, list[NodeEntry]]:
        """The cluster, its placement, and the members in the order in which the placement counts them."""
        view, placement = self._cluster.view, self._cluster.placement
        if view is None or placement is None:
            raise Refusal(Status.NOT_READY, "this node knows of no cluster yet: it waits for its bootstrap list or its seeds")
        return view, placement, [view.everyone[node_id] for node_id in placement.node_ids]

    async def answer_placement(self, session: Session, request: PlacementRequest) -> PlacementReply:
        view, placement, nodes = self._known()
        return PlacementReply(
            number=placement.number,
            name=placement.name,
            digest=placement.digest,
            cluster_id=view.cluster_id,
            partitions=placement.partitions,
            replicas=placement.replicas,
            nodes=nodes,
            table=placement.table_bytes(),
            buckets=self._buckets.entries(),
            defaults=self._defaults,
            limits=self._limits,
        )

    async def answer_ring(self, session: Session, request: RingInfoRequest) -> RingInfoReply:
        _, placement, nodes = self._known()
        first, owned = [0] * len(nodes), [0] * len(nodes)
        for row in placement.table:
            first[row[0]] += 1
            for index in row[: placement.replicas]:
                owned[index] += 1
        replicas = placement.partitions * placement.replicas
        up = {self._cluster.node_id, *self._peers.up}
        return RingInfoReply(
            number=placement.number,
            name=placement.name,
            digest=placement.digest,
            partitions=placement.partitions,
            replicas=placement.replicas,
            members=[
                MemberShare(node=node, partitions_first=first[index], partitions_owned=owned[index], share=owned[index] / replicas,
                            up=node.id in up)
                for index, node in enumerate(nodes)
            ],
        )  # fmt: skip

    async def answer_status(self, session: Session, request: StatusRequest) -> StatusReply:
        cluster, own = self._cluster, self._cluster.own
        placement = cluster.placement
        return StatusReply(
            node_id=own.id,
            address=own.address,
            host=own.host,
            zone=own.zone,
            weight=own.weight,
            state=self._state(),
            member=cluster.is_member,
            software=SOFTWARE,
            uptime_s=round(self._metrics.uptime_s, 3),
            cluster_id=cluster.cluster_id,
            placement_number=placement.number if placement else 0,
            placement_name=placement.name if placement else 0,
            members=len(cluster.view.members) if cluster.view else 0,
            peers_up=sorted(self._peers.up),
            history_digest=cluster.history.digest,
            statistics=self._metrics.statistics(),
            change=self._change(),
            beside=self._beside(),
        )

    def _change(self) -> ChangeStatus | None:
        view, change, placement = self._cluster.view, self._cluster.change, self._cluster.placement
        waiting = self._succession.waiting_changes()
        if view is None or placement is None or (change is None and not waiting):
            return None
        return ChangeStatus(
            from_number=change.old.number if change else placement.number,
            to_number=change.new.number if change else placement.number,
            step=(change.step if change else Step.NONE).name.lower(),
            waiting_for=[view.everyone[node_id].address for node_id in self._succession.waits_for()],
            waiting_changes=waiting,
        )

    def _beside(self) -> list[NodeEntry]:
        """Who takes part and is not in the placement in force: nodes of the one that comes, and departed ones that are not gone yet."""
        view, placement = self._cluster.view, self._cluster.placement
        if view is None or placement is None:
            return []
        taking_part = view.leaving.union(*(one.node_ids for one in self._cluster.unretired)) - view.dead
        return [view.everyone[node_id] for node_id in sorted(taking_part - set(placement.node_ids)) if node_id in view.everyone]
