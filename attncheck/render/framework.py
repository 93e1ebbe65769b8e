"""A framework's settings in the terminal: from each setting to what runs, the measured verdict, log lines judged."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from attncheck.findings import Severity
from attncheck.frameworks.plugin import Step, SubModel
from attncheck.frameworks.section import FrameworkSection, JudgedWarning, Kind, Truth
from attncheck.render.parts import heading, inset
from attncheck.render.symbols import VERDICT
from attncheck.render.wording import BASIS_WORDS
from attncheck.report import Report
from attncheck.semantics.observation import Basis
from attncheck.verdicts import Verdict

TRUTH = {
    Truth.REAL: ("REAL", "bold red"),
    Truth.STALE: ("STALE", "green"),
    Truth.INERT: ("INERT", "green"),
    Truth.UNJUDGED: ("NOT JUDGED", "magenta"),
}


def title(found: FrameworkSection) -> str:
    """`LLaMA-Factory 0.9.5 (not installed: the newest known)`."""
    origin = {"installed": "installed", "asked": "as asked", "newest known": "not installed here: the newest known"}
    return f"{found.title} {found.version} ({origin.get(found.version_from, found.version_from)})".replace("  ", " ")


def rows(found: FrameworkSection) -> Iterator[tuple[str, list[str]]]:
    """Each setting that starts a chain, with its steps; the steps that no setting starts follow on the one before."""
    chains: list[tuple[str, list[str]]] = []
    for step in found.steps:
        label = setting(step)
        if label and (not chains or chains[-1][0] != label):
            chains.append((label, []))
        if not chains:
            chains.append(("", []))
        chains[-1][1].append(step.does)
    yield from chains


def setting(step: Step) -> str:
    """`flash_attn: fa2`, with the line of the file behind it."""
    return f"{step.setting}: {step.value}" if step.setting else ""


def places(found: FrameworkSection) -> dict[str, str]:
    """Label of a chain -> `train.yaml, line 7`."""
    return {setting(step): f"line {step.line}" for step in found.steps if step.setting and step.line is not None}


def runs(found: FrameworkSection) -> str:
    """What it comes to, in a few words."""
    if found.kind is Kind.FAILS:
        return f"the run ends: {found.error}: {found.reason}"
    if found.kind is Kind.OWN:
        return found.implementation + (f" ({found.reason})" if found.reason else "")
    return found.implementation if found.kind is Kind.RUNS else f"unknown: {found.reason}"


def verdict(report: Report, found: FrameworkSection) -> tuple[Verdict, str]:
    """What was measured of the implementation that runs, in the scenarios that such a run meets."""
    own = found.kind is Kind.OWN and any(cell.implementation == found.name for cell in report.matrix)
    name = found.name if own else found.implementation
    if found.kind is not Kind.RUNS and not own:
        if found.kind is Kind.FAILS or not found.measured:
            return Verdict.NOT_RUN, "" if found.kind is Kind.FAILS else "not measured by this command"
        wrong = any(f.severity is Severity.ERROR and f.basis is Basis.MEASURED for f in report.findings)
        return Verdict.MISMATCH if wrong else Verdict.OK, "measured by a micro-run: see the findings"
    # What was forced beside the kernel that runs says nothing of this run.
    cells = [cell for cell in report.matrix if cell.implementation == name and not cell.kernel]
    judged = [cell for cell in cells if cell.verdict in (Verdict.OK, Verdict.MISMATCH)]
    if "/" in name:
        return Verdict.NOT_RUN, "not measured: attncheck downloads no kernels from the hub"
    if not judged:
        reasons = [cell.reason for cell in cells if cell.reason]
        return Verdict.NOT_RUN, "not measured" + (f": {reasons[0]}" if reasons else "")
    errors = [f for f in report.findings if f.implementation == name and f.severity is Severity.ERROR]
    if errors:
        where = dict.fromkeys(f"{f.slug} in {f.scenario}" if f.scenario else f.slug for f in errors)
        return Verdict.MISMATCH, f"wrong: {', '.join(where)} ({_strongest({f.basis for f in errors})})"
    mismatched = {cell.scenario for cell in judged if cell.verdict is Verdict.MISMATCH}
    right = len({cell.scenario for cell in judged} - mismatched)
    told = f"right in {right} scenario{'' if right == 1 else 's'}"
    if not right:
        told = f"no error in {', '.join(dict.fromkeys(cell.scenario for cell in judged))}"
    return Verdict.OK, f"{told} ({_strongest({cell.basis for cell in judged})}){_mind(report, name)}"


def _mind(report: Report, name: str) -> str:
    """The warnings about what runs; weaker, those about a kernel that runs only where it is picked."""
    warned = [
        (finding.kernel, f"{finding.slug} in {finding.scenario}")
        for finding in report.findings
        if finding.implementation == name and finding.severity is Severity.WARNING and finding.scenario
    ]
    mind = ", ".join(dict.fromkeys(text for kernel, text in warned if not kernel))
    others = ", ".join(dict.fromkeys(f"{kernel} ({text})" for kernel, text in warned if kernel))
    return (f"; mind {mind}" if mind else "") + (f"; wrong where it is picked: {others}" if others else "")


def _strongest(bases: set[Basis | None]) -> str:
    """The word for the best of what a verdict rests on."""
    order = (Basis.MEASURED, Basis.PREDICTED, Basis.STATIC)
    return BASIS_WORDS[next((one for one in order if one in bases), Basis.PREDICTED)]


def part_words(part: SubModel) -> str:
    """What one sub-model was asked to run, what runs, and on what that rests."""
    return f"asked for {part.requested}, runs {part.effective or 'unknown'} ({BASIS_WORDS[part.basis]})"


def warning_words(warning: JudgedWarning) -> str:
    """On what it rests, why, and who prints the line."""
    basis = f" ({BASIS_WORDS[warning.basis]})" if warning.basis is not None else ""
    heard = (
        "it was logged here"
        if warning.heard
        else f"the line comes from {warning.printed_by}"
        if warning.printed_by
        else ""
    )
    return f"{basis}: {warning.why}" + (f"; {heard}" if heard else "")


def answer(report: Report) -> list[Text]:
    """The line at the top of the page: what runs, and whether it is right."""
    found = report.framework
    if found is None:
        return []
    named = f"{found.title} {found.version}".strip()
    if found.kind is Kind.FAILS:
        style = VERDICT[Verdict.MISMATCH][2]
        return [Text.assemble(("✗ ", style), (f"{named}: {runs(found)}", style))]
    mark, words = verdict(report, found)
    symbol, _, style = VERDICT[mark]
    asked = found.settings.get("flash_attn", "")
    origin = f" (flash_attn: {asked})" if asked else ""
    return [Text.assemble((f"{symbol} ", style), f"{named} runs {runs(found)}{origin}: ", (words, style))]


def sections(report: Report) -> list[RenderableType]:
    """The whole block; nothing without a framework."""
    found = report.framework
    if found is None:
        return []
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    where = places(found)
    for label, steps in rows(found):
        left = Text(label or "by itself", style="bold" if label else "dim")
        if place := where.get(label):
            left.append(f"\n{found.file}, {place}" if len(found.file) <= 24 else f"\n{place}", style="dim")
        table.add_row(left, Text("\n").join(Text.assemble(("→ ", "dim"), step) for step in steps))
    mark, words = verdict(report, found)
    failed = found.kind is Kind.FAILS
    colour = VERDICT[Verdict.MISMATCH][2] if failed else "bold"
    table.add_row(Text("runs", style="bold"), Text.assemble(("= ", "dim"), (runs(found), colour)))
    if words:
        symbol, _, style = VERDICT[mark]
        table.add_row(Text("verdict", style="bold"), Text.assemble((f"{symbol} ", style), (words, style)))
    for part in found.sub_models:
        table.add_row(Text(part.name, style="dim"), Text(part_words(part)))
    blocks: list[RenderableType] = [heading(title(found)), inset(table)]
    for warning in found.warnings:
        word, style = TRUTH[warning.truth]
        lines = Table.grid(padding=(0, 2, 0, 0))
        lines.add_column(no_wrap=True)
        lines.add_column()
        lines.add_row(Text("log line", style="bold"), Text(f'"{warning.text}"', style="dim"))
        lines.add_row("", Text.assemble((word, style), warning_words(warning)))
        blocks += [Text(), inset(lines)]
    return blocks
