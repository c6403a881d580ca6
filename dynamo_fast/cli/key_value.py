"""`get`, `put`, `delete` and `keys`: the store's operations by hand, siblings included."""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dynamo_fast.cli.output import (
    NOT_FOUND,
    SIBLINGS,
    argument_bytes,
    bucket_option,
    cluster_options,
    fail,
    field,
    print_json,
    read_options,
    run,
    shown,
    write_options,
)
from dynamo_fast.client.client import Client
from dynamo_fast.client.errors import NotFound
from dynamo_fast.client.results import Result, Sibling

context_option = click.option("--context", "context_path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                              help="Replace what was seen when this file was written (get --context-to).")  # fmt: skip
context_to_option = click.option("--context-to", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
                                 help="Write the context to this file, as base64 text.")  # fmt: skip
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace whatever the coordinator holds, seen or not.")


@click.command()
@click.argument("key")
@click.option("--sibling", type=click.IntRange(min=1), metavar="N", help="Print this one of several values.")
@context_to_option
@bucket_option
@read_options
@cluster_options
def get(arguments: Mapping[str, Any], key: str, sibling: int | None, context_to: Path | None) -> None:
    """Print the value of KEY, its bytes as they are.

    Exits with 3 when there is none. When there are siblings (concurrent versions), prints them numbered and exits with 4.
    """

    async def work(db: Client) -> int:
        result = await db.bucket(argument_bytes(arguments["bucket"])).get(argument_bytes(key))
        if context_to is not None:
            write_context(context_to, result.context)
        if arguments["as_json"]:
            print_json(result_document(result))
            return 0 if len(result.values) == 1 else SIBLINGS if result.found else NOT_FOUND
        if sibling is not None:
            version = numbered(result, sibling)
            if version.deleted:
                fail(f"sibling {sibling} of key {key!r} is a delete: it has no value", NOT_FOUND)
            print_bytes(version.value)
        elif len(result.values) == 1:
            print_bytes(result.value)
        elif result.found:
            print_siblings(key, result)
            return SIBLINGS
        else:
            fail(f"no value for key {key!r}", NOT_FOUND)
        return 0

    run(arguments, work)


@click.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", "value_path", type=click.Path(dir_okay=False, path_type=Path), help="Take the value from this file.")
@click.option("--resolve", is_flag=True, help="Read the key now and replace everything read: settles siblings with VALUE.")
@click.option("--take", type=click.IntRange(min=1), metavar="N", help="Settle siblings with number N of those that get shows.")
@overwrite_option
@context_option
@context_to_option
@bucket_option
@write_options
@cluster_options
def put(arguments: Mapping[str, Any], key: str, value: str | None, value_path: Path | None, resolve: bool, take: int | None,
        overwrite: bool, context_path: Path | None, context_to: Path | None) -> None:  # fmt: skip
    """Write VALUE, or stdin for `-`, under KEY.

    Without --context, --resolve, --take or --overwrite the write is blind: what is there already stays, as a sibling.
    """
    if sum((resolve, take is not None, overwrite, context_path is not None)) > 1:
        raise click.UsageError("--context, --resolve, --take and --overwrite exclude each other")
    if (value is not None) + (value_path is not None) + (take is not None) != 1:
        raise click.UsageError("give the value once: as VALUE, as - for stdin, with --file, or with --take")
    context = None if context_path is None else read_context(context_path)
    chosen = value_bytes(value, value_path)

    async def work(db: Client) -> None:
        bucket = db.bucket(argument_bytes(arguments["bucket"]))
        seen, written, delete = context, chosen, False
        if resolve or take is not None:
            result = await bucket.get(argument_bytes(key))
            seen = result.context
            if take is not None:
                written, delete, _ = numbered(result, take)
        if delete:
            new = await bucket.delete(argument_bytes(key), context=seen)
        else:
            new = await bucket.put(argument_bytes(key), written, context=seen, overwrite=overwrite)
        if context_to is not None:
            write_context(context_to, new)
        if arguments["as_json"]:
            print_json({**field("key", argument_bytes(key)), "context": base64.b64encode(new).decode()})

    run(arguments, work)


@click.command()
@click.argument("key")
@overwrite_option
@context_option
@bucket_option
@write_options
@cluster_options
def delete(arguments: Mapping[str, Any], key: str, overwrite: bool, context_path: Path | None) -> None:
    """Delete KEY: what a context has seen, or else what a read finds now. Exits with 3 when that read finds nothing."""
    if overwrite and context_path is not None:
        raise click.UsageError("--context and --overwrite exclude each other")
    context = None if context_path is None else read_context(context_path)

    async def work(db: Client) -> None:
        bucket, seen = db.bucket(argument_bytes(arguments["bucket"])), context
        if seen is None and not overwrite:
            result = await bucket.get(argument_bytes(key))
            if not result.found:
                raise NotFound(f"no value for key {key!r}")
            seen = result.context
        new = await bucket.delete(argument_bytes(key), context=seen, overwrite=overwrite)
        if arguments["as_json"]:
            print_json({**field("key", argument_bytes(key)), "context": base64.b64encode(new).decode()})

    run(arguments, work)


@click.command()
@click.option("--null", "-0", "null", is_flag=True, help="Print raw bytes and end each key with a NUL, for xargs -0.")
@click.option("--count", is_flag=True, help="Print only how many there are.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Stop after so many.")
@bucket_option
@cluster_options
def keys(arguments: Mapping[str, Any], null: bool, count: bool, limit: int | None) -> None:
    """List the keys of a bucket, one a line, in no order; unprintable bytes are escaped unless --null or --json."""

    async def work(db: Client) -> None:
        found = 0
        async for key in db.bucket(argument_bytes(arguments["bucket"])).keys():
            found += 1
            if count:
                continue
            if arguments["as_json"]:
                print_json(field("key", key))
            elif null:
                click.echo(key + b"\0", nl=False)
            else:
                click.echo(shown(key))
            if found == limit:
                break
        if count:
            print_json({"keys": found}) if arguments["as_json"] else click.echo(str(found))

    run(arguments, work)


def value_bytes(value: str | None, path: Path | None) -> bytes:
    """The value that the command line names: an argument's bytes, stdin for `-`, or a file."""
    if path is not None:
        try:
            return path.read_bytes()
        except OSError as error:
            fail(f"cannot read {path}: {error.strerror}")
    return sys.stdin.buffer.read() if value == "-" else argument_bytes(value or "")


def numbered(result: Result, number: int) -> Sibling:
    """The sibling with the number that `get` shows, from 1."""
    if number > len(result.siblings):
        fail(f"there are {len(result.siblings)} siblings, not {number}")
    return result.siblings[number - 1]


def print_bytes(value: bytes) -> None:
    """The bytes as they are; a newline after them only for a person at a terminal."""
    sys.stdout.buffer.write(value)
    if sys.stdout.isatty() and not value.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def print_siblings(key: str, result: Result) -> None:
    for number, sibling in enumerate(result.siblings, 1):
        when = datetime.fromtimestamp(sibling.timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
        what = "(deleted)" if sibling.deleted else shown(sibling.value)
        click.echo(f"{number}\t{when}\t{len(sibling.value)} bytes\t{what}")
    how = f"settle them with `put {key} VALUE --resolve` or `put {key} --take N`"
    click.echo(f"dynamo-fast: {key!r} has {len(result.siblings)} siblings: {how}", err=True)


def result_document(result: Result) -> dict[str, object]:
    """A get as JSON. `value` stands only when there is exactly one; `siblings` has all versions, deletes included."""
    siblings = [
        {**({} if sibling.deleted else field("value", sibling.value)), "deleted": sibling.deleted, "timestamp_ms": sibling.timestamp_ms}
        for sibling in result.siblings
    ]
    only = field("value", result.values[0]) if len(result.values) == 1 else {}
    context = base64.b64encode(result.context).decode()
    return {**field("key", result.key), "found": result.found, **only, "siblings": siblings, "context": context}


def write_context(path: Path, context: bytes) -> None:
    try:
        path.write_text(base64.b64encode(context).decode() + "\n")
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}")


def read_context(path: Path) -> bytes:
    try:
        return base64.b64decode(path.read_text().strip(), validate=True)
    except OSError as error:
        fail(f"cannot read {path}: {error.strerror}")
    except (binascii.Error, ValueError):
        fail(f"{path} holds no context: it must be the base64 text that get --context-to writes")
