"""The report for a GitHub issue: summary first, tables, findings in folds, the environment folded at the end."""

from __future__ import annotations

from attncheck.findings import Severity
from attncheck.render import (
    baseline,
    bench,
    doctor,
    kernels,
    markdown_bench,
    markdown_findings,
    markdown_machine,
    shapes,
    speeds,
    sub_models,
    verdict,
    watch,
)
from attncheck.render.asides import asides, legend
from attncheck.render.interface import Renderer, Style
from attncheck.render.markup import Page, bullets, code, fenced, fold, table, text
from attncheck.render.matrix import cell_text, footnotes, has_verdict, scenario_order
from attncheck.render.symbols import STATUS, ascii_only
from attncheck.render.terminal import to_text
from attncheck.render.wording import BASIS_WORDS, declared_line, layer_ranges, platform_line, plural
from attncheck.report import Report
from attncheck.semantics.speeds import Speeds
from attncheck.semantics.watched import Watch
from attncheck.verdicts import Model, Recommended

#: The environment is what an issue cannot do without: up to this size, room is kept for it.
_RESERVED = 20_000
#: Columns of a page of the terminal in a code block: what GitHub shows without a scroll bar.
_FENCED_WIDTH = 100


def render(report: Report, style: Style) -> str:
    """GitHub Markdown of at most `markup.LIMIT` characters; blocks that do not fit are named at its end."""
    page = Page()
    environment = fold("Environment", markdown_machine.environment(report))
    reserved = len(environment) <= _RESERVED
    if reserved:
        page.reserve(environment)
    page.add("\n\n".join(filter(None, _head(report))), "summary")
    if report.framework is not None:
        from attncheck.render import markdown_framework

        page.add(markdown_framework.framework(report), "what the framework runs")
    if report.watch is not None:
        page.add(_script(report.watch), "the script and its calls")
    if report.model is not None:
        page.add(_matrix(report), "table of verdicts")
        page.add(_declared(report.model), "what is declared")
    for name, block in (*markdown_bench.blocks(report), *markdown_machine.tables(report)):
        page.add(block, name)
    if (told := baseline.fresh(report)).findings:
        page.add("### Findings")
        for block, short, name in markdown_findings.folds(told):
            page.add(block, name, short=short)
    if report.speeds is not None:
        page.add(_speeds(report.speeds), "times of a bench")
    if report.recommended is not None:
        page.add(_recommended(report.recommended), "the recommended implementation")
    if report.without is not None:
        page.add(fenced(to_text(sub_models.flash(report), Style(_FENCED_WIDTH)), "text"), "without flash")
    folded = (
        ("Sub-models", sub_models.sections(report)),
        ("Kernels that ran", kernels.sections(report)),
        ("Real shapes", shapes.sections(report)),
    )
    for name, parts in folded:
        if parts and report.model is not None:
            page.add(fold(name, [fenced(to_text(parts, Style(_FENCED_WIDTH)), "text")]), name)
    for name, block in markdown_machine.folded(report):
        page.add(block, name)
    if reserved:
        page.release(environment)
    page.add(environment, "environment")
    page.add(_foot(report))
    return page.text() if style.unicode else ascii_only(page.text())


def _head(report: Report) -> list[str]:
    target = f" {code(report.model.id, 200)}" if report.model is not None else ""
    answer = doctor.answer(report) if report.command == "doctor" else verdict.lines(report)
    answer = bench.answer(report) if report.bench is not None else answer
    answer = watch.answer(report) if report.watch is not None else answer
    lines = [text(line.plain) for line in (*answer, *baseline.lines(report))]
    options = ", ".join(code(f"{key} {value}".strip(), 200) for key, value in report.arguments.items())
    return [
        f"## attncheck {text(report.command)}{target}",
        "\\\n".join([f"**{line}**" if not number else line for number, line in enumerate(lines)]),
        bullets([f"here: {text(platform_line(report))}", *([f"options: {options}"] if options else [])]),
    ]


def _script(seen: Watch) -> str:
    lines = bullets(f"{text(label)}: {text(words)}" for label, words in watch.facts(seen))
    rows = [
        (
            text(f"{row.symbol} {row.word}"),
            code(row.attention),
            text(row.layers),
            text(row.asked),
            f"{text(row.sees)}<br>{text(row.detail)}",
            row.calls,
        )
        for row in watch.rows(seen)[: watch.MOST_ROWS]
    ]
    return "\n\n".join(filter(None, ("### Attention calls", lines, table(watch.HEADINGS, rows))))


def _matrix(report: Report) -> str:
    shown = [entry for entry in report.implementations if has_verdict(report, entry)]
    headings = ["scenario"]
    for entry in shown:
        basis = STATUS[entry.status][1] if entry.basis is None else BASIS_WORDS[entry.basis]
        headings.append(f"{code(entry.name)} {text(basis)}{', default' if entry.default else ''}")
    rows = []
    for scenario in scenario_order(report):
        kind = "" if scenario in report.core_scenarios else " (opt-in)"
        cells = (text(cell_text(report, entry.name, scenario).plain) for entry in shown)
        rows.append((f"{code(scenario)}{kind}", *cells))
    remarks = [
        f"{text(label.plain)} {text(words.plain)}"
        for label, words in (*asides(report), *legend(report), *footnotes(report))
    ]
    matrix = table(headings, rows) if shown else ""
    return "\n\n".join(filter(None, ("### Declared against effective", matrix, bullets(remarks))))


def _declared(model: Model) -> str:
    lines = []
    for group in model.groups:
        where = f"{group.part.value} layer{'' if len(group.layers) == 1 else 's'} {layer_ranges(group.layers)}"
        lines.append(f"{text(where)}: {text(declared_line(group.spec))}")
    lines += [f"{code(note.code)}: {text(note.text)}" for note in model.notes]
    layers = "" if model.num_layers is None else f", {plural(model.num_layers, 'layer')}"
    source = f"{code(model.model_type)}{layers}; config: {text(model.source_detail or model.source)}"
    return fold("What the model declares", [source, bullets(lines)])


def _speeds(found: Speeds) -> str:
    headings, texts = speeds.table(found)
    rows = [(code(name), *map(text, others)) for name, *others in texts]
    grid = table(headings, rows) if rows else ""
    told = bullets(text(f"{symbol} {words}") for symbol, words, _ in speeds.remarks(found))
    return "\n\n".join(filter(None, (f"### {speeds.TITLE}", text(speeds.call(found)), grid, told)))


def _recommended(recommended: Recommended) -> str:
    parts = ["### Recommended", f"{code(recommended.implementation)}: {text(recommended.why)}"]
    settings = recommended.recommendation.settings
    if not settings:
        parts.append(text(recommended.recommendation.text))
    for framework in dict.fromkeys(setting.framework for setting in settings):
        pastes = [setting.paste for setting in settings if setting.framework == framework]
        parts += [f"in {text(framework)}:", fenced("\n".join(pastes))]
    return "\n\n".join(parts)


def _foot(report: Report) -> str:
    counts = ", ".join(plural(report.count(s), s.value) for s in (Severity.ERROR, Severity.WARNING, Severity.NOTE))
    return f"<sub>attncheck {text(report.version)}: {counts}, exit {report.exit_code}</sub>"


RENDERER = Renderer("markdown", "for GitHub issues, short enough to paste", render)
