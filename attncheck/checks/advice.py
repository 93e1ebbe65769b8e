"""Notes: config values that nothing honours, windows that are switched off or never bind, remarks on the config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attncheck.checks.interface import REFERENCE, Case, Inputs, RuleGroup
from attncheck.checks.registry import code_of
from attncheck.checks.severity import never_binding
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Severity
from attncheck.semantics.observation import Basis, Observed
from attncheck.semantics.spec import AttentionSpec, Note, Part

RULES = (
    Rule(
        "ATC701", "config-not-honoured", "No implementation does what the config says",
        "Every implementation that was measured, eager included, differs from the declaration in the same way.",
        "Then it is the model's code that ignores a config key (or the key means something else to it), not a kernel; switching between these implementations does not help.",
        "The same slug in every measured implementation. One that is only predicted to follow the config is named.",
        "Treat the key as without effect: plan memory and length for what really runs, or report it upstream.",
        ("moshi: sliding_window",),
    ),
    Rule(
        "ATC702", "window-inert", "A declared window has no effect here",
        "The window is switched off by another key, selects no layer, or is at least as long as any sequence that will run.",
        "Warnings about missing window support do not matter then: nothing needs to be fixed.",
        "Read from the config and the given sequence length.",
        "Nothing, unless you meant the window to act: then set the key the note names, or run longer sequences.",
        ("LLaMA-Factory#7096", "LLaMA-Factory#7063"),
    ),
    Rule(
        "ATC703", "config-remark", "A remark on the config",
        "Something the config says deserves a look although nothing is wrong: unconfirmed values, remote code, odd keys.",
        "The verdicts rest on these values.",
        "Read from the config.",
        "Check the value against the checkpoint's own config.json.",
    ),
)  # fmt: skip

#: Notes of the oracle about windows without effect: switched off, or longer than the checkpoint's own maximum.
_INERT = ("window-switched-off", "window-exceeds-max-position")
#: Slugs that contradict the config itself; the others depend on what the caller feeds.
_OF_CONFIG = (
    "window-ignored", "window-off-by-one", "window-size-wrong", "window-unexpected", "causal-ignored", "causal-unexpected",
    "chunk-wrong", "softcap-dropped", "softcap-unexpected", "sinks-dropped", "scale-wrong", "bias-dropped", "head-map-wrong",
)  # fmt: skip
_KEYS = {
    "chunk": ("attention_chunk_size",),
    "softcap": ("attn_logit_softcapping",),
    "scale": ("query_pre_attn_scalar", "attention_multiplier", "head_dim"),
    "head": ("num_key_value_heads",),
}


def conclude(case: Case) -> Iterator[Finding]:
    """All notes."""
    yield from _not_honoured(case)
    yield from _inert(case.inputs)
    yield from (_remark(note) for note in case.inputs.real.notes if note.code not in _INERT)


def _not_honoured(case: Case) -> Iterator[Finding]:
    overridden = {run.scenario: run.overrides for run in case.inputs.runs if run.overrides}
    told: set[tuple[str, Part | None, bool]] = set()
    for finding in case.findings:
        # What the overrides switch is the direction; a window lost besides is no matter of theirs.
        switched = finding.scenario in overridden and finding.slug.startswith("causal")
        core = any(run.core for run in case.inputs.runs if run.scenario == finding.scenario)
        place = (finding.slug, finding.part, switched)
        if finding.slug not in _OF_CONFIG or not (core or switched) or place in told:
            continue
        if not _shared(finding, case):
            continue
        told.add(place)
        keys = _keys(finding, case.inputs, switched)
        honouring = _honouring(finding, case)
        words = f"{_names(keys)} not honoured by any measured implementation"
        if honouring:
            words += f"; {' and '.join(honouring)} {'is' if len(honouring) == 1 else 'are'} predicted to honour it"
        yield Finding(
            code=code_of("config-not-honoured"),
            slug="config-not-honoured",
            severity=Severity.NOTE,
            message=f"{words}: {finding.message}",
            headline=words,
            basis=finding.basis,
            part=finding.part,
            layers=finding.layers,
            scenario=finding.scenario,
            variant=finding.variant,
            evidence=Evidence(declared=finding.evidence.declared, effective=finding.evidence.effective),
            recommendations=(_switching(honouring),),
        )


def _shared(finding: Finding, case: Case) -> bool:
    """True when every measured implementation that ran this scenario has the same finding; eager, or two, must be there."""
    measured = {
        run.implementation
        for run in case.inputs.runs
        if run.scenario == finding.scenario and run.basis is Basis.MEASURED and isinstance(run.outcome, Observed)
    }
    return bool(measured) and measured <= _having(finding, case) and (REFERENCE in measured or len(measured) > 1)


def _honouring(finding: Finding, case: Case) -> list[str]:
    """The implementations that are predicted to do right what the finding is about: it was read, and is no fault."""
    of_softmax = finding.slug.startswith(("softcap", "sinks", "scale", "bias", "head"))
    read = {
        view.run.implementation
        for view in case.views
        if (view.run.basis, view.run.scenario, view.part) == (Basis.PREDICTED, finding.scenario, finding.part)
        and not (view.broken or view.masks.unreadable)
        and (not of_softmax or any(call.softmax is not None for call in view.calls))
    }
    return sorted(read - {str(name) for name in _having(finding, case)})


def _having(finding: Finding, case: Case) -> set[str | None]:
    """The implementations with the same finding."""
    return {
        other.implementation
        for other in case.findings
        if (other.slug, other.part, other.scenario) == (finding.slug, finding.part, finding.scenario)
        and not other.kernel
    }


def _switching(honouring: Sequence[str]) -> Recommendation:
    """What to do. honouring: implementations that are predicted to follow the declaration."""
    if honouring:
        names = " or ".join(honouring)
        return Recommendation(f"As far as predicted, only {names} helps: check it on a machine where its kernel runs.")
    return Recommendation(
        "Switching the implementation does not help here: plan for what really runs, or report it to the library that "
        "ignores the key."
    )


def _keys(finding: Finding, inputs: Inputs, overridden: bool) -> tuple[str, ...]:
    if overridden:
        run = next(
            run
            for run in inputs.runs
            if (run.scenario, run.variant) == (finding.scenario, finding.variant) and run.overrides
        )
        return tuple(f"{key}={value}" for key, value in run.overrides)
    if finding.slug.startswith("window") and inputs.real.window_keys:
        return inputs.real.window_keys
    return next(
        (
            tuple(key for key in keys if key in inputs.tiny_config)
            for prefix, keys in _KEYS.items()
            if finding.slug.startswith(prefix)
        ),
        (),
    )


def _names(keys: Sequence[str]) -> str:
    if not keys:
        return "The declaration is"
    return " and ".join(keys) + (" is" if len(keys) == 1 else " are")


def _inert(inputs: Inputs) -> Iterator[Finding]:
    length = inputs.seq_len
    silent = never_binding(inputs.real.layers, length)
    for part in dict.fromkeys(spec.part for spec in silent):
        specs = [spec for spec in silent if spec.part is part]
        sizes = ", ".join(str(size) for size in sorted({_size(spec) for spec in specs}))
        word = "chunk" if all(spec.mask.chunk is not None for spec in specs) else "window"
        because = "you will run" if inputs.options.seq_len is not None else "of the checkpoint's maximum length"
        keys = f" ({', '.join(inputs.real.window_keys)})" if inputs.real.window_keys and word == "window" else ""
        yield _note(
            f"The declared {word} of {sizes} tokens{keys} never binds: the longest sequences {because} have {length} tokens, "
            "so nothing depends on whether an implementation applies it",
            part,
            tuple(spec.layer for spec in specs),
        )
    for note in inputs.real.notes:
        if note.code == _INERT[0] or (note.code == _INERT[1] and not silent):
            yield _note(_sentence(note), None, ())


def _size(spec: AttentionSpec) -> int:
    window = spec.mask.window
    if spec.mask.chunk is not None:
        return spec.mask.chunk
    return (window.left or 0) + 1 + (window.right or 0)


def _sentence(note: Note) -> str:
    return f"{note.key}: {note.text}" if note.key and note.key not in note.text else note.text


def _note(message: str, part: Part | None, layers: tuple[int, ...]) -> Finding:
    return Finding(
        code=code_of("window-inert"),
        slug="window-inert",
        severity=Severity.NOTE,
        message=message,
        basis=Basis.STATIC,
        part=part,
        layers=layers,
    )


def _remark(note: Note) -> Finding:
    return Finding(
        code=code_of("config-remark"),
        slug="config-remark",
        severity=Severity.NOTE,
        message=_sentence(note),
        basis=Basis.STATIC,
    )


GROUP = RuleGroup("advice", RULES, order=80, conclude=conclude)
