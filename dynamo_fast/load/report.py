"""What a load run found, as figures, as JSON and as lines to read; and the error that ends a run early."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynamo_fast.core.histogram import Histogram, Summary
    from dynamo_fast.load.score import Score


class LoadError(Exception):
    """A run that could not be finished: a connection broke, a reply was unreadable, or servers fell silent."""


@dataclass(frozen=True)
class Report:
    """The result of one run. Latencies are in nanoseconds, None where no such request was made."""

    rate_per_s: float                # requests answered inside the window, per second
    completed: int                   # requests answered inside the window
    answered: int                    # requests answered at all, warm-up included
    seconds: float                   # length of the window
    puts: Summary | None
    gets: Summary | None
    per_second: list[int]            # answers in each whole second of the window
    siblings: int                    # gets that showed more than one version
    values_wrong: int                # gets that were not what the last put of the key wrote
    unanswered: int                  # requests given up after the window
    failures: dict[str, int] = field(default_factory=dict)   # replies that say the request failed, by status
    error_text: str = ""             # what the first of them said
    generator_cpu_s: float = 0.0     # CPU time the generator's own process used, warm-up included

    @property
    def problems(self) -> list[str]:
        """Why the run does not count, one sentence each; empty when it does."""
        found = [f"{count} requests failed ({status}): {self.error_text}" for status, count in self.failures.items()]
        if self.siblings:
            found.append(f"{self.siblings} gets showed siblings, though every put carried its key's context")
        if self.values_wrong:
            found.append(f"{self.values_wrong} gets did not return what was last written")
        if self.unanswered:
            found.append(f"{self.unanswered} requests were never answered")
        if not self.completed:
            found.append("nothing was answered inside the window")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {**asdict(self), "problems": self.problems, "ok": not self.problems}

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{self.rate_per_s:,.0f} requests/s ({self.completed:,} in {self.seconds:.2f} s; generator used "
                 f"{self.generator_cpu_s:.2f} s of CPU)"]
        for name, latency in (("put", self.puts), ("get", self.gets)):
            if latency is not None:
                quantiles = (("p50", latency["p50"]), ("p90", latency["p90"]), ("p99", latency["p99"]),
                             ("p99.9", latency["p999"]), ("max", latency["max"]))
                figures = "  ".join(f"{label} {ns / 1e6:.3f}" for label, ns in quantiles)
                lines.append(f"{name} latency ms: {figures}  ({latency['count']:,} requests)")
        return lines + [f"problem: {problem}" for problem in self.problems]


def summary_of(histogram: Histogram) -> Summary | None:
    return histogram.as_dict() if histogram.count else None


def report_of(score: Score, status_names: dict[int, str], generator_cpu_s: float) -> Report:
    """Reads a score when its run has ended."""
    seconds = score.seconds
    return Report(
        rate_per_s=score.completed / seconds if seconds else 0.0,
        completed=score.completed,
        answered=score.answers,
        seconds=seconds,
        puts=summary_of(score.puts),
        gets=summary_of(score.gets),
        per_second=score.completed_per_second(),
        siblings=score.siblings,
        values_wrong=score.values_wrong,
        unanswered=score.unanswered,
        failures={status_names.get(status, f"status {status}"): count for status, count in score.statuses.items()},
        error_text=score.error_text,
        generator_cpu_s=generator_cpu_s,
    )
