"""The table of abilities as plain rows: each feature, what came of it, and the APIs of which that is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from attncheck.semantics.convention import Ability, Outcome
from attncheck.verdicts import Verdict

#: Order of the table; features of other names follow.
_ORDER = ("empty-rows", "softcap", "sinks", "alibi", "gqa", "dtype", "head_dim", "backward", "determinism")
#: What is wrong comes first.
_URGENCY: tuple[Verdict | None, ...] = (
    Verdict.MISMATCH,
    Verdict.ERROR,
    Verdict.OK,
    None,
    Verdict.NOT_APPLICABLE,
    Verdict.NOT_RUN,
)
#: Exceptions that are worth naming instead of the rule.
_FEW = 3
_WORDS = {Outcome.REFUSED: "refused", Outcome.CRASHED: "broke", Outcome.NOT_RUN: "NOT RUN"}


@dataclass(frozen=True, slots=True)
class Row:
    """One answer. mark: as in the convention table; OK where it equals float64 attention. remarks: (API, text).

    who: the APIs in words, "all but sdpa-flash" where only few gave another answer.
    """

    feature: str
    mark: Verdict | None
    value: str
    apis: tuple[str, ...]
    remarks: tuple[tuple[str, str], ...] = ()
    who: str = ""


def rows(abilities: Iterable[Ability]) -> list[Row]:
    """Every answer that at least one API gave, by feature; what is wrong comes first.

    APIs that were never run are left out: `never_ran` has them.
    """
    every = tuple(abilities)
    silent = {api for apis in never_ran(every).values() for api in apis}
    found: dict[tuple[str, Verdict | None, str], list[Ability]] = {}
    for ability in every:
        if ability.api in silent:
            continue
        found.setdefault((ability.feature, _mark(ability), _value(ability)), []).append(ability)
    entries = [
        Row(
            feature,
            mark,
            value,
            tuple(dict.fromkeys(ability.api for ability in same)),
            tuple(_remarks(same, mark)),
        )
        for (feature, mark, value), same in found.items()
    ]
    asked = list(dict.fromkeys(ability.api for ability in every if ability.api not in silent))
    entries = [replace(row, who=_who(row, entries, asked)) for row in entries]
    names = list(dict.fromkeys(row.feature for row in entries))
    return sorted(entries, key=lambda row: (_place(row.feature), names.index(row.feature), _URGENCY.index(row.mark)))


def never_ran(abilities: Iterable[Ability]) -> dict[str, list[str]]:
    """Reason -> APIs of which not one feature was tried."""
    by_api: dict[str, list[Ability]] = {}
    for ability in abilities:
        by_api.setdefault(ability.api, []).append(ability)
    found: dict[str, list[str]] = {}
    for api, same in by_api.items():
        if all(ability.outcome is Outcome.NOT_RUN for ability in same):
            found.setdefault(same[0].detail or "no reason was given", []).append(api)
    return found


def remarks(row: Row) -> list[str]:
    """The row's remarks in words; the API is named where there are several."""
    return [f"{api}: {words}" if len(row.apis) > 1 else words for api, words in row.remarks]


def _who(row: Row, entries: Iterable[Row], every: Sequence[str]) -> str:
    """An answer that nearly all gave names those that did not. every: all APIs."""
    others = [api for other in entries if other.feature == row.feature and other is not row for api in other.apis]
    if 0 < len(others) <= _FEW < len(row.apis) and len(others) + len(row.apis) == len(every):
        return f"all but {', '.join(api for api in every if api in others)}"
    return ", ".join(row.apis)


def _place(feature: str) -> int:
    return next((i for i, name in enumerate(_ORDER) if feature.startswith(name)), len(_ORDER))


def _mark(ability: Ability) -> Verdict | None:
    if ability.outcome is Outcome.READ:
        return None if ability.agrees is None else Verdict.OK if ability.agrees else Verdict.MISMATCH
    return {
        Outcome.REFUSED: Verdict.NOT_APPLICABLE,
        Outcome.CRASHED: Verdict.ERROR,
        Outcome.NOT_RUN: Verdict.NOT_RUN,
    }[ability.outcome]


def _value(ability: Ability) -> str:
    return ability.value or _WORDS.get(ability.outcome, "no answer")


def _remarks(same: Iterable[Ability], mark: Verdict | None) -> Iterable[tuple[str, str]]:
    """Of what is wrong, broke or did not run: refusals say no more than that the API lacks the feature."""
    if mark in (Verdict.MISMATCH, Verdict.ERROR, Verdict.NOT_RUN):
        for ability in same:
            if detail := " ".join(ability.detail.split()):
                yield ability.api, detail
