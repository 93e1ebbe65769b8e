"""What a renderer is, which ones there are, and the one way to call them (redacted input, encodable output)."""

from __future__ import annotations

import importlib
import importlib.util
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
    """One output format. render gets a report that has been redacted; it must not read anything else.

    commands: whose reports it can write, empty for all. package: what must be installed for it, "" for nothing; extra:
    attncheck's extra that brings it. changes: it shows a bench against a stored one.
    """

    name: str
    summary: str
    render: Callable[[Report, Style], str]
    commands: tuple[str, ...] = ()
    package: str = ""
    extra: str = ""
    changes: bool = True


def renderers() -> dict[str, Renderer]:
    """Every format by name: each module of `attncheck.render` that defines `RENDERER`."""
    from attncheck import render

    return {renderer.name: renderer for renderer in discovery.plugins(render, "RENDERER", Renderer)}


def find(name: str, command: str = "") -> Renderer:
    """The format of that name.

    Raises UsageError with the names there are (for that command, where one is named), or with the package it lacks.
    """

    def fits(renderer: Renderer) -> bool:
        return not command or not renderer.commands or command in renderer.commands

    if (named := _of_module(name)) is not None and fits(named):
        return _usable(named)
    known = {key: renderer for key, renderer in renderers().items() if fits(renderer)}
    if name not in known:
        where = f" of {command}" if command else ""
        raise UsageError(f"--format {name!r} is not a format{where}; there are {', '.join(sorted(known))}")
    return _usable(known[name])


def _usable(renderer: Renderer) -> Renderer:
    if renderer.package and importlib.util.find_spec(renderer.package) is None:
        raise UsageError(
            f"--format {renderer.name} needs the package {renderer.package}, which is not installed",
            f'pip install "attncheck[{renderer.extra}]"',
        )
    return renderer


def _of_module(name: str) -> Renderer | None:
    """The format that a module of its own name defines: the usual case, and all other formats stay unloaded."""
    path = f"attncheck.render.{name}"
    if not name.isidentifier() or importlib.util.find_spec(path) is None:
        return None
    renderer = getattr(importlib.import_module(path), "RENDERER", None)
    return renderer if isinstance(renderer, Renderer) and renderer.name == name else None


def render(report: Report, format_name: str, style: Style = Style()) -> str:
    """The report as text in one format, ending in a newline. Raises UsageError for an unknown format."""
    text = find(format_name, report.command).render(redacted(report), style)
    return text if text.endswith("\n") else text + "\n"
