"""Findings in the terminal: grouped by slug, the worst first, each with evidence, a picture and the fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.findings import Evidence, Finding, Severity
from attncheck.render.interface import Style
from attncheck.render.picture import picture
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import BASIS_WORDS, first_line, layer_ranges
from attncheck.semantics.keepmask import KeepMask

#: How many findings of a severity get a picture: a screenful of them hides what comes after.
_PICTURES = {Severity.ERROR: 4, Severity.WARNING: 2, Severity.NOTE: 0}
_MESSAGES = 4
_SNIPPET_LINES = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Findings of one slug and severity, in the report's order; the first leads."""

    findings: tuple[Finding, ...]

    @property
    def lead(self) -> Finding:
        """The finding whose evidence is shown: the first with masks, else the first."""
        return next((f for f in self.findings if f.evidence.declared_mask is not None), self.findings[0])


def groups(findings: Iterable[Finding]) -> list[Group]:
    """Grouped by slug and severity, errors first, then in the report's order."""
    found: dict[tuple[str, Severity], list[Finding]] = {}
    for finding in findings:
        found.setdefault((finding.slug, finding.severity), []).append(finding)
    return [Group(tuple(group)) for (_, _), group in sorted(found.items(), key=lambda item: -item[0][1].rank)]


def blocks(findings: Iterable[Finding], style: Style) -> list[RenderableType]:
    """One block a group, with an empty line between; notes are short."""
    parts: list[RenderableType] = []
    left = dict(_PICTURES)
    shown: set[tuple[KeepMask | None, KeepMask | None]] = set()
    for group in groups(findings):
        severity, evidence = group.lead.severity, group.lead.evidence
        if severity is Severity.NOTE:
            parts += [*_note(group), Text()]
            continue
        masks = (evidence.declared_mask, evidence.effective_mask)
        drawn = _picture(group.lead, style) if left[severity] and masks not in shown else []
        left[severity] -= bool(drawn)
        shown.add(masks)
        parts += [*_block(group, drawn), Text()]
    return parts[:-1]


def _note(group: Group) -> list[RenderableType]:
    symbol, colour = SEVERITY[Severity.NOTE]
    messages = list(dict.fromkeys(finding.message for finding in group.findings))
    lines: list[RenderableType] = [Text.assemble((f"{symbol} note", colour), "  ", _name(group.lead))]
    return [*lines, *(_indented(Text(first_line(message))) for message in messages), *_advice(group.findings)]


def _block(group: Group, drawn: Sequence[Text]) -> list[RenderableType]:
    lead = group.lead
    symbol, colour = SEVERITY[lead.severity]
    parts: list[RenderableType] = [Text.assemble((f"{symbol} {lead.severity.value}", colour), "  ", _name(lead))]
    by_message: dict[str, list[Finding]] = {}
    for finding in (lead, *group.findings):
        same = by_message.setdefault(finding.message, [])
        if finding not in same:
            same.append(finding)
    for number, (message, same) in enumerate(list(by_message.items())[:_MESSAGES]):
        parts.append(_indented(Text(first_line(message))))
        parts += [_indented(line, 4) for line in _where(same)]
        if number:
            continue
        if (evidence := _evidence(lead)) is not None:
            parts.append(_indented(evidence, 4))
        if drawn:
            parts += [Text(), *(Padding(line, (0, 0, 0, 4)) for line in drawn), Text()]
    if (more := len(by_message) - _MESSAGES) > 0:
        parts.append(_indented(Text(f"... and {more} more like it; --format json lists them all", style="dim")))
    parts += [*_advice(group.findings), *_reproduction(group.findings)]
    return parts[:-1] if isinstance(parts[-1], Text) and not parts[-1].plain else parts


def _name(finding: Finding) -> Text:
    return Text.assemble((finding.slug, "bold"), (f"  {finding.code}", "dim"))


def _where(findings: Sequence[Finding]) -> list[Text]:
    """`measured: eager, sdpa · plain, decode · decoder layers 0-31`, one line for each set of places."""
    scenarios: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        plural = "s" if len(finding.layers) > 1 else ""
        layers = f"layer{plural} {layer_ranges(finding.layers)}" if finding.layers else ""
        part = f"{finding.part.value if finding.part else ''} {layers}".strip()
        name = (finding.implementation or "") + (f" [{finding.kernel}]" if finding.kernel else "")
        seen = scenarios.setdefault((BASIS_WORDS[finding.basis], part, name), [])
        if finding.scenario and finding.scenario not in seen:
            seen.append(finding.scenario)
    names: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (basis, part, name), seen in scenarios.items():
        if name:
            names.setdefault((basis, part, tuple(seen)), []).append(name)
    return [
        Text(" · ".join(filter(None, (f"{basis}: {', '.join(group)}", ", ".join(seen), part))), style="dim")
        for (basis, part, seen), group in names.items()
    ]


def _evidence(finding: Finding) -> Table | None:
    evidence = finding.evidence
    rows = [("declared", evidence.declared), ("requested", evidence.requested), ("effective", evidence.effective)]
    if first := _first_difference(evidence):
        rows.append(("first", first))
    rows = [(label, text) for label, text in rows if text]
    if not rows:
        return None
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, text in rows:
        grid.add_row(label, Text(first_line(text)))
    return grid


def _first_difference(evidence: Evidence) -> str:
    words = []
    if evidence.first_difference is not None:
        row, query, key = evidence.first_difference
        verb = "and" if bool(evidence.leaked) == bool(evidence.missed) else "sees" if evidence.leaked else "misses"
        words.append(f"query {query} {verb} key {key}" + (f" in batch row {row}" if row else ""))
    if evidence.leaked:
        words.append(f"{evidence.leaked} cells leaked")
    if evidence.missed:
        words.append(f"{evidence.missed} cells missed")
    if evidence.heads:
        words.append(f"heads {layer_ranges(evidence.heads)} only")
    return "; ".join(words)


def _picture(finding: Finding, style: Style) -> list[Text]:
    evidence = finding.evidence
    if evidence.declared_mask is None or evidence.effective_mask is None:
        return []
    query = evidence.first_difference[1] if evidence.first_difference is not None else None
    return picture(
        evidence.declared_mask,
        evidence.effective_mask,
        colour=style.colour is not None,
        unicode=style.unicode,
        first_query=query,
    )


def _advice(findings: Sequence[Finding]) -> list[RenderableType]:
    """Each distinct recommendation of the group once, with the first way to paste it; JSON has the others."""
    texts: set[str] = set()
    pasted: set[str] = set()
    parts: list[RenderableType] = []
    for advice in (advice for finding in findings for advice in finding.recommendations):
        paste = advice.settings[0].paste if advice.settings else ""
        if advice.text in texts or (paste and paste in pasted) or len(texts) >= _MESSAGES:
            continue
        texts.add(advice.text)
        pasted.add(paste)
        parts.append(labelled("fix", Text(advice.text, style="green")))
        if paste:
            parts.append(pasteable(paste, 9))
    return parts


def _reproduction(findings: Sequence[Finding]) -> list[RenderableType]:
    """Short snippets as they are; of long ones, where they are."""
    text = next((finding.reproduction.strip() for finding in findings if finding.reproduction.strip()), "")
    if not text:
        return []
    lines = text.splitlines()
    if len(lines) > _SNIPPET_LINES:
        return [
            labelled(
                "repro", Text(f"a script of {len(lines)} lines that shows it by itself: --format json", style="dim")
            )
        ]
    first = Text.assemble(("  repro  ", "dim"), no_wrap=True)
    return [first.append_text(pasteable(lines[0], 0)), *(pasteable(line, 9) for line in lines[1:])]


def labelled(label: str, text: Text) -> RenderableType:
    """`label  text` with the text in its own column, so that its further lines hang."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, min_width=5)
    grid.add_column()
    grid.add_row(label, text)
    return _indented(grid)


def pasteable(text: str, indent: int) -> Text:
    """Code or a setting to copy: its lines are never broken, even where they are longer than the page."""
    return Text("\n".join(" " * indent + line for line in text.splitlines()), style="bold", no_wrap=True)


def _indented(part: RenderableType, by: int = 2) -> Padding:
    return Padding(part, (0, 0, 0, by))
