from typing import final

from dynamo_fast.load.protocol import Protocol

@final
class DynamoProtocol(Protocol):
    bucket: bytes
    def __new__(
        cls,
        *,
        w: int = 0,
        dw: int | None = None,
        r: int = 0,
        strict: bool | None = None,
        bucket: bytes = b"",
        deadline_ms: int = 0,
        seed: int = 1,
    ) -> DynamoProtocol: ...
