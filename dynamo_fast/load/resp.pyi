from typing import final

from dynamo_fast.load.protocol import Protocol

@final
class RespProtocol(Protocol):
    wait_replicas: int
    wait_timeout_ms: int
    def __new__(cls, wait_replicas: int = 0, wait_timeout_ms: int = 1000) -> RespProtocol: ...
