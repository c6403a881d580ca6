from collections.abc import Callable, Mapping, Sequence
from typing import Any

from typing_extensions import disjoint_base

from dynamo_fast.core.options import BucketSettings, ClusterDefaults
from dynamo_fast.core.ring import Ring
from dynamo_fast.net.reactor import PassHandler
from dynamo_fast.node.config import LimitsSection, RequestsSection
from dynamo_fast.storage.engine import Engine, StorageError
from dynamo_fast.wire.connection import Connection

@disjoint_base
class DataPlane(PassHandler):
    def __init__(
        self,
        *,
        node_id: bytes,
        nonce: int,
        engine: Engine,
        cluster_id: bytes,
        mac_key: bytes,
        limits: LimitsSection,
        requests: RequestsSection,
        cluster_defaults: ClusterDefaults,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
        control: Callable[[Connection, int, int, bytes], None],
        storage_failed: Callable[[StorageError], None],
    ) -> None: ...
    @property
    def node_id(self) -> bytes: ...
    @property
    def engine(self) -> Engine: ...
    def set_placement(self, name: int, ring: Ring, node_ids: Sequence[bytes], hosts: Sequence[str], labels: Sequence[str]) -> None: ...
    def set_buckets(self, settings: Mapping[bytes, BucketSettings]) -> None: ...
    def peer_up(self, node_id: bytes, connection: Connection) -> None: ...
    def peer_down(self, node_id: bytes) -> None: ...
    def peers_up(self) -> list[bytes]: ...
    def start_pass(self, now_us: int, wall_ms: int) -> None: ...
    def finish_pass(self) -> int: ...
    def statistics(self) -> dict[str, Any]: ...
