from collections.abc import Iterable
from typing import NamedTuple, final

from dynamo_fast.core.vector_clock import VectorClock

NO_REQUEST: bytes

class Dot(NamedTuple):
    node: bytes
    epoch: int
    counter: int

class Sibling(NamedTuple):
    value: bytes
    tombstone: bool
    dot: Dot
    timestamp_ms: int
    request_id: bytes
    last_write_wins: bool

class ObjectError(ValueError): ...
class PutRefused(Exception): ...

@final
class Siblings:
    def __init__(self, packed: bytes = b"\x01\0\0\0\0\0\0\0") -> None: ...
    @property
    def packed(self) -> bytes: ...
    @property
    def clock(self) -> VectorClock: ...
    @property
    def cloud(self) -> tuple[Dot, ...]: ...
    @property
    def siblings(self) -> tuple[Sibling, ...]: ...
    @property
    def values(self) -> tuple[bytes, ...]: ...
    def outline(self) -> Siblings: ...
    def merge(self, other: Siblings) -> Siblings: ...
    @staticmethod
    def reconcile(versions: Iterable[Siblings]) -> Siblings: ...
    def put(
        self,
        value: bytes = b"",
        *,
        node: bytes,
        epoch: int = 0,
        timestamp_ms: int = 0,
        context: VectorClock | None = None,
        dot: tuple[bytes, int, int, int] | None = None,
        request_id: bytes = ...,
        tombstone: bool = False,
        overwrite: bool = False,
        last_write_wins: bool = False,
    ) -> Siblings: ...
    def settle(self, entries_max: int, before_ms: int) -> Siblings: ...
    def epoch_choose(
        self,
        *,
        node: bytes,
        mark_nonce: int,
        mark_epoch: int,
        process_nonce: int,
        fresh_epoch: int,
        context: VectorClock | None = None,
        dot: tuple[bytes, int, int, int] | None = None,
    ) -> tuple[int, bool]: ...
    def epoch_survives_merge(self, incoming: Siblings, *, node: bytes, mark_epoch: int) -> bool: ...
    def covers(self, dot: tuple[bytes, int, int]) -> bool: ...
    def reach(self, node: bytes, epoch: int) -> int: ...
    def has_request(self, request_id: bytes) -> bool: ...
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
