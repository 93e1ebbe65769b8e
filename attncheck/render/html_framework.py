"""A framework's settings in HTML: the chain from each setting to what runs, the verdict, log lines judged."""

from __future__ import annotations

from attncheck.render import framework as words
from attncheck.render.html_markup import Html, bullets, code, coloured, join, table, tag
from attncheck.render.symbols import VERDICT
from attncheck.report import Report


def framework(report: Report) -> Html:
    """The whole section; empty without a framework."""
    found = report.framework
    if found is None:
        return Html()
    places = words.places(found)
    rows: list[tuple[str, str]] = []
    for label, steps in words.rows(found):
        place = tag("span", f"{found.file}, {places[label]}", class_="remark") if label in places else ""
        rows.append((join([code(label), place]), bullets(steps) if len(steps) > 1 else join(steps)))
    rows.append(("runs", tag("strong", words.runs(found))))
    mark, said = words.verdict(report, found)
    if said:
        symbol, _, style = VERDICT[mark]
        rows.append(("verdict", coloured(f"{symbol} {said}", style)))
    for part in found.sub_models:
        rows.append((part.name, words.part_words(part)))
    parts = [
        tag("p", words.title(found)),
        table(("setting", "what becomes of it"), rows, label="From settings to what runs", class_="stack unlabelled"),
    ]
    lines = []
    for warning in found.warnings:
        word, style = words.TRUTH[warning.truth]
        lines.append(
            join([coloured(word, style), words.warning_words(warning), tag("br"), tag("q", warning.text, class_="dim")])
        )
    if lines:
        parts += [tag("h3", "Log lines"), bullets(lines)]
    return join(parts)
