"""Data planes in the middle of a change of members: each is told of the step that the test says it does (core/change.py).

Node numbers count all nodes of both placements, as the rings here do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dynamo_fast.core.change import Step
from dynamo_fast.core.in_force import ring_over
from dynamo_fast.core.succession import gains
from dynamo_fast.node.keys import partition_range
from dynamo_fast.storage.schema import decode_record
from tests.node.planes import PARTITIONS, Answer, Planes

Homes = tuple[int, ...]


class Between(Planes):
    """A cluster that goes from the members `before` to the members `after`, which together are the nodes 0, 1, 2 and so on."""

    def __init__(self, before: Sequence[int], after: Sequence[int], step: Step = Step.NONE, **options: Any) -> None:
        nodes = len({*before, *after})
        assert {*before, *after} == set(range(nodes))
        super().__init__(nodes, before=before, after=after, step=step, **options)
        self.before, self.after = before, after
        assert self.new is not None
        self.old_ring, self.new_ring = self.ring, ring_over(self.new, self.node_ids)

    def do(self, step: Step, *numbers: int) -> None:
        """These nodes, or all, do that step from now on."""
        for number in numbers or range(len(self.nodes)):
            self.steps[number] = step
            self.introduce(self.nodes[number])

    def homes_before(self, key: bytes) -> Homes:
        return self.old_ring.preference_list(key)

    def homes_after(self, key: bytes) -> Homes:
        return self.new_ring.preference_list(key)

    def key_where(self, true: Callable[[Homes, Homes], bool]) -> bytes:
        """A key of whose homes before and after that holds."""
        keys = (b"key%d" % number for number in range(100_000))
        return next(key for key in keys if true(self.homes_before(key), self.homes_after(key)))

    def key_that_moves(self, origin: int, target: int) -> bytes:
        """A key that has one other home after than before."""
        return self.key_where(lambda old, new: {*old} - {*new} == {origin} and {*new} - {*old} == {target})

    def owed(self, number: int, key: bytes) -> int | None:
        """For which homes the node keeps its copy; None when it has none."""
        record = self.record(number, key)
        return None if record is None else decode_record(record).owed

    def get_if_answered(self, number: int, key: bytes, **options: object) -> Answer | None:
        """A get that may find no answer before something else happens."""
        client = self.client(number)
        asked = client.get(key, **options)
        self.run()
        return client.answers.get(asked)

    def bring_up_to_date(self, number: int) -> None:
        """What a node does while it does SYNCED: takes over what the homes before hold of the partitions that it gains."""
        for partition, sources in gains(self.old, self.new, self.node_ids[number]).items():
            start, end = partition_range(partition, PARTITIONS)
            for source in sources:
                records = self.nodes[self.node_ids.index(source)].engine.scan(start, end, 1000)
                entries = [(parts.bucket, parts.key, parts.packed) for _, record in records if (parts := decode_record(record))]
                assert all(status == 0 for status, _ in self.nodes[number].plane.merge_entries(entries))
