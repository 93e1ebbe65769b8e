"""The summary of a survey in a terminal: the counts, what is wrong where, and the matrix itself when it is small."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from attncheck.render import survey_words
from attncheck.render.interface import Style
from attncheck.render.redact import redacted
from attncheck.render.survey_groups import few
from attncheck.render.survey_summary import NAMED, answer, disagreements, facts
from attncheck.render.symbols import ascii_only
from attncheck.render.terminal import to_text
from attncheck.surveyed import Row, State, Survey

#: Rows up to which the matrix fits a terminal; longer ones are looked up in the files.
_SHOWN = 24
_ORDER = (State.MEASURED, State.PREDICTED, State.MISMATCH, State.BREAKS, State.NOT_SUPPORTED, State.UNKNOWN)


def terminal(survey: Survey, style: Style, files: Sequence[str]) -> str:
    """The summary for people. files: where the tables are."""
    survey = redacted(survey)
    parts: list[Text | Table] = [Text("attncheck survey", style="bold"), *map(Text, answer(survey)), Text()]
    grid = Table.grid(padding=(0, 2))
    for label, words in facts(survey):
        grid.add_row(Text(f"  {label}", style="dim"), words)
    parts += [grid, Text(), *_matrix(survey), _by_implementation(survey), Text()]
    for severity, colour in (("error", "bold red"), ("warning", "yellow")):
        lines = list(_by_slug(survey.surveyed, severity))
        parts.append(Text(f"{severity}s: {'' if lines else 'none'}", style=colour if lines else ""))
        parts += [Text(f"  {line}") for line in lines]
    if apart := disagreements(survey):
        parts += [Text(), *map(Text, apart)]
    parts += [Text(), *(Text(f"written: {name}") for name in redacted(tuple(files)))]
    seconds = f"{survey.seconds:.0f} s, {survey.cpu_seconds:.0f} s of processor time"
    parts.append(Text(f"took {seconds}", style="dim"))
    text = to_text(parts, style)
    return text if style.unicode else ascii_only(text)


def _matrix(survey: Survey) -> Iterator[Text | Table]:
    """A line a type and setting, a symbol a scenario; below it the order, and what the symbols mean that are there."""
    plan, rows = survey.plan, survey.surveyed
    if not rows or len(rows) > _SHOWN:
        return
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("type", overflow="fold")
    for name in plan.implementations:
        table.add_column(name, overflow="fold")
    seen: set[str] = set()
    for row in rows:
        marks = [survey_words.marks(row, name, plan) for name in plan.implementations]
        seen.update(*marks)
        table.add_row(row.name, *marks)
    yield table
    yield Text(f"  each symbol a scenario: {', '.join(plan.scenarios)}", style="dim")
    for mark, word, meaning in survey_words.legend():
        if mark in seen:
            yield Text(f"  {mark} {word}: {meaning}", style="dim")
    yield Text()


def _by_implementation(survey: Survey) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("cells")
    counts = []
    for name in survey.plan.implementations:
        table.add_column(name, justify="right", overflow="fold")
        counts.append(Counter(c.state for row in survey.surveyed for c in row.cells if c.implementation == name))
    for state in _ORDER:
        table.add_row(survey_words.STATES[state][1], *(str(counted[state]) for counted in counts))
    return table


def _by_slug(rows: Iterable[Row], severity: str) -> Iterator[str]:
    """One line a slug, implementation and basis: in which scenarios, and which types."""
    places: dict[tuple[str, str, str], dict[str, set[str]]] = defaultdict(lambda: {"types": set(), "scenarios": set()})
    for row in rows:
        for finding in row.findings:
            if finding.severity == severity:
                entry = places[finding.slug, finding.implementation, finding.basis]
                entry["types"].add(row.model_type)
                entry["scenarios"].add(finding.scenario)
    for (slug, implementation, basis), entry in sorted(places.items()):
        scenarios = ", ".join(sorted(name for name in entry["scenarios"] if name))
        how = f" ({basis})" if basis else ""
        yield f"{slug} x {implementation or '-'}{how} in {scenarios or '-'}: {_named(sorted(entry['types']))}"


def _named(names: Sequence[str]) -> str:
    return f"{len(names)} ({few(names, NAMED)})"
