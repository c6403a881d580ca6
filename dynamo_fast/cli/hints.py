"""`hints`: what the nodes keep for others that could not be reached, and waiting until it has been delivered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import trio
from rich.console import Console
from rich.table import Table

from dynamo_fast.cli.output import UNANSWERED, cluster_options, fail, plain, print_json, progress, run
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import DynamoError
from dynamo_fast.client.operations import Cluster
from dynamo_fast.wire.control_messages import HintsReply

POLL_S = 0.25  # between two looks of --wait
COUNT_DEADLINE_S = 30.0  # for a node to count: it reads every hint it keeps


@click.command()
@click.option("--wait", type=click.Choice(["drained"]), help="Return when no node keeps anything for another.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), default=600.0, show_default=True, metavar="SECONDS",
              help="How long --wait waits.")  # fmt: skip
@cluster_options
def hints(arguments: Mapping[str, Any], wait: str | None, timeout_s: float) -> None:
    """Show how many writes each node keeps for which other node that could not be reached, and since when.

    They are delivered when the owner is back. Exits with 5 when a node does not answer, or when --wait runs out of time.
    """

    async def work(db: Client) -> int:
        deadline_s = arguments["deadline_s"] or COUNT_DEADLINE_S
        found = await db.cluster.hints(deadline_s)
        if wait:
            found = await until_drained(db.cluster, found, timeout_s, deadline_s, arguments["as_json"])
        owners = {member.id: member.address for member in (await db.cluster.placement()).nodes}
        show(found, owners, arguments["as_json"])
        silent = [address for address, reply in found.items() if isinstance(reply, DynamoError)]
        if silent:
            fail(f"no answer from {', '.join(silent)}: what they keep is not counted", UNANSWERED)
        return UNANSWERED if wait and kept(found) else 0

    run(arguments, work)


async def until_drained(
    cluster: Cluster, found: dict[str, HintsReply | DynamoError], timeout_s: float, deadline_s: float, quiet: bool
) -> dict[str, HintsReply | DynamoError]:
    """Asks again and again until all answer and nothing is kept, or the time is over."""
    most = kept(found)
    with progress("hints delivered", most, quiet) as show_progress, trio.move_on_after(timeout_s):
        while kept(found) or any(isinstance(reply, DynamoError) for reply in found.values()):
            await trio.sleep(POLL_S)
            found = await cluster.hints(deadline_s)
            most = max(most, kept(found))
            show_progress(most - kept(found), most)
    return found


def kept(found: Mapping[str, HintsReply | DynamoError]) -> int:
    """Hints on all nodes that answered."""
    return sum(owner.hints for reply in found.values() if isinstance(reply, HintsReply) for owner in reply.owners)


def show(found: Mapping[str, HintsReply | DynamoError], owners: Mapping[bytes, str], as_json: bool) -> None:
    if as_json:
        print_json({
            address: {"error": str(reply)} if isinstance(reply, DynamoError)
            else [{**plain(owner), "owner": owners.get(owner.node_id)} for owner in reply.owners]
            for address, reply in found.items()
        })  # fmt: skip
        return
    table = Table("kept by", "for", "hints", "bytes", "oldest", box=None)
    for address, reply in found.items():
        if isinstance(reply, DynamoError):
            table.add_row(address, "?", str(reply))
            continue
        for owner in reply.owners:
            table.add_row(address, owners.get(owner.node_id, owner.node_id.hex()), str(owner.hints), str(owner.size_bytes),
                          f"{owner.oldest_s:.0f} s")  # fmt: skip
    if table.row_count:
        Console().print(table)
    else:
        click.echo("no hints: no node keeps anything for another")
