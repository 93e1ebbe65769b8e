"""Rules about warnings in a log: what transformers or a framework prints, judged by what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attncheck.checks.interface import Case, Inputs, RuleGroup, View
from attncheck.checks.registry import code_of
from attncheck.checks.severity import never_binding
from attncheck.findings import Evidence, Finding, Rule, Severity
from attncheck.frameworks.plugin import LogWarning
from attncheck.frameworks.section import JudgedWarning, Truth
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import AttentionSpec

_MEASURED = (
    "transformers' log is listened to while the tiny model is built and run. What the line warns of is looked for in the "
    "masks and softmax terms that were read from the live call under that implementation, in all core scenarios."
)

RULES = (
    Rule(
        "ATC704",
        "warning-stale",
        "A warning in the log is out of date",
        "transformers or the framework warns that an implementation lacks something, and it was measured to have it.",
        "People change implementations, buy memory or give up a model because of a line that is no longer true.",
        _MEASURED,
        "Nothing: the line can be ignored with these versions.",
        ("LLaMA-Factory#7096", "LLaMA-Factory#7063", "transformers#35924"),
    ),
    Rule(
        "ATC705",
        "warning-inert",
        "A warning in the log is about something this model does not use",
        "The warning is about windows, soft-capping or the like, which the config switches off or no sequence ever meets.",
        "There is nothing to lose, so nothing needs to be mended.",
        "Read from the config and the sequence length; the log is listened to as for warning-stale.",
        "Nothing, unless you meant the feature to act: then switch it on in the config.",
        ("LLaMA-Factory#7096",),
    ),
)  # fmt: skip

#: Lines that are known to claim a difference: pattern (group 1: implementation, where the line names it) -> its slug.
KNOWN = (
    (r"Sliding Window Attention is enabled but not implemented for `?(\w+)`?", "window-ignored"),
    (r"soft-capping attention, while the SDPA attention does not support it", "softcap-dropped"),
)
#: What a claim may turn out as: a window that is lost in part is lost.
_KINDS = {
    "window-ignored": ("window-ignored", "window-off-by-one", "window-size-wrong", "window-unexpected", "chunk-wrong"),
    "softcap-dropped": ("softcap-dropped", "softcap-wrong"),
}


def judged(case: Case) -> tuple[JudgedWarning, ...]:
    """Every line that was heard or that the framework is known to print, with its truth."""
    found: dict[tuple[str, str], JudgedWarning] = {}
    for warning, heard in (*_heard(case.inputs), *_expected(case.inputs)):
        key = (warning.claims, warning.implementation)
        if key not in found:
            found[key] = _judge(warning, heard, case)
    return tuple(found.values())


def _heard(inputs: Inputs) -> Iterator[tuple[LogWarning, bool]]:
    for run in inputs.runs:
        for line in run.logged:
            for pattern, claims in KNOWN:
                if match := re.search(pattern, line):
                    about = match.group(1) if match.groups() else run.implementation
                    if about == run.implementation and _concerns(inputs, about):
                        yield (
                            LogWarning(line, claims, about, f"transformers {inputs.versions.get('transformers')}"),
                            True,
                        )


def _concerns(inputs: Inputs, implementation: str) -> bool:
    """With a framework, only what would stand in the log of that run."""
    return inputs.framework is None or inputs.framework.runs in ("", implementation)


def _expected(inputs: Inputs) -> Iterator[tuple[LogWarning, bool]]:
    if inputs.framework is not None:
        yield from ((warning, False) for warning in inputs.framework.warnings)


def _judge(warning: LogWarning, heard: bool, case: Case) -> JudgedWarning:
    truth, why, basis = _truth(warning, case)
    return JudgedWarning(warning.text, truth, why, warning.implementation, basis, heard, warning.printed_by)


def _truth(warning: LogWarning, case: Case) -> tuple[Truth, str, Basis | None]:
    inputs, name = case.inputs, warning.implementation
    versions = f"transformers {inputs.versions.get('transformers')}"
    never = f"no sequence of at most {inputs.seq_len} tokens outgrows the window"
    if warning.known:
        if warning.window is not None and inputs.seq_len is not None and inputs.seq_len <= warning.window:
            return Truth.INERT, never, Basis.STATIC
        return Truth(warning.known), warning.known_from, Basis.STATIC
    for finding in case.findings:
        same = finding.implementation == name and finding.slug in _KINDS.get(warning.claims, (warning.claims,))
        core = any(run.core for run in inputs.runs if run.scenario == finding.scenario)
        if same and core and finding.severity is not Severity.NOTE:
            return (
                Truth.REAL,
                f"{_lower(finding.headline or finding.message)} under {name} with {versions} ({finding.scenario})",
                finding.basis,
            )
    declaring = [spec for spec in inputs.real.layers if spec.attends and _declares(spec, warning.claims)]
    if not declaring and not any(spec.unknown for spec in inputs.real.layers):
        what = "window" if warning.claims == "window-ignored" else "soft-capping"
        return Truth.INERT, f"no layer of this model declares a {what}".replace("a soft", "soft"), Basis.STATIC
    if (
        warning.claims == "window-ignored"
        and declaring
        and len(never_binding(declaring, inputs.seq_len)) == len(declaring)
    ):
        return Truth.INERT, never, Basis.STATIC
    views = [view for view in case.views if _tells(view, warning)]
    if not views:
        return Truth.UNJUDGED, f"{name} was not measured here", None
    shown = "the declared window" if warning.claims == "window-ignored" else "soft-capping as declared"
    return Truth.STALE, f"{name} applies {shown} with {versions}", Basis.MEASURED


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _declares(spec: AttentionSpec, claims: str) -> bool:
    if claims == "softcap-dropped":
        return spec.softmax.softcap is not None
    return spec.mask.window.bounded or spec.mask.chunk is not None


def _tells(view: View, warning: LogWarning) -> bool:
    """A reading of that implementation where the claim would show."""
    run = view.run
    same = run.implementation == warning.implementation and run.core and run.basis is Basis.MEASURED and not view.kernel
    readable = not view.masks.unreadable and not view.broken and _declares(view.spec, warning.claims)
    fitted = warning.claims != "softcap-dropped" or any(call.softmax is not None for call in view.calls)
    return same and readable and fitted


def conclude(case: Case) -> Iterator[Finding]:
    """A note for each line that was heard and is not true; a line that is true has its error already."""
    for warning in judged(case):
        slug = {Truth.STALE: "warning-stale", Truth.INERT: "warning-inert"}.get(warning.truth)
        if slug is not None and warning.heard:
            yield Finding(
                code=code_of(slug),
                slug=slug,
                severity=Severity.NOTE,
                message=f'the log line "{warning.text}" can be ignored: {warning.why}',
                basis=warning.basis,
                implementation=warning.implementation,
                evidence=Evidence(requested=warning.text, effective=warning.why),
            )


GROUP = RuleGroup("log-lines", RULES, order=85, conclude=conclude)
