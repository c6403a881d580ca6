"""`plan`: what a change of members would move, before anything does. It asks the cluster how it is and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from dynamo_fast.cli.output import FAILED, amount, cluster_options, print_json, run
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import DynamoError
from dynamo_fast.client.members import found
from dynamo_fast.core.digest import md5
from dynamo_fast.core.lineage import NO_PARENT, PlacementRecord
from dynamo_fast.core.membership import NodeEntry
from dynamo_fast.core.placement import ALGORITHM, Member, Placement, PlacementError, canonical_bytes
from dynamo_fast.core.succession import UnsafePlan, member_of, moves_between, next_placement
from dynamo_fast.wire.control_messages import PlacementReply, StatusReply

WEIGHT_DEFAULT = 100
WEIGHT_MAX = 65535


@dataclass(frozen=True)
class Proposal:
    """Members after the change; `names` is what a person calls each; `heirs` maps the id of who is replaced to who replaces it."""

    members: list[Member]
    names: dict[bytes, str]
    heirs: dict[bytes, bytes]


@dataclass(frozen=True)
class Held:
    """What the nodes that told hold together, in memory and on disk: what replicas of partitions weigh on average."""

    bytes: int
    records: int
    replicas: int  # 0 when none told

    def bytes_of(self, replicas: int) -> int | None:
        return self.bytes * replicas // self.replicas if self.replicas else None

    def records_of(self, replicas: int) -> int | None:
        return self.records * replicas // self.replicas if self.replicas else None


@dataclass(frozen=True)
class Share:
    """One node before and after. Partitions are those it is a home of; `gained` are copied to it, `lost` are dropped by it."""

    name: str
    member: Member
    before: int
    after: int
    gained: int
    lost: int


Propose = Callable[[Sequence[NodeEntry]], Proposal]


@click.group()
def plan() -> None:
    """Show what a change of members would move, and change nothing.

    For each node: the partitions it holds, those it would hold then, how many of these are copied to it and how many it drops, and
    about how many bytes are copied.

    NODE is an address, a host with one node, or the start of a node's id.
    """


def unsafe_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--unsafe", is_flag=True, help="Take a plan that is refused.")(command)


@plan.command()
@click.argument("hosts", nargs=-1, required=True, metavar="HOST[:WEIGHT[,ZONE]]...")
@unsafe_option
@cluster_options
def join(arguments: Mapping[str, Any], hosts: tuple[str, ...], unsafe: bool) -> None:
    """New nodes on these hosts. A weight not given is 100, a zone not given that of the host or of the whole cluster."""
    show(arguments, lambda nodes: joined(nodes, hosts), unsafe)


@plan.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@unsafe_option
@cluster_options
def leave(arguments: Mapping[str, Any], nodes: tuple[str, ...], unsafe: bool) -> None:
    """These nodes leave."""
    show(arguments, lambda known: left(known, nodes), unsafe)


@plan.command("replace")
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="HOST[:WEIGHT[,ZONE]]")
@unsafe_option
@cluster_options
def replace_command(arguments: Mapping[str, Any], old: str, new: str, unsafe: bool) -> None:
    """A new node takes the places of OLD; weight and zone are OLD's if not given."""
    show(arguments, lambda nodes: replaced(nodes, old, new), unsafe)


@plan.command()
@click.argument("node")
@click.argument("weight", type=click.IntRange(1, WEIGHT_MAX))
@unsafe_option
@cluster_options
def weight(arguments: Mapping[str, Any], node: str, weight: int, unsafe: bool) -> None:
    """NODE is given another share of the data."""
    show(arguments, lambda nodes: reweighed(nodes, node, weight), unsafe)


# What is proposed --------------------------------------------------------------------------------------------------------------


def newcomer(nodes: Sequence[NodeEntry], text: str, weight: int, zone: str | None) -> tuple[Member, str]:
    """A node that is not there yet, from HOST[:WEIGHT[,ZONE]], with an id of its own that stands for the one it will make."""
    host, _, rest = text.partition(":")
    weight_text, _, zone_text = rest.partition(",")
    if not host or (weight_text and not weight_text.isdecimal()) or not 1 <= int(weight_text or 1) <= WEIGHT_MAX:
        raise ValueError(f"{text!r} is no HOST[:WEIGHT[,ZONE]] with a weight from 1 to {WEIGHT_MAX}")
    zones = {node.zone for node in nodes if node.host == host} or {zone} - {None} or {node.zone for node in nodes}
    if not zone_text and len(zones) > 1:
        raise ValueError(f"{host!r} needs a zone, as in {host}:{weight},ZONE: the cluster has {', '.join(sorted(filter(None, zones)))}")
    member = Member(md5(f"{len(nodes)} {text}".encode()), host, zone_text or next(iter(zones)) or "", int(weight_text or weight))
    return member, f"new on {host}"


def unchanged(nodes: Sequence[NodeEntry]) -> Proposal:
    return Proposal([member_of(node) for node in nodes], {node.id: node.address for node in nodes}, {})


def joined(nodes: Sequence[NodeEntry], hosts: Sequence[str]) -> Proposal:
    proposal, entries = unchanged(nodes), list(nodes)
    for text in hosts:
        member, name = newcomer(entries, text, WEIGHT_DEFAULT, None)
        proposal.members.append(member)
        proposal.names[member.node_id] = name
        entries.append(NodeEntry(id=member.node_id, address=name, host=member.host, zone=member.zone, weight=member.weight))
    return proposal


def left(nodes: Sequence[NodeEntry], names: Sequence[str]) -> Proposal:
    gone = {found(nodes, name).id for name in names}
    proposal = unchanged(nodes)
    return replace(proposal, members=[member for member in proposal.members if member.node_id not in gone])


def replaced(nodes: Sequence[NodeEntry], old: str, new: str) -> Proposal:
    leaver = found(nodes, old)
    stay = [node for node in nodes if node.id != leaver.id]
    member, name = newcomer(stay, new, leaver.weight, leaver.zone)
    proposal = unchanged(nodes)
    members = [member, *(one for one in proposal.members if one.node_id != leaver.id)]
    return Proposal(members, {**proposal.names, member.node_id: name}, {leaver.id: member.node_id})


def reweighed(nodes: Sequence[NodeEntry], name: str, weight: int) -> Proposal:
    node, proposal = found(nodes, name), unchanged(nodes)
    members = [replace(member, weight=weight) if member.node_id == node.id else member for member in proposal.members]
    return replace(proposal, members=members)


# What would come of it ---------------------------------------------------------------------------------------------------------


def parent_of(reply: PlacementReply) -> Placement:
    """The placement that a node told, as a parent. It does not tell where that one came from, which only decides between equals."""
    ids = [node.id for node in reply.nodes]
    table_digest = md5(canonical_bytes(ALGORITHM, reply.replicas, ids, reply.table))
    return Placement.from_table(PlacementRecord(reply.number, NO_PARENT, (), ALGORITHM, table_digest), reply.replicas, ids, reply.table)


def shares(parent: Placement, child: Placement, before: Sequence[Member], proposal: Proposal) -> list[Share]:
    """Every node of either, members first in the order in which they were given."""
    moves = moves_between(parent, child)
    held, holds = parent.loads(), child.loads()
    members = {member.node_id: member for member in (*before, *proposal.members)}
    return [
        Share(
            proposal.names[node_id], member, held.get(node_id, 0), holds.get(node_id, 0),
            sum(node_id in move.gained for move in moves), sum(node_id in move.lost for move in moves),
        )
        for node_id, member in members.items()
    ]  # fmt: skip


def held_by(placement: Placement, statuses: Mapping[str, StatusReply | DynamoError]) -> Held:
    """From what the nodes say of their storage."""
    loads = placement.loads()
    records = size = replicas = 0
    for status in statuses.values():
        if isinstance(status, StatusReply) and loads.get(status.node_id):
            storage = status.statistics.get("storage", {})
            if "buffer_bytes" in storage:
                records += storage.get("lmdb_records", 0) + storage.get("buffer_records", 0)
                size += storage.get("lmdb_bytes", 0) + storage["buffer_bytes"]
                replicas += loads[status.node_id]
    return Held(size, records, replicas)


def show(arguments: Mapping[str, Any], propose: Propose, unsafe: bool) -> None:
    """Asks the cluster, prints the plan, and ends with 1 when it is refused."""

    async def work(db: Client) -> int:
        reply = await db.cluster.placement()
        parent, proposal = parent_of(reply), propose(reply.nodes)
        before = [member_of(node) for node in reply.nodes]
        held = held_by(parent, await db.cluster.status())
        refusal, child = None, None
        try:
            child = next_placement(parent, before, proposal.members, reply.defaults.n, replaced=proposal.heirs)
        except UnsafePlan as error:
            refusal = str(error)
            child = next_placement(parent, before, proposal.members, reply.defaults.n, replaced=proposal.heirs, unsafe=True)
        except PlacementError as error:
            refusal = str(error)
        for node_id, name in proposal.names.items():
            refusal = refusal and refusal.replace(node_id.hex(), name)
        nodes = [] if child is None else shares(parent, child, before, proposal)
        (print_document if arguments["as_json"] else print_plan)(parent, child, nodes, held, refusal)
        return FAILED if refusal is not None and not (unsafe and child is not None) else 0

    run(arguments, work)


def print_document(parent: Placement, child: Placement | None, nodes: Sequence[Share], held: Held, refusal: str | None) -> None:
    copied = sum(node.gained for node in nodes)
    print_json({
        "placement": parent.number, "partitions": parent.partitions, "replicas": child.replicas if child else parent.replicas,
        "refusal": refusal, "replicas_moved": copied, "bytes_moved": held.bytes_of(copied),
        "records_moved": held.records_of(copied),
        "nodes": [
            {"node": node.name, "id": node.member.node_id.hex(), "host": node.member.host, "zone": node.member.zone,
             "weight": node.member.weight, "partitions_before": node.before, "partitions_after": node.after, "gained": node.gained,
             "lost": node.lost, "bytes_gained": held.bytes_of(node.gained)}
            for node in nodes
        ],
    })  # fmt: skip


def print_plan(parent: Placement, child: Placement | None, nodes: Sequence[Share], held: Held, refusal: str | None) -> None:
    if child is not None:
        table = Table("node", "host", "zone", "weight", "holds", "then", "copied", "dropped", "about", box=None)
        for node in nodes:
            figures = (node.member.weight, node.before, node.after, node.gained, node.lost)
            about = amount(held.bytes_of(node.gained)) if node.gained else "-"
            table.add_row(node.name, node.member.host, node.member.zone or "-", *(str(figure) for figure in figures), about)
        Console().print(table)
        copied, everything = sum(node.gained for node in nodes), child.partitions * child.replicas
        click.echo(f"{copied} of {everything} replicas would be copied ({copied / everything:.1%}), about {amount(held.bytes_of(copied))};"
                   f" placement {parent.number} stays in force, nothing is changed")  # fmt: skip
    if refusal is not None:
        click.echo(f"dynamo-fast: refused: {refusal}", err=True)
