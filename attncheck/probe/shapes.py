"""The parent's side of real shapes: from what a model declares to the calls worth probing, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from attncheck.backends import interface as backends
from attncheck.backends.interface import Api, Backend
from attncheck.environment import Environment
from attncheck.probe.apis import known
from attncheck.probe.jobs import Jobs
from attncheck.probe.protocol import Job
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis, CallObservation, Crashed, NotRun, Observed, Reason, Rejected
from attncheck.semantics.observation import ScenarioRun as Run
from attncheck.semantics.shape import EXPLICIT_MASK, MASK_TERMS, Shape, ShapeReading
from attncheck.semantics.spec import CAUSAL, AttentionSpec, Bias, Part
from attncheck.verdicts import LayerGroup

#: Implementations before whose kernels transformers widens the values to the width of q and k
#: (`integrations/flash_attention.py`, 5.23; model files did it themselves in older versions).
WIDENS_VALUES = ("flash_attention_2", "flash_attention_3", "flash_attention_4")
#: Silence of one step that counts as a hang: a first call may compile two kernels, which takes tens of seconds each.
LIMIT = 300.0
#: Half precision, for documented limits on a machine whose probes run in float32.
_HALF = "bfloat16"


@dataclass(frozen=True, slots=True)
class ShapeCase:
    """One shape as an implementation hands it to its kernels. Fields as in `ShapeReading`."""

    implementation: str
    part: Part
    layers: tuple[int, ...]
    shape: Shape
    declared_v: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How to probe. device: "cpu" runs nothing unless `on_cpu`. longest: tokens that the
    user will run at most, None unbounded. limit: seconds one step may stay silent. plugins: modules with further APIs.
    """

    device: str
    longest: int | None = None
    limit: float = LIMIT
    seed: int = 0
    plugins: tuple[str, ...] = ()
    on_cpu: bool = False

    @property
    def runs(self) -> bool:
        """True when kernels are run and not only read about."""
        return self.device != "cpu" or self.on_cpu


def cases(
    groups: Iterable[LayerGroup], runs: Iterable[Run], implementations: Sequence[str], dtype: str
) -> tuple[ShapeCase, ...]:
    """The distinct shapes of a model, for each implementation; layers of one shape together.

    runs: of the tiny model; what its calls look like tells what the framework changes before them. Layers whose sizes
    nobody knows are left out, and so are those whose tiny call is of another kind than its config says.
    """
    seen = _calls(runs)
    found: dict[tuple[str, Part, Shape, int | None], list[int]] = {}
    for group in groups:
        for name in implementations:
            if (shape := _handed(group, name, seen, dtype)) is not None:
                declared_v = group.spec.head_dim_v or shape.head_dim
                changed = declared_v if declared_v != shape.head_dim_v else None
                found.setdefault((name, group.part, shape, changed), []).extend(group.layers)
    return tuple(
        ShapeCase(name, part, tuple(sorted(layers)), shape, declared_v)
        for (name, part, shape, declared_v), layers in found.items()
    )


def read(
    wanted: Sequence[ShapeCase], environment: Environment, plan: Plan, progress: Callable[[str], None] = lambda _: None
) -> tuple[ShapeReading, ...]:
    """What each kernel does at each shape: measured where it can run here, else what its documented limits say."""
    table = known(plan.plugins)
    running = _running(wanted, environment, plan, table)
    outcomes: dict[str, object] = {}
    with Jobs(plan.limit) as jobs:
        for api, steps in running.items():
            mine = {case.shape.key: case.shape for case in wanted}
            arguments = {
                "device": plan.device,
                "seed": plan.seed,
                "backward": True,
                "plugins": plan.plugins,
                "shapes": mine,
                "longest": dict.fromkeys(mine, plan.longest),
            }
            _, entry = table[api]
            job = Job("shapes", steps, arguments)
            for done in jobs.run(job, variables=entry.environment, dynamo=entry.needs_dynamo, progress=progress):
                outcomes[done.step] = done.outcome
    readings = [reading for case in wanted for reading in _of_case(case, environment, plan, table, outcomes)]
    return tuple(readings)


def documented(name: str, environment: Environment, shape: Shape) -> tuple[Reason, ...]:
    """The documented limits that the sizes of a shape break, and nothing else about this machine or the call.

    name: of an API or an implementation.
    """
    dtype = shape.dtype if shape.dtype in ("float16", _HALF) else _HALF
    neutral = backends.Call(device="cuda", dtype=dtype)
    sized = replace(
        neutral,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        head_dim_v=shape.head_dim_v,
    )
    said = [_decide(name, environment, call) for call in (neutral, sized)]
    before, after = (verdict.reasons if isinstance(verdict, Rejected) else () for verdict in said)
    told = {(reason.text, reason.limit) for reason in before}
    return tuple(reason for reason in after if (reason.text, reason.limit) not in told)


def _decide(name: str, environment: Environment, call: backends.Call) -> object:
    for backend in backends.find():
        if name in backend.implementations or any(api.name == name for api in backend.apis):
            return backend.decide(name, environment, call)
    return None


# From declarations to shapes -----------------------------------------------------------------------


def _calls(runs: Iterable[Run]) -> dict[tuple[str, Part, int], CallObservation]:
    """The first call of each layer of the tiny model, by implementation."""
    found: dict[tuple[str, Part, int], CallObservation] = {}
    for run in runs:
        if isinstance(run.outcome, Observed) and not run.overrides:
            for call in run.outcome.calls:
                if call.head_dim:
                    found.setdefault((run.implementation, call.part, call.layer), call)
    return found


def _handed(
    group: LayerGroup, implementation: str, seen: Mapping[tuple[str, Part, int], CallObservation], dtype: str
) -> Shape | None:
    """The shape in which the implementation hands over the layers of a group, None where that is not known."""
    spec = group.spec
    unknown = tuple(term for term in MASK_TERMS if term in spec.unknown)
    if not spec.attends or "kind" in spec.unknown or not spec.num_heads or not spec.head_dim:
        return None
    kv_heads, width_v = spec.num_kv_heads or spec.num_heads, spec.head_dim_v or spec.head_dim
    if spec.num_heads % kv_heads:
        return None
    tiny = group.probed
    call = seen.get((implementation, group.part, tiny.layer)) if tiny is not None else None
    if tiny is not None and call is not None:
        if tiny.head_dim not in (None, call.head_dim):
            return None  # the kernel gets something else than the config speaks of (latent heads, fused ones)
        if call.num_kv_heads == call.num_heads != (tiny.num_kv_heads or call.num_heads):
            kv_heads = spec.num_heads
    if implementation in WIDENS_VALUES and width_v < spec.head_dim:
        width_v = spec.head_dim
    return Shape(
        num_heads=spec.num_heads,
        num_kv_heads=kv_heads,
        head_dim=spec.head_dim,
        head_dim_v=width_v,
        window=CAUSAL if unknown else spec.mask.window,
        chunk=None if unknown else spec.mask.chunk,
        scale=_known(spec, "scale", spec.softmax.scale),
        softcap=_known(spec, "softcap", spec.softmax.softcap),
        sinks="sinks" not in spec.unknown and spec.softmax.sinks,
        alibi="bias" not in spec.unknown and spec.softmax.bias is Bias.ALIBI,
        dtype=dtype,
        unknown=unknown,
    )


def _known(spec: AttentionSpec, field: str, value: float | None) -> float | None:
    return None if field in spec.unknown else value


# From shapes to steps and back ---------------------------------------------------------------------


def _apis(implementation: str, table: Mapping[str, tuple[Backend, Api]]) -> Iterator[Api]:
    """What an implementation's kernels can be called through."""
    for backend, api in table.values():
        if implementation in backend.implementations:
            yield api


def _lacks(backend: Backend, api: Api, environment: Environment, shape: Shape, device: str) -> tuple[Reason, ...]:
    """Why the API cannot run here whatever the shape."""
    if device not in api.devices:
        return (Reason(f"{api.name} does not run on this device", ", ".join(api.devices), device, api.call),)
    if shape.dtype not in api.dtypes:
        return (Reason("the dtype is not supported", ", ".join(api.dtypes), shape.dtype, api.call),)
    verdict = backend.decide(api.name, environment, backends.Call(device=device, dtype=shape.dtype))
    return verdict.reasons if isinstance(verdict, Rejected) else ()


def _running(
    wanted: Sequence[ShapeCase],
    environment: Environment,
    plan: Plan,
    table: Mapping[str, tuple[Backend, Api]],
) -> dict[str, tuple[str, ...]]:
    """API -> steps of what can be run here. Without knowing its mask nobody could say whether a call is right."""
    steps: dict[str, dict[str, None]] = {}
    for case in (case for case in wanted if plan.runs and not case.shape.unknown):
        for api in _apis(case.implementation, table):
            if not _lacks(table[api.name][0], api, environment, case.shape, plan.device):
                mine = steps.setdefault(api.name, {})
                mine[_step(api, case)] = None
                if not api.needs_dynamo:  # a compiled mask function has no explicit mask, and each costs its compiling
                    mine[_step(api, case, EXPLICIT_MASK)] = None
    return {api: tuple(found) for api, found in steps.items()}


def _step(api: Api, case: ShapeCase, variant: str = "") -> str:
    return "|".join(filter(None, (api.name, case.shape.key, variant)))


def _of_case(
    case: ShapeCase,
    environment: Environment,
    plan: Plan,
    table: Mapping[str, tuple[Backend, Api]],
    outcomes: Mapping[str, object],
) -> Iterator[ShapeReading]:
    """The readings of one case; where nothing ran, the documented limits that speak of its sizes."""
    ran = False
    for api in _apis(case.implementation, table):
        for variant in ("", EXPLICIT_MASK):
            step = _step(api, case, variant)
            if step in outcomes and (reading := _reading(outcomes[step], api, case, variant)) is not None:
                ran = ran or reading.outcome is not Outcome.NOT_RUN
                yield replace(_about(reading, case), documented=_limits(api.name, environment, case))
    if not ran and (limits := _limits(case.implementation, environment, case)):
        refused = documented(case.implementation, environment, case.shape)
        outcome = Outcome.REFUSED if refused else Outcome.NOT_RUN
        reading = ShapeReading(
            case.implementation, case.shape, outcome, Basis.STATIC, reasons=refused, documented=limits
        )
        yield _about(reading, case)
    elif case.shape.unknown and plan.runs:
        why = f"not probed: the declared {' and '.join(case.shape.unknown)} is unknown"
        yield _about(ShapeReading(case.implementation, case.shape, Outcome.NOT_RUN, None, detail=why), case)


def _limits(name: str, environment: Environment, case: ShapeCase) -> tuple[Reason, ...]:
    """Documented limits that the shape breaks, or the declared one where the framework changes it."""
    declared = case.shape if case.declared_v is None else replace(case.shape, head_dim_v=case.declared_v)
    return documented(name, environment, case.shape) or documented(name, environment, declared)


def _about(reading: ShapeReading, case: ShapeCase) -> ShapeReading:
    return replace(
        reading,
        implementation=case.implementation,
        part=case.part,
        layers=case.layers,
        declared_v=case.declared_v,
    )


def _reading(outcome: object, api: Api, case: ShapeCase, variant: str) -> ShapeReading | None:
    """What a step's outcome says; None where the variant makes no sense for the API."""
    if isinstance(outcome, ShapeReading):
        return outcome
    if isinstance(outcome, NotRun) and variant:
        return None
    return unread(ShapeReading(api.name, case.shape, Outcome.NOT_RUN, None, variant=variant), outcome)


def unread(nothing: ShapeReading, outcome: object) -> ShapeReading:
    """`nothing`, a reading that is not run, with why: refused, crashed, or a reason that says nothing of the API."""
    if isinstance(outcome, Rejected):
        return replace(nothing, outcome=Outcome.REFUSED, basis=Basis.MEASURED, reasons=outcome.reasons)
    if isinstance(outcome, Crashed) and outcome.kind != "memory":
        words = f"{outcome.kind}: {outcome.reason}"
        return replace(nothing, outcome=Outcome.CRASHED, basis=Basis.MEASURED, detail=words)
    reason = outcome.reason if isinstance(outcome, Crashed | NotRun) else f"unexpected answer: {outcome}"
    return replace(nothing, detail=reason)
