"""Rules about what is wired to the logits: the position bias, and which kv head a query head reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from attncheck.checks.evidence import blame, first_shown, of_scalar
from attncheck.checks.interface import Inputs, Issue, RuleGroup, View
from attncheck.findings import Rule
from attncheck.semantics.observation import CallObservation, SoftmaxObservation
from attncheck.semantics.spec import Bias, HeadMap

_MEASURED = "With chosen queries and keys, log P of the visible keys is fitted by scale, softcap, linear bias and sinks; the fitted value is compared with the declared one within the rounding of the dtype."

RULES = (
    Rule(
        "ATC306",
        "bias-dropped",
        "The position bias (ALiBi or learned) is missing or wrong",
        "The bias that the layer declares is not added to the logits, or with other slopes.",
        "The model loses its sense of order: these types have no other position signal.",
        _MEASURED,
        "Use an implementation that passes the bias on (eager, or sdpa with a float mask).",
        ("transformers flex_attention uses head 0 of a float mask",),
    ),
    Rule(
        "ATC307",
        "bias-unexpected",
        "A position bias is added that nothing declares",
        "The logits fall off linearly with the key's place although the layer declares no ALiBi.",
        "Old context is weighted down.",
        _MEASURED,
        "Check the alibi flag of the config.",
    ),
    Rule(
        "ATC308",
        "head-map-wrong",
        "Query heads read the wrong kv heads",
        "With grouped queries, query head h must read kv head h // (heads / kv heads); here it reads another one.",
        "Heads get keys and values of other heads: the output is noise that looks plausible.",
        "Values are made constant over the keys and different for each kv head; the output names the head that was read.",
        "Expand kv heads with repeat_interleave, not repeat.",
    ),
)

#: ALiBi slopes differ by powers of two from head to head and from convention to convention; rounding stays far below.
_SLOPE_CHANGE = 0.05


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """The first call of the view that shows each fault."""
    return first_shown(view, lambda call, fitted: (*_bias(view, call, fitted), *_head_map(view, call, fitted)))


def _bias(view: View, call: CallObservation, fitted: SoftmaxObservation) -> Iterator[Issue]:
    if "bias" in view.spec.unknown:
        return
    declared = view.spec.softmax.bias
    passed = call.requested is not None and call.requested.position_bias
    requested = "a position bias was passed" if passed or fitted.bias is not None else "no position bias passed"
    lost = [h for h, f in enumerate(fitted.bias or ()) if math.isfinite(f) and abs(f - 1) > _SLOPE_CHANGE]
    if lost and fitted.bias is not None:
        yield of_scalar(
            view, call, "bias-dropped",
            f"The position bias is not added as asked: factor {fitted.bias[lost[0]]:.3g} instead of 1 in head {lost[0]}",
            "the requested bias in full", f"factor {fitted.bias[lost[0]]:.3g}", requested + blame(True), lost, 1.0,
        )  # fmt: skip
    elif declared is Bias.ALIBI and fitted.alibi is None:
        yield of_scalar(
            view, call, "bias-dropped", "The ALiBi bias is not added to the logits",
            "ALiBi slopes", "no slope on the key index", requested + blame(passed or fitted.bias is not None), (), 1.0,
        )  # fmt: skip
    elif declared is Bias.ALIBI and fitted.alibi is not None and (wrong := _other_slopes(view, fitted.alibi)):
        slopes = _reference_slopes(view)
        yield of_scalar(
            view, call, "bias-dropped",
            f"The ALiBi slopes are wrong: head {wrong[0]} has {fitted.alibi[wrong[0]]:.4g}, eager has {slopes[wrong[0]]:.4g}",
            f"slope {slopes[wrong[0]]:.4g} in head {wrong[0]}", f"slope {fitted.alibi[wrong[0]]:.4g}", requested, wrong, 1.0,
        )  # fmt: skip
    elif declared is Bias.NONE and fitted.alibi is not None and fitted.bias is None:
        yield of_scalar(
            view, call, "bias-unexpected", f"The logits change with the key's place (slope {fitted.alibi[0]:.3g}), nothing declares ALiBi",
            "no position bias", f"slope {fitted.alibi[0]:.3g} on the key index", requested, (), 1.0,
        )  # fmt: skip


def _other_slopes(view: View, slopes: Sequence[float]) -> list[int]:
    """Heads whose slope is not eager's. Conventions for slopes differ by model type, so no table of them is kept."""
    return [
        head
        for head, (slope, right) in enumerate(zip(slopes, _reference_slopes(view)))
        if math.isfinite(slope) and math.isfinite(right) and abs(slope - right) > _SLOPE_CHANGE * abs(right)
    ]


def _reference_slopes(view: View) -> tuple[float, ...]:
    calls = view.reference.calls if view.reference is not None else ()
    return next((call.softmax.alibi for call in calls if call.softmax is not None and call.softmax.alibi), ())


def _head_map(view: View, call: CallObservation, fitted: SoftmaxObservation) -> Iterator[Issue]:
    heads, kv_heads = call.num_heads, call.num_kv_heads
    if fitted.head_map is None or "head_map" in view.spec.unknown or not kv_heads or heads % kv_heads:
        return
    if view.spec.head_map is HeadMap.INTERLEAVE:
        right = [head // (heads // kv_heads) for head in range(heads)]
    else:
        right = [head % kv_heads for head in range(heads)]
    wrong = [head for head, read in enumerate(fitted.head_map) if read != right[head]]
    if wrong:
        tiled = [head % kv_heads for head in range(heads)] == list(fitted.head_map)
        yield of_scalar(
            view, call, "head-map-wrong",
            f"Query heads read the wrong kv heads{' (tiled instead of interleaved)' if tiled else ''}",
            f"kv heads {right}", f"kv heads {list(fitted.head_map)}", "", wrong, float(len(wrong)),
        )  # fmt: skip


GROUP = RuleGroup("wiring", RULES, order=35, judge=judge)
