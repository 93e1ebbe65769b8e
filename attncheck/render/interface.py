"""What a renderer is, which ones there are, and the one way to call them (redacted input, encodable output)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attncheck import discovery
from attncheck.errors import UsageError
from attncheck.render.redact import redacted
from attncheck.report import Report


@dataclass(frozen=True, slots=True)
class Style:
    """Where the text goes. width: columns. colour: rich's name of a colour system, None for no escape codes at all.

    unicode: False where the output's encoding cannot hold symbols and block characters.
    """

    width: int = 80
    colour: str | None = None
    unicode: bool = True


@dataclass(frozen=True, slots=True)
class Renderer:
    """One output format. render gets a report that has been redacted; it must not read anything else."""

    name: str
    summary: str
    render: Callable[[Report, Style], str]


def renderers() -> dict[str, Renderer]:
    """Every format by name: each module of `attncheck.render` that defines `RENDERER`."""
    from attncheck import render

    return {renderer.name: renderer for renderer in discovery.plugins(render, "RENDERER", Renderer)}


def find(name: str) -> Renderer:
    """The format of that name. Raises UsageError with the names there are."""
    known = renderers()
    if name not in known:
        raise UsageError(f"--format {name!r} is not a format; there are {', '.join(sorted(known))}")
    return known[name]


def render(report: Report, format_name: str, style: Style = Style()) -> str:
    """The report as text in one format, ending in a newline. Raises UsageError for an unknown format."""
    text = find(format_name).render(redacted(report), style)
    return text if text.endswith("\n") else text + "\n"
