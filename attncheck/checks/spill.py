"""A note on padding that reaches real tokens although no attention sees it: through recurrence or convolution."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.checks.interface import Case, RuleGroup
from attncheck.checks.registry import code_of
from attncheck.findings import Evidence, Finding, Recommendation, Severity
from attncheck.semantics.observation import Observed

SLUG = "padding-ignored"
#: Share of the largest output. Attention that hides padding gives it exactly no weight, in every dtype.
SPILL = 1e-4


def conclude(case: Case) -> Iterator[Finding]:
    """One note for each run whose outputs depend on padding that its attention does not see."""
    told = {(f.implementation, f.scenario) for f in case.findings if f.slug == SLUG}
    for run in case.inputs.runs:
        spill = run.outcome.beside.spill if isinstance(run.outcome, Observed) else None
        if spill is None or spill <= SPILL or (run.implementation, run.scenario) in told:
            continue
        text = f"The contents of padding tokens move the outputs of real ones by {spill:.1%} of the largest, though no attention sees them"
        yield Finding(
            code_of(SLUG),
            SLUG,
            Severity.NOTE,
            f"{text}: it happens in another layer (recurrence, convolution, routing)",
            run.basis,
            implementation=run.implementation,
            scenario=run.scenario,
            variant=run.variant,
            evidence=Evidence(
                declared="outputs of real tokens that do not depend on padding",
                effective=f"outputs that move by up to {spill:.2g} of the largest",
                figures={"spill": spill},
            ),
            recommendations=(
                Recommendation(
                    "Pad on the right, or run sequences of one length, where results must not depend on padding."
                ),
            ),
            headline="Padding reaches real tokens, though not through attention",
        )


GROUP = RuleGroup("spill", (), order=15, conclude=conclude)
