"""Rules about the terms of the softmax: scale, softcap and sinks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from attncheck.checks.evidence import blame, first_shown, of_scalar
from attncheck.checks.interface import Inputs, Issue, RuleGroup, View
from attncheck.findings import Rule
from attncheck.semantics.observation import CallObservation, SoftmaxObservation
from attncheck.semantics.spec import AttentionSpec, Bias
from attncheck.semantics.tolerances import RAISED, Tolerances

_MEASURED = "With chosen queries and keys, log P of the visible keys is fitted by scale, softcap, linear bias and sinks; the fitted value is compared with the declared one within the rounding of the dtype."

RULES = (
    Rule(
        "ATC301",
        "softcap-dropped",
        "The softcap on the attention logits is missing or wrong",
        "The declared cap `cap * tanh(logits / cap)` is not applied, or with another cap.",
        "Gemma-2 and its relatives were trained with it; without it large logits saturate and quality falls, mostly on long inputs.",
        _MEASURED,
        "Use eager, flex_attention or a flash-attention with softcap; sdpa cannot express it.",
        ("transformers#31887", "flash-attention#1111", "transformers 4.48-5.20 sdpa"),
    ),
    Rule(
        "ATC302",
        "softcap-unexpected",
        "A softcap is applied that nothing declares",
        "The logits are capped although the config declares no cap.",
        "Large logits are flattened; the model attends less sharply than it was trained to.",
        _MEASURED,
        "Use an implementation that is right here.",
    ),
    Rule(
        "ATC303",
        "sinks-dropped",
        "The attention sinks are missing or wrong",
        "The layer has a learned sink logit a head, but rows of P sum to one, or the sink has another value.",
        "Models with sinks (gpt-oss) break down without them, most of all on long inputs.",
        "Row sums of P below one show the sink; its value is fitted and compared with the module's own parameter.",
        "Use an implementation that takes sinks (eager, flash_attention_4, kernels-community/vllm-flash-attn3).",
        ("unsloth#3142", "transformers#43120"),
    ),
    Rule(
        "ATC304",
        "sinks-unexpected",
        "Rows of the attention sum to less than one although nothing declares a sink",
        "Some probability mass goes to a key that does not exist.",
        "Outputs are smaller than they should be.",
        "The median row sum of the probability matrix, a head at a time, which must be one.",
        "Use an implementation that is right here.",
    ),
    Rule(
        "ATC305",
        "scale-wrong",
        "The logits are scaled by another factor than declared",
        "The factor on q.k is not the declared one (head_dim^-0.5, or what the config says).",
        "Attention is too sharp or too flat in every layer; the model still talks, but worse.",
        _MEASURED,
        "Check query_pre_attn_scalar or attention_multiplier of the config, or use an implementation that is right here.",
    ),
)

#: A relative change of a cap that is beyond any fit error, for caps so large that the ratio hardly moves.
_CAP_CHANGE = 0.1
#: How far a fitted sink may lie from the parameter, in units of the row-sum tolerance.
_SINK_STEPS = 10.0
#: Below this a sink takes less than about 1 % of a row and a row sum of one proves nothing.
_FAINT_SINK = -4.0


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """The first call of the view that shows each fault."""
    return first_shown(view, lambda call, fitted: _judge_call(view, call, fitted, inputs.tolerances))


def residual_counts(spec: AttentionSpec, fitted: SoftmaxObservation) -> bool:
    """False when the fit lacks a term that the layer has or may have, so that its residual says nothing."""
    if "bias" in spec.unknown:  # what was taken for the bias need not be all of it
        return False
    return spec.softmax.bias is not Bias.LEARNED or fitted.bias is not None


def _judge_call(view: View, call: CallObservation, fitted: SoftmaxObservation, limits: Tolerances) -> Iterator[Issue]:
    yield from _softcap(view, call, fitted, limits)
    yield from _sinks(view, call, fitted, limits)
    yield from _scale(view, call, fitted, limits)


def _scale(view: View, call: CallObservation, fitted: SoftmaxObservation, limits: Tolerances) -> Iterator[Issue]:
    declared = view.spec.softmax.scale
    source = "declared"
    if "scale" in view.spec.unknown or declared is None:
        declared, source = _of_reference(view, "scale"), "eager has"
    if not declared or (fitted.residual > limits.log_residual and not residual_counts(view.spec, fitted)):
        return
    if source == "declared" and call.requested is not None and call.requested.prescaled is not None:
        declared *= view.spec.softmax.before  # the reading holds what the queries were multiplied by before the call
    wrong = [
        h for h, value in enumerate(fitted.scale) if math.isfinite(value) and abs(value / declared - 1) > limits.scale
    ]
    if wrong:
        value = max((fitted.scale[head] for head in wrong), key=lambda found: abs(found / declared - 1))
        asked = call.requested.scaling if call.requested is not None else None
        yield of_scalar(
            view, call, "scale-wrong",
            f"The scale of the logits is wrong: {source} {declared:.5g}, effective {value:.5g} (factor {value / declared:.4g})",
            f"{declared:.6g}", f"{value:.6g}",
            "" if asked is None else f"scaling={asked:.6g}" + blame(abs(asked / declared - 1) <= limits.scale),
            wrong, abs(value / declared - 1), scale=value, declared_scale=declared,
        )  # fmt: skip


def _softcap(view: View, call: CallObservation, fitted: SoftmaxObservation, limits: Tolerances) -> Iterator[Issue]:
    if "softcap" in view.spec.unknown:
        return
    declared, measured = view.spec.softmax.softcap, fitted.softcap
    asked = call.requested.softcap if call.requested is not None else None
    requested = "" if call.requested is None else f"softcap={asked}" + (blame(asked == declared) if declared else "")
    if declared is None:
        if measured is not None:
            yield of_scalar(
                view, call, "softcap-unexpected", f"The logits are capped at {measured:.4g}, nothing declares a softcap",
                "no softcap", f"softcap {measured:.4g}", requested, (), 1.0, softcap=measured,
            )  # fmt: skip
    elif measured is None:
        yield of_scalar(
            view, call, "softcap-dropped", f"The softcap of {declared:g} is not applied",
            f"softcap {declared:g}", "no softcap", requested, (), 1.0, declared_softcap=declared,
        )  # fmt: skip
    elif abs(_ratio(measured) - _ratio(declared)) > limits.softcap_ratio or abs(measured / declared - 1) > _CAP_CHANGE:
        yield of_scalar(
            view, call, "softcap-dropped", f"The softcap is wrong: declared {declared:g}, effective {measured:.4g}",
            f"softcap {declared:g}", f"softcap {measured:.4g}", requested, (), abs(measured / declared - 1),
            softcap=measured, declared_softcap=declared,
        )  # fmt: skip


def _ratio(cap: float) -> float:
    return 1 - math.tanh(RAISED / cap) ** 2


def _sinks(view: View, call: CallObservation, fitted: SoftmaxObservation, limits: Tolerances) -> Iterator[Issue]:
    if "sinks" in view.spec.unknown:
        return
    expected = fitted.expected_sinks
    passed = call.requested is not None and call.requested.sinks
    requested = "" if call.requested is None else ("sinks passed" if passed else "no sinks passed") + blame(passed)
    rowsum = _middle(fitted.rowsum)
    if not view.spec.softmax.sinks and expected is None:
        if fitted.sinks is not None:
            yield of_scalar(
                view, call, "sinks-unexpected", f"Rows of the attention sum to {rowsum:.4g}, nothing declares sinks",
                "rows sum to 1", f"rows sum to {rowsum:.4g}", requested, (), abs(1 - rowsum), row_sum=rowsum,
            )  # fmt: skip
        return
    wrong = _wrong_sinks(fitted, limits)
    if fitted.sinks is None and (expected is None or any(sink > _FAINT_SINK for sink in expected)):
        yield of_scalar(
            view, call, "sinks-dropped", "The attention sinks are not applied: rows sum to 1",
            "a sink logit a head, rows sum to less than 1", f"rows sum to {rowsum:.4g}", requested, (), 1.0, row_sum=rowsum,
        )  # fmt: skip
    elif wrong and expected is not None and fitted.sinks is not None:
        head = wrong[0]
        yield of_scalar(
            view, call, "sinks-dropped",
            f"The attention sinks are wrong: head {head} has {fitted.sinks[head]:.4g}, its parameter is {expected[head]:.4g}",
            f"sink {expected[head]:.4g} in head {head}", f"sink {fitted.sinks[head]:.4g}", requested, wrong, 1.0, row_sum=rowsum,
        )  # fmt: skip


def _wrong_sinks(fitted: SoftmaxObservation, limits: Tolerances) -> list[int]:
    if fitted.sinks is None or fitted.expected_sinks is None:
        return []
    limit = _SINK_STEPS * limits.row_sum
    wrong = []
    for head, (sink, expected) in enumerate(zip(fitted.sinks, fitted.expected_sinks)):
        faint = expected <= _FAINT_SINK and sink <= _FAINT_SINK
        if not math.isnan(sink) and not math.isnan(expected) and not faint and not abs(sink - expected) <= limit:
            wrong.append(head)
    return wrong


def _of_reference(view: View, name: str) -> float | None:
    """Eager's fitted value of a layer that declares none: the median over its heads."""
    if view.reference is None:
        return None
    fitted = next((call.softmax for call in view.reference.calls if call.softmax is not None), None)
    return _middle(getattr(fitted, name)) or None if fitted is not None else None


def _middle(values: Sequence[float]) -> float:
    ranked = sorted(value for value in values if math.isfinite(value))
    return ranked[len(ranked) // 2] if ranked else 0.0


GROUP = RuleGroup("softmax", RULES, order=30, judge=judge)
