"""What the steps of "abilities" found, put together: one row for each API and feature."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from attncheck.semantics.convention import EMPTY_ROWS, Ability, Outcome
from attncheck.semantics.observation import Crashed, NotRun, Rejected

#: Dtypes that are tried.
DTYPES = ("float32", "float16", "bfloat16", "float64")
#: Widths that are tried; the pairs are q/k width x value width (DeepSeek's attention, expanded and absorbed).
HEAD_DIMS = (
    *("8", "16", "32", "40", "64", "80", "96", "128", "160", "192", "256", "288", "512"),
    *("192x128", "576x512"),
)
#: Feature -> its variants, () where there is one step only.
FEATURES: Mapping[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "head_dim": HEAD_DIMS,
    "gqa": (),
    "softcap": (),
    "sinks": (),
    "alibi": (),
    "empty-rows": EMPTY_ROWS,
    "backward": (),
    "determinism": (),
}

#: So many variants that were not tried are named.
_FEW_NAMES = 3
#: What is tried of an API that compiles for seconds for each, unless the user asks for all.
FEW: Mapping[str, tuple[str, ...]] = {"dtype": ("float32", "float16", "bfloat16"), "head_dim": ("64", "128", "256")}


def steps(api: str, *, few: bool = False, features: Collection[str] = FEATURES) -> tuple[str, ...]:
    """Every step for one API, in the order of the report. few: only the variants of `FEW`. features: those wanted."""
    return tuple(
        "|".join(filter(None, (api, feature, variant)))
        for feature, variants in FEATURES.items()
        if feature in features
        for variant in (FEW.get(feature, variants) if few else variants) or ("",)
    )


def ability(step: str, outcome: object) -> Ability:
    """One step's outcome as a row, whatever became of it."""
    if isinstance(outcome, Ability):
        return outcome
    api, feature, *_ = step.split("|")
    if isinstance(outcome, Crashed):
        return Ability(api, feature, "crashed", Outcome.CRASHED, None, detail=outcome.reason)
    if isinstance(outcome, Rejected):
        words = "; ".join(reason.text for reason in outcome.reasons)
        return Ability(api, feature, "refused", Outcome.REFUSED, None, detail=words)
    reason = outcome.reason if isinstance(outcome, NotRun) else f"not understood: {type(outcome).__name__}"
    return Ability(api, feature, "not run", Outcome.NOT_RUN, None, detail=reason)


def merged(found: Sequence[tuple[str, Ability]]) -> tuple[Ability, ...]:
    """One row a feature from one API's steps with their abilities, in the order of `FEATURES`."""
    rows = []
    for feature, variants in FEATURES.items():
        parts = [(step.split("|")[2:], row) for step, row in found if row.feature == feature]
        if not variants:
            rows += [row for _, row in parts]
        elif parts:
            rows.append(_merged([(variant[0], row) for variant, row in parts]))
    return tuple(rows)


def _merged(parts: Sequence[tuple[str, Ability]]) -> Ability:
    """Variants of one feature as one row; what was not read stands in the detail, one reason once.

    What was not even tried beside others is said in the value as well: else the list would read as a complete one.
    """
    first = parts[0][1]
    read = [(variant, row) for variant, row in parts if row.outcome is Outcome.READ]
    right = [variant for variant, row in read if row.agrees]
    wrong = [(variant, row) for variant, row in read if row.agrees is False]
    value = _values(first.feature, read, right)
    if wrong:
        value += f"{'; ' if value else ''}wrong: {', '.join(_shown(variant) for variant, _ in wrong)}"
    order = (Outcome.READ, Outcome.CRASHED, Outcome.REFUSED, Outcome.NOT_RUN)
    outcome = min((row.outcome for _, row in parts), key=order.index)
    value = value or _unread(parts, outcome)
    skipped = [_shown(variant) for variant, row in parts if row.outcome is Outcome.NOT_RUN]
    some = 0 < len(skipped) < len(parts)
    if some:
        value += f"; {', '.join(skipped) if len(skipped) <= _FEW_NAMES else f'{len(skipped)} others'} not tried"
    details = [f"{_shown(variant)}: {row.detail}" for variant, row in wrong]
    for kind in order[1:]:
        reasons: dict[tuple[str, str], list[str]] = {}
        for variant, row in parts:
            if row.outcome is kind:
                reasons.setdefault((row.value, row.detail), []).append(_shown(variant))
        for (what, why), names in reasons.items():
            none = kind is Outcome.NOT_RUN and len(names) == len(parts)
            details.append(why if none else f"{', '.join(names)} {what}: {why}")
    figures: dict[str, float | int | str] = {}
    for variant, row in read:
        figures |= _figures(variant, row)
    for name, names in (("right", right), ("wrong", [variant for variant, _ in wrong])):
        if names:
            figures[name] = ", ".join(map(_shown, names))
    if some:
        figures["not tried"] = ", ".join(skipped)
    if raw := dict.fromkeys(str(row.figures["kernel"]) for _, row in read if "kernel" in row.figures):
        figures["kernel"] = "\n".join(raw)
    kernels = dict.fromkeys(row.kernel for _, row in read if row.kernel)
    return Ability(
        first.api,
        first.feature,
        value,
        outcome,
        read[0][1].basis if read else None,
        (not wrong) if read else None,
        ", ".join(kernels),
        "; ".join(details),
        figures,
    )


def _values(feature: str, read: Sequence[tuple[str, Ability]], right: Sequence[str]) -> str:
    if feature == "empty-rows":
        return "; ".join(row.value for _, row in read)
    return _spans(right) if feature == "head_dim" else ", ".join(right)


def _spans(right: Sequence[str]) -> str:
    """Widths in words: "8 .. 256, 192x128" where every tried width between two is right too."""
    groups: list[list[str]] = []
    for place, width in enumerate(HEAD_DIMS):
        if width not in right:
            continue
        last = groups[-1][-1] if groups else ""
        if last and "x" not in width and HEAD_DIMS[place - 1] == last:
            groups[-1].append(width)
        else:
            groups.append([width])
    return ", ".join(_shown(names[0]) if len(names) == 1 else f"{names[0]} .. {names[-1]}" for names in groups)


def _figures(variant: str, row: Ability) -> dict[str, float | int | str]:
    if row.feature == "empty-rows":
        return {variant: row.figures[variant]}
    kept = ("relative error",) if row.agrees else ("relative error", "plain torch", "limit")
    return {f"{_shown(variant)} {name}": row.figures[name] for name in kept if name in row.figures}


def _shown(variant: str) -> str:
    width, by, width_v = variant.partition("x")
    return f"({width}, {width_v})" if by and width.isdigit() else variant


def _unread(parts: Sequence[tuple[str, Ability]], outcome: Outcome) -> str:
    return next(row.value for _, row in parts if row.outcome is outcome)
