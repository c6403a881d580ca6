import socket
from collections.abc import Callable
from typing import final

from dynamo_fast.load.draw import Draw
from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.protocol import Protocol
from dynamo_fast.load.score import Score

@final
class Generator:
    score: Score
    def __new__(
        cls,
        protocol: Protocol,
        keys: KeySpace,
        draw: Draw,
        connections: list[tuple[socket.socket, int]],
        *,
        depth: int = 1,
        gets: float = 0.0,
        rate_per_s: float = 0.0,
        seed: int = 1,
    ) -> Generator: ...
    def run(
        self,
        *,
        warmup_s: float = 0.0,
        seconds: float = 0.0,
        operations: int = 0,
        silence_s: float = 10.0,
        progress: Callable[[int], None] | None = None,
    ) -> None: ...
