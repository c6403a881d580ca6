"""Scenarios in plain text: commands at the margin, what they show indented below, and one flag that writes down what they show now.

    cluster nodes=3 seed=1
    put cart book via a as first
        ok, seen (a1:1)
    kill b
    get cart r=2
        "book", seen (a1:1)
    copies cart
        a  "book" a1:1 under (a1:1)
        ...

`python -m dynamo_fast.testing.scenario FILE ... [--renew]` shows how each differs from what it says, or writes it anew; exit code 0 when
none differs. An event is shown as machine, number of the epoch by appearance, and counter: b2:1 is the first event of b's second epoch.
"""

from __future__ import annotations

import argparse
import difflib
import logging
import shlex
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from dynamo_fast.client.client import Client
from dynamo_fast.client.context import seen_in
from dynamo_fast.client.errors import DynamoError
from dynamo_fast.core.options import BucketSettings
from dynamo_fast.core.siblings import Siblings
from dynamo_fast.testing.cluster import Cluster, run
from dynamo_fast.testing.load import Load
from dynamo_fast.testing.members import members_of, newest_view, unsettled
from dynamo_fast.wire.membership_messages import ChangeReply

INDENT = "    "


class ScenarioError(ValueError):
    """A line that means nothing; says which and why."""


class Scenario:
    """The state of one that runs: clients by the node they go through, contexts by their names."""

    def __init__(self, cluster: Cluster, stack: AsyncExitStack) -> None:
        self.cluster = cluster
        self._stack = stack
        self._clients: dict[str, Client] = {}
        self._contexts: dict[str, bytes] = {}
        self._epochs: dict[bytes, list[bytes]] = {}
        self._load: Load | None = None

    async def perform(self, line: str) -> list[str]:
        """What one command shows."""
        name, *words = shlex.split(line)
        command: Callable[..., Awaitable[list[str] | None]] | None = getattr(self, f"do_{name.replace('-', '_')}", None)
        if command is None:
            raise ScenarioError(f"no such command: {line!r}")
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        for preposition in ("via", "as", "with", "on", "to", "by"):
            if preposition in plain:
                at = plain.index(preposition)
                options[preposition] = plain[at + 1]
                del plain[at : at + 2]
        try:
            return await command(*plain, **options) or []
        except DynamoError as error:
            return [f"{type(error).__name__}: {error}"]
        except TypeError as error:
            raise ScenarioError(f"{line!r}: {error}") from error

    # Requests -------------------------------------------------------------------------------------------------------------------------

    async def do_put(self, key: str, value: str, **options: str) -> list[str]:
        return await self._write(key, value.encode(), options)

    async def do_delete(self, key: str, **options: str) -> list[str]:
        return await self._write(key, None, options)

    async def _write(self, key: str, value: bytes | None, options: dict[str, str]) -> list[str]:
        client = await self._client(options.get("via", ""))
        context = self._contexts[options["with"]] if "with" in options else b""
        numbers = {name: int(options[name]) for name in ("w", "dw") if name in options}
        bucket = client.bucket(options["bucket"]) if "bucket" in options else client
        if value is None:
            after = await bucket.delete(key, context=context, **numbers)  # type: ignore[arg-type]
        else:
            after = await bucket.put(key, value, context=context, **numbers)  # type: ignore[arg-type]
        self._contexts[options.get("as", "it")] = after
        return [f"ok, seen {self._context(after)}"]

    async def do_get(self, key: str, r: str = "2", bucket: str = "", **options: str) -> list[str]:
        client = await self._client(options.get("via", ""))
        result = await (client.bucket(bucket) if bucket else client).get(key, r=int(r))
        self._contexts[options.get("as", "it")] = result.context
        versions = [shown(one.value, one.deleted) for one in result.siblings]
        return [f"{', '.join(versions) or 'nothing'}, seen {self._context(result.context)}"]

    async def _client(self, through: str) -> Client:
        """The client that goes through one node alone, or the usual one."""
        if through not in self._clients:
            connected = (
                self.cluster.connect(through, partition_aware=False, host=f"client-of-{through}") if through else self.cluster.connect()
            )
            self._clients[through] = await self._stack.enter_async_context(connected)
        return self._clients[through]

    async def do_bucket(self, name: str, reconcile: str) -> None:
        await (await self._client("")).cluster.set_bucket(name, BucketSettings(reconcile=reconcile))  # type: ignore[arg-type]

    async def do_work(self) -> None:
        """Clients begin with strict writes and strict reads of a few keys, and go on until `rest`."""
        self._load = Load(self.cluster)
        await self.cluster.nursery.start(self._load.run)

    async def do_rest(self) -> list[str]:
        """They end, and this is what they say."""
        assert self._load is not None, "`rest` comes after `work`"
        await self._load.stop()
        return await self._load.verdict(await self._client(""))

    # Members --------------------------------------------------------------------------------------------------------------------------

    async def do_add(self, *names: str, zone: str = "", host: str = "", weight: str = "100") -> None:
        """Machines more, which wait until somebody has them join."""
        for name in names:
            self.cluster.add_machine(name, zone=zone, host=host, weight=int(weight))
        await self.cluster.until(lambda: all(one.node is not None and one.node.cluster.view is not None
                                             for one in map(self.cluster.__getitem__, names)), 30)  # fmt: skip

    async def do_join(self, *names: str, via: str = "") -> list[str]:
        return accepted(await self.cluster.join(*names, through=via))

    async def do_leave(self, *names: str, via: str = "") -> list[str]:
        return accepted(await self.cluster.leave(*names, through=via))

    async def do_replace(self, old: str, by: str, via: str = "") -> list[str]:
        return accepted(await self.cluster.replace(old, by, through=via))

    async def do_declare_dead(self, *names: str, by: str = "", via: str = "") -> list[str]:
        """Nobody waits for these any more; another one takes the place of the one that is named, if one is."""
        if by:
            return accepted(await self.cluster.replace(names[0], by, dead=True, through=via))
        return accepted(await self.cluster.leave(*names, dead=True, through=via))

    async def do_weight(self, name: str, weight: str, via: str = "") -> list[str]:
        return accepted(await self.cluster.set_weight(name, int(weight), through=via))

    async def do_zone(self, name: str, zone: str, via: str = "") -> list[str]:
        """A machine, with all members on it, is in that zone from now on."""
        return accepted(await self.cluster.set_zone(name, zone, through=via))

    async def do_settle(self, within_s: str = "120") -> list[str]:
        """Waits until every change of members is over; who holds how many partitions then, or what is still to be done."""
        try:
            await self.cluster.settled(float(within_s))
        except trio.TooSlowError:
            return unsettled(self.cluster.machines.values())
        placement, names = self.cluster.placement(), {one.node_id: name for name, one in self.cluster.machines.items()}
        loads = sorted((names[node_id], load) for node_id, load in placement.loads().items())
        return [f"placement {placement.number}: " + " ".join(f"{name} {load}" for name, load in loads)]

    async def do_members(self) -> list[str]:
        """What each machine is, as those know that know most."""
        view, members = newest_view(self.cluster.machines.values()), members_of(self.cluster.machines.values())
        lines = []
        for name, machine in self.cluster.machines.items():
            what = "waits" if view is None or machine.node_id not in view.departed else "is leaving"
            if machine in members:
                what = "member"
            elif view is not None and machine.node_id in view.dead:
                what = "gone"
            lines.append(f"{name}  {what}")
        return lines

    # What happens ---------------------------------------------------------------------------------------------------------------------

    async def do_kill(self, *names: str) -> None:
        await self.cluster.kill(*names)

    async def do_cut_power(self, *names: str) -> None:
        await self.cluster.cut_power(*names, at_worst=True)

    async def do_freeze(self, *names: str) -> None:
        await self.cluster.freeze(*names)

    async def do_restart(self, *names: str) -> None:
        await self.cluster.restart(*names)
        await self.cluster.until(self.cluster.ready, 30)

    async def do_start(self, *names: str) -> None:
        """Does not wait for them to find the others."""
        await self.cluster.restart(*names)

    async def do_destroy(self, *names: str) -> None:
        """These machines are gone for good."""
        await self.cluster.destroy(*names)

    async def do_wipe(self, name: str) -> None:
        """The records of a machine that is down are gone."""
        await self.cluster.clock.moment(self.cluster[name].wipe)

    async def do_clone(self, name: str, to: str) -> None:
        """Another machine that is down gets a copy of this one's disk."""
        await self.cluster.clock.moment(lambda: self.cluster[to].restore(self.cluster[name].snapshot()))

    async def do_isolate(self, *names: str) -> None:
        self.cluster.isolate(*names)

    async def do_cut(self, one: str, two: str) -> None:
        self.cluster.network.cut(one, two)

    async def do_mute(self, name: str) -> None:
        """What the machine answers to clients is lost."""
        self.cluster.network.cut(name, "client", both_ways=False)

    async def do_flap(self, name: str, times: str) -> None:
        """The links of a machine come and go, 0.3 s each."""
        for _ in range(int(times)):
            self.cluster.isolate(name)
            await trio.sleep(0.3)
            self.cluster.network.heal(name)
            await trio.sleep(0.3)

    async def do_heal(self) -> None:
        await self.cluster.heal()

    async def do_wait(self, seconds: str) -> None:
        await trio.sleep(float(seconds))

    # What there is --------------------------------------------------------------------------------------------------------------------

    async def do_copies(self, key: str, bucket: str = "") -> list[str]:
        """What each machine holds."""
        return [f"{name}  {self._object(self.cluster.copy(name, key.encode(), bucket.encode()))}" for name in self.cluster.machines]

    async def do_homes(self, key: str) -> list[str]:
        return [" ".join(machine.name for machine in self.cluster.homes(key.encode()))]

    async def do_states(self) -> list[str]:
        """Which processes run, and why those that ended did."""
        return [
            f"{name}  {one.state.value}" + (f", {type(one.failure).__name__}: {one.failure}" if one.failure else "")
            for name, one in self.cluster.machines.items()
        ]

    def _object(self, found: Siblings | None) -> str:
        if found is None:
            return "nothing"
        versions = [f"{shown(one.value, one.tombstone)} {self._event(*one.dot)}" for one in found.siblings]
        clock = " ".join(sorted(self._event(entry.node, entry.epoch, entry.counter) for entry in found.clock))
        return f"{', '.join(sorted(versions))} under ({clock})"

    def _context(self, context: bytes) -> str:
        seen = seen_in(context)
        events = [self._event(actor[:16], int.from_bytes(actor[16:], "little"), counter) for actor, counter in seen.clock.items()]
        dot = "" if seen.dot is None else f" and {self._event(seen.dot[0][:16], int.from_bytes(seen.dot[0][16:], 'little'), seen.dot[1])}"
        return f"({' '.join(sorted(events))}){dot}"

    def _event(self, node: bytes, epoch: int, counter: int) -> str:
        name = next((one.name for one in self.cluster.machines.values() if one.node_id == node), "?")
        epochs = self._epochs.setdefault(node, [])
        key = epoch.to_bytes(8, "little")
        if key not in epochs:
            epochs.append(key)
        return f"{name}{epochs.index(key) + 1}:{counter}"


def accepted(reply: ChangeReply) -> list[str]:
    """What an operator is told."""
    return [f"for placement {reply.number}" if reply.number else "waits for the change that is under way"]


def shown(value: bytes, deleted: bool) -> str:
    return "deleted" if deleted else f'"{value.decode()}"'


def commands(text: str) -> list[str]:
    """The lines that stand at the margin, comments and empty ones included."""
    return [line for line in text.splitlines() if not line.startswith(INDENT)]


def play(text: str) -> str:
    """The scenario with what its commands show now."""
    lines = commands(text)
    first = next(line for line in lines if line and not line.startswith("#"))
    name, *words = shlex.split(first)
    if name != "cluster":
        raise ScenarioError(f"a scenario begins with `cluster`, not with {first!r}")
    options = dict(word.split("=", 1) for word in words)
    seed, nodes = int(options.pop("seed", "0")), int(options.pop("nodes", "3"))
    settings: dict[str, Any] = {name.replace(".", "__"): int(value) if value.isdigit() else value for name, value in options.items()}

    async def scenario(cluster: Cluster) -> str:
        played: list[str] = []
        async with AsyncExitStack() as stack:
            state = Scenario(cluster, stack)
            for line in lines:
                played.append(line)
                if line and not line.startswith("#") and line != first:
                    played += [INDENT + one for one in await state.perform(line)]
        return "\n".join(played) + "\n"

    return run(scenario, seed=seed, nodes=nodes, **settings)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dynamo_fast.testing.scenario", description="Runs scenarios in plain text.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--renew", action="store_true", help="write down what the commands show now")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    differ = 0
    for file in given.files:
        text = file.read_text()
        now = play(text)
        if now == text:
            continue
        differ += 1
        if given.renew:
            file.write_text(now)
        sys.stdout.writelines(difflib.unified_diff(text.splitlines(True), now.splitlines(True), str(file), "now"))
    return 1 if differ and not given.renew else 0


if __name__ == "__main__":
    sys.exit(main())
