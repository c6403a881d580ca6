"""Buckets: named sets of defaults for requests, kept as change records in the membership history."""

from __future__ import annotations

from dynamo_fast.core.membership import BucketChange
from dynamo_fast.core.options import ClusterDefaults, OptionsError, check_bucket
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.sessions import Session
from dynamo_fast.wire.control_messages import BucketEntry, BucketListReply, BucketListRequest, BucketSetReply, BucketSetRequest
from dynamo_fast.wire.status import Status

BUCKETS_MAX = 10_000  # named buckets of a cluster; every node holds the settings of all


class Buckets:
    """Answers bucket requests from the history, and adds to it."""

    def __init__(self, cluster: Cluster, defaults: ClusterDefaults) -> None:
        self._cluster = cluster
        self._defaults = defaults

    def entries(self) -> list[BucketEntry]:
        """Every bucket that was ever given settings, by name."""
        view = self._cluster.view
        return [BucketEntry(name=name, settings=settings) for name, settings in sorted(view.buckets.items())] if view else []

    async def answer_set(self, session: Session, request: BucketSetRequest) -> BucketSetReply:
        """Keeps the settings; the others hear of them by gossip. Setting what is already so changes nothing."""
        view = self._cluster.view
        if view is None:
            raise Refusal(Status.NOT_READY, "this node knows of no cluster yet; ask a member, or wait")
        try:
            check_bucket(request.name, request.settings, view.replicas)
        except OptionsError as error:
            raise Refusal(Status.BAD_REQUEST, str(error)) from error
        if request.name not in view.buckets and len(view.buckets) >= BUCKETS_MAX:
            raise Refusal(Status.TOO_LARGE, f"this cluster has {BUCKETS_MAX} buckets, the most there can be")
        if view.buckets.get(request.name) != request.settings:
            await self._cluster.add(BucketChange(name=request.name, settings=request.settings))
        return BucketSetReply()

    async def answer_list(self, session: Session, request: BucketListRequest) -> BucketListReply:
        return BucketListReply(buckets=self.entries(), defaults=self._defaults)
