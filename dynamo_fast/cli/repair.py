"""`repair`: every node compares all it holds with every other home now, and brings in line what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import trio
from rich.console import Console
from rich.table import Table

from dynamo_fast.cli.output import UNANSWERED, cluster_options, plain, print_json, progress, run
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import DynamoError
from dynamo_fast.wire.control_messages import RepairReply

POLL_S = 0.2  # between two looks at how far a node is

Outcome = RepairReply | DynamoError


@click.command()
@click.option("--node", "only", metavar="HOST:PORT", help="Have this one node do it; all nodes if not given.")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
@cluster_options
def repair(arguments: Mapping[str, Any], only: str | None, quiet: bool) -> None:
    """Have nodes compare all they hold with each other, now, and bring in line what differs.

    Exits with 5 when a node, or a home that it shares partitions with, could not be reached or did not finish.
    """

    async def work(db: Client) -> int:
        addresses = [only] if only else [member.address for member in (await db.cluster.placement()).nodes]
        found: dict[str, Outcome] = {}
        with progress("partitions compared", None, quiet or arguments["as_json"]) as told:
            async with trio.open_nursery() as nursery:
                for address in addresses:
                    nursery.start_soon(repair_one, db, address, arguments["deadline_s"], found)
                while not all(isinstance(found.get(address), DynamoError) or done(found.get(address)) for address in addresses):
                    replies = [reply for reply in found.values() if isinstance(reply, RepairReply)]
                    told(sum(reply.compared for reply in replies), sum(reply.partitions for reply in replies) or None)
                    await trio.sleep(POLL_S)
        if only and isinstance(refused := found[only], DynamoError):
            raise refused
        if arguments["as_json"]:
            print_json({address: document(found[address]) for address in addresses})
        else:
            show({address: found[address] for address in addresses})
        return 0 if all(isinstance(reply, RepairReply) and not reply.failed for reply in found.values()) else UNANSWERED

    run(arguments, work)


async def repair_one(db: Client, address: str, deadline_s: float | None, found: dict[str, Outcome]) -> None:
    """Has one node do its part; `found` shows how far it is."""
    run_id = 0
    try:
        while not done(found.get(address)):
            reply = await db.cluster.repair(address, run_id, deadline_s)
            # A repair that somebody else had begun earlier is joined, as it goes on.
            found[address], run_id = reply, reply.run
            if not reply.done:
                await trio.sleep(POLL_S)
    except DynamoError as error:
        found[address] = error


def done(outcome: Outcome | None) -> bool:
    return isinstance(outcome, RepairReply) and outcome.done


def document(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, DynamoError):
        return {"done": False, "error": type(outcome).__name__, "message": str(outcome)}
    answer: dict[str, Any] = plain(outcome)
    return {name: value for name, value in answer.items() if name not in ("op", "run")}


def show(found: Mapping[str, Outcome]) -> None:
    table = Table("node", "peers", "partitions", "differed", "keys pulled", "keys pushed", "", box=None)
    reasons = []
    for address, outcome in found.items():
        if isinstance(outcome, DynamoError):
            table.add_row(address, *["-"] * 5, "failed")
            reasons.append(f"{address}: {outcome}")
            continue
        table.add_row(address, str(outcome.peers), f"{outcome.compared} of {outcome.partitions}", str(outcome.differing),
                      str(outcome.keys_pulled), str(outcome.keys_pushed), "not whole" if outcome.failed else "done")  # fmt: skip
        reasons += [f"{address}: not with {peer}: {reason}" for peer, reason in outcome.failed.items()]
    Console().print(table)
    for reason in reasons:
        click.echo(reason)
