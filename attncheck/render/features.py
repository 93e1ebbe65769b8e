"""The table of abilities as plain rows: each feature, what came of it, and the APIs of which that is true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from attncheck.backends import interface as backends
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
)
#: Exceptions that are worth naming instead of the rule.
_FEW = 3
_WORDS = {Outcome.REFUSED: "refused", Outcome.CRASHED: "broke"}


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

    What was never run is left out: `never_ran` has it.
    """
    every = [ability for ability in _of_kernels(abilities) if ability.outcome is not Outcome.NOT_RUN]
    found: dict[tuple[str, Verdict | None, str], list[Ability]] = {}
    for ability in every:
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
    asked = list(dict.fromkeys(ability.api for ability in every))
    entries = [replace(row, who=_who(row, entries, asked)) for row in entries]
    names = list(dict.fromkeys(row.feature for row in entries))
    return sorted(entries, key=lambda row: (_place(row.feature), names.index(row.feature), _URGENCY.index(row.mark)))


def never_ran(abilities: Iterable[Ability]) -> dict[str, list[str]]:
    """Reason -> the APIs of which not one feature was tried, "flashinfer (softcap, sinks)" where others were."""
    by_api: dict[str, list[Ability]] = {}
    for ability in _of_kernels(abilities):
        by_api.setdefault(ability.api, []).append(ability)
    found: dict[str, list[str]] = {}
    for api, same in by_api.items():
        idle = [ability for ability in same if ability.outcome is Outcome.NOT_RUN]
        if len(idle) == len(same):
            found.setdefault(_why(idle[0]), []).append(api)
            continue
        features: dict[str, list[str]] = {}
        for ability in idle:
            features.setdefault(_why(ability), []).append(ability.feature.replace("-", " "))
        for ability in same:
            if "not tried" in ability.figures:
                features.setdefault(_why(ability), []).append(f"other {ability.feature}")
        for reason, names in features.items():
            found.setdefault(reason, []).append(f"{api} ({', '.join(names)})")
    return found


def _why(ability: Ability) -> str:
    """Why it was not run, or why the variants were not that its detail ends with."""
    return ability.detail.rpartition(" not run: ")[2] or "no reason was given"


def _of_kernels(abilities: Iterable[Ability]) -> list[Ability]:
    """Without those of stand-ins, which older reports have: they say nothing of the library."""
    stand_ins = backends.stand_ins()
    return [ability for ability in abilities if ability.api not in stand_ins]


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
    return Verdict.NOT_APPLICABLE if ability.outcome is Outcome.REFUSED else Verdict.ERROR


def _value(ability: Ability) -> str:
    return ability.value or _WORDS.get(ability.outcome, "no answer")


def _remarks(same: Iterable[Ability], mark: Verdict | None) -> Iterable[tuple[str, str]]:
    """Of what is wrong or broke: refusals say no more than that the API lacks the feature."""
    if mark in (Verdict.MISMATCH, Verdict.ERROR):
        for ability in same:
            if detail := " ".join(ability.detail.split()):
                yield ability.api, detail
