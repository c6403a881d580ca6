"""Runs commands in this process, as the shell would: a line of words, then arguments with any bytes in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from click.testing import CliRunner, Result

from dynamo_fast.cli.main import main


class HasAddresses(Protocol):
    @property
    def addresses(self) -> list[str]: ...


C = TypeVar("C", bound=HasAddresses)


class Shell(Generic[C]):
    """`shell("put k -", stdin=b"value")`; every command gets the cluster's seeds unless it names its own."""

    def __init__(self, cluster: C) -> None:
        self.cluster = cluster

    def __call__(self, words: str, *arguments: str | bytes | Path, stdin: bytes = b"", code: int = 0) -> Result:
        """Runs one command; fails unless it ends with the exit code `code`."""
        line = [*words.split(), *(os.fsdecode(argument) for argument in arguments)]
        environment = {"DYNAMO_FAST_SEEDS": ",".join(self.cluster.addresses)}
        result = CliRunner().invoke(main, line, input=stdin, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"{line} ended with {result.exit_code}\n{result.output}"
        return result
