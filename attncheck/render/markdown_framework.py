"""A framework's settings in Markdown: the chain from each setting to what runs, the verdict, log lines judged."""

from __future__ import annotations

from attncheck.render import framework as words
from attncheck.render.markup import bullets, code, table, text
from attncheck.render.symbols import VERDICT
from attncheck.report import Report


def framework(report: Report) -> str:
    """The whole block; "" without a framework."""
    found = report.framework
    if found is None:
        return ""
    places = words.places(found)
    rows = []
    for label, steps in words.rows(found):
        place = f" ({text(found.file)}, {places[label]})" if label in places else ""
        rows.append((f"{code(label)}{place}" if label else "", " → ".join(text(step) for step in steps)))
    rows.append(("runs", text(words.runs(found))))
    mark, said = words.verdict(report, found)
    if said:
        rows.append(("verdict", text(f"{VERDICT[mark][0]} {said}")))
    rows += [(text(part.name), text(words.part_words(part))) for part in found.sub_models]
    lines = [
        f"**{words.TRUTH[warning.truth][0]}** {text(words.warning_words(warning).lstrip())}: {code(warning.text, 300)}"
        for warning in found.warnings
    ]
    return "\n\n".join(
        filter(
            None,
            (
                f"### {text(words.title(found))}",
                table(("setting", "what becomes of it"), rows),
                bullets(lines) if lines else "",
            ),
        )
    )
