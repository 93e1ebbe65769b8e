"""The report as one HTML page that needs nothing else: no network, no font, no framework, readable without its script.

Written with a small builder (`html_markup`) instead of a template language: every text is escaped because it is no
`Html`, not because somebody remembered a filter, the type checker sees each part, and Jinja2 is no dependency for it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from attncheck.findings import Severity
from attncheck.render import baseline, bench, doctor, html_compare, html_machine, html_masks, speeds, verdict
from attncheck.render.html_findings import findings
from attncheck.render.html_head import head
from attncheck.render.html_markup import Html, bullets, code, coloured, escape, facts, fold, join, tag, words
from attncheck.render.html_script import SCRIPT
from attncheck.render.html_style import STYLE
from attncheck.render.interface import Renderer, Style
from attncheck.render.markup import clipped
from attncheck.render.symbols import SEVERITY
from attncheck.render.wording import platform_line
from attncheck.report import Report

#: Parts that are closed at first: long, and looked up rather than read.
_FOLDED = ("environment",)


def render(report: Report, style: Style) -> str:
    """The page. In an encoding without symbols they are written as character references."""
    sections = [section for section in _sections(report) if section[2]]
    title = f"attncheck {report.command}{f': {clipped(report.model.id, 120)}' if report.model else ''}"
    page = tag(
        "html",
        head(title, STYLE, SCRIPT),
        tag(
            "body",
            tag("a", "To the report", href="#report", class_="skip"),
            html_masks.definitions(),
            tag("header", *_summary(report), _contents(sections)),
            tag("main", *(_section(*section) for section in sections), id="report"),
            tag(
                "footer",
                f"attncheck {report.version}, exit code {report.exit_code}. This page loads nothing.",
            ),
            tag("div", id="said", role="status", class_="skip"),
            tag("script", Html(SCRIPT)),
        ),
        lang="en",
    )
    text = f"<!DOCTYPE html>\n{page}\n"
    return text if style.unicode else text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _summary(report: Report) -> Iterator[Html]:
    """The title, the answer, the counts, and where it was measured."""
    target = [" ", code(clipped(report.model.id, 200))] if report.model is not None else []
    yield tag("h1", f"attncheck {report.command}", *target)
    yield bullets((words(line) for line in (*_answer(report), *baseline.lines(report))), class_="answer")
    counts = []
    for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE):
        symbol, colour = SEVERITY[severity]
        colour = colour if report.count(severity) else "dim"
        counts.append(coloured(f"{symbol} {verdict.count(report, severity)}", colour))
    counts.append(escape(f"exit code {report.exit_code}"))
    yield bullets(counts, class_="counts")
    options = ", ".join(f"{key} {value}".strip() for key, value in report.arguments.items())
    lines = [("measured on", platform_line(report)), *([("options", clipped(options))] if options else [])]
    yield join([html_compare.source(report.model) if report.model is not None else Html(), facts(lines)])


def _answer(report: Report) -> list[Text]:
    """The lines that other formats begin with, without the counts: those stand below them."""
    counted = verdict.counts(report).plain
    return [line for line in _lines(report) if line.plain != counted]


def _lines(report: Report) -> list[Text]:
    if report.bench is not None:
        return bench.answer(report)
    if report.watch is not None:
        from attncheck.render import watch

        return watch.answer(report)
    return doctor.answer(report) if report.command == "doctor" else verdict.lines(report)


def _contents(sections: list[tuple[str, str, Html]]) -> Html:
    links = bullets(tag("a", title, href=f"#{name}") for name, title, _ in sections)
    return tag("nav", links, aria_label="Contents") if links else links


def _sections(report: Report) -> Iterator[tuple[str, str, Html]]:
    """(id, title, content); empty ones are left out."""
    machine = report.model is None and report.bench is None and report.watch is None
    if report.framework is not None:
        from attncheck.render import html_framework

        yield "framework", "From settings to what runs", html_framework.framework(report)
    if report.watch is not None:
        from attncheck.render import html_watch

        yield from html_watch.sections(report)
    if report.model is not None:
        yield "declared", "Declared attention", html_compare.declared(report.model)
        yield "matrix", "Declared against effective", html_compare.matrix(report)
        yield "without", "Without flash", html_compare.without_flash(report)
    if report.bench is not None or report.changes is not None:
        from attncheck.render import html_bench

        yield from html_bench.sections(report)
    if machine:
        yield from html_machine.above(report)
    yield "findings", "Findings", findings(baseline.fresh(report))
    if report.speeds is not None:
        yield "speeds", speeds.TITLE, html_compare.speed_table(report.speeds)
    if report.recommended is not None:
        yield "recommended", "Recommended", html_compare.recommended(report.recommended)
    if report.model is not None:
        yield "sub-models", "Sub-models", html_compare.sub_model_rows(report)
        yield "kernels", "Kernels that ran", html_compare.ran(report)
        yield "shapes", "Real shapes", html_compare.real_shapes(report)
    if machine:
        yield from html_machine.below(report)
    yield "environment", "Environment", html_machine.environment(report)


def _section(name: str, title: str, content: Html) -> Html:
    body = fold("Versions and where each was read", content) if name in _FOLDED else content
    return tag("section", tag("h2", title), body, id=name)


RENDERER = Renderer(
    "html", "one page for the browser: pictures of masks, copy buttons, nothing loaded from elsewhere", render
)
