from typing import TypedDict, final, type_check_only

@type_check_only
class KeyStatistics(TypedDict):
    keys: int
    known: int
    contexts: int
    context_bytes: int

@final
class KeySpace:
    count: int
    value_bytes_min: int
    value_bytes_max: int
    def __new__(cls, count: int, value_bytes_min: int, value_bytes_max: int, seed: int = 1) -> KeySpace: ...
    def name(self, key: int) -> bytes: ...
    def statistics(self) -> KeyStatistics: ...
