"""Findings in the terminal, by slug, the worst first: errors with evidence, picture and fixes, the others short."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.findings import Finding, Severity
from attncheck.render.finding_groups import Group, groups
from attncheck.render.interface import Style
from attncheck.render.parts import hanging
from attncheck.render.picture import picture
from attncheck.render.sides import apart, distinct, first_difference, sides
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import BASIS_WORDS, first_line, headline_lines, layer_ranges, plural, scenario_words
from attncheck.report import Report
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.kernel_names import BRIEF, shortened

#: How many errors get a picture: a screenful of them hides what comes after. Of the warnings, the first does where no
#: error has one.
_PICTURES = 3
_MESSAGES = 4
#: Of a machine each is about a library of its own; of a model most repeat one another for further implementations.
_DOCTOR_MESSAGES = 8
#: Two lines each.
_FIGURES = 10
_FIXES = 2
_SNIPPET_LINES = 3
#: Characters of one line of evidence: four lines of a page.
_LONGEST_TEXT = 320


def blocks(report: Report, style: Style) -> list[RenderableType]:
    """One block a group with an empty line between: errors in full, warnings and notes short."""
    parts: list[RenderableType] = []
    left = _PICTURES
    shown: set[tuple[KeepMask | None, KeepMask | None]] = set()
    hint = _hint(report)
    for group in groups(report.findings):
        severity, evidence = group.lead.severity, group.lead.evidence
        if severity is Severity.NOTE:
            parts += [*_note(group), Text()]
            continue
        full = severity is Severity.ERROR or report.command == "doctor"  # what is broken here is worth every line
        full = full or report.framework is not None  # so is what the user's own settings lead to
        if not full and hint:
            parts += [hint, Text()]
            hint = None
        masks = (evidence.declared_mask, evidence.effective_mask)
        wanted = left > 0 and masks not in shown if full else not shown
        drawn = _picture(group.lead, style) if wanted else []
        left -= bool(drawn)
        shown.add(masks)
        parts += [*(_block(group, drawn, report) if full else _short(group, drawn, report)), Text()]
    return parts[:-1]


def _hint(report: Report) -> RenderableType | None:
    """How to see all of a warning, where warnings are about scenarios nobody asked for."""
    warned = [finding.scenario for finding in report.findings if finding.severity is Severity.WARNING]
    if not any(name and name not in report.core_scenarios for name in warned):
        return None
    return _indented(
        Text("Warnings are shown short; --scenario NAME counts as use and shows one in full.", style="dim")
    )


def _note(group: Group) -> list[RenderableType]:
    symbol, colour = SEVERITY[Severity.NOTE]
    messages = list(dict.fromkeys(finding.headline or finding.message for finding in group.findings))
    lines: list[RenderableType] = [Text.assemble((f"{symbol} note", colour), "  ", _name(group.lead))]
    for message in messages:
        head, *entries = headline_lines(message)
        lines += [_indented(Text(head)), *(Padding(part, (0, 0, 0, 2)) for part in hanging(map(Text, entries)))]
    return [*lines, *_advice(group.findings)]


def _short(group: Group, drawn: Sequence[Text], report: Report) -> list[RenderableType]:
    """A warning: what, where, declared against effective, the fix; a line each. Figures are each told, above where."""
    lead = group.lead
    figures = group.findings if apart(lead) else ()
    parts: list[RenderableType] = [_title(lead)]
    for finding in figures[:_FIGURES]:
        parts += [_indented(Text(first_line(finding.headline or finding.message))), *_against(finding, 4)]
    if (more := len(figures) - _FIGURES) > 0:
        parts.append(_indented(Text(f"... and {more} more like it; --format json lists them all", style="dim")))
    pictured: list[RenderableType] = [Text(), *(Padding(line, (0, 0, 0, 4)) for line in drawn), Text()] if drawn else []
    if figures:
        parts += [*map(_indented, places(group.findings, report)), *pictured]
    else:
        parts += [_indented(Text(first_line(lead.headline or lead.message))), *_reasons(group, pictured, report)]
    pasted: list[str] = []
    for entry in distinct((lead, *group.findings))[:_FIXES]:
        label = "also" if entry.paste in filter(None, pasted) else "or" if pasted else "fix"  # the same, elsewhere
        pasted.append(entry.paste)
        parts.append(labelled(label, Text(entry.text, style="green")))
    return parts[:-1] if isinstance(parts[-1], Text) and not parts[-1].plain else parts


def _reasons(group: Group, pictured: Sequence[RenderableType], report: Report) -> list[RenderableType]:
    """Where, and declared against effective there: each pair of them once, with its own places."""
    reasons = group.by_reason()
    parts: list[RenderableType] = []
    for same in reasons[:_MESSAGES]:
        parts += [*map(_indented, places(same, report)), *_against(same[0], 2 if len(reasons) == 1 else 4)]
        parts += pictured if same is reasons[0] else []
    if left := reasons[_MESSAGES:]:
        parts += map(_indented, places([finding for same in left for finding in same], report))
        words = f"for {plural(len(left), 'other reason')}; --format json lists them all"
        parts.append(_indented(Text(words, style="dim"), 4))
    return parts


def _against(finding: Finding, indent: int) -> list[RenderableType]:
    """`declared causal · effective full`; nothing where one of them is not said."""
    evidence, (declared, effective) = finding.evidence, sides(finding)
    if not (evidence.declared and evidence.effective):
        return []
    line = Text.assemble((f"{declared} ", "dim"), first_line(evidence.declared), (f" · {effective} ", "dim"))
    return [_indented(line.append(first_line(evidence.effective)), indent)]


def _block(group: Group, drawn: Sequence[Text], report: Report) -> list[RenderableType]:
    """An error: each message with its places and evidence, a picture, every fix, how to reproduce it."""
    lead = group.lead
    parts: list[RenderableType] = [_title(lead)]
    by_message = group.by_message()
    most = _DOCTOR_MESSAGES if report.command == "doctor" else _MESSAGES
    for number, same in enumerate(list(by_message.values())[:most]):
        first = same[0]
        parts.append(_indented(Text(first_line(first.headline or first.message))))
        parts += [_indented(line, 4) for line in places(same, report)]
        if (evidence := _evidence(first, full=not number)) is not None:
            parts.append(_indented(evidence, 4))
        if drawn and not number:
            parts += [Text(), *(Padding(line, (0, 0, 0, 4)) for line in drawn), Text()]
    if group.also:
        used = "; ".join(line.plain for line in places(group.also, report))
        parts.append(_indented(Text(f"the same in opt-in features: {used}", style="dim"), 4))
    if (more := len(by_message) - most) > 0:
        parts.append(_indented(Text(f"... and {more} more like it; --format json lists them all", style="dim")))
    parts += [*_advice(group.findings), *_reproduction(group.findings, report)]
    return parts[:-1] if isinstance(parts[-1], Text) and not parts[-1].plain else parts


def _title(finding: Finding) -> Text:
    symbol, colour = SEVERITY[finding.severity]
    return Text.assemble((f"{symbol} {finding.severity.value}", colour), "  ", _name(finding))


def _name(finding: Finding) -> Text:
    return Text.assemble((finding.slug, "bold"), (f"  {finding.code}", "dim"))


def places(findings: Sequence[Finding], report: Report) -> list[Text]:
    """`measured: eager, sdpa · plain, decode · encoder layers 0-31`, one line for each set of places."""
    scenarios: dict[tuple[str, str, str], list[str]] = {}
    for finding in findings:
        kernel = f"[{shortened(finding.kernel, BRIEF)}]" if finding.kernel else ""
        name = " ".join(filter(None, (finding.implementation, kernel)))
        seen = scenarios.setdefault((BASIS_WORDS[finding.basis], _layers(finding, report), name), [])
        if finding.scenario and finding.scenario not in seen:
            seen.append(finding.scenario)
    names: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (basis, part, name), seen in scenarios.items():
        if name:
            names.setdefault((basis, part, tuple(seen)), []).append(name)
    return [
        Text(
            " · ".join(
                filter(None, (f"{basis}: {', '.join(group)}", scenario_words(seen, report.core_scenarios), part))
            ),
            style="dim",
        )
        for (basis, part, seen), group in names.items()
    ]


def _layers(finding: Finding, report: Report) -> str:
    """`encoder layers 0-24 step 2`; what is the same for the whole model is not said."""
    declared = {
        (group.part, layer) for group in (report.model.groups if report.model else ()) for layer in group.layers
    }
    parts = {part for part, _ in declared}
    everywhere = {layer for part, layer in declared if part is finding.part} <= set(finding.layers)
    part = finding.part.value if finding.part is not None and (len(parts) != 1) else ""
    if not finding.layers or everywhere:
        return part
    return f"{part} layer{'s' if len(finding.layers) > 1 else ''} {layer_ranges(finding.layers)}".strip()


def _evidence(finding: Finding, *, full: bool) -> Table | None:
    evidence, (declared, effective) = finding.evidence, sides(finding)
    rows = [(declared, evidence.declared), ("requested", evidence.requested), (effective, evidence.effective)]
    if not full:
        said = finding.headline or finding.message
        rows = [row for row in rows[::2] if not re.search(rf"(?<!\w){re.escape(row[1])}(?!\w)", said)]
    elif first := first_difference(finding):
        rows.append(("first", first))
    rows = [(label, text) for label, text in rows if text]
    if not rows:
        return None
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, text in rows:
        grid.add_row(label, Text(_cut(first_line(text))))
    return grid


def _cut(text: str) -> str:
    """A library may put pages into one line; JSON has all of it."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT].rsplit(' ', 1)[0]} [...]"


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
        width=style.width - 4,
    )


def _advice(findings: Sequence[Finding]) -> list[RenderableType]:
    """Each distinct recommendation of the group once, with the first way to paste it; JSON has the others."""
    texts: set[str] = set()
    pasted: set[str] = set()
    parts: list[RenderableType] = []
    for advice in (advice for finding in findings for advice in finding.recommendations):
        paste = advice.paste
        if advice.text in texts or (paste and paste in pasted) or len(texts) >= _MESSAGES:
            continue
        texts.add(advice.text)
        pasted.add(paste)
        parts.append(labelled("or" if parts else "fix", Text(advice.text, style="green")))
        if paste:
            parts.append(pasteable(paste, 9))
    return parts


def _reproduction(findings: Sequence[Finding], report: Report) -> list[RenderableType]:
    """Short snippets as they are; of long ones, where they are."""
    found = next((finding for finding in findings if finding.reproduction.strip()), None)
    if found is None:
        return []
    lines = found.reproduction.strip().splitlines()
    if len(lines) > _SNIPPET_LINES:
        place = f"findings[{report.findings.index(found)}].reproduction of --format json"
        return [labelled("repro", Text(f"{len(lines)} lines of Python that show it alone: {place}", style="dim"))]
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
