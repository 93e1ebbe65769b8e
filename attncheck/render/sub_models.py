"""Sub-models in the terminal: what each runs, whether flash kernels are among it, and what doing without them costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attncheck.render.bench_words import digits, time
from attncheck.render.parts import heading, inset
from attncheck.render.symbols import PREDICTED
from attncheck.render.wording import first_line
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.semantics.sub_models import Asked, AskedRun, Cost, SubModelRun, WithoutFlash

#: A row's cells: text and colour.
Cell = tuple[str, str]
Row = tuple[Cell, ...]


def sections(report: Report) -> list[RenderableType]:
    """What each sub-model runs; nothing for models without sub-models."""
    rows = list(rows_of(report.sub_models))
    if not rows:
        return []
    headings = ("attn_implementation", *titles(report.sub_models))
    return [heading("Sub-models"), inset(_table(headings, rows))]


def flash(report: Report) -> list[RenderableType]:
    """The answer to `--without flash`; nothing where nobody asked."""
    answer = report.without
    if answer is None:
        return []
    parts: list[RenderableType] = [heading("Without flash"), inset(_table(flash_headings(answer), flash_rows(answer)))]
    if costs := list(cost_rows(answer.costs)):
        lengths = [str(length) for length in dict.fromkeys(cost.length for cost in answer.costs)]
        title = f"one attention call, forward, {answer.heads}, {answer.dtype}, {answer.device}"
        parts += [Text(), inset(Text(title, style="dim")), inset(_table(("tokens", *lengths), costs))]
    return [*parts, Text(), *(inset(Text(line, style="dim")) for line in remarks(answer))]


def titles(runs: Sequence[AskedRun]) -> list[str]:
    """Sub-models in order, "vision tower", "language model"."""
    return list(dict.fromkeys(sub.title for run in runs for sub in run.sub_models))


def rows_of(runs: Sequence[AskedRun]) -> Iterator[Row]:
    """One row a way to ask: what each sub-model runs."""
    names = titles(runs)
    if len(names) < 2:
        return
    for run in runs:
        by_title = {sub.title: sub for sub in run.sub_models}
        cells = [_effective(by_title.get(name), run) for name in names]
        yield ((asked_for(run.asked), ""), *cells)


def asked_for(asked: Asked) -> str:
    """What was passed, or with torch's switches the name of the way."""
    return asked.name if asked.switches else asked.argument or "nothing"


def _effective(sub: SubModelRun | None, run: AskedRun) -> Cell:
    if run.failure:
        return first_line(run.failure), "yellow"
    if sub is None:
        return "none", "dim"
    mark = PREDICTED if run.basis is Basis.PREDICTED else ""
    quiet = sub.requested and sub.reached and sub.reached != (sub.requested,)
    said = sub.effective if sub.reached or run.basis is Basis.PREDICTED else f"{sub.effective} (by its config)"
    return f"{mark}{said}", "yellow" if quiet else ""


def flash_headings(answer: WithoutFlash) -> tuple[str, ...]:
    """Way, sub-models, and how far the results are off."""
    return ("way", *titles((*answer.asked, *answer.ways)), "largest", "typical", "top-1")


def flash_rows(answer: WithoutFlash) -> list[Row]:
    """One row a way: flash kernels by sub-model, and the distance of the results from the first way's."""
    names = titles((*answer.asked, *answer.ways))
    found: list[Row] = []
    measure = _measure(answer)
    for run in (*answer.asked, *answer.ways):
        by_title = {sub.title: sub for sub in run.sub_models}
        cells = [_flash(by_title.get(name), run) for name in names]
        found.append(((asked_for(run.asked), ""), *cells, *_numbers(run, first=run is measure)))
    return found


def _measure(answer: WithoutFlash) -> AskedRun | None:
    """The run whose outputs the others are compared with: the first that could be run."""
    return next((run for run in (*answer.asked, *answer.ways) if not run.asked.predicted and not run.failure), None)


def _flash(sub: SubModelRun | None, run: AskedRun) -> Cell:
    if run.failure:
        return f"○ NOT RUN: {first_line(run.failure)}", "magenta"
    if sub is None:
        return "–", "dim"
    if sub.flash:
        return f"✗ flash ({sub.effective})", "bold red"
    if sub.unproven:
        return f"? {first_line(sub.unproven[0])}", "magenta"
    return f"✓ none ({sub.effective})", "green"


def _numbers(run: AskedRun, *, first: bool) -> tuple[Cell, Cell, Cell]:
    """Of the sub-model that gives logits, else of the last one."""
    found = [sub.deviation for sub in run.sub_models if sub.deviation is not None]
    chosen = next((one for one in found if one.top1 is not None), found[-1] if found else None)
    if chosen is None or first:
        return ("–", "dim"), ("–", "dim"), ("–", "dim")
    top1 = "–" if chosen.top1 is None else f"{100 * chosen.top1:.4g} %"
    return (f"{chosen.largest:.1e}", ""), (f"{chosen.typical:.1e}", ""), (top1, "")


def cost_rows(costs: Sequence[Cost]) -> Iterator[Row]:
    """One row an API: time by length, with the ratio to the first row, and memory."""
    lengths = list(dict.fromkeys(cost.length for cost in costs))
    names = list(dict.fromkeys(cost.name.partition(" (")[0] for cost in costs))
    by_place = {(cost.name.partition(" (")[0], cost.length): cost for cost in costs}
    base = {length: by_place.get((names[0], length)) for length in lengths} if names else {}
    for name in names:
        picked = [cost.name for cost in costs if cost.name.startswith(f"{name} (")]
        label = f"{picked[0]}" if picked else name
        cells = [_cost(by_place.get((name, length)), base[length]) for length in lengths]
        yield ((label, "bold"), *cells)


def _cost(cost: Cost | None, base: Cost | None) -> Cell:
    if cost is None:
        return "–", "dim"
    if cost.seconds is None:
        return first_line(cost.detail) or "NOT RUN", "magenta"
    said = time(cost.seconds)
    if base is not None and base.seconds and base is not cost:
        said += f" ({digits(cost.seconds / base.seconds)}x)"
    if cost.memory is not None:
        said += f", {cost.memory / 2**20:.0f} MiB"
        if base is not None and base.memory and base is not cost:
            said += f" ({digits(cost.memory / base.memory)}x)"
    return said, ""


def remarks(answer: WithoutFlash) -> list[str]:
    """How to read the table, in full sentences."""
    phases = dict.fromkeys(
        phase.name for run in (*answer.asked, *answer.ways) for sub in run.sub_models for phase in sub.phases
    )
    how = "kernels and operators" if answer.device == "cuda" else "operators"
    found = [
        f"flash: by the {how} that torch's profiler saw in {', '.join(phases)}; {answer.dtype} on {answer.device}, "
        "tiny model with heads of the true width",
        f"largest, typical, top-1: difference of the logits from those of {_called(measure.asked)}, same weights and "
        f"inputs; share of positions with the same most likely token ({_positions(answer)})"
        if (measure := _measure(answer)) is not None
        else "nothing could be run to compare with",
    ]
    found += [_wrong_key(run) for run in answer.ways if _is_ignored(run)]
    if answer.costs:
        found.append("times with backward and flash-attn: attncheck bench --preset llava-no-flash")
    return [*found, *answer.notes]


def _called(asked: Asked) -> str:
    return "the default" if asked.implementation is None and not asked.switches else asked_for(asked)


def _positions(answer: WithoutFlash) -> str:
    deviations = [sub.deviation for run in answer.ways for sub in run.sub_models if sub.deviation is not None]
    spread = next((f"; their own spread is {one.spread:.2g}" for one in deviations if one.top1 is not None), "")
    count = next((one.positions for one in deviations if one.top1 is not None), 0)
    return f"{count} positions of random tokens{spread}" if count else "none were compared"


def _is_ignored(run: AskedRun) -> bool:
    """True for a dict whose only key none of the sub-models has."""
    given = run.asked.implementation
    keys = {sub.key for sub in run.sub_models}
    return isinstance(given, tuple) and bool(keys) and not {key for key, _ in given} & keys


def _wrong_key(run: AskedRun) -> str:
    given = run.asked.implementation
    assert isinstance(given, tuple)
    keys = " and ".join(sub.key for sub in run.sub_models)
    effective = " and ".join(f"the {sub.title} still runs {sub.effective}" for sub in run.sub_models)
    return f"{run.asked.argument} changed nothing and raised nothing: {effective}; the keys are {keys}"


def _table(headings: Sequence[str], rows: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    for text in headings:
        table.add_column(text, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, style=colour) for text, colour in row))
    return table
