"""The sections of a `doctor` report in the terminal: software, GPUs, variables that act, and what can run here."""

from __future__ import annotations

from dataclasses import replace

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.environment import Environment
from attncheck.render.symbols import STATUS, VERDICT
from attncheck.render.wording import first_line, reason_line
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import Implementation, Status, Verdict

_GIB = 1 << 30


def sections(report: Report) -> list[RenderableType]:
    """All sections of one doctor report."""
    return [
        *_installed(report.environment),
        *(
            [Text(), *_usable(report.implementations, gpus=bool(report.environment.gpus))]
            if report.implementations
            else []
        ),
        *([Text(), *_checks(report)] if report.checks else []),
    ]


def _installed(environment: Environment) -> list[RenderableType]:
    grid = _grid()
    grid.add_row("python", f"{environment.python}, {environment.platform}")
    for gpu in environment.gpus:
        major, minor = gpu.capability
        grid.add_row(f"gpu {gpu.index}", f"{gpu.name}, compute capability {major}.{minor}, {gpu.memory / _GIB:.0f} GiB")
    if environment.driver:
        grid.add_row("driver", environment.driver)
    if environment.gpu_note:
        grid.add_row("gpu", environment.gpu_note)
    present = [library for library in environment.libraries if library.version is not None or library.note]
    for library in present:
        text = Text(library.version or "absent")
        if library.note:
            text.append(f"  {library.note}", style="dim")
        grid.add_row(library.name, text)
    for name, value in environment.variables.items():
        grid.add_row(name, Text(f"{value!r} is set and acts"))
    absent = [library.name for library in environment.libraries if library not in present]
    if absent:
        grid.add_row("absent", Text(", ".join(absent), style="dim"))
    read = "; ".join(f"{what}: {where}" for what, where in environment.sources.items())
    return [
        Text("Installed", style="bold underline"),
        Padding(grid, (0, 0, 0, 2)),
        *([Padding(Text(f"read from {read}", style="dim"), (0, 0, 0, 2))] if read else []),
    ]


def answer(report: Report) -> list[Text]:
    """How many implementations can run here, in a line for the top of the page."""
    if not report.implementations:
        return []
    usable = [entry.name for entry in report.implementations if entry.status is Status.OK]
    symbol, _, colour = VERDICT[Verdict.OK if usable else Verdict.NOT_RUN]
    device = "on the GPU" if report.environment.gpus else "on the CPU; no GPU can be used"
    words = f"{symbol} {len(usable)} of {len(report.implementations)} implementations can run {device}"
    return [Text(words, style=colour)]


def _usable(implementations: tuple[Implementation, ...], *, gpus: bool) -> list[RenderableType]:
    """gpus: there are some, so that the limits which they miss are worth a word."""
    grid = _grid(3, labels="")
    for entry in sorted(implementations, key=lambda entry: entry.status is not Status.OK):
        symbol, word, colour = STATUS[entry.status]
        word = {Status.OK: "can run", Status.REJECTED: "cannot run"}.get(entry.status, word)
        short = (reason_line(replace(r, source="")) if gpus else first_line(r.text) for r in entry.reasons)
        reasons = Text("; ".join(short))
        if not entry.reasons:
            reasons = Text("nothing stands against it", style="dim")
        grid.add_row(Text(f"{symbol} {word}", style=colour), Text(entry.name, style="bold"), reasons)
    parts: list[RenderableType] = [Text("What can run here", style="bold underline"), Padding(grid, (0, 0, 0, 2))]
    if {entry.basis for entry in implementations} == {Basis.STATIC}:
        note = "static: read from versions and limits. attncheck compare measures what they compute"
        parts.append(Padding(Text(note, style="dim"), (0, 0, 0, 2)))
    return parts


def _checks(report: Report) -> list[RenderableType]:
    """Only the checks that did not run: what ran shows in the findings."""
    unrun = [check for check in report.checks if check.status not in ("ok", "finding")]
    ran = len(report.checks) - len(unrun)
    symbol, word, colour = VERDICT[Verdict.NOT_RUN]
    grid = _grid(3)
    for check in unrun:
        grid.add_row(Text(f"{symbol} {word}", style=colour), Text(check.code, style="bold"), check.reason)
    parts: list[RenderableType] = [
        Text("Checks", style="bold underline"),
        Padding(Text(f"{ran} of {len(report.checks)} ran"), (0, 0, 0, 2)),
    ]
    return [*parts, *([Padding(grid, (0, 0, 0, 2))] if unrun else [])]


def _grid(columns: int = 2, labels: str = "dim") -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(columns - 1):
        grid.add_column(style=labels, no_wrap=True)
    grid.add_column()
    return grid
