"""The parts of a `compare` report in HTML: what is declared, the matrix, kernels, real shapes, what to use."""

from __future__ import annotations

from attncheck.findings import Severity
from attncheck.render import baseline, kernels, shapes, speeds, sub_models
from attncheck.render.asides import asides, legend
from attncheck.render.html_findings import anchor
from attncheck.render.html_markup import (
    Html,
    bullets,
    code,
    coloured,
    copyable,
    facts,
    fold,
    join,
    scrolled,
    table,
    tag,
    words,
)
from attncheck.render.matrix import BROKEN, cell_text, footnotes, has_verdict, scenario_order
from attncheck.render.symbols import SEVERITY, STATUS, VERDICT
from attncheck.render.wording import BASIS_WORDS, declared_line, layer_ranges, probed_sizes
from attncheck.report import Report
from attncheck.semantics.speeds import Speeds
from attncheck.verdicts import Model, Recommended, Verdict

#: Groups of layers from which on they are in a fold: a model may declare every layer apart.
_FOLDED = 12
#: Where the name of an implementation may be broken.
_BREAK = join(["_", tag("wbr")])


def declared(model: Model) -> Html:
    """One line a group of layers that declare the same, and what was noted of the config."""
    rows = [(layer_ranges(group.layers), group.part.value, declared_line(group.spec)) for group in model.groups]
    grid = table(
        ("layers", "part", "declared attention"), rows, label="Declared attention by layer group", class_="wide"
    )
    if len(rows) > _FOLDED:
        grid = fold(f"{len(rows)} groups of layers", grid)
    sizes = probed_sizes(model)
    probed = tag("p", f"Probed on a tiny model of the same shape: {sizes}.", class_="dim") if sizes else Html()
    symbol, colour = SEVERITY[Severity.NOTE]
    notes = [join([coloured(f"{symbol} {note.code}", colour), " ", note.text]) for note in model.notes]
    return join([grid, probed, bullets(notes)])


def matrix(report: Report) -> Html:
    """A table of symbols with words, scrollable on narrow screens, and what its marks and gaps mean."""
    shown = [entry for entry in report.implementations if has_verdict(report, entry)]
    head: list[Html] = [tag("th", "scenario", scope="col")]
    for entry in shown:
        basis = STATUS[entry.status][1] if entry.basis is None else BASIS_WORDS[entry.basis]
        detail = f"{basis}, default" if entry.default else basis
        head.append(
            tag("th", join(entry.name.split("_"), _BREAK), tag("br"), tag("span", detail, class_="dim"), scope="col")
        )
    cards = _cards(report)
    bodies: dict[bool, list[Html]] = {}
    for scenario in scenario_order(report):
        cells = []
        for entry in shown:
            text = cell_text(report, entry.name, scenario)
            link = next(
                (link for word, link in cards.items() if text.plain.partition(" +")[0].endswith(f" {word}")), None
            )
            cell = words(text)
            cells.append(tag("td", cell if link is None else tag("a", cell, href=f"#{link}")))
        row = tag("tr", tag("th", scenario, scope="row"), *cells)
        bodies.setdefault(scenario in report.core_scenarios, []).append(row)
    groups = []
    for core, rows in bodies.items():
        name = "core" if core else "opt-in"
        title = tag("tr", tag("th", name, scope="rowgroup", colspan=len(head)), class_="group")
        groups.append(tag("tbody", title, *rows))
    grid = tag("table", tag("thead", tag("tr", *head)), *groups, class_="matrix") if shown else Html()
    remarks = [
        join([words(label), " ", words(said)]) for label, said in (*asides(report), *legend(report), *footnotes(report))
    ]
    return join([scrolled(grid, "Declared against effective") if grid else grid, bullets(remarks)])


def _cards(report: Report) -> dict[str, str]:
    """Word of a cell -> id of the card that tells about it, the worst where a slug has several."""
    found: dict[str, Severity] = {}
    for finding in baseline.fresh(report).findings:
        worst = found.get(finding.slug, finding.severity)
        found[finding.slug] = max(worst, finding.severity, key=lambda severity: severity.rank)
    cards = {slug: anchor(slug, severity) for slug, severity in found.items()}
    if BROKEN in cards:
        cards[VERDICT[Verdict.ERROR][1]] = cards[BROKEN]
    return cards


def ran(report: Report) -> Html:
    """The kernels that the profiler saw, and those that refused."""
    rows = [(code(name), kernel, tag("span", what, class_="dim")) for name, kernel, what in kernels.rows(report)]
    return table(("implementation", "kernel", ""), rows, label="Kernels that ran", class_="stack unlabelled")


def sub_model_rows(report: Report) -> Html:
    """What each sub-model runs, by what was asked for."""
    rows = [tuple(coloured(*cell) for cell in row) for row in sub_models.rows_of(report.sub_models)]
    headings = ("attn_implementation", *sub_models.titles(report.sub_models))
    return table(headings, rows, label="Sub-models", class_="wide")


def without_flash(report: Report) -> Html:
    """Flash kernels by way and sub-model, and what doing without them costs."""
    answer = report.without
    if answer is None:
        return Html()
    rows = [tuple(coloured(*cell) for cell in row) for row in sub_models.flash_rows(answer)]
    ways = table(sub_models.flash_headings(answer), rows, label="Flash kernels by way", class_="wide")
    lengths = [str(length) for length in dict.fromkeys(cost.length for cost in answer.costs)]
    costs = [tuple(coloured(*cell) for cell in row) for row in sub_models.cost_rows(answer.costs)]
    timed = table(("tokens", *lengths), costs, label="Cost of an attention call", class_="wide")
    ways = join([tag("h3", "What runs, and how far the logits move"), ways]) if ways else ways
    timed = join([tag("h3", "What an attention call costs"), timed]) if timed else timed
    return join([ways, timed, bullets(sub_models.remarks(answer))])


def real_shapes(report: Report) -> Html:
    """One table a shape, folded."""
    parts = []
    for title, readings in shapes.blocks(report):
        rows = []
        for reading in readings:
            symbol, word, colour = shapes.verdict(reading)
            rows.append((code(shapes.name(reading)), coloured(f"{symbol} {word}", colour), shapes.details(reading)))
        parts.append(fold(title, table(("API", "", ""), rows, label=title, class_="wide")))
    return join(parts)


def speed_table(found: Speeds) -> Html:
    """What a stored bench says for the recommendation."""
    headings, texts = speeds.table(found)
    rows = []
    for row, (name, *others) in zip(found.rows, texts, strict=True):
        rows.append((code(name), *(others if row.ordered else (tag("span", text, class_="dim") for text in others))))
    grid = table(headings, rows, label=speeds.TITLE, class_="wide") if rows else Html()
    told = (coloured(f"{symbol} {text}", colour) for symbol, text, colour in speeds.remarks(found))
    return join([tag("p", speeds.call(found), class_="dim"), grid, bullets(told)])


def recommended(best: Recommended) -> Html:
    """What to use, and every way to ask for it, to copy."""
    parts: list[Html] = [tag("p", tag("strong", best.implementation), ": ", best.why)]
    settings = best.recommendation.settings
    if not settings:
        parts.append(tag("p", best.recommendation.text))
    for framework in dict.fromkeys(setting.framework for setting in settings):
        pastes = [setting.paste for setting in settings if setting.framework == framework]
        several = ", any one of these" if len(pastes) > 1 else ""
        parts.append(tag("p", f"in {framework}{several}:", class_="dim"))
        parts += [copyable(paste, f"the setting for {framework}, way {n}") for n, paste in enumerate(pastes, 1)]
    return join(parts)


def source(model: Model) -> Html:
    """Where the config came from."""
    layers = "" if model.num_layers is None else f", {model.num_layers} layers"
    return facts([("model", f"{model.model_type}{layers}; config: {model.source_detail or model.source}")])
