"""The command line: the commands put together, and the entry point. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from attncheck import __version__
from attncheck.commands.bench import bench
from attncheck.commands.compare import compare
from attncheck.commands.doctor import doctor
from attncheck.commands.explain import explain
from attncheck.commands.render import render
from attncheck.commands.run import run
from attncheck.commands.survey import survey
from attncheck.options import FLAG

app = typer.Typer(
    name="attncheck",
    epilog="Exit codes: 0 nothing found, 1 findings, 2 wrong usage or target, 3 no verdict was reached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def attncheck(
    version: Annotated[bool, typer.Option("--version", metavar=FLAG, help="Print the version.")] = False,
) -> None:
    """Does the attention that runs equal the attention that the model declares? Measured, not guessed."""
    if version:
        typer.echo(f"attncheck {__version__}")
        raise typer.Exit


for command in (compare, doctor, bench, survey, explain, render):
    app.command()(command)
# What follows the first word is the script's own, options included.
app.command(context_settings={"allow_interspersed_args": False})(run)


def occupy_standard_streams() -> None:
    """Open what the caller closed (`2>&-`): else the next pipe gets that number, and native chatter runs into it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def main() -> None:
    """Entry point of the `attncheck` command."""
    occupy_standard_streams()
    app()
