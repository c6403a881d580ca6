"""`load` and `export`: many keys between a cluster and JSON lines or a directory of files, bytes safe both ways.

A JSON line is {"key": text, "value": text}, with `key_base64` or `value_base64` in place of bytes that are not UTF-8; a key with several
values has "siblings": [{"value": text}, ...] instead. In a directory each file is one key, named as the key with every byte that
a file name cannot have (and %) as %XX; when loading, sub-directories count as part of the key.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

import click
import trio

from dynamo_fast.cli.output import (
    SIBLINGS,
    argument_bytes,
    bucket_option,
    cluster_options,
    exit_code,
    fail,
    fate,
    field,
    from_field,
    print_json,
    progress,
    read_options,
    run,
    shown,
    write_options,
)
from dynamo_fast.client.bucket import Bucket
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import BatchFailed, DynamoError, NoSuchBucket
from dynamo_fast.client.results import Result

BATCH_KEYS, BATCH_BYTES = 1000, 8 << 20  # keys in one step, or bytes of values, whichever comes first
BATCHES_AT_ONCE = 2
FAILURES_SHOWN = 10
FILE_NAME_BYTES_MAX = 255


class Entry(NamedTuple):
    """One key to load, and from where, for error texts. More than one value: siblings."""

    key: bytes
    values: Sequence[bytes]
    source: str


class BadInput(Exception):
    """The input cannot be read; the text names the place."""


class BadOutput(Exception):
    """A key cannot be written in the form asked for; the text names it."""


@click.command()
@click.argument("source", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--overwrite/--blind", default=True, show_default=True,
              help="Replace whatever is there, or leave it as a sibling (a second blind load doubles every key).")  # fmt: skip
@bucket_option
@write_options
@cluster_options
def load(arguments: Mapping[str, Any], source: Path, overwrite: bool) -> None:
    """Write many keys from SOURCE: a file of JSON lines, a directory of files, or - for JSON lines on stdin.

    Keys that fail are named on stderr, the rest is loaded, and the exit code tells of the first failure. Loading again is harmless.
    A bucket other than the default one must have been made with `dynamo-fast bucket set`.
    """
    if str(source) != "-" and not source.exists():
        fail(f"{source} does not exist")

    async def work(db: Client) -> int:
        loader = Loader(db.bucket(argument_bytes(arguments["bucket"])), overwrite)
        with progress("load", None, arguments["as_json"]) as show:
            await loader.run(batches(entries(source)), lambda: show(loader.loaded, None))
        if arguments["as_json"]:
            print_json({"loaded": loader.loaded, "failed": loader.failed, "bytes": loader.bytes})
        else:
            click.echo(f"{loader.loaded} keys loaded, {loader.failed} failed, {loader.bytes} bytes of values")
        return loader.code

    run(arguments, work)


@click.command()
@click.argument("target", default="-", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--files", is_flag=True, help="Make TARGET a directory with one file per key.")
@bucket_option
@read_options
@cluster_options
def export(arguments: Mapping[str, Any], target: Path, files: bool) -> None:
    """Read a bucket out to TARGET: JSON lines in a file or on stdout (-), or a new directory of files with --files.

    The bar counts partitions. Keys put or deleted meanwhile may or may not be there. With --files a key with siblings is named on
    stderr and skipped, and the exit code is 4.
    """
    if files and str(target) == "-":
        raise click.UsageError("--files needs a directory as TARGET")

    async def work(db: Client) -> int:
        bucket = db.bucket(argument_bytes(arguments["bucket"]))
        listing = bucket.keys()
        turn = trio.Lock()
        written = skipped = 0

        async def transfer() -> None:
            nonlocal written, skipped
            while True:
                async with turn:
                    keys = await listing.take(BATCH_KEYS)
                if not keys:
                    return
                for result in await bucket.get_many(keys):
                    if files and len(result.values) > 1:
                        skipped += 1
                        click.echo(f"dynamo-fast: {shown(result.key)} has siblings, which one file cannot hold: skipped", err=True)
                    elif result.found:
                        write(result)
                        written += 1
                show(listing.partitions_done, listing.partitions)

        with progress("export", None, arguments["as_json"]) as show, opened(target, files) as write:
            try:
                await in_parallel(transfer)
            except BadOutput as error:
                fail(f"{error} ({written} keys were exported before)")
            except BrokenPipeError:
                raise
            except OSError as error:
                fail(f"cannot write {error.filename or target}: {error.strerror} ({written} keys were exported before)")
        if arguments["as_json"]:
            click.echo(json.dumps({"exported": written, "skipped": skipped}), err=True)
        elif str(target) != "-":
            click.echo(f"{written} keys exported to {target}")
        return SIBLINGS if skipped else 0

    run(arguments, work)


async def in_parallel(work: Callable[[], Awaitable[None]]) -> None:
    """Runs the work several times at once, so that the nodes have something to do while we read or write; the first error comes out."""
    failures: list[Exception] = []

    async def guarded() -> None:
        try:
            await work()
        except Exception as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(BATCHES_AT_ONCE):
            nursery.start_soon(guarded)
    if failures:
        raise failures[0]


class Loader:
    """Puts batches, several at once but never two with a key in common, and keeps count."""

    def __init__(self, bucket: Bucket, overwrite: bool) -> None:
        self.loaded = 0
        self.failed = 0
        self.bytes = 0
        self.code = 0  # exit code of the first failure
        self._bucket = bucket
        self._overwrite = overwrite
        self._turn = trio.Lock()
        self._under_way: set[bytes] = set()  # keys of the batches being put
        self._ended = trio.lowlevel.ParkingLot()

    async def run(self, found: Iterator[list[Entry]], show: Callable[[], None]) -> None:
        """Puts every batch. Bad input ends it after what stood before, with a word on stderr."""
        bad: list[BadInput] = []

        async def work() -> None:
            while True:
                async with self._turn:  # so that a key's later line is put later
                    try:
                        batch = next(found, None)
                    except BadInput as error:
                        bad.append(error)
                        return
                    if batch is None:
                        return
                    keys = {entry.key for entry in batch}
                    while not keys.isdisjoint(self._under_way):
                        await self._ended.park()
                    self._under_way |= keys
                await self.put(batch)
                self._under_way -= keys
                self._ended.unpark_all()
                show()

        await in_parallel(work)
        for error in bad:
            click.echo(f"dynamo-fast: {error} ({self.loaded} keys were loaded before)", err=True)
            self.code = self.code or 1

    async def put(self, batch: Sequence[Entry]) -> None:
        """First values replace, further siblings are put blind beside them."""
        failures = await self._put([(entry, entry.values[0]) for entry in batch], self._overwrite)
        rest = [(entry, value) for entry in batch for value in entry.values[1:] if entry.key not in failures]
        failures |= await self._put(rest, False)
        for _, error in failures.values():
            if isinstance(error, NoSuchBucket):
                raise error  # every key would fail so
        for key, (entry, error) in failures.items():
            self.failed += 1
            self.code = self.code or exit_code(error)
            if self.failed <= FAILURES_SHOWN:
                click.echo(f"dynamo-fast: {entry.source}: {shown(key)}: {error} [{fate(error)}]", err=True)
        self.loaded += len({entry.key for entry in batch}) - len(failures)

    async def _put(self, puts: Sequence[tuple[Entry, bytes]], overwrite: bool) -> dict[bytes, tuple[Entry, DynamoError]]:
        try:
            outcomes: Sequence[object] = await self._bucket.put_many([(entry.key, value) for entry, value in puts], overwrite=overwrite)
        except BatchFailed as failed:
            outcomes = failed.outcomes
        failures: dict[bytes, tuple[Entry, DynamoError]] = {}
        for (entry, value), outcome in zip(puts, outcomes, strict=True):
            if isinstance(outcome, DynamoError):
                failures[entry.key] = entry, outcome
            else:
                self.bytes += len(value)
        return failures


def batches(found: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Steps that memory can hold. A key never comes twice in one step: the later line wins, as it would one by one.

    What stands before bad input is given out before BadInput is raised.
    """
    batch: dict[bytes, Entry] = {}
    batch_bytes = 0
    bad: BadInput | None = None
    entries_left = iter(found)
    while True:
        try:
            entry = next(entries_left, None)
        except BadInput as error:
            entry, bad = None, error
        if batch and (entry is None or entry.key in batch or len(batch) >= BATCH_KEYS or batch_bytes >= BATCH_BYTES):
            yield list(batch.values())
            batch, batch_bytes = {}, 0
        if bad is not None:
            raise bad
        if entry is None:
            return
        batch[entry.key] = entry
        batch_bytes += sum(map(len, entry.values))


def entries(source: Path) -> Iterator[Entry]:
    """What SOURCE holds, read as it is used; BadInput at the first thing that cannot be read."""
    try:
        if str(source) == "-":
            yield from from_lines(sys.stdin.buffer, "stdin")
        elif source.is_dir():
            yield from from_files(source)
        else:
            with source.open("rb") as lines:
                yield from from_lines(lines, str(source))
    except OSError as error:
        raise BadInput(f"cannot read {error.filename or source}: {error.strerror}") from error


def from_lines(lines: IO[bytes], name: str) -> Iterator[Entry]:
    """JSON lines; empty ones are passed over."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{name}:{number}"
            try:
                yield parse_line(line, where)
            except ValueError as error:
                raise BadInput(f"{where}: {error}") from error


def parse_line(line: bytes, where: str) -> Entry:
    """One JSON line; ValueError says what is wrong with it."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    key = from_field(record, "key")
    if not key:
        raise ValueError("has no 'key'")
    siblings = record.get("siblings")
    if siblings is None:
        siblings = [record]
    if not isinstance(siblings, list) or not siblings or not all(isinstance(sibling, dict) for sibling in siblings):
        raise ValueError("'siblings' is not a list of values")
    values = [from_field(sibling, "value") for sibling in siblings]
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        raise ValueError("has no 'value'")
    return Entry(key, present, where)


def format_line(result: Result) -> str:
    """The line that `parse_line` reads back."""
    values = [field("value", value) for value in result.values]
    rest: dict[str, Any] = values[0] if len(values) == 1 else {"siblings": values}
    return json.dumps({**field("key", result.key), **rest}, ensure_ascii=False) + "\n"


def from_files(directory: Path) -> Iterator[Entry]:
    """Every regular file below the directory, in order of name."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield Entry(file_key(path.relative_to(directory).as_posix()), [path.read_bytes()], str(path))


def file_key(relative: str) -> bytes:
    """The key that a file stands for: its path with %XX undone."""
    return unquote_to_bytes(argument_bytes(relative))


def file_name(key: bytes) -> str:
    """The name of a key's file; BadOutput when it would be too long for a file system."""
    name = quote_from_bytes(key, safe=" !#$&'()+,;=@[]{}^~")
    if name in (".", ".."):
        name = name.replace(".", "%2E")
    if len(name) > FILE_NAME_BYTES_MAX:
        raise BadOutput(f"the key {shown(key)} is too long for a file name: export JSON lines instead")
    return name


class opened:
    """The place an export goes to, as a context manager that gives a function to write one result with."""

    def __init__(self, target: Path, files: bool) -> None:
        self._target = target
        self._files = files
        self._lines: IO[str] | None = None

    def __enter__(self) -> Any:
        try:
            if self._files:
                self._target.mkdir(parents=True)
                return self._write_file
            if str(self._target) == "-":
                return lambda result: click.echo(format_line(result), nl=False)
            self._lines = self._target.open("w", encoding="utf-8")
            return lambda result: self._lines.write(format_line(result)) if self._lines else None
        except FileExistsError:
            fail(f"{self._target} exists: export to a new directory")
        except OSError as error:
            fail(f"cannot write {self._target}: {error.strerror}")

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.close()

    def _write_file(self, result: Result) -> None:
        (self._target / file_name(result.key)).write_bytes(result.value)
