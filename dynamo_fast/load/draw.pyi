from typing import Final, final

from dynamo_fast.load.keys import KeySpace

KINDS: Final[dict[str, int]]

@final
class Draw:
    groups: int
    order: str
    def __new__(
        cls,
        keys: KeySpace,
        order: str,
        *,
        exponent: float = 0.99,
        seed: int = 1,
        group_of: bytes | None = None,
        groups: int = 1,
    ) -> Draw: ...
    def take(self, group: int = 0) -> int | None: ...
    def give_back(self, key: int) -> None: ...
