"""The README's table of what each API can do, from a stored report: `python -m tests.ability_table doctor.json`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from attncheck.backends.interface import stand_ins
from attncheck.report import Report
from attncheck.semantics.convention import EMPTY_ROWS, Ability, Outcome
from attncheck.stored import report as stored

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- abilities: python -m tests.ability_table", "<!-- end of abilities -->"
HEADINGS = {
    "softcap": "softcap",
    "sinks": "sinks",
    "alibi": "ALiBi",
    "gqa": "GQA",
    "dtype": "dtype",
    "head_dim": "head_dim",
    "backward": "backward",
    "determinism": "same bits again",
    "empty-rows": "queries without keys get",
}
_SHORT = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_MARKS = {Outcome.REFUSED: "–", Outcome.CRASHED: "broke", Outcome.NOT_RUN: "NOT RUN"}


def lines(report: Report) -> list[str]:
    """The table and what is missing from it. APIs with the same answers share a row."""
    answers: dict[str, dict[str, Ability]] = {}
    without_kernel = stand_ins()
    for ability in report.abilities:
        if ability.feature in HEADINGS and ability.api not in without_kernel:
            answers.setdefault(ability.api, {})[ability.feature] = ability
    rows: dict[tuple[str, ...], list[str]] = {}
    for api, found in answers.items():
        rows.setdefault(tuple(_cell(feature, found) for feature in HEADINGS), []).append(f"`{api}`")
    table = [
        _row("API", *HEADINGS.values()),
        "|---" * (len(HEADINGS) + 1) + "|",
        *(_row(", ".join(apis), *cells) for cells, apis in rows.items()),
    ]
    wrong = [f"`{row.api}` ({row.feature.replace('-', ' ')})" for row in report.abilities if _beside(row)]
    absent = dict.fromkeys(f"`{row.api}`" for row in report.conventions if row.api not in (*answers, *without_kernel))
    below = {"Known defects that were seen as well": wrong, "NOT RUN there": absent}
    told = [f"{what}: {', '.join(which)}." for what, which in below.items() if which]
    return [*table, *(["", " ".join(told)] if told else [])]


def _beside(ability: Ability) -> bool:
    return ability.agrees is False and ability.feature not in HEADINGS


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(feature: str, found: Mapping[str, Ability]) -> str:
    ability = found.get(feature)
    if ability is None:
        return _MARKS[Outcome.NOT_RUN]
    if ability.outcome is not Outcome.READ:
        return _MARKS[ability.outcome]
    if feature == "determinism":
        return _repeats(ability)
    if feature == "backward" and ability.agrees:
        return ability.value.replace("right", "✓")
    if read := {"dtype": _dtypes, "head_dim": _widths, "empty-rows": _empty}.get(feature):
        return read(ability) if ability.agrees else f"✗ {read(ability)}"
    return "✓" if ability.agrees else "✗"


def _dtypes(ability: Ability) -> str:
    named = str(ability.figures["right" if ability.agrees else "wrong"])
    return ", ".join(_SHORT[name] for name in named.split(", "))


def _widths(ability: Ability) -> str:
    return ability.value.removeprefix("wrong: ")


def _repeats(ability: Ability) -> str:
    parts = [ability.figures.get(part) for part in ("forward", "backward")]
    if "differs" not in parts:
        return "✓"
    mended = ability.figures.get("backward with the switch") == "the same every time"
    return f"`{ability.figures['switch']}`" if mended else "✗"


def _empty(ability: Ability) -> str:
    """What most ways to get such queries give, and the ways that give something else."""
    contents = {variant: str(ability.figures[variant]) for variant in EMPTY_ROWS if variant in ability.figures}
    usual = Counter(contents.values()).most_common(1)[0][0]
    others: dict[str, list[str]] = {}
    for variant, content in contents.items():
        if content != usual:
            others.setdefault(content, []).append(variant)
    odd = "; ".join(f"{', '.join(variants)}: {content}" for content, variants in others.items())
    return f"{usual} ({odd})" if odd else usual


def between_marks(readme: list[str]) -> slice:
    """Where the table lies among the lines of the README."""
    begin = next(number for number, line in enumerate(readme) if line.startswith(BEGIN))
    return slice(begin + 1, readme.index(END))


def main(path: str) -> None:
    """Write the table into the README."""
    readme = README.read_text(encoding="utf-8").splitlines()
    readme[between_marks(readme)] = lines(stored.read(path))
    README.write_text("\n".join(readme) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
