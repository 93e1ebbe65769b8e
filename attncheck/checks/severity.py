"""How bad an issue is: for whom it matters, and whether the sequences the user will run can ever meet it."""

from __future__ import annotations

from collections.abc import Sequence

from attncheck.checks.interface import Inputs, Issue
from attncheck.findings import Severity
from attncheck.semantics.spec import AttentionSpec

#: Faults that no sequence can show when it fits into the window or chunk.
SIZE_ONLY = ("window-ignored", "window-off-by-one", "window-size-wrong", "chunk-wrong")


def severity(issue: Issue, inputs: Inputs, kernel_only: bool) -> Severity:
    """error: a core scenario, or one the user asked for. warning: at risk only. note: never binds at the user's lengths.

    kernel_only: the kernel that the implementation picks by itself is right, another one it may pick is wrong.
    """
    run = issue.view.run
    if issue.slug in SIZE_ONLY and not meeting(issue, inputs):
        return Severity.NOTE
    if not run.truth or kernel_only:
        return Severity.WARNING
    return Severity.ERROR if run.core or inputs.options.asked(run.scenario) else Severity.WARNING


def layers(issue: Issue, inputs: Inputs) -> tuple[int, ...]:
    """The layers of the checkpoint concerned: those that can meet the fault, or all of them when none can."""
    return (meeting(issue, inputs) if issue.slug in SIZE_ONLY else ()) or issue.view.real


def meeting(issue: Issue, inputs: Inputs) -> tuple[int, ...]:
    """The real layers whose window or chunk binds for some sequence of the user's length."""
    length = inputs.seq_len
    specs = [spec for spec in inputs.real.of_part(issue.view.part) if spec.layer in issue.view.real]
    if length is None or not specs:
        return issue.view.real or (issue.view.layer,)
    narrower = 1 if issue.slug == "window-off-by-one" and issue.evidence.missed else 0
    return tuple(spec.layer for spec in specs if binds(spec, length, narrower))


def binds(spec: AttentionSpec, length: int, narrower: int = 0) -> bool:
    """True when the window or chunk of a layer hides a key from some query of a sequence of `length` tokens.

    narrower: tokens by which the effective window is smaller than the declared one. A layer without window and chunk
    counts as binding: what is wrong with it then is not a matter of length.
    """
    sides = [side for side in (spec.mask.window.left, spec.mask.window.right) if side]
    limits = [side - narrower for side in sides] + ([spec.mask.chunk - 1] if spec.mask.chunk is not None else [])
    return not limits or any(limit < length - 1 for limit in limits)


def never_binding(specs: Sequence[AttentionSpec], length: int | None) -> tuple[AttentionSpec, ...]:
    """The layers with a window or chunk that no sequence of `length` tokens ever meets."""
    if length is None:
        return ()
    return tuple(
        spec
        for spec in specs
        if spec.mask_known and (spec.mask.window.bounded or spec.mask.chunk is not None) and not binds(spec, length)
    )
