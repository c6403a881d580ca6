"""With whom this node compares what it holds, and when; and what an operator asks for and sees of it.

Every pair of members that share partitions meets within `anti_entropy.round_s` of the last time, and whenever one of them comes back
after an absence: whichever of the two is due first begins. The smaller id is due a little sooner, so that as a rule one exchange serves
both. Between members in step a meeting is one message each way. While a peer cannot be reached, or answers with nonsense, it is tried
again after RETRY_S.

In a change of members all this goes by the placement that reads go by, the old one and at some moment the new one. A pair that shares
partitions only in the new one has not met yet, and is due at once. Who is about to leave takes part as long as it is read from. What a
node gains is none of the rounds' business until then (anti_entropy.py, transfer.py).

A repair is the same with every peer at once, counted by itself.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import trio

from dynamo_fast.node.anti_entropy import AntiEntropy
from dynamo_fast.node.control import Refusal
from dynamo_fast.node.exchange import BadAnswer
from dynamo_fast.node.meeting import Tally
from dynamo_fast.node.peers import Peers
from dynamo_fast.node.sessions import CallFailed, Session
from dynamo_fast.storage.engine import StorageError
from dynamo_fast.wire.control_messages import RepairReply, RepairRequest
from dynamo_fast.wire.status import Status

log = logging.getLogger("dynamo_fast.node")

LOOK_S = 0.5  # between two looks at who is due
RETRY_S = 5.0  # after an exchange that ended early
SUSPECT_S = 1.0  # between two exchanges, while partitions of ours may lack something
COLLISION_S = 1.0  # after both had begun one
LARGER_WAITS = 1.5  # times round_s, for the larger id of a pair
MEETINGS_MAX = 4  # exchanges begun here that go on at once
REPAIR_PATIENCE_S = 60.0  # a repair waits so long for a peer's own exchange with us to end
TROUBLE = (CallFailed, BadAnswer, StorageError)


def collided(error: Exception) -> bool:
    """Whether an exchange ended because the other side had begun one, or is busy: nothing is wrong."""
    return isinstance(error, CallFailed) and error.status == Status.OVERLOAD


@dataclass
class Repair:
    """One run of a repair: every peer once."""

    run: int
    tallies: dict[bytes, Tally] = field(default_factory=dict)  # by peer
    peers: int = 0
    partitions: int = 0  # that are to be compared, counted once for each peer
    failed: dict[str, str] = field(default_factory=dict)
    done: bool = False


class Rounds:
    """The task that begins exchanges, and the answer to a RepairRequest."""

    def __init__(self, *, anti_entropy: AntiEntropy, peers: Peers, round_s: float) -> None:
        self._anti_entropy = anti_entropy
        self._env = anti_entropy.env
        self._cluster = anti_entropy.cluster
        self._peers = peers
        self._round_s = round_s
        self._seen: dict[bytes, Session] = {}  # the connections as of the last look
        self._due_s: dict[bytes, float] = {}  # by peer; one that is not here is due
        self._tried_s: dict[bytes, float] = {}  # by peer, when an exchange was last begun
        self._said: dict[bytes, str] = {}  # the last trouble logged per peer, so that each is logged once
        self._meetings = trio.Semaphore(MEETINGS_MAX)
        self._repair = Repair(run=0, done=True)
        self._wanted = trio.Event()  # a repair
        self.meetings = self.failures = 0

    async def run(self) -> None:
        """Begins exchanges until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                self._look(nursery)
                with trio.move_on_after(LOOK_S * (0.75 + 0.5 * self._env.random())):
                    await self._wanted.wait()
                if self._wanted.is_set():
                    self._wanted = trio.Event()
                    nursery.start_soon(self._run_repair, self._repair)

    def _look(self, nursery: trio.Nursery) -> None:
        """Whoever is due and can be asked is asked."""
        now_s = self._env.now()
        self._anti_entropy.forgive_alone()
        for peer in [peer for peer in self._seen if peer not in self._peers.up]:
            del self._seen[peer]
        for peer, session in self._peers.up.items():
            if peer not in self._seen:
                self._due_s.pop(peer, None)  # it was away, or we were
            self._seen[peer] = session
            due_s = self._due_s.get(peer, 0.0)
            met_s = self._anti_entropy.met_s.get(peer)
            if met_s is not None and peer in self._due_s:
                due_s = max(due_s, met_s + self._interval_s(peer))
            if self._anti_entropy.suspects_with(peer):
                due_s = min(due_s, self._tried_s.get(peer, 0.0) + SUSPECT_S)
            if now_s >= due_s and self._anti_entropy.free(peer) and self._anti_entropy.shared(peer):
                self._due_s[peer] = now_s + RETRY_S
                self._tried_s[peer] = now_s
                nursery.start_soon(self._meet, peer, session)

    def _interval_s(self, peer: bytes) -> float:
        return self._round_s * (1.0 if self._cluster.node_id < peer else LARGER_WAITS)

    async def _meet(self, peer: bytes, session: Session) -> None:
        async with self._meetings:
            if self._anti_entropy.free(peer):
                await self._exchange(peer, session, Tally())

    async def _exchange(self, peer: bytes, session: Session, tally: Tally) -> Exception | None:
        """One exchange, whatever becomes of it; why it ended early, None when it did not."""
        self.meetings += 1
        try:
            await self._anti_entropy.exchange(session, tally)
        except TROUBLE as error:
            self.failures += not collided(error)
            self._due_s[peer] = self._env.now() + (COLLISION_S if collided(error) else RETRY_S) * (0.5 + self._env.random())
            if self._said.get(peer) != str(error) and not collided(error):
                self._said[peer] = str(error)
                log.info("an exchange ended early", extra={"peer": peer.hex(), "reason": str(error)})
            return error
        self._said.pop(peer, None)
        self._due_s[peer] = self._env.now() + self._interval_s(peer) * (0.9 + 0.2 * self._env.random())
        return None

    # What an operator asks for ------------------------------------------------------------------------------------------------------

    async def answer_repair(self, session: Session, request: RepairRequest) -> RepairReply:
        """Begins a repair, or tells how one is getting on. One at a time: who asks while one is under way joins it."""
        if self._cluster.placement is None or not self._cluster.is_member:
            raise Refusal(Status.NOT_READY, "this node is no member of a cluster yet")
        if request.run == 0 and self._repair.done:
            # Unlike any of another start of this node.
            self._repair = Repair(run=int.from_bytes(self._env.random_bytes(6), "little") | 1)
            self._wanted.set()
        elif request.run not in (0, self._repair.run):
            raise Refusal(Status.BAD_REQUEST, f"this node knows of no repair {request.run}; it may have been restarted: begin anew")
        repair, tally = self._repair, Tally()
        for one in repair.tallies.values():
            tally.add(one)
        return RepairReply(
            run=repair.run, done=repair.done, peers=repair.peers, partitions=repair.partitions, compared=tally.compared,
            differing=tally.differing, keys_pulled=tally.keys_pulled, keys_pushed=tally.keys_pushed, failed=dict(repair.failed),
        )  # fmt: skip

    async def _run_repair(self, repair: Repair) -> None:
        view = self._cluster.view
        assert view is not None, "a member knows its cluster"
        others = [node_id for node_id in sorted(view.members) if node_id != self._cluster.node_id and self._anti_entropy.shared(node_id)]
        repair.peers = len(others)
        repair.partitions = sum(len(self._anti_entropy.shared(peer)) for peer in others)
        async with trio.open_nursery() as nursery:
            for peer in others:
                nursery.start_soon(self._repair_with, repair, peer, view.members[peer].address)
        repair.done = True

    async def _repair_with(self, repair: Repair, peer: bytes, address: str) -> None:
        """One peer of a repair. An exchange with it that is under way may have passed what this one is asked to find: it is waited for."""
        reason = "an exchange with it is under way already and takes long; try again later"
        patient_until_s = self._env.now() + REPAIR_PATIENCE_S
        tally = repair.tallies[peer] = Tally()
        async with self._meetings:
            while self._env.now() < patient_until_s:
                session = self._peers.up.get(peer)
                if session is None:
                    reason = "it cannot be reached"
                    break
                if self._anti_entropy.free(peer):
                    tally.compared = 0
                    error = await self._exchange(peer, session, tally)
                    if error is None:
                        return
                    if not collided(error):
                        reason = str(error) or type(error).__name__
                        break
                await self._env.sleep(LOOK_S * (0.5 + self._env.random()))
        repair.failed[address] = reason

    def statistics(self) -> dict[str, object]:
        """Exchanges begun here and what they have done; `last_full_round_s` ago all other members had been met since."""
        met_s, total = self._anti_entropy.met_s, self._anti_entropy.total
        view = self._cluster.view
        others = [one for one in view.members if one != self._cluster.node_id and self._anti_entropy.shared(one)] if view else []
        oldest_s = min((met_s.get(one, -1.0) for one in others), default=-1.0)
        return {
            "rounds": self.meetings,
            "failures": self.failures,
            "partitions_compared": total.compared,
            "partitions_differing": total.differing,
            "keys_pulled": total.keys_pulled,
            "keys_pushed": total.keys_pushed,
            "keys_refused": total.refused,
            "keys_settled_meanwhile": total.settled_meanwhile,
            "compare_bytes": total.bytes,
            "suspect_partitions": len(self._anti_entropy.engine.suspects),
            "last_full_round_age_s": round(self._env.now() - oldest_s, 1) if oldest_s >= 0 else None,
        }
