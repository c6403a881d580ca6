from typing import Self, final

from dynamo_fast.core.put_ids import PutIds
from dynamo_fast.storage.engine import ReplayVisitor

@final
class LoggedPuts(ReplayVisitor):
    def __new__(cls, salt: int, ids_max: int, deadline_ms_max: int, now_ms: int, wall_ms: int) -> Self: ...
    @property
    def ids(self) -> PutIds: ...
