"""Rules about broken numbers: NaN rows, dropout in eval mode, and probabilities that no softmax term explains."""

from __future__ import annotations

import math
from collections.abc import Iterator

from attncheck.checks import softmax, wiring
from attncheck.checks.interface import Inputs, Issue, RuleGroup, View
from attncheck.findings import Evidence, Rule

RULES = (
    Rule(
        "ATC501",
        "nan-rows",
        "The output holds NaN or Inf",
        "Rows of the attention output are not finite, in padding rows or anywhere else.",
        "One NaN reaches every token through the next layers, the loss and the gradients.",
        "The output of the live call and of the repeated calls is searched for NaN and Inf, padding rows included.",
        "Use an implementation that gives zeros for rows without keys, or pad on the right.",
        ("pytorch#103749", "pytorch#109517", "unsloth#9848"),
    ),
    Rule(
        "ATC502",
        "numeric-drift",
        "The attention probabilities are not those of a softmax over the declared terms",
        "With the right mask, scale, softcap, sinks and bias the probabilities still differ by more than rounding of the dtype explains.",
        "A kernel bug, or a term nobody declares; outputs differ from the reference.",
        "log P is fitted by the declared terms on chosen queries and keys; the largest residual is compared with the rounding of the dtype.",
        "Compare with eager in float32; report it to the kernel's authors with the reproduction.",
        ("pytorch#193893",),
    ),
    Rule(
        "ATC503",
        "dropout-active",
        "Attention dropout is active in eval mode",
        "Keys vanish at random, differently in every head and call, although the model is in eval mode.",
        "Generation and evaluation become random.",
        "The same call is read more than once; visible keys that come and go, or that are missing without any pattern, are the trace of dropout.",
        "Set attention_dropout to 0, or pass dropout=0.0 unless module.training.",
        ("flash-attention#1013",),
    ),
)


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """NaN first: nothing else can be concluded beside it."""
    if view.broken:
        yield _nan(view)
    elif view.dropout:
        yield _dropout(view)
    else:
        yield from _drift(view, inputs)


def _nan(view: View) -> Issue:
    rows = sorted({(call.step, row, query) for call in view.calls for row, query in call.nan_rows})
    step, row, query = rows[0]
    token = view.layout.steps[step][0] + query if step < len(view.layout.steps) else query
    padding = view.layout.rows[row].document[token] < 0 if row < len(view.layout.rows) else False
    evidence = Evidence(
        declared="finite numbers",
        effective=f"{len(rows)} rows with NaN or Inf, the first at batch row {row}, query {token}",
        first_difference=(row, token, token),
        figures={"rows": len(rows), "variant": view.run.variant},
    )
    where = "rows of padding tokens" if padding else "rows of real tokens"
    return Issue("nan-rows", view, f"The attention output holds NaN or Inf in {where}", evidence, len(rows))


def _dropout(view: View) -> Issue:
    share = max(call.unstable for call in view.calls)
    found = next((d for d in view.differences if "dropout-active" in d.slugs), None)
    passed = max((call.requested.dropout for call in view.calls if call.requested is not None), default=0.0)
    figures: dict[str, float | int | str] = {"unstable": share, "variant": view.run.variant}
    evidence = Evidence(
        declared="every declared key keeps its weight in eval mode",
        requested=f"dropout={passed:g}" + ("" if passed else ": the kernel adds it by itself"),
        effective="keys vanish at random" + (f", {share:.0%} of them between two readings" if share else ""),
        first_difference=found.first if found is not None else None,
        missed=found.missed if found is not None else 0,
        declared_mask=found.declared if found is not None else None,
        effective_mask=found.effective if found is not None else None,
        figures=figures,
    )
    return Issue("dropout-active", view, "Attention dropout is active in eval mode: keys vanish at random", evidence, 1)


def _drift(view: View, inputs: Inputs) -> Iterator[Issue]:
    if view.differences or any(True for rules in (softmax, wiring) for _ in rules.judge(view, inputs)):
        return
    limit = inputs.tolerances.log_residual
    for call in view.calls:
        fitted = call.softmax
        if fitted is None or not softmax.residual_counts(view.spec, fitted):
            continue
        excess = max((value for value in fitted.rowsum if math.isfinite(value)), default=0.0) - 1
        if fitted.residual <= limit and excess <= inputs.tolerances.row_sum:
            continue
        what = f"log P differs by {fitted.residual:.2g}" if fitted.residual > limit else f"rows sum to {1 + excess:.4g}"
        evidence = Evidence(
            declared=f"log P within {limit:g} of the declared terms, rows that sum to at most 1",
            effective=what,
            figures={"residual": fitted.residual, "limit": limit, "row_sum": 1 + excess, "variant": view.run.variant},
        )
        title = "The probabilities are not those of a softmax over the declared terms"
        yield Issue("numeric-drift", view, f"{title}: {what}", evidence, fitted.residual)
        return


GROUP = RuleGroup("numerics", RULES, order=50, judge=judge)
