"""No lost write, under whatever the virtual network and the virtual machines do: seeded, and checked by causal closure.

Writers read, then write on with the context they got, or blindly, through any node, while frames are lost, repeated and held back, links
break, processes restart, records rot and disks fill. In the end all is healed and every key is read from all homes. Then every
acknowledged write is among the versions shown, or somebody who had seen it replaced it; and no dot ever named two values.
"""

from __future__ import annotations

import pytest

from dynamo_fast.core.siblings import Dot
from dynamo_fast.storage.schema import decode_record
from dynamo_fast.wire.status import MessageType, Outcome, Status
from tests.node.planes import Answer, Planes, frames

KEYS = [b"a", b"b", b"c"]
STEPS = 120
CARRIED = (MessageType.REPLICATE, MessageType.REPLICATE_REPLY, MessageType.READ, MessageType.READ_REPLY)


class Write:
    """One put: what its writer had seen, and what became of it."""

    def __init__(self, key: bytes, value: bytes, seen: frozenset[bytes]) -> None:
        self.key, self.value, self.seen = key, value, seen
        self.outcome = Outcome.UNKNOWN


class World:
    """The cluster, what was written, and what each writer knows."""

    def __init__(self, seed: int) -> None:
        self.cluster = Planes(4, seed=seed)
        self.chance = self.cluster.chance
        self.writes: dict[bytes, Write] = {}
        self.known: dict[bytes, list[tuple[bytes, frozenset[bytes]]]] = {key: [(b"", frozenset())] for key in KEYS}
        self.dots: dict[tuple[bytes, Dot], bytes] = {}
        # A record rots once, and only where every acknowledged write has two copies: what is gone everywhere is gone.
        self.rots = seed % 2
        self.w = [0, 2, 3] if self.rots else [0, 1, 1, 2, 3]

    def ask(self, type: MessageType, key: bytes, **options: object) -> Answer | None:
        """Through any node; None when no answer came by the deadline, which a failed log write may cause."""
        client = self.cluster.client(self.chance.randrange(4))
        asked = client.put(key, **options) if type == MessageType.PUT else client.get(key, **options)  # type: ignore[arg-type]
        self.cluster.run()
        if asked not in client.answers:
            self.cluster.pass_time(1100)
        return client.answers.get(asked)

    def write(self) -> None:
        key = self.chance.choice(KEYS)
        context, seen = self.chance.choice(self.known[key][-4:])
        value = b"%d" % (len(self.writes) + 1)
        put_id = self.chance.randbytes(16)
        write = self.writes[value] = Write(key, value, seen)
        for _ in range(self.chance.choice([1, 1, 1, 2])):
            answer = self.ask(MessageType.PUT, key, value=value, put_id=put_id, context=context, w=self.chance.choice(self.w))
            if answer is None or answer.status.outcome is not Outcome.OK:
                continue
            write.outcome = Outcome.OK
            self.known[key].append((answer.context, seen | {value}))

    def read(self, key: bytes, r: int = 0) -> Answer | None:
        answer = self.ask(MessageType.GET, key, r=r)
        if answer is not None and answer.status.outcome is Outcome.OK:
            self.known[key].append((answer.context, frozenset(answer.values)))
            assert all(self.writes[value].key == key for value in answer.values)
        return answer

    def note_dots(self) -> None:
        """A dot names one value, in every copy there ever is."""
        for node in range(4):
            for key in KEYS:
                if self.cluster.record(node, key) is None:
                    continue
                for sibling in self.cluster.copy(node, key).siblings:
                    assert self.dots.setdefault((key, sibling.dot), sibling.value) == sibling.value

    def err(self) -> None:
        cluster, chance = self.cluster, self.chance
        here, there = chance.sample(range(4), 2)
        linked = cluster.linked(here, there)
        kind = chance.choice(["link", "link", "mend", "lose", "repeat", "hold", "release", "release", "restart", "rot", "disk", "time"])
        if kind == "link" and linked:
            cluster.cut(here, there)
        elif kind in ("link", "mend") and not linked:
            cluster.link(here, there)
        elif kind == "lose":
            of_these = frames(chance.choice(CARRIED), target=there)
            cluster.drop(lambda sent: of_these(sent) and chance.random() < 0.5)
        elif kind == "repeat":
            cluster.repeat(frames(chance.choice(CARRIED), target=there))
        elif kind == "hold":
            cluster.hold(frames(chance.choice(CARRIED), target=there))
        elif kind == "release":
            cluster.release(backwards=chance.random() < 0.5)
            cluster.run()
        elif kind == "restart":
            cluster.restart(here)
        elif kind == "rot" and self.rots:
            self.rots -= 1
            cluster.nodes[here].engine.damage(cluster.store_key(chance.choice(KEYS)))
        elif kind == "disk":
            ill = [node.engine for node in cluster.nodes if node.engine.failure]
            if ill:
                ill[0].heal()
            else:
                cluster.nodes[here].engine.failure = "no space left"
        else:
            cluster.pass_time(chance.choice([1, 50, 400]))

    def heal(self) -> None:
        cluster = self.cluster
        cluster.release()
        cluster.run()
        for node in cluster.nodes:
            node.engine.heal()
        for number in range(4):
            cluster.isolate(number)
        for one in range(4):
            for two in range(one):
                cluster.link(one, two)
        cluster.pass_time(2000)
        self.hand_over()

    def hand_over(self) -> None:
        """Hints go home, as handoff takes them there."""
        cluster = self.cluster
        for key in KEYS:
            for node in cluster.nodes:
                record = cluster.record(node.number, key)
                parts = decode_record(record) if record else None
                if parts is None or not parts.owed:
                    continue
                assert node.number not in cluster.homes(key)
                for slot, home in enumerate(cluster.homes(key)):
                    if parts.owed >> slot & 1:
                        ((status, _),) = cluster.nodes[home].plane.merge_entries([(b"", key, parts.packed)])
                        assert status == Status.OK
                        node.plane.settle_hints([(cluster.store_key(key), parts.hash, 1 << slot)])
                assert cluster.record(node.number, key) is None

    def covered(self, value: bytes, shown: set[bytes]) -> bool:
        """Is the write shown, or was it seen by a write that is, or that is itself covered?"""
        reached, waiting = set(), [value]
        while waiting:
            one = waiting.pop()
            if one in shown:
                return True
            if one not in reached:
                reached.add(one)
                waiting += [write.value for write in self.writes.values() if one in write.seen and write.key == self.writes[one].key]
        return False


@pytest.mark.parametrize("seed", range(40))
def test_no_acknowledged_write_is_lost(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        step = world.chance.random()
        if step < 0.5:
            world.write()
        elif step < 0.75:
            world.read(world.chance.choice(KEYS))
        else:
            world.err()
        world.note_dots()
    world.heal()
    for key in KEYS:
        world.read(key)  # which mends a damaged copy
        answer = world.read(key, r=3)
        assert answer is not None
        assert answer.status in (Status.OK, Status.NOT_FOUND)
        shown = set(answer.values)
        acknowledged = [value for value, write in world.writes.items() if write.key == key and write.outcome is Outcome.OK]
        lost = [value for value in acknowledged if not world.covered(value, shown)]
        assert lost == [], f"seed {seed}: acknowledged, and neither shown nor replaced by who had seen it"
        world.cluster.run()
        assert len({world.cluster.packed(home, key) for home in world.cluster.homes(key)}) == 1
    assert all(node.errors == [] for node in world.cluster.nodes)
    assert sum(write.outcome is Outcome.OK for write in world.writes.values()) > STEPS // 8
