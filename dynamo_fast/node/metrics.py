"""How the node is doing: figures in groups, collected when somebody asks, and rates from a sample taken once a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from dynamo_fast.core.histogram import Histogram
from dynamo_fast.env import Env

SAMPLE_S = 1.0
WINDOW_SAMPLES = 10  # rates are over the last ten seconds
RATED = ("puts", "gets", "replicates", "reads")  # counters of the group `requests` that are also shown per second

Source = Callable[[], Mapping[str, Any]]


def plain(value: object) -> Any:
    """A figure as it can be sent: histograms as their quantiles, whatever else is no number or text as text."""
    if isinstance(value, Histogram):
        return value.as_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value)


class Metrics:
    """Groups of figures by name; each source is a function without arguments that returns a map."""

    def __init__(self, env: Env, sources: Mapping[str, Source]) -> None:
        self._env = env
        self._sources = dict(sources)
        self._samples: deque[tuple[float, dict[str, int]]] = deque(maxlen=WINDOW_SAMPLES + 1)
        self.started_s = env.now()

    @property
    def uptime_s(self) -> float:
        return self._env.now() - self.started_s

    async def run(self) -> None:
        """Samples the counters behind the rates until cancelled."""
        while True:
            self.sample()
            await self._env.sleep(SAMPLE_S)

    def sample(self) -> None:
        requests = self._sources["requests"]() if "requests" in self._sources else {}
        counters = {name: value for name in RATED if isinstance(value := requests.get(name), int)}
        self._samples.append((self._env.now(), counters))

    def rates(self) -> dict[str, float]:
        """Events per second over the window."""
        if len(self._samples) < 2:
            return {}
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        seconds = max(last_s - first_s, 1e-3)
        return {f"{name}_per_s": round((last[name] - first.get(name, 0)) / seconds, 1) for name in last}

    def statistics(self) -> dict[str, dict[str, Any]]:
        """All groups now."""
        groups = {name: plain(source()) for name, source in self._sources.items()}
        groups.setdefault("requests", {}).update(self.rates())
        return groups
