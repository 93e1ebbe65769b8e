"""`--plots DIR`: checked before the work, written after it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from attncheck.errors import UsageError

if TYPE_CHECKING:
    from attncheck.report import Report


def check_plots(folder: str | None) -> None:
    """Raises UsageError where nothing can draw or the folder cannot be made; makes it."""
    if folder is None:
        return
    from attncheck.render import plots

    plots.check()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--plots {folder!r} cannot be made: {error.strerror}", "name another folder") from None
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--plots {folder} cannot be written: permission denied", "name another folder")


def write_plots(report: Report, folder: str | None) -> None:
    """The plots as files; one line on stderr says how many."""
    if folder is None:
        return
    from attncheck.render import plots

    drawn = plots.plots(report)
    for name, svg in drawn.items():
        path = os.path.join(folder, name)
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(svg)
        except OSError as error:
            raise UsageError(f"--plots: {path} cannot be written: {error.strerror}") from None
    if drawn:
        typer.echo(f"attncheck: {len(drawn)} plot{'' if len(drawn) == 1 else 's'} in {folder}", err=True)
    else:
        typer.echo("attncheck: no plot: no table has times at two lengths; --seq-lens 1k,4k has them", err=True)
