"""Rules about the backward pass of attention."""

from __future__ import annotations

import math
from collections.abc import Iterator

from attncheck.checks.interface import Inputs, Issue, RuleGroup, View
from attncheck.checks.softmax import residual_counts
from attncheck.findings import Evidence, Rule
from attncheck.semantics.observation import CallObservation

RULES = (
    Rule(
        "ATC504",
        "gradient-mismatch",
        "The gradients differ from those of the attention that the forward pass computes",
        "dq, dk or dv of the call is not the derivative of float64 attention with the same mask and softmax terms, or holds NaN.",
        "Training goes wrong while evaluation looks fine.",
        "The backward of every call is compared with float64 autograd of the same attention; the largest difference is taken relative to the largest reference entry. Flash kernels are called with heads of 64, for which all of them have tiles, whatever the tiny model has; at the model's own sizes they are checked apart, on a GPU (Real shapes).",
        "Train with another implementation; for cuDNN under sdpa: torch.backends.cuda.enable_cudnn_sdp(False).",
        ("pytorch#196678", "trl#7181"),
    ),
)


def judge(view: View, inputs: Inputs) -> Iterator[Issue]:
    """The call with the worst gradient of each view."""
    if view.broken:
        return
    found = [
        (_worst(call.gradient.dq, call.gradient.dk, call.gradient.dv), call)
        for call in view.calls
        if call.gradient and not lacks_terms(view, call)
    ]
    if not found:
        return
    worst, call = max(found, key=lambda entry: entry[0])
    limit = inputs.tolerances.gradient
    if worst <= limit or call.gradient is None:
        return
    values = {"dq": call.gradient.dq, "dk": call.gradient.dk, "dv": call.gradient.dv}
    name = max(values, key=lambda key: _worst(values[key]))
    what = (
        f"{name} holds NaN" if math.isnan(values[name]) else f"{name} is off by {values[name]:.2g} of its largest entry"
    )
    evidence = Evidence(
        declared=f"within {limit:g} of float64",
        effective=what,
        figures={**{key: value for key, value in values.items() if not math.isnan(value)}, "variant": view.run.variant},
    )
    yield Issue("gradient-mismatch", view, f"The backward pass is wrong: {what}", evidence, min(worst, 1e9))


def lacks_terms(view: View, call: CallObservation) -> bool:
    """True where the backward has nothing to be laid beside: the float64 attention lacks a term of the layer's softmax."""
    return call.softmax is not None and not residual_counts(view.spec, call.softmax)


def _worst(*values: float) -> float:
    return max(math.inf if math.isnan(value) else value for value in values)


GROUP = RuleGroup("gradients", RULES, order=60, judge=judge)
