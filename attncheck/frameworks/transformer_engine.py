"""TransformerEngine: which of FlashAttention, FusedAttention and unfused runs, and what its window means."""

from __future__ import annotations

from packaging.version import Version

from attncheck.declared import oracle
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.findings import Recommendation, Setting
from attncheck.frameworks.flash_kernels import parsed
from attncheck.frameworks.plugin import (
    Asked,
    Fails,
    Framework,
    ModelFacts,
    Outcome,
    Plan,
    Resolution,
    RunsOwn,
    unread,
)
from attncheck.frameworks.transformer_engine_call import TAKEN_SINCE, rewritten
from attncheck.frameworks.transformer_engine_chain import NAME, TITLE, Run, fixes, params_of, remarks, steps
from attncheck.frameworks.transformer_engine_layers import Setup, layers
from attncheck.frameworks.transformer_engine_params import FLASH, READ
from attncheck.frameworks.transformer_engine_parse import settings
from attncheck.frameworks.transformer_engine_selection import Selection, accepted, acts
from attncheck.frameworks.transformer_engine_selection import parsed as exact
from attncheck.semantics.shape import Shape
from attncheck.semantics.written import LayerCalls

#: The GPU that is resolved for where this machine has none.
ASSUMED = (9, 0)
#: The first release that was read.
OLDEST = Version("1.9")


def plan(asked: Asked) -> Plan:
    """Checks what was typed. TransformerEngine's settings say nothing of the model."""
    settings(asked)
    if asked.version and exact(asked.version) is None:
        raise UsageError(f"--framework-version {asked.version} is no version", f"--framework-version {READ[-1]}")
    return Plan()


def resolve(asked: Asked, environment: Environment, facts: ModelFacts) -> Resolution:
    """Which backend that release would select here, and the calls that the settings make for each layer."""
    typed = settings(asked)
    said, origin = FRAMEWORK.version(asked, environment)
    version = parsed(said)
    if version < OLDEST:
        return Resolution(NAME, said, origin, unread(OLDEST, said), named=f"{TITLE} {said}", bypasses=True)
    capability = typed.capability or next((gpu.capability for gpu in environment.gpus), ASSUMED)
    here = typed.capability is None and not typed.packages and bool(environment.gpus)
    spec = facts.spec or oracle.declare(facts.config)
    setup = Setup(version, typed.written, params_of(environment, typed, capability))
    calls = layers(spec, setup)
    shape = calls[0].shape if calls else Shape(16, 16, 64, 64)
    run = Run(setup, typed, environment, shape, here, origin == "installed")
    outcome = _outcome(run)
    fits = isinstance(outcome, RunsOwn)
    return Resolution(
        framework=NAME,
        version=said,
        version_from=origin,
        named=f"{TITLE} {said}",
        outcome=outcome,
        steps=tuple(steps(run, outcome)),
        settings={**{key: str(value) for key, value in {**asked.settings, **asked.assigned}.items()}},
        remarks=tuple(remarks(run, outcome)) if fits else (),
        fixes=tuple(fixes(run)) if isinstance(outcome, Fails) else (),
        recommend=lambda _: _recommended(calls),
        calls=calls if fits else (),
        elsewhere=not here,
        bypasses=True,
        variables={
            name: value
            for name, value in sorted(setup.params.variables.items())
            if name not in typed.variables and acts(name, version)
        },
    )


def _outcome(run: Run) -> Outcome:
    version, written = run.version, run.setup.written
    for name in written.given:
        if version < Version(TAKEN_SINCE.get(name, "1.9")):
            text = f"DotProductAttention.__init__() got an unexpected keyword argument '{name}'"
            return Fails("TypeError", f"{text} (it came with {TAKEN_SINCE[name]})", name)
    changed = rewritten(written, version)
    if changed.size is None:
        return Fails("AssertionError", changed.error, "window_size")
    if run.installed and accepted(version).required and FLASH[0] not in run.setup.params.flash:
        return Fails("PackageNotFoundError", "No package metadata was found for flash-attn: 1.9 to 1.11 import it", "")
    selection = run.setup.chosen(written, run.shape)
    if selection is None or selection.chosen is None:
        text = "No dot product attention backend is available for the provided inputs"
        return Fails("ValueError", text, _blamed(run, selection))
    return RunsOwn(f"{TITLE} {selection.chosen}", selection.available)


def _blamed(run: Run, selection: Selection | None) -> str:
    """The environment variable or argument to change first."""
    dropped = selection.against if selection is not None else ()
    return next((entry.drop.variable for entry in dropped if entry.drop and entry.drop.variable), "attn_mask_type")


def _recommended(calls: tuple[LayerCalls, ...]) -> Recommendation:
    """What to write for the layers, in the order of the model."""
    found = [
        Setting(NAME, "DotProductAttention", "" if entry.suggested is None else entry.suggested.paste, paste)
        for entry in calls
        for paste in (_paste(entry, len(calls) > 1),)
        if paste
    ]
    return Recommendation("write the window as the model declares it", tuple(found))


def _paste(entry: LayerCalls, several: bool) -> str:
    words = entry.suggested.paste if entry.suggested is not None else entry.calls[0].words if entry.calls else ""
    longest = entry.suggested.longest if entry.suggested is not None else None
    notes = [f"layers {', '.join(map(str, entry.layers))}"] if several else []
    notes += [f"at most {longest} tokens"] if longest is not None else []
    return f"DotProductAttention(..., {words})" + (f"  # {'; '.join(notes)}" if notes else "") if words else ""


FRAMEWORK = Framework(
    name=NAME,
    title=TITLE,
    distribution="transformer-engine",
    newest=READ[-1],
    plan=plan,
    resolve=resolve,
)
