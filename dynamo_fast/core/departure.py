"""How a node that was declared dead, or has left and is gone, comes to know that the others know it.

Whomever it dials refuses it, and nobody tells it anything any more. It must not go by a refusal alone: its last known peer's address may
be somebody else's by now, and who answers there must not be able to stop a healthy node. So a refusal brings the records of the history
that say so, under a MAC with the cluster's secret. The node merges them into its own history as it does all records, and goes by what
that says then; what it cannot check it takes for talk.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from dynamo_fast.core.context import siphash
from dynamo_fast.core.membership import ClusterView, History, Record

RECORDS_MAX = 2  # a departure, and the word of who has left that it is gone
LABEL = b"departed"  # no key of a store and no context begins like it, so that no MAC of those is one of these


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a node is refused for ever: `text` for people, and the `records` by which it is, under the `mac` of their ids."""

    text: str
    records: Annotated[list[Record], msgspec.Meta(min_length=1, max_length=RECORDS_MAX)]
    mac: Annotated[int, msgspec.Meta(ge=0)]


def departure_of(node_id: bytes, history: History) -> Departure | None:
    """What to tell that node; None unless it is dead or gone."""
    view, records = history.view, history.departure(node_id)
    if view is None or not records:
        return None
    text = f"node {node_id.hex()} has departed from this cluster, and an id never returns: start it with an empty data directory"
    return Departure(text=text, records=records, mac=_mac(node_id, view, records))


def vouched_for(departure: Departure, node_id: bytes, view: ClusterView) -> bool:
    """Whether somebody who has the secret of this cluster says of that node that it has departed."""
    return departure.mac == _mac(node_id, view, departure.records)


def _mac(node_id: bytes, view: ClusterView, records: Iterable[Record]) -> int:
    return siphash(view.mac_key, LABEL + view.cluster_id + node_id + b"".join(record.id for record in records))
