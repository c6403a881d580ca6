"""No strict read misses an acknowledged write while there are fewer members than N before or after a change: seeded (core/change.py).

What a request asks for is then the bucket's, which means as many as there are. Changes among more members are drawn by the core tier of
the simulator, which asks for numbers (tests/sim/test_core.py).

Each node does the steps in its own time: the next one when all have told of the one before, and it tells of one when its older requests
are over. In between, puts and strict gets go through any node, frames are lost and held back, links break, processes restart. R + W > N
in each, so a strict get must show every value of its key that was acknowledged to a strict put before it began; values are written
blindly, so that none ever replaces another.
"""

from __future__ import annotations

import pytest

from dynamo_fast.core.change import Step
from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.wire.status import MessageType, Status
from tests.node.between import Between
from tests.node.planes import Client, frames

CHANGES = [([0, 1], [0, 1, 2]), ([0, 1, 2], [0, 1]), ([0], [0, 1, 2])]
QUORUMS = [(2, 2), (3, 1), (1, 3)]  # W and R
KEYS = [b"key%d" % number for number in range(6)]
VALUES_PER_KEY = 60
CARRIED = (MessageType.REPLICATE, MessageType.REPLICATE_REPLY, MessageType.READ, MessageType.READ_REPLY, MessageType.PUT)


class World:
    """The cluster, how far each node is, and what was acknowledged."""

    def __init__(self, seed: int) -> None:
        before, after = CHANGES[seed % len(CHANGES)]
        w, r = QUORUMS[seed // len(CHANGES) % len(QUORUMS)]
        self.cluster = Between(
            before, after, seed=seed, ask_all_every=1 + seed % 2 * 1000, requests=RequestsSection(w=w, r=r, dw=0),
            limits=LimitsSection(siblings_max=VALUES_PER_KEY * len(KEYS)),
        )  # fmt: skip
        self.chance = self.cluster.chance
        self.told = [Step.NONE] * len(self.cluster.nodes)
        self.since_us = [0] * len(self.cluster.nodes)  # when each began to do what it does
        self.under_way: list[tuple[Client, int, bytes, bytes]] = []
        self.acknowledged: dict[bytes, set[bytes]] = {key: set() for key in KEYS}
        self.written = 0
        self.reads = self.mixed = 0

    def put(self) -> None:
        """Begins one, through any node; sometimes not strictly, and then nobody may count on it."""
        self.written += 1
        key, value, strict = self.chance.choice(KEYS), b"%d" % self.written, self.chance.random() < 0.8
        if self.written > VALUES_PER_KEY * len(KEYS):
            return
        client = self.cluster.client(self.chance.randrange(len(self.cluster.nodes)))
        # Of fewer homes than N the numbers of the request may be too many, those of the bucket never are.
        asked = client.put(key, value, strict=strict)
        if strict:
            self.under_way.append((client, asked, key, value))
        if self.chance.random() < 0.7:
            self.cluster.run()

    def note(self) -> None:
        for client, asked, key, value in list(self.under_way):
            if asked in client.answers:
                self.under_way.remove((client, asked, key, value))
                if client.answers[asked].status == Status.OK:
                    self.acknowledged[key].add(value)

    def get(self, key: bytes, number: int) -> None:
        self.note()
        wanted = set(self.acknowledged[key])
        answer = self.cluster.get_if_answered(number, key, strict=True)
        if answer is not None and answer.status in (Status.OK, Status.NOT_FOUND):
            self.reads += 1
            self.mixed += len(set(self.cluster.steps)) > 1
            missed = wanted - {value for value, _, _ in answer.siblings}
            assert not missed, f"{key!r} through {number}, steps {self.cluster.steps}: {missed}"

    def go_on(self) -> None:
        """A node tells of what it has done, or does the next step, if it may."""
        cluster, number = self.cluster, self.chance.randrange(len(self.cluster.nodes))
        doing = cluster.steps[number]
        if self.told[number] < doing:
            oldest_us = cluster.nodes[number].plane.oldest_request_us
            if oldest_us == 0 or oldest_us > self.since_us[number]:
                if doing == Step.SYNCED:
                    cluster.bring_up_to_date(number)
                self.told[number] = doing
            else:
                cluster.pass_time(10)  # until it is answered, or its deadline comes
        elif doing < Step.SETTLED and min(self.told) >= doing:
            self.since_us[number] = cluster.now_ms * 1000
            cluster.do(Step(doing + 1), number)
            cluster.pass_time(1)

    def err(self) -> None:
        cluster, chance = self.cluster, self.chance
        here, there = chance.sample(range(len(cluster.nodes)), 2)
        linked = cluster.linked(here, there)
        kind = chance.choice(["cut", "mend", "mend", "lose", "hold", "hold", "release", "release", "release", "time", "restart"])
        if kind == "cut" and linked:
            cluster.cut(here, there)
        elif kind in ("mend", "cut") and not linked:
            cluster.link(here, there)
        elif kind == "lose":
            of_these = frames(chance.choice(CARRIED), target=there)
            cluster.drop(lambda sent: of_these(sent) and chance.random() < 0.5)
        elif kind == "hold":
            cluster.hold(frames(chance.choice(CARRIED), target=there))
        elif kind == "release":
            cluster.release(backwards=chance.random() < 0.5)
            cluster.run()
        elif kind == "restart" and chance.random() < 0.2:
            self.note()
            self.under_way = [one for one in self.under_way if one[0].node != here]
            cluster.steps[here] = self.told[here]
            cluster.restart(here)
        elif kind == "time":
            cluster.pass_time(chance.choice([1, 20, 400]))


@pytest.mark.parametrize("seed", range(18))
def test_no_strict_read_misses_an_acknowledged_write(seed: int) -> None:
    world = World(seed)
    chance, cluster = world.chance, world.cluster
    for _ in range(3000):
        if min(world.told) == Step.SETTLED:
            break
        what = chance.random()
        if what < 0.12:
            world.put()
        elif what < 0.6:
            world.get(chance.choice(KEYS), chance.randrange(len(cluster.nodes)))
        elif what < 0.85:
            world.go_on()
        else:
            world.err()
    assert min(world.told) == Step.SETTLED, "it comes to an end"
    cluster.release()
    for one in range(len(cluster.nodes)):
        for two in range(one):
            if not cluster.linked(one, two):
                cluster.link(one, two)
    cluster.run()
    for key in KEYS:
        world.get(key, chance.choice(cluster.after))
    assert world.reads > 10
