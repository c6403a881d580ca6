"""The command `dynamo-fast`: a table of its subcommands, each imported only when it is called, so that a server stays small in memory."""

from __future__ import annotations

from importlib import import_module

import click

from dynamo_fast import __version__

# name -> where the click command stands, and its line in `dynamo-fast --help`
COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve:serve", "Run one node of a cluster."),
    "dev": ("dev:dev", "Run a whole cluster in this terminal."),
    "get": ("key_value:get", "Read a key: every version that no other has replaced."),
    "put": ("key_value:put", "Write a key."),
    "delete": ("key_value:delete", "Delete a key."),
    "keys": ("key_value:keys", "List the keys of a bucket."),
    "load": ("transfer:load", "Write many keys from JSON lines or a directory of files."),
    "export": ("transfer:export", "Read a bucket out as JSON lines or files."),
    "status": ("cluster:status", "Show how each node is, or wait until all are ready."),
    "ring": ("cluster:ring", "Show who owns how much of the ring, and where a key lives."),
    "plan": ("plan:plan", "Show what a change of members would move, and change nothing."),
    "join": ("members:join", "Have new nodes become members."),
    "leave": ("members:leave", "Have members leave and hand over what they hold."),
    "replace": ("members:replace", "Have a new node take the places of a member."),
    "weight": ("members:weight", "Give a member another share of the data."),
    "zone": ("members:zone", "Say in which zone a machine is."),
    "bucket": ("cluster:bucket", "Show buckets, or change the settings of one."),
    "hints": ("hints:hints", "Show what nodes keep for others that are away."),
    "check": ("check:check", "Verify the data directory of a node that is not running."),
    "repair": ("repair:repair", "Have nodes compare all they hold with each other, now."),
    "bench": ("bench:bench", "Measure a running server under load."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are looked up; its help page needs none of them."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(import_module(f"dynamo_fast.cli.{module}"), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="dynamo-fast", message="%(prog)s %(version)s")
def main() -> None:
    """A highly available, always writable, replicated key-value store.

    \b
    Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 siblings,
    5 quorum or timeout, 6 overload, 7 refused to start.
    """
