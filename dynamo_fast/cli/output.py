"""What every command that talks to a cluster shares: its options, how it prints, and how it ends.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 siblings, 5 quorum, timeout or nobody reachable, 6 overload, 7 refused to start.
Bytes are safe everywhere: with --json a field `value` is text when the bytes are UTF-8, and `value_base64` stands in its place when not.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import click
import msgspec
import trio

from dynamo_fast.client import errors
from dynamo_fast.client.client import Client, connect

FAILED, USAGE, NOT_FOUND, SIBLINGS, UNANSWERED, OVERLOAD, REFUSED = 1, 2, 3, 4, 5, 6, 7
CONNECT_TIMEOUT_S = 3.0  # a person waits: less than the client's own patience
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
SEEDS_VARIABLE, SEEDS_DEFAULT = "DYNAMO_FAST_SEEDS", "127.0.0.1:7400"

_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.NotFound, NOT_FOUND),
    (errors.Siblings, SIBLINGS),
    (errors.Overload, OVERLOAD),
    (errors.Unknown, UNANSWERED),
    (errors.NotEnoughReplicas, UNANSWERED),
    (errors.Unreachable, UNANSWERED),
    (errors.NotReady, UNANSWERED),
    (errors.DynamoError, FAILED),
)


def exit_code(error: BaseException) -> int:
    """The exit code that tells of this error; of a batch, that of its first error."""
    if isinstance(error, errors.BatchFailed):
        return exit_code(error.errors[0])
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def fate(error: BaseException) -> str:
    """In words: was the request applied?"""
    if isinstance(error, errors.NotApplied):
        return "not applied"
    return "unknown whether applied" if isinstance(error, errors.Unknown) else "failed"


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Ends the command with one sentence on stderr."""
    click.echo(f"dynamo-fast: {message}", err=True)
    sys.exit(code)


def field(name: str, value: bytes) -> dict[str, str]:
    """`value` as a JSON field: {name: text}, or {name_base64: ...} for bytes that are not UTF-8."""
    try:
        return {name: value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value).decode("ascii")}


def from_field(record: Mapping[str, Any], name: str) -> bytes | None:
    """The inverse of `field`; None when the record has neither form. ValueError when what it has is no text or no base64."""
    text, encoded = record.get(name), record.get(f"{name}_base64")
    if text is not None and encoded is not None:
        raise ValueError(f"has both {name!r} and '{name}_base64'")
    if text is None and encoded is None:
        return None
    if not isinstance(text if encoded is None else encoded, str):
        raise ValueError(f"{name!r} is not text")
    return str(text).encode("utf-8") if encoded is None else base64.b64decode(str(encoded), validate=True)


def shown(value: bytes) -> str:
    """Bytes for a person: text as it is, everything that could harm a terminal or cannot be told apart escaped."""
    text = value.decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode() for character in text)


def print_json(document: object) -> None:
    """One JSON document on one line of stdout."""
    click.echo(json.dumps(document, ensure_ascii=False))


def plain(message: object) -> Any:
    """A message of the control plane as JSON data; ids and other bytes as hex."""
    return _hexed(msgspec.to_builtins(message, builtin_types=(bytes,)))


def _hexed(data: object) -> object:
    if isinstance(data, bytes):
        return data.hex()
    if isinstance(data, dict):
        return {str(_hexed(name)): _hexed(value) for name, value in data.items()}
    return [_hexed(item) for item in data] if isinstance(data, list | tuple) else data


def amount(size: int | None) -> str:
    """Bytes for a person."""
    if size is None:
        return "?"
    power = min(max(size.bit_length() - 1, 0) // 10, len(UNITS) - 1)
    return f"{size / 1024**power:.{1 if power else 0}f} {UNITS[power]}"


def argument_bytes(text: str) -> bytes:
    """The bytes that the shell gave for an argument."""
    return os.fsencode(text)


def run(arguments: Mapping[str, Any], work: Callable[[Client], Awaitable[int | None]], **settings: Any) -> None:
    """Connects as the common options say, runs the work, and ends the process with the code it returns or its error deserves."""

    async def connected() -> int | None:
        given = {name: arguments.get(name) for name in ("r", "w", "dw", "strict", "deadline_s")}
        changes = {"connect_timeout_s": CONNECT_TIMEOUT_S} | {name: value for name, value in given.items() if value is not None} | settings
        async with connect(arguments["seeds"], **changes) as db:
            return await work(db)

    try:
        code = trio.run(connected)
    except errors.DynamoError as error:
        if arguments["as_json"]:
            print_json({"error": type(error).__name__, "fate": fate(error), "message": str(error)})
        fail(f"{error} [{fate(error)}]", exit_code(error))
    except ValueError as error:
        fail(str(error), USAGE)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(FAILED)
    except KeyboardInterrupt:
        fail("interrupted")
    except BaseExceptionGroup as group:  # the interrupt may reach any task
        if group.subgroup(KeyboardInterrupt) is None:
            raise
        fail("interrupted")
    sys.exit(code or 0)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every command that talks to a cluster; the function gets them as one mapping `arguments`, its own by name."""

    @click.option("--seeds", "-s", envvar=SEEDS_VARIABLE, default=SEEDS_DEFAULT, show_default=True, show_envvar=True,
                  metavar="HOST:PORT,...", help="Nodes to start from; any one alive is enough.")  # fmt: skip
    @click.option("--json", "as_json", is_flag=True, help="Print JSON, one document a line.")
    @click.option("--deadline", "deadline_s", type=click.FloatRange(0, 60, min_open=True), metavar="SECONDS",
                  help="Per request; 1 if not given.")  # fmt: skip
    @functools.wraps(command)
    def with_options(**arguments: Any) -> Any:
        own = {name: value for name, value in arguments.items() if name not in COMMON}
        return command(arguments, **own)

    return with_options


def read_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--r", type=click.IntRange(1, 254), help="Answers to wait for.")(command)
    return click.option("--strict/--no-strict", default=None, help="Home replicas only.")(command)


def write_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--dw", type=click.IntRange(0, 254), help="Fsynced copies to wait for.")(command)
    return click.option("--w", type=click.IntRange(1, 254), help="Copies to wait for.")(command)


def bucket_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--bucket", "-b", default="", metavar="NAME", help="Bucket; the default bucket if not given.")(command)


COMMON = {"seeds", "as_json", "deadline_s", "r", "w", "dw", "strict", "bucket"}


@contextmanager
def progress(description: str, total: int | None, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr, if that is a terminal and not quiet; yields a function (done so far, total or None when not known)."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, known_total: None
        return
    from rich.console import Console  # here, since a single get should not wait for it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done, known_total: bar.update(task, completed=done, total=known_total)
