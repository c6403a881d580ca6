"""Users that speak to data planes directly: requests, retries with the same put id, and what they were told in the end.

A put whose fate is unknown goes back to the same coordinator, where its id makes it one version, or to another one; some users send puts
twice for no reason, as a network may. "Certainly not applied" is what a user was told only if every attempt was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from dynamo_fast.testing.core.network import Pipe
from dynamo_fast.testing.core.world import Wire, World
from dynamo_fast.testing.history import Fate, History, Read, Write, value_of
from dynamo_fast.testing.state import State
from dynamo_fast.testing.user import Habits, Probes, User
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.errors import WireError
from dynamo_fast.wire.frame import Frame, FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Outcome, Status, outcome_of

ATTEMPTS_MAX = 4
GRACE_S = 0.05  # a node's own words about a deadline are waited for so long
ATTEMPT_S_MIN = 0.002  # no further attempt is made with less time left
RETRY_S = 0.005
TO_A_HOME = 0.85  # of the attempts
SAME_AGAIN = 0.7  # of the attempts after one whose fate is unknown


class Watcher(Protocol):
    """Who looks at what nodes say at the moment at which they say it."""

    def holding(self, read: Read) -> dict[str, int]: ...
    def found_nothing(self, read: Read, held: dict[str, int]) -> None: ...
    def answered(self, write: Write, number: int) -> None: ...


class Request:
    """One put or get until its user knows what became of it. `open`: by request id, the node that has not answered; `held`: what a watcher
    has seen before a get."""

    __slots__ = ("attempts", "doubt", "encode", "end_s", "held", "key", "node", "open", "over", "record", "told", "tried", "type")

    def __init__(self, record: Write | Read, type: MessageType, end_s: float, encode: Callable[[int], bytes]) -> None:
        self.record, self.type, self.end_s, self.encode = record, type, end_s, encode
        self.open: dict[int, int] = {}
        self.held: dict[str, int] = {}
        self.tried: set[int] = set()
        self.attempts = 0
        self.node: int | None = None  # where the next attempt has to go
        self.doubt = self.over = False
        self.told = ""


class Door:
    """A user's connection to one node."""

    def __init__(self, client: Client, number: int) -> None:
        world = client.world
        self.client, self.number = client, number
        end = world.end(number)
        assert isinstance(end, Wire)
        self.end = end
        name = world.names[number]
        self.end.pipe = Pipe(world.network, name, client.host, self._back)
        self.end.told = partial(client.answering, number) if client.watcher else None
        self._pipe = self.end.pipe.back = Pipe(world.network, client.host, name, self._there)
        self._pipe.back = self.end.pipe
        self._cutter = FrameCutter()

    def send(self, data: bytes) -> None:
        self._pipe.send(data)

    def _there(self, data: bytes | None) -> None:
        world = self.client.world
        machine = world.by_number[self.number]
        if self.end.connection in world.ends:
            if data is not None:
                machine.receive(self.end.connection, data)
            else:
                machine.hear_end(self.end, "closed by the other side")
        elif machine.state is not State.DARK:
            self.end.pipe.over = False
            self.end.pipe.send(None)

    def _back(self, data: bytes | None) -> None:
        try:
            for frame in self._cutter.feed(data) if data is not None else ():
                self.client.heard(frame)
        except WireError:  # corrupt bytes
            self._pipe.send(data := None)
        if data is None:
            self.end.pipe.over = True
            self.client.lost(self)


class Client(User):
    """A user at work on one host. `twice`: of its puts, how many it sends a second time for no reason; `shared_ids`: how many have the id
    that its last one had, on another key."""

    def __init__(
        self, world: World, name: str, host: str, history: History, habits: Habits, probes: Probes, chance: random.Random, *,
        twice: float = 0.0, shared_ids: float = 0.0, watcher: Watcher | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name, history, habits, world.dots, probes, chance)
        self.world, self.host, self.twice, self.shared_ids, self.watcher = world, host, twice, shared_ids, watcher
        self.request: Request | None = None
        self.idle = True
        self._end_s = 0.0
        self._doors: dict[int, Door] = {}
        self._request_ids = 0
        self._last: tuple[bytes, bytes] | None = None  # key and id of its last put

    def work(self, until_s: float) -> None:
        """From now until then."""
        self._end_s, self.idle = until_s, False
        self._rest()

    def _rest(self) -> None:
        self.world.clock.after(self.chance.expovariate(1.0) * self.habits.pause_s, self._step)

    def _step(self) -> None:
        if self.world.clock.now >= self._end_s:
            self.idle = True
        elif self.chance.random() < self.habits.read:
            self.get(self.begin_read(self.key(), self.world.clock.now))
        else:
            self.put(self.key(), tombstone=self.chance.random() < self.habits.delete)

    # Requests -------------------------------------------------------------------------------------------------------------------------

    def put(self, key: bytes, *, tombstone: bool = False) -> None:
        write, context, w = self.begin_write(key, self.world.clock.now, tombstone=tombstone)
        if self._last is not None and self._last[0] != key and self.chance.random() < self.shared_ids:
            write.put_id, self._last = self._last[1], None
        else:
            write.put_id = self.chance.randbytes(16)
            self._last = key, write.put_id
        value = b"" if tombstone else value_of(write.number, self.habits.value_bytes)
        bucket = self._bucket(key)

        def encode(deadline_ms: int) -> bytes:
            return encode_put(key, value, put_id=write.put_id, bucket=bucket, context=context, w=w, dw=write.dw, strict=write.strict,
                              tombstone=tombstone, deadline_ms=deadline_ms)  # fmt: skip

        self._begin(Request(write, MessageType.PUT, self.world.clock.now + self.habits.deadline_s, encode))

    def get(self, read: Read, *, at: int | None = None) -> None:
        """`at`: the node to be asked first; None: any."""
        bucket = self._bucket(read.key)
        seen = self.session.context(bucket, read.key) if read.session else b""

        def encode(deadline_ms: int) -> bytes:
            return encode_get(read.key, bucket=bucket, session_context=seen, r=read.r, strict=read.strict, deadline_ms=deadline_ms)

        request = Request(read, MessageType.GET, self.world.clock.now + self.habits.deadline_s, encode)
        request.node = at
        if self.watcher is not None:
            request.held = self.watcher.holding(read)
        self._begin(request)

    def _bucket(self, key: bytes) -> bytes:
        return self.world.bucket_of(key, self.history.last_write_wins)

    def _begin(self, request: Request) -> None:
        self.request = request
        self._attempt(request)
        if request.type == MessageType.PUT and self.chance.random() < self.twice:
            node = request.node if self.chance.random() < 0.5 else None
            self.world.clock.after(self.chance.expovariate(1.0) * 0.01, self._once_more, request, node)

    def _once_more(self, request: Request, node: int | None) -> None:
        """The same put again, whether its user waits for an answer or has one, as long as its id is remembered."""
        if request.record.fate is not Fate.NOT_APPLIED and self.world.clock.now < request.end_s - ATTEMPT_S_MIN:
            self._send(request, self._choose(request) if node is None else node)

    def _attempt(self, request: Request) -> None:
        now_s = self.world.clock.now
        if request.over:
            return
        if now_s >= request.end_s - ATTEMPT_S_MIN:
            self.world.clock.at(request.end_s + GRACE_S, self._give_up, request)
            return
        number = self._choose(request) if request.node is None else request.node
        request.attempts += 1
        if self._send(request, number):
            request.node = number
        else:
            request.tried.add(number)
            request.node = None
            self._again(request)

    def _choose(self, request: Request) -> int:
        """A home of the key, or now and then any node; one that was not tried yet, if there is one."""
        chance, key = self.chance, request.record.key
        numbers: Sequence[int] = self.world.homes(key, self._bucket(key)) if chance.random() < TO_A_HOME else range(len(self.world.nodes))
        if request.tried:
            numbers = [number for number in numbers if number not in request.tried] or numbers
        return chance.choice(numbers)

    def _send(self, request: Request, number: int) -> bool:
        """Whether there was a connection to send it by."""
        door = self._doors.get(number)
        if door is None:
            world = self.world
            state = world.by_number[number].state
            if state not in (State.RUNNING, State.FROZEN) or world.network.link(self.host, world.names[number]).refuses:
                return False
            door = self._doors[number] = Door(self, number)
        left_s = request.end_s - self.world.clock.now
        self._request_ids += 1
        request.open[self._request_ids] = number
        body = request.encode(max(1, int(left_s * 1000)))
        door.send(encode_frame(request.type, body, request_id=self._request_ids))
        self.world.clock.after(left_s / 2, self._silent, request, self._request_ids)
        return True

    # Answers --------------------------------------------------------------------------------------------------------------------------

    def answering(self, number: int, frame: Frame) -> None:
        """A node says this to us now, whenever it arrives."""
        request, watcher = self.request, self.watcher
        if request is None or watcher is None or frame.request_id not in request.open:
            return
        if isinstance(request.record, Read):
            if outcome_of(frame.status) is Outcome.OK and decode_get_reply(frame.body) == (b"", []):
                watcher.found_nothing(request.record, request.held)
        elif frame.status == Status.OK:
            watcher.answered(request.record, number)

    def heard(self, frame: Frame) -> None:
        request = self.request
        if request is None or frame.request_id not in request.open:
            return  # about something that is over
        number = request.open.pop(frame.request_id)
        outcome = outcome_of(frame.status)
        if outcome is Outcome.OK and self._accepted(request, frame):
            self._over(request, Fate.OK)
        elif outcome is Outcome.NOT_APPLIED:
            request.told = f"{Status(frame.status).name}: {frame.body.decode(errors='replace')}"
            self.probes.hit(f"{MessageType(request.type).name.lower()} answered {Status(frame.status).name}")
            request.tried.add(number)
            request.node = None
            self._again(request)
        else:
            self.probes.hit(f"{MessageType(request.type).name.lower()} answered {Status(frame.status).name}")
            self._doubt(request, number)

    def _accepted(self, request: Request, frame: Frame) -> bool:
        record, bucket = request.record, self._bucket(request.record.key)
        if isinstance(record, Write):
            self.acknowledged(record, frame.body)
            if self.habits.sessions:
                self.session.saw(bucket, record.key, frame.body)
            return True
        context, siblings = decode_get_reply(frame.body)
        if record.session:
            if not self.session.satisfied_by(bucket, record.key, context):
                return False
            self.session.saw(bucket, record.key, context)
        values = [value for value, tombstone, _ in siblings if not tombstone]
        self.shown(record, values, context, deleted=len(values) < len(siblings) or not values)
        return True

    def lost(self, door: Door) -> None:
        """A connection is gone, and nobody knows what became of what was asked by it."""
        if self._doors.get(door.number) is door:
            del self._doors[door.number]
        request = self.request
        if request is None:
            return
        for request_id in [one for one, number in request.open.items() if number == door.number]:
            del request.open[request_id]
            self._doubt(request, door.number)

    def _silent(self, request: Request, request_id: int) -> None:
        if request.over:
            return
        self.world.clock.at(request.end_s + GRACE_S, self._give_up, request)
        if request_id in request.open:
            request.tried.add(request.open[request_id])
            request.node = None
            request.doubt = True
            self._again(request)

    def _doubt(self, request: Request, number: int) -> None:
        request.doubt = True
        if request.type == MessageType.PUT and self.chance.random() < SAME_AGAIN:
            request.node = number
        else:
            request.tried.add(number)
            request.node = None
        self._again(request)

    def _again(self, request: Request) -> None:
        if request.attempts < ATTEMPTS_MAX:
            self.world.clock.after(RETRY_S * (0.5 + self.chance.random()), self._attempt, request)
        elif not request.open:
            self._give_up(request)

    def _give_up(self, request: Request) -> None:
        if not request.over:
            certain = request.told and not request.doubt and not request.open
            self._over(request, Fate.NOT_APPLIED if certain else Fate.UNKNOWN)

    def _over(self, request: Request, fate: Fate) -> None:
        record = request.record
        request.over, self.request = True, None
        record.fate, record.ended_s = fate, self.world.clock.now
        if isinstance(record, Write):
            record.told = request.told
        self._rest()
