"""A cluster of data planes on a network in virtual time: who is connected to whom, and what becomes of what they say.

Two nodes that run have a connection, or try to have one every now and then. A process that ends says goodbye by its kernel; a machine
without power says nothing, and whoever goes on sending to it is told once it is back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dynamo_fast.core.change import Step
from dynamo_fast.core.in_force import ring_over
from dynamo_fast.core.membership import Birth, History, NodeEntry, make_record
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.core.placement import Placement
from dynamo_fast.core.ring import Ring
from dynamo_fast.testing.agenda import Agenda
from dynamo_fast.testing.core.machine import Machine
from dynamo_fast.testing.core.member import Known, Member, Tables
from dynamo_fast.testing.core.network import Network, Pipe
from dynamo_fast.testing.dots import DotRegistry
from dynamo_fast.testing.planes import MAC_KEY, START_US, WALL_MS, End, PlaneNode, Planes, Works, cut_short
from dynamo_fast.testing.state import State
from dynamo_fast.testing.trace import Trace
from dynamo_fast.wire.connection import Connection
from dynamo_fast.wire.frame import Frame, FrameCutter

LAST_WRITE_WINS = b"lww"
DIAL_S = 0.05  # until a connection is there again, in the mean


class Wire(End):
    """An end with the pipe by which it sends. `told`: where the frames for a client go, None at an end that leads to a node."""

    __slots__ = ("cutter", "pipe", "told")

    def __init__(self, number: int, connection: Connection) -> None:
        super().__init__(number, connection)
        self.pipe: Pipe
        self.told: Callable[[Frame], None] | None = None
        self.cutter = FrameCutter()


class World(Planes):
    """`machines` by name; those that a change of members brings are there from the beginning. `pass_s`: what a pass takes, in the mean."""

    between: dict[tuple[int, int], Wire]  # type: ignore[assignment]

    def __init__(self, seed: int, nodes: int, *, pass_s: float = 0.0, **options: Any) -> None:
        super().__init__(nodes, chance=random.Random(f"{seed} world"), buckets={
            b"": BucketSettings(), LAST_WRITE_WINS: BucketSettings(reconcile="last-write-wins")}, **options)  # fmt: skip
        self.seed, self.pass_s = seed, pass_s
        self.clock, self.trace, self.dots = Agenda(), Trace(), DotRegistry()
        self.network = Network(self.clock, self.trace, random.Random(f"{seed} network"))
        self.on_members: Callable[[], None] = lambda: None  # called when a node knows something else of the members than before
        self.totals: dict[str, int] = {}  # counters of the processes that have ended
        self._dialling: set[tuple[int, int]] = set()
        self._ends_made = 0
        self.names = [chr(ord("a") + number) for number in range(nodes)]
        self._rings = {self.old.digest: self.ring}
        self.placement = self.old  # by which reads go, as the node that has come furthest knows it
        first = Known(self._birth(), (self.old,))
        tables: Tables = {self.old.digest: self.old}
        self.members = [Member(node_id, first.copy(), tables) for node_id in self.node_ids]
        self.machines = {name: Machine(self, number, name) for number, name in enumerate(self.names)}
        self.by_number = list(self.machines.values())
        self.nodes = [PlaneNode(self, number, machine.engine, 0) for number, machine in enumerate(self.by_number)]
        for machine in self.by_number:
            machine.start()

    def look_at_the_clock(self) -> None:
        """What the data planes take for the time."""
        self.now_us = START_US + int(self.clock.now * 1e6)
        self.wall_ms = WALL_MS + int(self.clock.now * 1e3)
        self.dots.now_s = self.clock.now

    # Processes ------------------------------------------------------------------------------------------------------------------------

    def open(self, node: PlaneNode) -> None:
        """A process begins, and looks for the others."""
        self.nodes[node.number] = node
        self.members[node.number].start()
        self.on_members()
        self.introduce(node)
        for other in range(len(self.nodes)):
            if other != node.number:
                self.dial_soon(node.number, other)

    def end_process(self, machine: Machine, *, silently: bool) -> None:
        """Its connections are none any more; `silently`: the other side is not told, and what was under way is lost."""
        for end in [one for one in self.ends.values() if one.number == machine.number]:
            assert isinstance(end, Wire)
            del self.ends[end.connection]
            if end.other is not None and self.between.get((end.number, end.other.number)) is end:
                del self.between[end.number, end.other.number]
            if silently:
                end.pipe.over = True
            else:
                end.pipe.send(None)

    def add_up(self, node: PlaneNode) -> None:
        """The counters of a process that ends go to the totals, and it is over."""
        for name, value in node.plane.statistics().items():
            if type(value) is int and value:
                self.totals[name] = self.totals.get(name, 0) + value
        node.plane.close()

    def heal_now(self) -> None:
        self.network.heal()
        for machine in self.living:
            machine.die_in_pass = machine.fail_next_sync = None
            machine.empty_disk()
            machine.thaw()
            machine.start()

    @property
    def living(self) -> list[Machine]:
        """All but the machines that are gone for good."""
        return [one for one in self.by_number if not one.destroyed]

    # Connections ----------------------------------------------------------------------------------------------------------------------

    def dial_soon(self, one: int, two: int) -> None:
        """The two have a connection again as soon as that can be."""
        pair = (min(one, two), max(one, two))
        if pair not in self._dialling:
            self._dialling.add(pair)
            self.clock.after(self.network.chance.expovariate(1.0) * DIAL_S, self._dial, pair)

    def _dial(self, pair: tuple[int, int]) -> None:
        self._dialling.discard(pair)
        machines = [self.by_number[number] for number in pair]
        if any(one.state in (State.STOPPED, State.DARK) for one in machines):
            return  # a process that begins looks for the others
        for one, two in (pair, pair[::-1]):
            if all(machine.up for machine in machines) and self.node_ids[two] in self.members[one].view.dead:
                self.by_number[two].retire()
                return
        if not all(one.up for one in machines) or not self.network.connects(*(one.name for one in machines)):
            self.dial_soon(*pair)
            return
        for one, two in (pair, pair[::-1]):
            if (one, two) in self.between:
                self._drop(self.between[one, two], "there is a newer connection")
        self.look_at_the_clock()
        self.link(*pair)
        for one, two in (pair, pair[::-1]):
            self._pipe(self.between[one, two], self.names[two])
        self.between[pair].pipe.back = self.between[pair[::-1]].pipe
        self.between[pair[::-1]].pipe.back = self.between[pair].pipe
        for number in pair:
            self.collect(self.nodes[number])

    def new_end(self, number: int, connection: Connection) -> Wire:
        self._ends_made += 1
        if connection.peer is not None:
            connection.takes_bytes_max = connection.message_bytes_max
            cut_short(connection, self._ends_made)
        return Wire(number, connection)

    def _pipe(self, end: Wire, target: str) -> None:
        end.pipe = Pipe(self.network, self.names[end.number], target, partial(self._arrived, end))

    def _arrived(self, sender: Wire, data: bytes | None) -> None:
        """At the node at the other end of where it was sent."""
        end = sender.other
        assert end is not None
        machine = self.by_number[end.number]
        if end.connection in self.ends:
            if data is not None:
                machine.receive(end.connection, data)
            else:
                machine.hear_end(end, "closed by the other side")
        elif machine.state is not State.DARK and sender.connection in self.ends:
            self.clock.after(sender.pipe.link.delay_s, self._reset, sender)

    def _reset(self, end: Wire) -> None:
        if end.connection in self.ends:
            self.by_number[end.number].hear_end(end, "connection reset by peer")

    def lose(self, end: End, reason: str) -> None:
        if end.connection in self.ends:
            self._drop(end, reason)
            if end.other is not None:
                self.dial_soon(end.number, end.other.number)

    def _drop(self, end: End, reason: str) -> None:
        assert isinstance(end, Wire)
        end.pipe.over = True
        self.look_at_the_clock()
        super().lose(end, reason)

    def reset(self, number: int, chance: random.Random) -> bool:
        """Some of a node's connections break at both ends."""
        found = [one for one in self.ends.values() if one.number == number and chance.random() < 0.5]
        for end in found:
            assert isinstance(end, Wire)
            if end.other is None:
                end.pipe.back.over = True
            for one in (end, end.other):
                if isinstance(one, Wire):
                    one.pipe.over = True
                    self._reset(one)
            if end.other is None:
                end.pipe.take(None)
        return bool(found)

    def carry(self, end: End) -> None:
        assert isinstance(end, Wire)
        connection = end.connection
        data = connection.take()
        if end.told is not None and data:
            for frame in end.cutter.feed(data):
                end.told(frame)
        if data:
            end.pipe.send(data)
        if connection.closing:
            end.pipe.send(None)
            del self.ends[connection]
            self._closed(end)

    def _closed(self, end: Wire) -> None:
        end.connection.notify_closed()
        if end.other is not None:
            if self.between.get((end.number, end.other.number)) is end:
                del self.between[end.number, end.other.number]
                self.nodes[end.number].plane.peer_down(self.node_ids[end.other.number])
            self.dial_soon(end.number, end.other.number)

    def linked(self) -> bool:
        """Whether all nodes that are not lost run, will go on running, and are connected to each other."""
        numbers = [one.number for one in self.living]
        return all(one.well for one in self.living) and all((a, b) in self.between for a in numbers for b in numbers if a != b)

    def quiet(self, for_s: float) -> bool:
        """Whether all nodes are connected, and for so long nobody has heard anything that was sent to him."""
        return self.clock.now >= self.network.latest_s + for_s and self.linked()

    def expel(self, number: int, other: int) -> None:
        """A node ends its connection to another one, if there is any: that one was declared dead."""
        end = self.between.get((number, other))
        if end is not None:
            end.pipe.send(None)
            del self.ends[end.connection]
            end.connection.close("it was declared dead")
            self._closed(end)
            self.collect(self.nodes[number])

    # Members and placements -----------------------------------------------------------------------------------------------------------

    def _birth(self) -> History:
        """What every node knows from the beginning."""
        members = [self.entry(self.names[self.node_ids.index(node_id)]) for node_id in self.old.node_ids]
        birth = Birth(cluster_id=self.cluster_id, mac_key=MAC_KEY, partitions=self.partitions, replicas=self.defaults.n, members=members,
                      placement_algorithm=self.old.record.algorithm, placement_digest=self.old.digest)  # fmt: skip
        return History([make_record(birth, author=members[0].id, time=WALL_MS)])

    def node_id(self, name: str) -> bytes:
        return self.node_ids[self.names.index(name)]

    def entry(self, name: str) -> NodeEntry:
        """How a node presents itself."""
        number = self.names.index(name)
        return NodeEntry(id=self.node_ids[number], address=f"{name}:7400", host=self.hosts[number])

    def works_by(self, number: int) -> Works:
        return self.members[number].works

    def work_by(self, number: int) -> None:
        """A node works by something else from now on."""
        old, new, step = self.members[number].works
        reads = new if new is not None and step >= Step.SWITCHED else old
        if reads.number > self.placement.number:
            self.placement, self.ring = reads, self.ring_of(reads)
        self.introduce(self.nodes[number])

    def ring_of(self, placement: Placement) -> Ring:
        """Over all nodes that there ever are."""
        if placement.digest not in self._rings:
            self._rings[placement.digest] = ring_over(placement, self.node_ids)
        return self._rings[placement.digest]

    def is_home(self, number: int, partition: int) -> bool:
        """In any placement that the node works by."""
        old, new, _ = self.members[number].works
        return number in self.ring_of(old).homes_of(partition) or (new is not None and number in self.ring_of(new).homes_of(partition))

    def hint_placement(self, number: int) -> tuple[Placement, Ring]:
        """The placement in which that node counts the slots of hints."""
        old, new, step = self.members[number].works
        placement = old if new is None or step < Step.SWITCHED else new
        return placement, self.ring_of(placement)

    # What it holds ----------------------------------------------------------------------------------------------------------------------

    def bucket_of(self, key: bytes, last_write_wins: Sequence[bytes] | set[bytes]) -> bytes:
        return LAST_WRITE_WINS if key in last_write_wins else b""
