"""A node that is about to gain partitions from three others, in virtual time."""

from __future__ import annotations

from dynamo_fast.core.placement import Placement
from dynamo_fast.core.succession import gains
from dynamo_fast.node.transfer import Transfer
from tests.node.changing import begin, partition_of, placement_over
from tests.node.exchanging import ExchangingNode, cluster_of, version
from tests.node.virtual import World

KEYS = [b"key%d" % number for number in range(2000)]


class Changing:
    """Four nodes; the first three are the old placement, all four the new one. `joiner` gains."""

    def __init__(self, nodes: list[ExchangingNode]) -> None:
        self.nodes = nodes
        *self.sources, self.joiner = nodes
        self.new: Placement = nodes[0].node.cluster.placement
        self.old = placement_over(self.sources, nodes[0].view)
        begin(nodes, self.old, self.new)

    @property
    def transfer(self) -> Transfer:
        return self.joiner.node.transfer

    @property
    def gained(self) -> dict[int, tuple[bytes, ...]]:
        return gains(self.old, self.new, self.joiner.id)

    def gained_keys(self) -> list[bytes]:
        """Those that the joiner gains."""
        return [key for key in KEYS if partition_of(self.joiner, key) in self.gained]

    async def bring(self) -> None:
        await self.transfer.bring(self.old, self.new)

    def lacking(self, keys: list[bytes]) -> list[bytes]:
        return [key for key in keys if self.joiner.packed(key) is None]


async def changing(world: World, *, value: bytes = b"v", write: bool = True, **flags: object) -> Changing:
    nodes = await cluster_of(world, 4, **flags)
    await world.until(lambda: all(len(node.node.anti_entropy.met_s) == 3 and not node.records.suspects for node in nodes))
    made = Changing(nodes)
    for key in KEYS if write else ():
        for node in made.sources:
            node.write(key, version(value))
    return made


def statistics(transfer: Transfer) -> dict[str, int]:
    return transfer.statistics()  # type: ignore[return-value]
