"""The answer to `--without flash`: what the user's own way runs, which ways are free of it, and what those cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from attncheck.comparison.measuring import Measured, runs_here
from attncheck.comparison.options import CompareOptions
from attncheck.comparison.sub_models import head_widths, read, several
from attncheck.comparison.target import Target
from attncheck.declared.original import original
from attncheck.declared.vision import KEY as VISION
from attncheck.errors import UsageError
from attncheck.frameworks import llava_words
from attncheck.frameworks.flash_kernels import FLASH_NAMES
from attncheck.frameworks.interface import Redirected
from attncheck.frameworks.plugin import Resolution, RunsOwn
from attncheck.probe import baselines
from attncheck.probe.client import Prober
from attncheck.probe.protocol import Job, Probe
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, Rejected
from attncheck.semantics.spec import CAUSAL, FULL, AttentionSpec, Part
from attncheck.semantics.sub_models import Asked, AskedRun, Cost, WithoutFlash
from attncheck.semantics.timing import BenchCase, BenchCell
from attncheck.semantics.workload import cells

Progress = Callable[[str], None]

#: What `--without` knows.
FEATURES = ("flash",)
#: Lengths of the timed calls, in tokens; a CPU takes seconds for longer ones.
LENGTHS, LENGTHS_ON_CPU = (1024, 4096, 8192), (256, 512, 1024)
#: Kernel APIs that are timed: what torch picks by itself, and what is left without flash.
TIMED = (baselines.SDPA, "sdpa-flash", "sdpa-cudnn", "sdpa-efficient", "sdpa-math", baselines.EAGER)
#: A key that stands in other frameworks' advice and in module names, but is none of transformers' sub-configs.
WRONG_KEY = "vision_tower"


def check(without: Sequence[str]) -> None:
    """Raise UsageError for what cannot be left out."""
    if strange := [name for name in without if name not in FEATURES]:
        raise UsageError(f"--without {strange[0]}: there is no such thing", f"choose from {', '.join(FEATURES)}")


def answer(
    prober: Prober,
    target: Target,
    measured: Measured,
    options: CompareOptions,
    probe: Probe,
    resolution: Resolution | None,
    progress: Progress,
) -> WithoutFlash:
    """Everything about flash attention and its absence, measured in whole models with heads of the true width.

    resolution: of the framework's settings, which then decide what the user runs; None without one.
    """
    own = user_ways(target, measured, options, resolution, probe.device)
    widths = head_widths(target.spec.layers, target.config, target.found.usable(target.facts.defaults))
    allowed = {name for name, decision in measured.decisions.items() if not isinstance(decision, Rejected | Redirected)}
    own_tower = original(target.config) is not None and several(target, measured.tiny)
    composite = several(target, measured.tiny) and not own_tower
    ways = other_ways(allowed, probe.device, composite=composite, own_tower=own_tower)
    asked = tuple(way for way in own if not isinstance(way, AskedRun))
    told = [way for way in own if isinstance(way, AskedRun)]
    known = {(way.implementation, way.switches) for way in asked}
    ways = tuple(way for way in ways if (way.implementation, way.switches) not in known)
    found = read(prober, target, (*asked, *ways), probe, progress, widths=widths)
    mine, others = found[: len(asked)], found[len(asked) :]
    text = next(
        (spec for spec in target.spec.layers if spec.part in (Part.DECODER, Part.ENCODER) and spec.num_heads), None
    )
    costs: tuple[Cost, ...] = ()
    if text is not None and any(run.flash for run in mine):
        progress("timing attention with and without flash")
        costs = timed(prober, text, probe, options.seed)
    return WithoutFlash(
        asked=(*told, *mine),
        ways=others,
        costs=costs,
        device=probe.device,
        dtype=probe.dtype,
        heads="" if text is None else f"{text.num_heads} heads of {text.head_dim}",
        head_dims=tuple(widths.items()),
        notes=llava_words.without_flash() if original(target.config) is not None else (),
    )


def user_ways(
    target: Target, measured: Measured, options: CompareOptions, resolution: Resolution | None, device: str
) -> tuple[Asked | AskedRun, ...]:
    """What the user runs: the implementations asked for, what the framework runs, else what transformers picks."""
    default = target.facts.default_implementation or "default"
    named = options.impl
    if not named and resolution is not None and isinstance(resolution.outcome, RunsOwn):
        what = resolution.outcome
        reason = f"{what.what} runs, which is not measured here ({', '.join(what.backends)})"
        return (AskedRun(Asked(what.what), failure=reason, basis=Basis.STATIC),)
    if not named and resolution is not None and resolution.runs not in ("", default):
        named = (resolution.runs,)
    if not named:
        return (Asked(default),)
    found: list[Asked | AskedRun] = []
    for name in named:
        decision = measured.decisions.get(name)
        if decision is None:  # a hub kernel that the framework loads by itself
            reason = f"{name} is not measured: attncheck downloads no kernels from the hub"
            found.append(AskedRun(Asked(name, name), failure=reason, basis=Basis.STATIC))
            continue
        asked = Asked(name, name, predicted=not runs_here(name, decision, device))
        if isinstance(decision, Rejected):
            found.append(AskedRun(asked, failure=decision.said))
        elif isinstance(decision, Redirected):
            found.append(AskedRun(asked, failure=decision.reasons[0].text))
        else:
            found.append(asked)
    return tuple(found)


def other_ways(
    allowed: set[str], device: str, *, composite: bool = False, own_tower: bool = False
) -> tuple[Asked, ...]:
    """How flash attention may be left out.

    composite: the model has towers, so that keys name its parts. own_tower: the tower is loaded by itself, and only
    torch's switches reach it.
    """
    ways = [Asked("eager", "eager")]
    if own_tower:
        off = ("no-flash", "no-cudnn") if device == "cuda" else ("no-flash",)
        ways.append(Asked("eager, and SDPA's flash off", "eager", off))
    if "sdpa" in allowed or not allowed & set(FLASH_NAMES):
        ways.append(Asked("sdpa, flash off", "sdpa", ("no-flash",)))
        if device == "cuda":
            ways.append(Asked("sdpa, flash and cuDNN off", "sdpa", ("no-flash", "no-cudnn")))
        ways.append(Asked("sdpa, efficient or math only", "sdpa", ("efficient-or-math",)))
    if composite:
        ways += [
            Asked("language model eager", (("text_config", "eager"),)),
            Asked("vision tower eager", ((VISION, "eager"),)),
            Asked("a key that is no sub-config", ((WRONG_KEY, "eager"),)),
        ]
    return tuple(ways)


def timed(prober: Prober, spec: AttentionSpec, probe: Probe, seed: int) -> tuple[Cost, ...]:
    """Time and memory of one call at the model's own heads, by API and length; those that refuse say why."""
    lengths = LENGTHS if probe.device == "cuda" else LENGTHS_ON_CPU
    wanted = [
        _case(name, length, spec, probe.dtype) for length in lengths for name in TIMED if _there(name, probe.device)
    ]
    steps = {str(number): case for number, case in enumerate(wanted)}
    arguments = {"device": probe.device, "seed": seed, "plugins": (baselines.__name__,), "cases": steps}
    found = []
    for done in prober.job(Job("bench", tuple(steps), arguments)):
        case = steps[done.step]
        cell = done.outcome[0] if isinstance(done.outcome, tuple) else None
        if isinstance(cell, BenchCell) and cell.outcome is Outcome.READ:
            label = f"{case.subject} ({cell.kernel})" if cell.kernel else case.subject
            found.append(Cost(label, case.kv_len, cell.median, cell.peak_memory))
        else:
            detail = cell.detail if isinstance(cell, BenchCell) else str(getattr(done.outcome, "reason", done.outcome))
            found.append(Cost(case.subject, case.kv_len, None, detail=detail))
    return tuple(found)


def _there(name: str, device: str) -> bool:
    return device == "cuda" or name not in ("sdpa-cudnn", "sdpa-efficient")


def _case(subject: str, length: int, spec: AttentionSpec, dtype: str) -> BenchCase:
    heads = spec.num_heads or 1
    causal = spec.mask.window.causal
    case = BenchCase(
        level="kernel",
        subject=subject,
        phase="prefill",
        backward=False,
        inputs="plain",
        batch=1,
        q_len=length,
        kv_len=length,
        num_heads=heads,
        num_kv_heads=spec.num_kv_heads or heads,
        head_dim=spec.head_dim or 64,
        head_dim_v=spec.head_dim_v or spec.head_dim or 64,
        dtype=dtype,
        window=CAUSAL if causal else FULL,
        mask="causal" if causal else "full",
    )
    return replace(case, cells=cells(case))
