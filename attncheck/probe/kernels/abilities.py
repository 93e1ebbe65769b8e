"""The job "abilities": one feature of one kernel API, tried and compared with float64 attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attncheck.probe.kernels import empty_rows, repetition, terms
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.subject import Inexpressible, Refused, Subject, refusals, subject
from attncheck.semantics.convention import Ability, Outcome

#: Feature -> how it is tried. Those with variants are tried one variant at a time.
FEATURES: Mapping[str, Callable[[Subject, str], Ability]] = {
    "softcap": terms.softcap,
    "sinks": terms.sinks,
    "alibi": terms.alibi,
    "gqa": terms.gqa,
    "dtype": terms.dtype,
    "head_dim": terms.head_dim,
    "backward": terms.backward,
    "empty-rows": empty_rows.outcome,
    "determinism": repetition.determinism,
}
#: What became of a feature that the API has no argument for.
NO_ARGUMENT = "no argument"


def run(step: str, arguments: Mapping[str, Any]) -> Ability:
    """Try one feature. step: "api|feature" or "api|feature|variant" ("sdpa-math|head_dim|192x128").

    arguments: as of `subject`. Raises what the call raises unless it is a refusal.
    """
    name, feature, *variant = step.split("|")
    probed = subject(name, arguments)
    try:
        with refusals():
            return FEATURES[feature](probed, variant[0] if variant else "")
    except Inexpressible as missing:
        return Ability(name, feature, NO_ARGUMENT, Outcome.REFUSED, None, detail=str(missing))
    except Refused as refused:
        return Ability(name, feature, refused.value, Outcome.REFUSED, None, detail=str(refused))


JOB = KernelJob("abilities", run)
