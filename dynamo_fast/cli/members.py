"""`join`, `leave`, `replace`, `weight` and `zone`: the members change, and data moves to where it belongs then.

What a command asks for happens in one step, or is refused as a whole. It acts at once: `plan` is for looking first.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import click

from dynamo_fast.cli.output import cluster_options, fail, fate, print_json, run
from dynamo_fast.cli.plan import WEIGHT_MAX
from dynamo_fast.cli.watch import GOES_ON, until_settled
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import BadRequest
from dynamo_fast.client.operations import Cluster
from dynamo_fast.wire.membership_messages import ChangeReply

LOST = "writes that no other node has, such as those acknowledged with W=1 and not passed on yet, are lost with it"
OPTIONS = {"unsafe", "wait", "timeout_s"}


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that changes members; like the cluster's, the function gets them in `arguments`."""

    @click.option("--unsafe", is_flag=True, help="Insist on a change that is refused because data would be less safe.")
    @click.option("--wait/--no-wait", default=True, show_default=True, help="Return when the change is over and data has moved.")
    @click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
                  help="How long --wait waits; for ever if not given.")  # fmt: skip
    @cluster_options
    @functools.wraps(command)
    def with_options(arguments: Mapping[str, Any], **own: Any) -> Any:
        taken = {name: own.pop(name) for name in OPTIONS}
        return command({**arguments, **taken}, **own)

    return with_options


@click.command()
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@change_options
def join(arguments: Mapping[str, Any], addresses: tuple[str, ...]) -> None:
    """New nodes become members, all in one step.

    Each was started with `dynamo-fast serve --seeds` and an empty data directory, and waits at its ADDRESS. Its host, zone and weight are
    what it was started with.
    """
    ask(arguments, lambda cluster: cluster.join(*addresses, unsafe=arguments["unsafe"]))


@click.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.option("--dead", is_flag=True, help="They will not come back: nobody waits for them, and what they alone hold is lost.")
@change_options
def leave(arguments: Mapping[str, Any], nodes: tuple[str, ...], dead: bool) -> None:
    """Members leave for ever, all in one step, and hand over what they hold.

    NODE is an address, a host with one node, or the start of a node's id. A process may be stopped when the command has returned.
    """
    ask(arguments, lambda cluster: cluster.leave(*nodes, dead=dead, unsafe=arguments["unsafe"]), nodes if dead else ())


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW_ADDRESS")
@click.option("--dead", is_flag=True, help="OLD will not come back: nobody waits for it, and what it alone holds is lost.")
@change_options
def replace(arguments: Mapping[str, Any], old: str, new: str, dead: bool) -> None:
    """A new node takes all places of member OLD, and its weight; OLD leaves.

    OLD is named as for `leave`; the new node waits at NEW_ADDRESS as for `join`.
    """
    ask(arguments, lambda cluster: cluster.replace(old, new, dead=dead, unsafe=arguments["unsafe"]), (old,) if dead else ())


@click.command()
@click.argument("node")
@click.argument("weight", type=click.IntRange(1, WEIGHT_MAX))
@change_options
def weight(arguments: Mapping[str, Any], node: str, weight: int) -> None:
    """Give member NODE another share of the data: 200 is twice that of a node of 100."""
    ask(arguments, lambda cluster: cluster.set_weight(node, weight, unsafe=arguments["unsafe"]))


@click.command()
@click.argument("host")
@click.argument("zone")
@change_options
def zone(arguments: Mapping[str, Any], host: str, zone: str) -> None:
    """Say that the machine HOST, with all its members, is in ZONE."""
    ask(arguments, lambda cluster: cluster.set_zone(host, zone, unsafe=arguments["unsafe"]))


def ask(arguments: Mapping[str, Any], change: Callable[[Cluster], Awaitable[ChangeReply]], dead: tuple[str, ...] = ()) -> None:
    """Asks for the change and waits until it is over, as the options say. `dead`: who is given up."""

    async def work(db: Client) -> int:
        as_json = arguments["as_json"]
        try:
            reply = await change(db.cluster)
        except BadRequest as error:
            if as_json:
                print_json({"error": type(error).__name__, "fate": fate(error), "message": str(error)})
            fail(f"refused: {error}")
        for node in dead:
            click.echo(f"dynamo-fast: {node} is given up: {LOST}", err=True)
        code = await until_settled(db.cluster, reply.number, arguments["timeout_s"], quiet=as_json) if arguments["wait"] else 0
        if as_json or not code:
            await tell(db, reply, arguments["wait"] and not code, as_json)
        return code

    run(arguments, work)


async def tell(db: Client, reply: ChangeReply, settled: bool, as_json: bool) -> None:
    """Says what came of it."""
    placement = await db.cluster.placement()
    if as_json:
        print_json({"placement": placement.number if settled else reply.number, "settled": settled, "members": len(placement.nodes),
                    "changes": [change_id.hex() for change_id in reply.ids]})  # fmt: skip
    elif settled:
        click.echo(f"placement {placement.number} is in force, {len(placement.nodes)} members, nothing left to move")
    else:
        begun = f"placement {reply.number} is on its way" if reply.number else "it begins when the change under way is over"
        click.echo(f"{begun}; {GOES_ON}")
