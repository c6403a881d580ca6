"""Gossip: once a second with a random peer and with a seed, two histories become their union (paper section 4.8.1).

An exchange costs one small message when the digests agree. When they do not, the answer lists the other's record ids; then each side
gets what it lacks, at most GOSSIP_RECORDS_MAX records a message. A node that learned something tells others at once, so a change
reaches a small cluster in well under a second and a large one in rounds that grow with the logarithm of its size.

A node that knows of no cluster asks its seeds and the addresses of its bootstrap list; the first of that list also makes the birth.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import trio

from dynamo_fast.core.membership import HistoryError, Record
from dynamo_fast.env import Env, format_address, parse_address
from dynamo_fast.node.birth import BirthRefused, Roll, first_of
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.sessions import CallFailed, Session, Sessions
from dynamo_fast.wire.membership_messages import GOSSIP_RECORDS_MAX, BirthReply, BirthRequest, GossipReply, GossipRequest
from dynamo_fast.wire.status import Status

log = logging.getLogger("dynamo_fast.node")

ROUND_S = 1.0
WAITING_ROUND_S = 0.25  # while no cluster is known, a node has nothing better to do
SEED_EVERY_ROUNDS = 10  # a seed that is no peer is dialled for one exchange this often, once a cluster is known
TOLD_AT_ONCE = 3  # peers that hear of news without waiting for the round
TROUBLE = (CallFailed, HistoryError, OSError)  # what ends one exchange and never the node: the peer, its records, our disk
TELL_GAP_S = 0.02  # before news are told: what comes in the meantime is told with it
STEPS_MAX = 4096  # messages of one exchange; a history that needs more goes on in the next round


T = TypeVar("T", GossipRequest, GossipReply)


class Gossip:
    """The exchange of histories, both sides of it, and the birth of the cluster. BirthRefused when the bootstrap list cannot be meant."""

    def __init__(
        self, *, env: Env, cluster: Cluster, sessions: Sessions, peers: Peers, seeds: Sequence[str], bootstrap: Sequence[str],
        partitions: int, replicas: int,
    ) -> None:  # fmt: skip
        self._env = env
        self._cluster = cluster
        self._sessions = sessions
        self._peers = peers
        self._seeds = list(dict.fromkeys([*seeds, *bootstrap]))  # who can be asked when no peer is up
        self._bootstrap = list(bootstrap)
        self._partitions, self._replicas = partitions, replicas
        roll = Roll(bootstrap, cluster.own) if bootstrap and cluster.view is None else None
        self._roll = roll if bootstrap and first_of(bootstrap) == cluster.address else None
        self._birth_lock = trio.Lock()
        self._met: dict[str, bytes] = {}  # addresses that are not a member's own, and whom they led to
        self._said: dict[str, str] = {}  # the last failure logged per address, so that each is logged once
        self.rounds = self.exchanges = self.records_learned = 0

    async def run(self) -> None:
        """Waits for a cluster or makes it, then gossips until cancelled."""
        if self._cluster.view is None and not self._seeds:
            log.warning("this node knows of no cluster and of nobody to ask: start it with --seeds, or --bootstrap for a new cluster")
        while self._cluster.view is None:
            await self._seek()
            if self._cluster.view is None:
                await self._env.sleep(WAITING_ROUND_S * (0.5 + self._env.random()))
        await self._announce()
        self._say_how_to_join()
        while True:
            news = self._cluster.news()
            await self._round()
            with trio.move_on_after(ROUND_S * (0.75 + 0.5 * self._env.random())):
                await news.wait()
                await self._env.sleep(TELL_GAP_S)
                await self._tell()

    # Before a cluster is known ----------------------------------------------------------------------------------------------------

    async def _seek(self) -> None:
        """One attempt to learn of a cluster, or to have it born."""
        if self._roll is not None and not self._roll.waiting_for:
            try:
                await self._give_birth(self._roll)
            except (OSError, BirthRefused) as error:
                self._say("birth", f"the cluster cannot be born: {error}")
        for address in await self._addresses(self._seeds):
            if self._cluster.view is not None:
                return
            try:
                async with self._sessions.contact(address) as session:
                    if self._bootstrap and address == first_of(self._bootstrap):
                        await self._ask_for_birth(session)
                    else:
                        await self.exchange(session)
            except TROUBLE as error:
                self._say(address, str(error))

    async def _ask_for_birth(self, session: Session) -> None:
        reply = await session.call(BirthRequest(member=self._cluster.own, bootstrap=self._bootstrap))
        assert isinstance(reply, BirthReply)
        if reply.records:
            await self._learn(reply.records)
        elif reply.waiting_for:
            self._say("birth", f"the cluster is not born yet: waiting for {', '.join(reply.waiting_for)}")

    async def answer_birth(self, session: Session, request: BirthRequest) -> BirthReply:
        """A node of our bootstrap list is here; the reply is the history, or whom the birth waits for."""
        if self._cluster.view is not None:
            return BirthReply(records=list(self._cluster.history.records[:GOSSIP_RECORDS_MAX]))
        if self._roll is None:
            raise Refusal(Status.NOT_READY, "this node does not make the birth: it was not started with this --bootstrap, or sorts later")
        try:
            self._roll.ask(request.member, request.bootstrap)
            if not self._roll.waiting_for:
                await self._give_birth(self._roll)
        except BirthRefused as error:
            raise Refusal(Status.BAD_REQUEST, str(error)) from error
        if self._cluster.view is not None:
            return BirthReply(records=list(self._cluster.history.records[:GOSSIP_RECORDS_MAX]))
        return BirthReply(waiting_for=self._roll.waiting_for)

    async def _give_birth(self, roll: Roll) -> None:
        """Makes the one birth record; whoever comes second finds it made. It is on disk before anyone is told."""
        async with self._birth_lock:
            if self._cluster.view is None:
                birth = await self._env.offload(roll.birth, self._partitions, self._replicas, self._env.random_bytes)
                await self._cluster.add(birth)
                log.info("the cluster is born", extra={"cluster": birth.cluster_id.hex(), "members": len(birth.members)})

    # Once it is known -------------------------------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        """Tells of a new address; a disk that refuses is asked again until it does not."""
        while True:
            try:
                return await self._cluster.announce()
            except OSError as error:
                self._say("address", f"this member's new address cannot be written: {error}")
                await self._env.sleep(ROUND_S)

    def _say_how_to_join(self) -> None:
        """A node that was started with seeds becomes a member only when somebody asks for it, who may be looking at this log."""
        cluster = self._cluster
        if cluster.view is not None and not cluster.is_member:
            if cluster.node_id in cluster.view.departed:
                log.info("this node has left the cluster; to join again it needs an empty data directory")
            else:
                log.info(f"waiting: ask a member with `dynamo-fast join {cluster.address}`")

    async def _round(self) -> None:
        """One random peer, and one seed; a seed that is a peer is asked over the connection there is."""
        self.rounds += 1
        if self._peers.up:
            await self._try(self._env.choose(list(self._peers.up.values())))
        if self._seeds and (not self._peers.up or self.rounds % SEED_EVERY_ROUNDS == 0):
            view = self._cluster.view
            known = {member.address for member in view.members.values()} if view else set()
            strangers = [one for one in await self._addresses(self._seeds) if one not in known and self._met.get(one) not in self._peers.up]
            if strangers:
                await self._try_address(self._env.choose(strangers))

    async def _tell(self) -> None:
        """News go to a few peers at once; the sessions are drawn without repeats."""
        if self._env.rarely("gossip: news wait for the round"):
            return
        left = list(self._peers.up.values())
        for _ in range(min(TOLD_AT_ONCE, len(left))):
            session = self._env.choose(left)
            left.remove(session)
            await self._try(session)

    async def _try_address(self, address: str) -> None:
        try:
            async with self._sessions.contact(address) as session:
                if session.node_id is not None:
                    self._met[address] = session.node_id
                await self.exchange(session)
        except TROUBLE as error:
            self._say(address, str(error))

    async def _try(self, session: Session) -> None:
        try:
            await self.exchange(session)
        except TROUBLE as error:
            self._say(session.connection.label or "a peer", str(error))

    async def exchange(self, session: Session) -> None:
        """Makes this history and the other's one. CallFailed or HistoryError when it stops early; what was learned stays."""
        self.exchanges += 1
        request = self._saying(session, GossipRequest(digest=self._cluster.history.digest, quiet=self._cluster.quiet))
        theirs: list[bytes] = []  # the ids they said they hold
        for _ in range(STEPS_MAX):
            reply = await session.call(request)
            assert isinstance(reply, GossipReply)
            self._hear(session, reply)
            if reply.records:
                await self._learn(reply.records)
            history = self._cluster.history
            if reply.digest == history.digest:
                return
            if reply.ids is not None:
                theirs = reply.ids
            elif not reply.records and not request.records:
                return  # neither side has anything left to give; records of theirs that we refused, or news in between
            most = 1 if self._env.rarely("gossip: one record in a message") else GOSSIP_RECORDS_MAX
            wanted = history.ids_lacking(theirs)[:most]
            records = history.records_not_in(theirs)[:most]
            theirs = [*theirs, *(record.id for record in records)]
            request = GossipRequest(digest=history.digest, records=records, wanted=wanted)

    async def answer(self, session: Session, request: GossipRequest) -> GossipReply:
        """The other side of `exchange`. Ids are listed only when nothing in particular was wanted or given."""
        try:
            if request.records:
                await self._learn(request.records)
        except HistoryError as error:
            raise Refusal(Status.WRONG_CLUSTER, str(error)) from error
        self._hear(session, request)
        history = self._cluster.history
        records = history.records_of(request.wanted[:GOSSIP_RECORDS_MAX])
        differ = request.digest != history.digest and not request.wanted and not request.records
        reply = GossipReply(digest=history.digest, ids=history.ids() if differ else None, records=records)
        return self._saying(session, reply, in_answer=not request.quiet)

    def _saying(self, session: Session, message: T, *, in_answer: bool = False) -> T:
        """The message with our clock, with what all have told while a change is under way here or at the other end, and with what we know
        better of the other end than itself."""
        cluster = self._cluster
        told = [] if cluster.quiet and not in_answer else [cluster.progress[node_id] for node_id in sorted(cluster.progress)]
        later = self._sessions.later_start(session)
        return msgspec.structs.replace(message, progress=told, wall_ms=self._env.wall_ms(), later_start=later)

    def _hear(self, session: Session, message: GossipRequest | GossipReply) -> None:
        if session.node_id is not None and message.wall_ms:
            self._cluster.clock_offsets_ms[session.node_id] = message.wall_ms - self._env.wall_ms()
        self._cluster.hear(message.progress, message.later_start)

    async def _learn(self, records: Sequence[Record]) -> None:
        self.records_learned += len(await self._cluster.merge(records))

    async def _addresses(self, names: Sequence[str]) -> list[str]:
        """Each name as it stands if it is numeric or resolves to one address, else every address behind it; our own left out."""
        found: list[str] = []
        for name in names:
            host, port = parse_address(name)
            try:
                behind = await self._env.resolve(host, port)
            except OSError as error:
                self._say(name, f"{name}: {error.strerror or error}")
                continue
            found += [format_address(one) for one in behind] if len(behind) > 1 else [name]
        return [address for address in dict.fromkeys(found) if address != self._cluster.address]

    def _say(self, about: str, text: str) -> None:
        """Logs a failure once until it changes: seeds may be away for long."""
        if self._said.get(about) != text:
            self._said[about] = text
            log.info(text)
