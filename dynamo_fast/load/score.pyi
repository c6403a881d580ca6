from typing import final

from dynamo_fast.core.histogram import Histogram

@final
class Score:
    puts: Histogram
    gets: Histogram
    siblings: int
    values_wrong: int
    answers: int
    completed: int
    unanswered: int
    @property
    def seconds(self) -> float: ...
    @property
    def statuses(self) -> dict[int, int]: ...
    @property
    def error_text(self) -> str: ...
    def completed_per_second(self) -> list[int]: ...
