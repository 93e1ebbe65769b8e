"""A framework that calls kernels itself: its calls are run as written, and it is asked what it selects."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import replace

from attncheck.comparison.options import CompareOptions
from attncheck.environment import Environment
from attncheck.frameworks import plugin
from attncheck.frameworks.plugin import Resolution, Step
from attncheck.probe import written
from attncheck.semantics.observation import Basis, Rejected
from attncheck.semantics.written import PLAIN, LayerCalls, OwnCalls, WrittenCall

_HALF = ("float16", "bfloat16")


def read(
    resolution: Resolution,
    environment: Environment,
    options: CompareOptions,
    dtype: str,
    longest: int | None,
    progress: Callable[[str], None],
) -> tuple[Resolution, OwnCalls | None]:
    """(the resolution with what the framework itself selects, what its calls do); None where it makes none itself.

    dtype: of the probes; the calls are made in half precision. longest: tokens that the user will run at most.
    """
    if not resolution.calls:
        return resolution, None
    distribution = plugin.find(resolution.framework).distribution
    here = environment.version(distribution) == resolution.version and not resolution.elsewhere
    plan = written.Plan(
        device="cuda" if environment.gpus and options.device != "cpu" else "cpu",
        installed=here,
        dtype=dtype if dtype in _HALF else _HALF[1],
        longest=longest,
        seed=options.seed,
    )
    typed = {name: value for name, value in resolution.settings.items() if name.isupper()}
    resolution, groups, real = _selected(resolution, plan, typed, progress)
    readings = written.read(groups, environment, plan, progress)
    named = resolution.named or resolution.framework
    before = " ".join(f"{name}={shlex.quote(value)}" for name, value in resolution.variables.items())
    return resolution, OwnCalls(resolution.framework, named, _typed(options), groups, readings, real, before)


def measured(own: OwnCalls | None) -> bool:
    """Some call was run."""
    return own is not None and any(reading.reading.basis is Basis.MEASURED for reading in own.readings)


def _typed(options: CompareOptions) -> str:
    flags = [("--framework", options.framework or ""), ("--framework-version", options.framework_version or "")]
    flags += [("--framework-set", text) for text in options.framework_set]
    return " ".join(f"{flag} {shlex.quote(value)}" for flag, value in flags if value)


def _selected(
    resolution: Resolution, plan: written.Plan, typed: dict[str, str], progress: Callable[[str], None]
) -> tuple[Resolution, tuple[LayerCalls, ...], str]:
    """What the real framework selects wins over what its source was read to select."""
    answer = written.selected(resolution.calls[0], plan, typed, progress)
    if isinstance(answer, Rejected):
        step = Step(f"the real one refuses the call: {answer.said}", source="run here", basis=Basis.MEASURED)
        return replace(resolution, steps=(*resolution.steps, step)), resolution.calls, ""
    if not isinstance(answer, tuple):
        return resolution, resolution.calls, ""
    real, against = str(answer[0]), answer[1]
    kernel = _kernel(real)
    said = f"; it says: {'; '.join(against)}" if against else ""
    step = Step(f"asked here, it selects {real}{said}", source="its own log, NVTE_DEBUG=1", basis=Basis.MEASURED)
    groups = tuple(replace(group, calls=tuple(_marked(group.calls, kernel))) for group in resolution.calls)
    return replace(resolution, steps=(*resolution.steps, step), calls=groups), groups, real


def _marked(calls: Iterable[WrittenCall], kernel: str) -> Iterable[WrittenCall]:
    return (replace(call, selected=call.kernel == kernel) if call.scenario == PLAIN else call for call in calls)


def _kernel(real: str) -> str:
    """The word of reports for a backend in TransformerEngine's log: "FlashAttention (4.0.0b36)" -> "flash-4"."""
    name, _, detail = real.partition(" (")
    if name == "FlashAttention":
        major = detail.partition(".")[0]
        return "flash" if major == "2" else f"flash-{major}"
    return {"FusedAttention": "fused", "UnfusedDotProductAttention": "unfused"}.get(name, name)
