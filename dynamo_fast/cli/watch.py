"""A change of members as a person sees it: how far it is in one line, and waiting until it is over.

Whoever stops waiting stops nothing: the nodes go on by themselves.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import trio

from dynamo_fast.cli.output import FAILED, UNANSWERED, amount
from dynamo_fast.client.members import STEPS, ChangeProgress
from dynamo_fast.client.operations import Cluster

GOES_ON = "the change goes on; `dynamo-fast status --wait settled` waits for it"


def sentence(progress: ChangeProgress) -> str:
    """How far it is. Says only what there is to say: "settled" when that is all."""
    parts = []
    if progress.to_number:
        step = f"step {STEPS.index(progress.step)} of {len(STEPS) - 1}, " if progress.step in STEPS else ""
        parts.append(f"placement {progress.from_number} to {progress.to_number}: {step}{progress.step}")
    if progress.partitions_wanted:
        parts.append(f"{progress.partitions_done} of {progress.partitions_wanted} replicas copied")
    if progress.bytes_moved:
        pace = f" at {amount(int(progress.bytes_per_s))}/s" if progress.bytes_per_s else ""
        parts.append(f"{amount(progress.bytes_moved)} moved{pace}")
    if progress.seconds_left is not None and progress.to_number:
        parts.append(f"about {duration(progress.seconds_left)} left")
    if progress.waiting_for:
        parts.append("waits for " + ", ".join(f"{name} (no answer)" if name in progress.silent else name for name in progress.waiting_for))
    if silent := [name for name in progress.silent if name not in progress.waiting_for]:
        parts.append(f"no answer from {', '.join(silent)}")
    if progress.waiting_changes:
        parts.append(f"{progress.waiting_changes} more to begin when this is over" if progress.to_number else "about to begin")
    if progress.old_copies:
        parts.append(f"{progress.old_copies} old copies to part with")
    if progress.handing_over:
        parts.append(f"{', '.join(progress.handing_over)} leaving")
    return ", ".join(parts) or ("settled" if progress.settled else "news are on their way to all nodes")


def duration(seconds: float) -> str:
    """A time for a person."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def shown(quiet: bool) -> Iterator[Callable[[ChangeProgress], None]]:
    """Shows each progress given to the function, on stderr: as a bar in a terminal, else a line for every step; not at all when quiet."""
    if quiet or not sys.stderr.isatty():
        said: list[tuple[int, str]] = []

        def say(progress: ChangeProgress) -> None:
            step = (progress.to_number, progress.step)
            if not quiet and progress.to_number and step not in said:
                said.append(step)
                click.echo(sentence(progress), err=True)

        yield say
        return
    from rich.console import Console  # here, since nobody should wait for it who sees nothing of it
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("asking the nodes", total=None)
        yield lambda progress: bar.update(task, description=sentence(progress), completed=progress.partitions_done,
                                          total=progress.partitions_wanted or None)  # fmt: skip


async def until_settled(cluster: Cluster, number: int, timeout_s: float | None, quiet: bool) -> int:
    """Returns 0 when nothing is under way any more and the placement of that number, or a later one, is in force; at the end of the time,
    or on Ctrl-C, it says that the change goes on, and returns the exit code for that."""
    settled = interrupted = False

    async def on_interrupt(scope: trio.CancelScope) -> None:
        nonlocal interrupted
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async for _ in signals:
                interrupted = True
                scope.cancel()

    with shown(quiet) as show:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on_interrupt, nursery.cancel_scope)
            settled = await cluster.wait_settled(timeout_s, show, at_least=number)
            nursery.cancel_scope.cancel()
    if interrupted:
        click.echo(f"dynamo-fast: stopped waiting; {GOES_ON}", err=True)
        return FAILED
    if not settled:
        click.echo(f"dynamo-fast: not over after {timeout_s:g} s; {GOES_ON}", err=True)
        return UNANSWERED
    return 0
