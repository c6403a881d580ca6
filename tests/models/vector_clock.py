"""A vector clock as one would write it in plain Python: the oracle for the packed one, and the yardstick of its benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dynamo_fast.core.vector_clock import Order, VectorClock

Actor = tuple[bytes, int]  # node id and epoch
Event = tuple[int, int]  # counter and timestamp_ms of the actor's last event


class ModelClock:
    """An immutable clock: actor -> (counter, timestamp_ms)."""

    __slots__ = ("events",)

    def __init__(self, events: Mapping[Actor, Event] | None = None) -> None:
        self.events = dict(events or {})

    @classmethod
    def of(cls, entries: Iterable[tuple[bytes, int, int, int]]) -> ModelClock:
        return cls({(node, epoch): (counter, timestamp_ms) for node, epoch, counter, timestamp_ms in entries})

    def packed(self) -> VectorClock:
        return VectorClock((node, epoch, counter, timestamp) for (node, epoch), (counter, timestamp) in self.events.items())

    def descends(self, other: ModelClock) -> bool:
        mine = self.events
        return all(actor in mine and mine[actor][0] >= counter for actor, (counter, _) in other.events.items())

    def compare(self, other: ModelClock) -> Order:
        above, below = self.descends(other), other.descends(self)
        if above:
            return Order.EQUAL if below else Order.AFTER
        return Order.BEFORE if below else Order.CONCURRENT

    def merge(self, other: ModelClock) -> ModelClock:
        merged = dict(self.events)
        for actor, event in other.events.items():
            if actor not in merged or event > merged[actor]:
                merged[actor] = event
        return ModelClock(merged)

    def advance(self, node: bytes, epoch: int = 0, timestamp_ms: int = 0) -> ModelClock:
        counter, _ = self.events.get((node, epoch), (0, 0))
        return ModelClock({**self.events, (node, epoch): (counter + 1, timestamp_ms)})

    def truncate(self, entries_max: int = 10) -> ModelClock:
        newest_first = sorted(self.events.items(), key=lambda item: (item[1][1], item[0]), reverse=True)
        return ModelClock(dict(newest_first[:entries_max]))
