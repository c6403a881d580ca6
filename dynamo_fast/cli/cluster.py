"""`status`, `ring` and `bucket`: how the nodes are, who owns what, and the settings of buckets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
import trio
from rich.console import Console
from rich.table import Table

from dynamo_fast.cli.output import (
    UNANSWERED,
    USAGE,
    argument_bytes,
    bucket_option,
    cluster_options,
    fail,
    field,
    plain,
    print_json,
    run,
)
from dynamo_fast.cli.watch import sentence, until_settled
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import DynamoError, Unreachable
from dynamo_fast.client.members import progress_of
from dynamo_fast.client.operations import Cluster
from dynamo_fast.core.options import RECONCILE_VALUES, BucketSettings
from dynamo_fast.core.ring import Ring
from dynamo_fast.env import parse_address
from dynamo_fast.wire.control_messages import BucketEntry, PlacementReply, StatusReply

POLL_S = 0.1  # between two looks of --wait


@click.command()
@click.option("--wait", type=click.Choice(["ready", "settled"]),
              help="Return when every node is ready; or when no change of members is under way and all data is where it belongs.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, metavar="SECONDS",
              help="How long --wait waits.")  # fmt: skip
@click.option("--statistics", is_flag=True, help="Show every node's figures too (always there with --json).")
@cluster_options
def status(arguments: Mapping[str, Any], wait: str | None, timeout_s: float, statistics: bool) -> None:
    """Show how each node is. Exits with 5 when one does not answer, or when --wait runs out of time."""

    async def work(db: Client) -> int:
        code = await until_settled(db.cluster, 0, timeout_s, quiet=arguments["as_json"]) if wait == "settled" else 0
        nodes = await (until_ready(db.cluster, timeout_s) if wait == "ready" else db.cluster.status())
        if arguments["as_json"]:
            print_json({address: status_document(node) for address, node in nodes.items()})
        else:
            print_status(nodes, statistics)
        answered = not any(isinstance(node, DynamoError) for node in nodes.values())
        return code if all_ready(nodes) or (wait != "ready" and answered) else UNANSWERED

    # Not partition-aware, so that nodes which wait for their cluster to be born can be asked too.
    run(arguments, work, partition_aware=False, **({"connect_timeout_s": timeout_s} if wait else {}))


@click.command()
@click.argument("key", required=False)
@click.option("--partitions", is_flag=True, help="List every partition with its owners, first home first.")
@bucket_option
@cluster_options
def ring(arguments: Mapping[str, Any], key: str | None, partitions: bool) -> None:
    """Show who owns how much of the ring; with KEY, where that key lives."""

    async def work(db: Client) -> None:
        if key is not None:
            show_key(await db.cluster.placement(), argument_bytes(key), argument_bytes(arguments["bucket"]), arguments["as_json"])
        elif partitions:
            show_partitions(await db.cluster.placement(), arguments["as_json"])
        else:
            await show_shares(db.cluster, arguments["as_json"])

    run(arguments, work)


@click.group()
def bucket() -> None:
    """Show buckets, or change the settings of one."""


@bucket.command("set")
@click.argument("name")
@click.option("--r", type=click.IntRange(min=1), help="Answers a get waits for.")
@click.option("--w", type=click.IntRange(min=1), help="Copies a put waits for.")
@click.option("--dw", type=click.IntRange(min=0), help="Fsynced copies a put waits for.")
@click.option("--strict/--no-strict", default=None, help="Home replicas only.")
@click.option("--reconcile", type=click.Choice(RECONCILE_VALUES), default="siblings", show_default=True,
              help="Keep concurrent writes as siblings, or only the latest: then acknowledged writes can be lost.")  # fmt: skip
@cluster_options
def bucket_set(arguments: Mapping[str, Any], name: str, reconcile: str) -> None:
    """Give the bucket NAME these settings, as a whole: what is not given goes back to the cluster's default."""
    settings = BucketSettings(r=arguments["r"], w=arguments["w"], dw=arguments["dw"], strict=arguments["strict"],
                              reconcile="last-write-wins" if reconcile == "last-write-wins" else "siblings")  # fmt: skip

    async def work(db: Client) -> None:
        if not await db.cluster.set_bucket(argument_bytes(name), settings):
            click.echo("dynamo-fast: set; some node has not heard of it yet", err=True)
        if arguments["as_json"]:
            print_json(bucket_document(BucketEntry(name=argument_bytes(name), settings=settings)))

    run({**arguments, "r": None, "w": None, "dw": None, "strict": None}, work)


@bucket.command("list")
@cluster_options
def bucket_list(arguments: Mapping[str, Any]) -> None:
    """Show the settings of every bucket that has any, and the cluster's defaults."""

    async def work(db: Client) -> None:
        reply = await db.cluster.buckets()
        defaults = plain(reply.defaults)
        if arguments["as_json"]:
            print_json({"buckets": [bucket_document(entry) for entry in reply.buckets], "defaults": defaults})
            return
        table = Table("bucket", "r", "w", "dw", "strict", "reconcile", box=None)
        table.add_row("(cluster)", *(str(defaults[name]) for name in ("r", "w", "dw", "strict")), "siblings")
        for entry in reply.buckets:
            settings = entry.settings
            own = (settings.r, settings.w, settings.dw, settings.strict)
            table.add_row(entry.name.decode("utf-8", "backslashreplace") or "(default)", *("-" if v is None else str(v) for v in own),
                          settings.reconcile)  # fmt: skip
        Console().print(table)

    run(arguments, work)


async def until_ready(cluster: Cluster, timeout_s: float) -> dict[str, StatusReply | DynamoError]:
    """The status of all nodes, once all are ready or the time is over."""
    nodes: dict[str, StatusReply | DynamoError] = {}
    with trio.move_on_after(timeout_s):
        while not all_ready(nodes):
            nodes = await cluster.status()
            if not all_ready(nodes):
                await trio.sleep(POLL_S)
    if not nodes:
        raise Unreachable(f"no node told its status within {timeout_s:g} s")
    return nodes


def all_ready(nodes: Mapping[str, StatusReply | DynamoError]) -> bool:
    """Whether all are, but those that have departed and only hand over what they hold."""
    states = ["unreachable" if isinstance(node, DynamoError) else node.state for node in nodes.values()]
    return bool(states) and {"ready"} >= {*states} - {"leaving", "left"}


def status_document(node: StatusReply | DynamoError) -> dict[str, Any]:
    """One node's status as JSON: ids in hex, statistics as the node gives them."""
    if isinstance(node, DynamoError):
        return {"state": "unreachable", "error": type(node).__name__, "message": str(node)}
    document: dict[str, Any] = plain(node)
    return document


def print_status(nodes: Mapping[str, StatusReply | DynamoError], statistics: bool) -> None:
    table = Table("node", "state", "host", "zone", "up", "placement", "members", "peers up", box=None)
    for address, node in sorted(nodes.items(), key=lambda item: parse_address(item[0])):
        if isinstance(node, DynamoError):
            table.add_row(address, "unreachable", str(node))
        else:
            table.add_row(address, node.state, node.host, node.zone or "-", f"{node.uptime_s:.0f} s", str(node.placement_number),
                          str(node.members), str(len(node.peers_up)))  # fmt: skip
    Console().print(table)
    progress = progress_of(nodes)
    if progress.to_number or progress.waiting_changes or progress.old_copies or progress.handing_over:
        click.echo(f"change of members: {sentence(progress)}")
    if statistics:
        for address, node in nodes.items():
            if isinstance(node, StatusReply):
                for name, value in figures("", plain(node.statistics)):
                    click.echo(f"{address}\t{name}\t{value}")


def figures(prefix: str, group: object) -> list[tuple[str, object]]:
    """Nested groups of figures as dotted names."""
    if not isinstance(group, Mapping):
        return [(prefix, group)]
    return [figure for name, value in group.items() for figure in figures(f"{prefix}.{name}" if prefix else str(name), value)]


async def show_shares(cluster: Cluster, as_json: bool) -> None:
    reply = await cluster.ring()
    if as_json:
        print_json(plain(reply))
        return
    table = Table("node", "host", "zone", "weight", "first home of", "home of", "share", "up", box=None)
    for member in sorted(reply.members, key=lambda member: parse_address(member.node.address)):
        node = member.node
        owned = (str(member.partitions_first), str(member.partitions_owned), f"{member.share:.1%}")
        table.add_row(node.address, node.host, node.zone or "-", str(node.weight), *owned, "yes" if member.up else "no")
    Console().print(table)
    click.echo(f"{reply.partitions} partitions, {reply.replicas} replicas, placement {reply.number}")


def show_partitions(placement: PlacementReply, as_json: bool) -> None:
    for partition, order in enumerate(placement.preference_lists()):
        owners = [placement.nodes[index].address for index in order[: placement.replicas]]
        if as_json:
            print_json({"partition": partition, "homes": owners})
        else:
            click.echo(f"{partition}\t{' '.join(owners)}")


def show_key(placement: PlacementReply, key: bytes, bucket: bytes, as_json: bool) -> None:
    if not key:
        fail("a key has at least one byte", USAGE)
    ring = Ring(placement.partitions, placement.replicas, placement.preference_lists())
    homes, fallbacks = ring.preference_list(key, bucket), ring.fallbacks(key, bucket)
    partition = ring.partition(key, bucket)
    first, later = ([placement.nodes[index].address for index in group] for group in (homes, fallbacks))
    if as_json:
        print_json({**field("key", key), **field("bucket", bucket), "partition": partition, "homes": first, "fallbacks": later})
    else:
        click.echo(f"partition {partition}\nhomes     {' '.join(first)}\nfallbacks {' '.join(later) or '-'}")


def bucket_document(entry: BucketEntry) -> dict[str, Any]:
    settings = entry.settings
    return {**field("name", entry.name), "r": settings.r, "w": settings.w, "dw": settings.dw, "strict": settings.strict,
            "reconcile": settings.reconcile}  # fmt: skip
