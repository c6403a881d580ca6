"""`make demo`: the store on real input, with a node killed half way. Exits 0 only if everything held.

Three nodes; the whole Debian package index of this machine, name -> stanza, loaded with W=2; one node killed with SIGKILL when half
of it is in, and started again; every stanza read back with R=2 and compared byte for byte; then the shopping cart of the paper
(section 4.4), edited through two coordinators at once.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio

import dynamo_fast
from tests.live.cluster import Cluster

WINDOW = 250  # stanzas in one put_many
LOADERS = 4  # windows in flight at once
MISSED = 5000  # stanzas that are put while the killed node is away
STAND_IN_STANZAS = 40_000


@dataclass
class Table:
    """What happened, row by row; a row that did not hold fails the demonstration."""

    rows: list[tuple[str, str, bool | None]] = field(default_factory=list)

    def note(self, what: str, found: str) -> None:
        self.rows.append((what, found, None))

    def check(self, what: str, found: str, held: bool) -> None:
        self.rows.append((what, found, held))

    @property
    def held(self) -> bool:
        return all(held is not False for _, _, held in self.rows)

    def show(self) -> None:
        width = max(len(what) for what, _, _ in self.rows)
        marks = {True: "held", False: "FAILED", None: ""}
        print()
        for what, found, held in self.rows:
            print(f"  {what:<{width}}  {marks[held]:<6}  {found}")
        print(f"\n{'Everything held.' if self.held else 'Something did NOT hold: see above.'}")


def package_index(table: Table) -> dict[bytes, bytes]:
    """Name -> stanza; a name that comes several times gets its version behind it."""
    if shutil.which("apt-cache"):
        listing = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False).stdout
        stanzas = dict(named(stanza for stanza in listing.split(b"\n\n") if stanza.startswith(b"Package: ")))
        if stanzas:
            table.note("input", f"apt-cache dumpavail: {len(stanzas)} stanzas, {sum(map(len, stanzas.values())) / 1e6:.0f} MB")
            return stanzas
    print("There is no package index on this machine; generated stanzas stand in for it.")
    stanzas = dict(named(map(stand_in, range(STAND_IN_STANZAS))))
    table.note("input", f"generated, for want of apt-cache: {len(stanzas)} stanzas")
    return stanzas


def stand_in(number: int) -> bytes:
    """A stanza that looks like one, drawn from its number."""
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    depends = ", ".join(f"package-{int(digest[i : i + 4], 16)}" for i in range(0, 40, 4))
    return f"Package: package-{number}\nVersion: 1.{number % 97}\nDepends: {depends}\nSHA256: {digest}\n".encode()


def named(stanzas: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    seen: set[bytes] = set()
    for stanza in stanzas:
        fields = dict(line.split(b": ", 1) for line in stanza.split(b"\n") if b": " in line and not line.startswith(b" "))
        name = fields[b"Package"]
        if name in seen:
            name += b"=" + fields.get(b"Version", b"")
        while name in seen:
            name += b"'"
        seen.add(name)
        yield name, stanza


class Loader:
    """Puts the index with W=2 while one node dies and comes back."""

    def __init__(self, db: dynamo_fast.Client, cluster: Cluster, stanzas: dict[bytes, bytes]) -> None:
        self.db = db
        self.cluster = cluster
        items = list(stanzas.items())
        self.windows = [items[start : start + WINDOW] for start in range(0, len(items), WINDOW)]
        self.windows.reverse()
        self.half = len(items) // 2
        self.loaded = 0
        self.in_flight = 0
        self.half_way = trio.Event()
        self.enough_missed = len(items)  # a count of `loaded`; lowered when the node dies
        self.missed_enough = trio.Event()
        self.put_again = 0

    async def load(self) -> None:
        while self.windows:
            window = self.windows.pop()
            self.in_flight += len(window)
            try:
                await self.db.put_many(window, w=2)
            except dynamo_fast.BatchFailed as failure:
                for (name, stanza), outcome in zip(window, failure.outcomes, strict=True):
                    if isinstance(outcome, dynamo_fast.DynamoError):
                        await self.repeat(name, stanza)
            self.in_flight -= len(window)
            self.loaded += len(window)
            if self.loaded >= self.half:
                self.half_way.set()
            if self.loaded >= self.enough_missed or not self.windows:
                self.missed_enough.set()

    async def repeat(self, name: bytes, stanza: bytes) -> None:
        """After a failure: read, and put with the context unless the stanza is there already."""
        self.put_again += 1
        for _ in range(20):
            try:
                result = await self.db.get(name, r=2, deadline_s=5.0)
                if result.values != (stanza,):
                    await self.db.put(name, stanza, context=result.context, w=2, deadline_s=5.0)
                return
            except dynamo_fast.DynamoError as error:
                last = error
        raise last

    async def kill_and_restart(self, table: Table) -> None:
        await self.half_way.wait()
        victim = self.cluster[1]
        table.note("kill -9", f"node 1, pid {victim.pid}, after {self.loaded} stanzas, with {self.in_flight} puts in flight")
        victim.kill()
        before = self.loaded
        # The cluster has to go on without it for a while, so that there is something for it to have missed.
        self.enough_missed = before + MISSED
        await self.missed_enough.wait()
        began = time.monotonic()
        victim.start()
        await trio.to_thread.run_sync(self.cluster.wait_ready)
        table.check("node 1 back", f"ready {time.monotonic() - began:.2f} s after its start; "
                                   f"{self.loaded - before} stanzas were accepted meanwhile", self.loaded > before)


async def load_and_read_back(db: dynamo_fast.Client, cluster: Cluster, table: Table) -> None:
    stanzas = package_index(table)
    print(f"loading {len(stanzas)} stanzas with W=2 ...", flush=True)
    loader = Loader(db, cluster, stanzas)
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.kill_and_restart, table)
        for _ in range(LOADERS):
            nursery.start_soon(loader.load)
    table.check("loaded, W=2", f"{loader.loaded} of {len(stanzas)} acknowledged in {time.monotonic() - began:.1f} s; "
                               f"{loader.put_again} put again after an error", loader.loaded == len(stanzas))
    print("reading every stanza back with R=2 ...", flush=True)
    began = time.monotonic()
    names, right = list(stanzas), 0
    for start in range(0, len(names), 1000):
        for result in await db.get_many(names[start : start + 1000], r=2, deadline_s=10.0):
            right += result.values == (stanzas[result.key],)
    table.check("read back, R=2", f"{right} of {len(names)} are byte for byte what was put; {time.monotonic() - began:.1f} s",
                right == len(names))


def items_of(cart: bytes) -> set[str]:
    return set(filter(None, cart.decode().split(",")))


def cart_of(items: set[str]) -> bytes:
    return ",".join(sorted(items)).encode()


def merge_carts(carts: tuple[bytes, ...]) -> bytes:
    """The paper's merge: everything that is in any of the carts."""
    return cart_of(set().union(*map(items_of, carts)))


async def shopping_cart(cluster: Cluster, table: Table) -> None:
    """Two customers' devices edit one cart through two nodes that each coordinate, both starting from the same reading."""
    key = b"cart of account 4711"
    async with (
        dynamo_fast.connect([cluster.addresses[0]], partition_aware=False) as left,
        dynamo_fast.connect([cluster.addresses[2]], partition_aware=False) as right,
    ):
        await left.put(key, cart_of({"book", "lamp"}), w=3)
        read_left, read_right = await left.get(key), await right.get(key)
        async with trio.open_nursery() as nursery:
            async def remove_the_lamp() -> None:
                await left.put(key, cart_of(items_of(read_left.value) - {"lamp"}), context=read_left.context)

            async def add_a_pen() -> None:
                await right.put(key, cart_of(items_of(read_right.value) | {"pen"}), context=read_right.context)

            nursery.start_soon(remove_the_lamp)
            nursery.start_soon(add_a_pen)
        both = await right.get(key, r=3)
        shown = sorted(cart.decode() for cart in both.values)
        table.check("cart: siblings", " | ".join(shown), shown == ["book", "book,lamp,pen"])
        await right.put(key, merge_carts(both.values), context=both.context, w=3)
        merged = (await left.get(key, r=3)).values
        table.check("cart: merged", " | ".join(cart.decode() for cart in merged), merged == (b"book,lamp,pen",))
        table.check("cart: the lamp is back", "see the explanation", "lamp" in items_of(merged[0]))


EXPLANATION = """
Why the lamp is back: one device removed it (leaving "book") while the other, which had not seen that, added a pen (making
"book,lamp,pen"). Neither edit saw the other, so the store kept both and handed both to the reader. A cart merged as the paper merges
it, by union, never loses an item that was added; the price is that an item removed at the same moment can return. An application
that minds stores what was removed as well, and subtracts it when it merges."""


async def demonstrate(directory: Path, table: Table) -> None:
    with Cluster(directory) as cluster:
        await trio.to_thread.run_sync(cluster.wait_ready)
        print(f"three nodes are ready: {', '.join(cluster.addresses)}", flush=True)
        async with dynamo_fast.connect(cluster.addresses) as db:
            await load_and_read_back(db, cluster, table)
        await shopping_cart(cluster, table)
        codes = cluster.terminate()
        table.check("clean stop", f"exit codes {codes}", codes == [0, 0, 0])


def main() -> int:
    table = Table()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dynamo-fast-demo-") as directory:
        trio.run(demonstrate, Path(directory), table)
    table.note("time", f"{time.monotonic() - began:.0f} s")
    print(EXPLANATION)
    table.show()
    return 0 if table.held else 1


if __name__ == "__main__":
    sys.exit(main())
