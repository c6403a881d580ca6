"""A node from start to end. START READING HERE.

`serve_node` is the life of a node in the order in which it happens. All tasks of a node live in the one nursery opened there: the
data plane's loop, the engine's background work, and the control plane's tasks (peers, gossip, control requests, metrics). Later
techniques join as further tasks. Stopping is draining: accept nobody new, refuse new requests, finish those under way, sync the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.env import Env, Socket, format_address, parse_address
from dynamo_fast.node.admission import Admission
from dynamo_fast.node.anti_entropy import AntiEntropy
from dynamo_fast.node.buckets import Buckets
from dynamo_fast.node.changes import Changes
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.config import Config
from dynamo_fast.node.control import Control
from dynamo_fast.node.delivery import Delivery
from dynamo_fast.node.describe import Describe, State
from dynamo_fast.node.forgetting import Forgetting
from dynamo_fast.node.gossip import Gossip
from dynamo_fast.node.handoff import Handoff
from dynamo_fast.node.identity import DataDirectory, open_directory
from dynamo_fast.node.interfaces import ControlFrame, DataPlane, Engine, Reactor
from dynamo_fast.node.keys import Keys
from dynamo_fast.node.metrics import Metrics
from dynamo_fast.node.parting import Parting
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.ranges import Ranges
from dynamo_fast.node.rounds import Rounds
from dynamo_fast.node.scrub import Scrub
from dynamo_fast.node.sessions import Sessions
from dynamo_fast.node.succession import Succession
from dynamo_fast.node.transfer import Transfer
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire import membership_messages as membership
from dynamo_fast.wire import replica_messages as replica
from dynamo_fast.wire.connection import Connection

log = logging.getLogger("dynamo_fast.node")

DRAIN_S = 5.0  # requests under way get this long when the node stops
DRAIN_LOOK_S = 0.01
DISK_LOOK_S = 1.0

BuildLoop = Callable[[Config, Env, bytes, Any, ControlFrame, Callable[[Exception], None]], tuple[DataPlane, Reactor]]


async def serve_node(config: Config, env: Env, stop: trio.Event, started: Callable[[str], None] = lambda address: None) -> bool:
    """Runs one node until `stop` is set, then drains. `started` is called with its address once it accepts connections.

    Returns whether it stopped by itself and must be started again: after a failed fsync only a new process knows what is on disk.

    Raises DirectoryRefused, HistoryError, BirthRefused, StorageError or OSError when the node cannot start; nothing is left behind.
    """
    host, port = parse_address(config.node.listen)
    from dynamo_fast.node.loop import build_loop, open_engine  # here, so that the simulator can run a Node without them

    with env.listen(host, port) as listener:
        directory = await env.offload(open_directory, Path(config.node.data_dir), env)
        try:
            engine = open_engine(config, env, directory.path)  # in this thread, which is the one that uses it
            try:
                own = _own_entry(config, env, directory, listener)
                return await Node(config, env, directory, own, engine, build_loop).run(listener, stop, started)
            finally:
                engine.close()
        finally:
            directory.close()


def _own_entry(config: Config, env: Env, directory: DataDirectory, listener: Socket) -> NodeEntry:
    """How this node presents itself; the port is the one that the system gave."""
    host, _ = parse_address(config.node.listen)
    address = config.node.advertise or format_address((host, listener.getsockname()[1]))
    label = config.node.host or env.machine_name()
    return NodeEntry(id=directory.node_id, address=address, host=label, zone=config.node.zone, weight=config.node.weight)


class Node:
    """The parts of one running node and who knows whom."""

    def __init__(self, config: Config, env: Env, directory: DataDirectory, own: NodeEntry, engine: Engine, build_loop: BuildLoop) -> None:
        self.env = env
        self.engine = engine
        self.draining = False
        self._loop_ended = trio.Event()
        self._needed = max(config.requests.r, config.requests.w)  # members that a request by the defaults needs
        # The data plane: frames in, frames out.
        self.data_plane, self.reactor = build_loop(config, env, own.id, engine, self._control_frame, self._storage_failed)
        env.hurry = self.reactor.hurry
        # The control plane: who is there, and what they are told.
        self.control = Control()
        self.cluster = Cluster(directory, own, env, self.data_plane, partitions=config.cluster.partitions, replicas=config.cluster.replicas)
        self.sessions = Sessions(env=env, me=self.cluster, adopt=self.reactor.adopt, on_request=self.control.submit)
        self.peers = Peers(env=env, cluster=self.cluster, sessions=self.sessions, data_plane=self.data_plane)
        self.gossip = Gossip(
            env=env,
            cluster=self.cluster,
            sessions=self.sessions,
            peers=self.peers,
            seeds=config.node.seeds,
            bootstrap=config.node.bootstrap,
            partitions=config.cluster.partitions,
            replicas=config.cluster.replicas,
        )
        # What goes on behind the requests.
        self.admission = Admission(env, self.data_plane.statistics)
        self.delivery = Delivery(env, self.cluster, engine, self.data_plane, self.admission)
        self.handoff = Handoff(
            env=env,
            cluster=self.cluster,
            engine=engine,
            data_plane=self.data_plane,
            peers=self.peers,
            delivery=self.delivery,
            hint_age_max_s=config.limits.hint_age_max_s,
            copies=min(config.requests.w, config.cluster.replicas),
        )
        self.scrub = Scrub(env, engine, self.cluster, config.cluster.partitions, config.storage.scrub_period_s)
        self.forgetting = Forgetting(
            env=env,
            cluster=self.cluster,
            engine=engine,
            data_plane=self.data_plane,
            peers=self.peers,
            flights=self.delivery.flights,
            grace_s=config.limits.grace_s,
        )
        self.anti_entropy = AntiEntropy(
            env=env,
            cluster=self.cluster,
            engine=engine,
            delivery=self.delivery,
            admission=self.admission,
            others_needed=config.cluster.replicas - config.requests.w + 1,
        )
        self.rounds = Rounds(anti_entropy=self.anti_entropy, peers=self.peers, round_s=config.anti_entropy.round_s)
        # How it goes from one placement to the next.
        self.ranges = Ranges(
            env=env, cluster=self.cluster, engine=engine, data_plane=self.data_plane, delivery=self.delivery, admission=self.admission
        )
        self.transfer = Transfer(
            env=env,
            cluster=self.cluster,
            engine=engine,
            data_plane=self.data_plane,
            peers=self.peers,
            delivery=self.delivery,
            ranges=self.ranges,
            anti_entropy=self.anti_entropy,
            directory=directory,
        )
        self.parting = Parting(
            env=env,
            cluster=self.cluster,
            engine=engine,
            data_plane=self.data_plane,
            peers=self.peers,
            anti_entropy=self.anti_entropy,
            copies=min(config.requests.w, config.cluster.replicas),
        )
        self.succession = Succession(
            env=env,
            cluster=self.cluster,
            engine=engine,
            data_plane=self.data_plane,
            peers=self.peers,
            transfer=self.transfer,
        )
        self.changes = Changes(
            env=env,
            cluster=self.cluster,
            data_plane=self.data_plane,
            peers=self.peers,
            sessions=self.sessions,
            succession=self.succession,
        )
        self.metrics = Metrics(
            env,
            {
                "requests": self.data_plane.statistics,
                "loop": self.reactor.statistics,
                "storage": engine.statistics,
                "control": self.control.statistics,
                "delivery": self.delivery.statistics,
                "handoff": self.handoff.statistics,
                "scrub": self.scrub.statistics,
                "forgetting": self.forgetting.statistics,
                "anti_entropy": self.rounds.statistics,
                "admission": self.admission.statistics,
                "membership": self._membership_statistics,
                "transfer": self.transfer.statistics,
                "parting": self.parting.statistics,
                "process": env.process_statistics,
            },
        )
        self._answer_with(config)

    def _answer_with(self, config: Config) -> None:
        """Which handler answers which control request."""
        limits = messages.ClientLimits(
            key_bytes_max=config.limits.key_bytes_max,
            value_bytes_max=config.limits.value_bytes_max,
            frame_bytes_max=config.limits.frame_bytes_max,
        )
        buckets = Buckets(self.cluster, config.defaults)
        describe = Describe(
            cluster=self.cluster, succession=self.succession, peers=self.peers, buckets=buckets, metrics=self.metrics,
            defaults=config.defaults, limits=limits, state=self.state,
        )  # fmt: skip
        self.control.on(messages.PlacementRequest, describe.answer_placement)
        self.control.on(messages.RingInfoRequest, describe.answer_ring)
        self.control.on(messages.StatusRequest, describe.answer_status)
        self.control.on(messages.KeysPageRequest, Keys(self.cluster, self.engine, self.env).answer)
        self.control.on(messages.HintsRequest, self.handoff.answer)
        self.control.on(replica.ForgetCheckRequest, self.forgetting.answer_check, nodes_only=True)
        self.control.on(replica.QuiesceRequest, self.forgetting.answer_quiesce, nodes_only=True)
        self.control.on(replica.StraysRequest, self.forgetting.answer_strays, nodes_only=True)
        self.control.on(replica.ForgetRequest, self.forgetting.answer_forget, nodes_only=True)
        self.control.on(messages.BucketSetRequest, buckets.answer_set)
        self.control.on(messages.BucketListRequest, buckets.answer_list)
        self.control.on(membership.GossipRequest, self.gossip.answer, nodes_only=True)
        self.control.on(membership.BirthRequest, self.gossip.answer_birth, nodes_only=True)
        self.control.on(replica.MergeRequest, self.delivery.answer_merge, nodes_only=True)
        self.control.on(replica.PullRequest, self.delivery.answer_pull, nodes_only=True)
        self.control.on(replica.CompareRequest, self.anti_entropy.answer_compare, nodes_only=True)
        self.control.on(replica.TreeRequest, self.anti_entropy.answer_tree, nodes_only=True)
        self.control.on(replica.EntriesRequest, self.anti_entropy.answer_entries, nodes_only=True)
        self.control.on(replica.OutlinesRequest, self.anti_entropy.answer_outlines, nodes_only=True)
        self.control.on(messages.RepairRequest, self.rounds.answer_repair)
        self.control.on(replica.RangeRequest, self.ranges.answer, nodes_only=True)
        self.control.on(membership.TableRequest, self.succession.answer_table, nodes_only=True)
        self.control.on(membership.ChangeRequest, self.changes.answer)

    async def run(self, listener: Socket, stop: trio.Event, started: Callable[[str], None]) -> bool:
        """Serves on the listener until `stop`; returns when everything is drained and synced. The answer is as `serve_node`'s."""
        self.cluster.start()
        sync_fd = self.engine.sync_fileno()
        if sync_fd is not None:
            self.reactor.watch_sync(sync_fd)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._loop)
            nursery.start_soon(self.engine.run, self.env.offload)
            nursery.start_soon(self.control.run)
            nursery.start_soon(self.peers.run)
            nursery.start_soon(self.gossip.run)
            nursery.start_soon(self.succession.run)
            nursery.start_soon(self.handoff.run)
            nursery.start_soon(self.parting.run)
            nursery.start_soon(self.scrub.run)
            nursery.start_soon(self.forgetting.run)
            nursery.start_soon(self.metrics.run)
            nursery.start_soon(self.admission.run)
            nursery.start_soon(self.rounds.run)
            nursery.start_soon(self._watch_disk, stop)
            self.reactor.listen(listener)
            log.info("listening", extra={"address": self.cluster.address, "node": self.cluster.node_id.hex()})
            started(self.cluster.address)
            await stop.wait()
            await self._drain()
            nursery.cancel_scope.cancel()
        if not self.engine.read_only:
            self.engine.flush()
            self.engine.sync()
        log.info("stopped")
        return self.engine.failed_fsync

    async def _loop(self) -> None:
        try:
            await self.reactor.run()
        finally:
            self._loop_ended.set()

    async def _watch_disk(self, stop: trio.Event) -> None:
        """An fsync that failed once cannot be repeated: the kernel may have dropped the pages that it could not write."""
        while not self.engine.failed_fsync:
            await self.env.sleep(DISK_LOOK_S)
        log.error("an fsync failed: this node restarts, to serve only what is on disk", extra={"reason": self.engine.read_only})
        stop.set()

    async def _drain(self) -> None:
        """No new connections, no new requests; those under way are finished, within DRAIN_S."""
        log.info("draining")
        self.draining = True
        self.reactor.stop_listening()
        self.data_plane.drain()
        with trio.move_on_after(DRAIN_S):
            while self.data_plane.requests_in_flight or not self.reactor.quiet():
                await self.env.sleep(DRAIN_LOOK_S)
        self.reactor.stop()
        await self._loop_ended.wait()  # it says goodbye to every connection

    def state(self) -> State:
        """In one word, as `status` shows it."""
        if self.draining:
            return "draining"
        view, own = self.cluster.view, self.cluster.node_id
        if self.cluster.removed:  # that this node is gone counts once somebody else knows: its machine may be thrown away
            return "left"
        if view is not None and own in view.departed:
            return "leaving"
        if self.cluster.placement is None or not self.cluster.is_member:
            return "waiting"
        if self.engine.read_only:
            return "read-only"
        return "ready" if self.peers.settled and self.peers.reachable >= self._needed else "starting"

    def _control_frame(self, connection: Connection, type: int, status: int, request_id: int, body: bytes) -> None:
        """Called by the data plane inside a pass, for every frame that is not a put, a get or a replica's."""
        self.sessions.frame(connection, type, status, request_id, body)

    def _storage_failed(self, error: Exception) -> None:
        log.error("the disk refuses writes; reads go on", extra={"reason": str(error)})

    def _membership_statistics(self) -> dict[str, object]:
        history, gossip = self.cluster.history, self.gossip
        return {
            "records": len(history),
            "unknown_records": history.unknown_count,
            "gossip_rounds": gossip.rounds,
            "gossip_exchanges": gossip.exchanges,
            "records_learned": gossip.records_learned,
            "sessions": len(self.sessions),
            **self.succession.statistics(),
            "refused_hellos": self.sessions.refused_hellos,
        }
