from typing import final

@final
class LongMessage: ...

@final
class LongMessages:
    @property
    def bytes(self) -> int: ...
