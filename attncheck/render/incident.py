"""A reproduced incident in the terminal: the numbers before and after, the cells that differ, and what to write."""

from __future__ import annotations

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.environment import Environment
from attncheck.findings import Severity
from attncheck.render.symbols import SEVERITY, VERDICT
from attncheck.render.wording import plural
from attncheck.semantics.incident import WindowIncident
from attncheck.verdicts import Verdict

#: Where the incident is published.
THREAD = "TransformerEngine#1197"


def answer(incident: WindowIncident) -> list[Text]:
    """One line for the top of the page: reproduced, not here, or something else than was published."""
    number, keys = incident.window, incident.keys
    seen = " and ".join(f"{count} keys to {name}" for name, count in keys.items())
    if incident.reproduced:
        symbol, _, colour = VERDICT[Verdict.OK]
        words = f"reproduced: the number {number} means {seen}"
    elif not incident.cells:
        symbol, _, colour = VERDICT[Verdict.NOT_APPLICABLE]
        words = f"not reproduced: with the number {number} both kernels see the same keys here"
    else:
        symbol, _, colour = VERDICT[Verdict.UNKNOWN]
        words = f"the kernels differ, but not as published: {seen}; {_cells(incident)}"
    return [Text(f"{symbol} {words}", style=colour)]


def sections(incident: WindowIncident, environment: Environment) -> list[RenderableType]:
    """All of the incident, with what it ran on."""
    parts: list[RenderableType] = [
        _heading(f"One window number, two kernels ({THREAD})"),
        _inset(_facts([("measured", incident.shape)])),
        Text(),
        _inset(_numbers(incident)),
        Text(),
        _inset(_sentence(incident)),
        Text(),
        _heading(f"What to write for a window of {plural(incident.window, 'token')}, the query's own included"),
        _inset(_facts(writing(incident.window))),
    ]
    if incident.others:
        title = f"TransformerEngine's own backends, window_size=({incident.window}, 0)"
        rows = [(pair, f"largest difference {figure(value)}") for pair, value in incident.others.items()]
        parts += [Text(), _heading(title), _inset(_facts(rows))]
    ran = [
        *((f"gpu {gpu.index}", gpu.name) for gpu in environment.gpus),
        *((f"kernel of {name}", kernel) for name, kernel in incident.kernels.items()),
        *incident.versions.items(),
    ]
    parts += [Text(), _heading("With"), _inset(_facts(ran))] if ran else []
    symbol, colour = SEVERITY[Severity.NOTE]
    parts += [_inset(Text(f"{symbol} {remark}", style=colour)) for remark in incident.remarks]
    return parts


def numbers(incident: WindowIncident) -> list[tuple[str, str, str]]:
    """(what, with the same number, with the second's corrected).

    Differences are the largest absolute ones of the outputs; cells are pairs (query, key) that one kernel alone sees.
    """
    second = incident.second
    wide, same = (incident.keys.get(name) for name in (incident.first, second))
    rows = [(f"{name} asked with", before, after) for name, (before, after) in incident.words.items()]
    rows += [
        ("difference, scale as above", figure(incident.before), figure(incident.after)),
        ("difference, 1/sqrt(head_dim)", figure(incident.usual_before), figure(incident.usual_after)),
        ("cells that differ", str(incident.cells), str(incident.cells_after)),
    ]
    if wide is not None and same is not None:
        mended = str(wide) if not incident.cells_after else "?"
        rows.append(("keys of an inner query", f"{wide} | {same}", f"{wide} | {mended}"))
    return rows


def writing(window: int) -> list[tuple[str, str]]:
    """(API, how to ask it for `window` tokens, the query's own included), from the measured conventions."""
    return [
        ("flash-attn 2", f"causal=True, window_size=({window - 1}, 0)"),
        ("cuDNN graph", f"diagonal_band_left_bound={window}, diagonal_band_right_bound=0"),
        (
            "TransformerEngine",
            f'attn_mask_type="causal", window_size=({window - 1}, 0); FusedAttention of 1.9 to 1.11 then sees one key '
            "less: use 1.12 or newer",
        ),
        ("transformers", f"sliding_window={window}"),
    ]


def figure(value: float) -> str:
    """Three significant digits, no exponent for the sizes that occur."""
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"


def _numbers(incident: WindowIncident) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column(f"both {incident.window}", style="bold red" if incident.cells else "", overflow="fold")
    mended = "" if incident.cells_after else "green"
    table.add_column(f"{incident.second} {incident.window + 1}", style=mended, overflow="fold")
    for row in numbers(incident):
        table.add_row(*row)
    return table


def _sentence(incident: WindowIncident) -> Text:
    """What the identity values showed."""
    if not incident.cells:
        return Text("identity values: both kernels see the same keys")
    rest = {None: "", True: "; the same in every head and batch row", False: "; heads or batch rows do not agree"}
    return Text(f"identity values: {_cells(incident)}{rest[incident.heads_agree]}")


def _cells(incident: WindowIncident) -> str:
    if incident.exact:
        number = incident.window
        return f"{incident.second} does not see key i-{number} of every query i >= {number}, and nothing else differs"
    shared = f"all at distance {incident.distance}" if incident.distance is not None else "at several distances"
    return f"{plural(incident.cells, 'cell')} differ, {shared}, first in query {incident.first_query}"


def _facts(rows: list[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def _heading(title: str) -> Text:
    return Text(title, style="bold underline")


def _inset(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))
