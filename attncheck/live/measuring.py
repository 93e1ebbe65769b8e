"""The forward passes of `verify`: the user's batch, or small ones of our own; the model stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from attncheck.errors import UsageError
from attncheck.live.settings import YOURS, Measured, Settings
from attncheck.semantics.layout import Layout
from attncheck.semantics.observation import Basis, Crashed, NotApplicable, NotRun, Observed, Outcome, ScenarioRun
from attncheck.semantics.spec import AttentionSpec, Part

if TYPE_CHECKING:
    from attncheck.probe.inside.facts import LiveFacts
    from attncheck.probe.inside.plan import Plan, Recording
    from attncheck.probe.scenario import Variant

#: The scenarios of our own batches, by use; those that the model cannot run are left out.
OWN = {
    "generate": ("plain", "left-pad", "right-pad", "decode", "chunked-prefill"),
    "train": ("plain", "left-pad", "right-pad", "gradients"),
}
#: The longest sequence that we make up to meet a window, in tokens: on a CPU a large model takes minutes for more.
LONGEST = {"cuda": 8192, "cpu": 1024}
#: Tokens beyond a window that show where it ends.
BEYOND = 24


def own_batches(model: Any, facts: LiveFacts, settings: Settings, names: tuple[str, ...]) -> Measured:
    """Runs of small batches of our own, by scenario name, and of one long enough to meet the declared windows."""
    from attncheck.probe.feeding import Feeder
    from attncheck.probe.scenario import scenarios

    feeder = Feeder(facts.subject, device=str(facts.device), dtype=facts.dtype, seed=settings.seed)
    looks = []
    for scenario in [known for known in scenarios() if known.name in names]:
        plan = scenario.plan(facts.subject)
        if isinstance(plan, NotApplicable):
            continue
        for variant in plan:

            def run(begin: Callable[[int], None], variant: Variant = variant) -> None:
                feeder.run(model, variant, begin)

            layouts = (variant.decoder, variant.encoder)
            read = replace(
                _plan(facts, settings, *layouts),
                fit=(variant.fit or variant.gradients) and settings.fit,
                gradients=variant.gradients,
            )
            outcome, seen = _recorded(model, read, run, settings, facts, own=True)
            looks.append((_run(facts, settings, scenario.name, variant.name, outcome, layouts), seen))
    long = _long_variant(facts, settings) if "plain" in names else None
    if long is not None:

        def run_long(begin: Callable[[int], None]) -> None:
            feeder.run(model, long, begin)

        read = replace(_plan(facts, settings, long.decoder, long.encoder), fit=False)
        outcome, seen = _recorded(model, read, run_long, settings, facts, own=True)
        looks.append((_run(facts, settings, "plain", long.name, outcome, (long.decoder, long.encoder)), seen))
    return _together(looks, "")


def users_batch(model: Any, batch: Mapping[str, Any], facts: LiveFacts, settings: Settings) -> Measured:
    """The run of the user's own batch. Raises UsageError for a batch without tokens, or with unknown ones."""
    from attncheck.probe.inside import batches
    from attncheck.probe.reading import computation
    from attncheck.probe.scenario import Stack

    stack = facts.subject.stack
    said = batches.read(
        batch, two_stacks=stack is Stack.ENCODER_DECODER, encoder=stack is Stack.ENCODER, vision=facts.vision
    )
    # Models of images put placeholders among the ids, and a `forward` of the user's may change them: these may run.
    strange, may_run = batches.outside(batch, facts.vocabulary), facts.vision or settings.forward is not None
    if strange and not may_run:
        raise _unknown_token(strange)
    given, kept = dict(batch), batches.held_bytes(batch)
    if kept > settings.memory:
        why = NotRun(f"a copy of the cache takes {kept / 2**20:.0f} MiB, allowed are {settings.memory / 2**20:.0f} MiB")
        return _together([(_run(facts, settings, YOURS, "", why, (said.decoder, said.encoder)), None)], said.words)
    for name in batches.CACHES:
        if given.get(name) is not None:
            given[name] = computation.snapshot(name, given[name])  # the user's own must not grow
    forward = settings.forward

    def run(begin: Callable[[int], None]) -> None:
        main = said.decoder or said.encoder
        begin(main.before if main is not None else 0)
        if forward is not None:
            forward(model, given)
        else:
            model(**given)

    plan = _plan(facts, settings, said.decoder, said.encoder)
    outcome, seen = _recorded(model, plan, run, settings, facts, own=False)
    if strange and isinstance(outcome, Crashed):
        raise _unknown_token(strange)
    judged = not any("attention_mask" in remark for remark in said.remarks)
    layouts = (said.decoder, said.encoder)
    made = replace(_run(facts, settings, YOURS, "", outcome, layouts), truth=judged)
    found = _together([(made, seen)], said.words)
    return replace(found, need=found.need + kept, remarks=said.remarks)


def _unknown_token(strange: str) -> UsageError:
    return UsageError(
        f"verify: the batch's input_ids hold {strange}",
        "use the model's own tokenizer; after adding tokens, model.resize_token_embeddings(len(tokenizer))",
    )


def _plan(facts: LiveFacts, settings: Settings, decoder: Layout | None, encoder: Layout | None) -> Plan:
    from attncheck.probe.inside.plan import Plan

    layouts: dict[Part, Layout] = {}
    for part, layout in (
        (Part.DECODER, decoder or encoder), (Part.ENCODER, encoder or decoder), (Part.CROSS, decoder)
    ):  # fmt: skip
        if layout is not None:
            layouts[part] = layout
    return Plan(
        layouts=layouts,
        marks=_marks(facts, max(layout.length for layout in layouts.values())),
        kinds=_kinds(facts),
        layers=settings.layers,
        method=settings.method,
        fit=settings.fit,
        memory=settings.memory,
        single=facts.single,
        seed=settings.seed,
    )


def _kinds(facts: LiveFacts) -> dict[tuple[Part, int], int]:
    """A number for each layer, equal for layers that declare the same."""
    numbers: dict[AttentionSpec, int] = {}
    return {
        (spec.part, spec.layer): numbers.setdefault(replace(spec, layer=0), len(numbers)) for spec in facts.spec.layers
    }


def _marks(facts: LiveFacts, length: int) -> tuple[int, ...]:
    """Tokens where chunks begin, and where windows first let go of a key, in a sequence of `length` tokens."""
    found = set()
    for spec in facts.spec.layers:
        left, chunk = spec.mask.window.left, spec.mask.chunk
        if left is not None:
            found |= {left, left + 1}
        if chunk:
            found |= set(range(chunk, length, chunk))
    return tuple(sorted(token for token in found if 0 < token < length))


def _recorded(
    model: Any,
    plan: Plan,
    run: Callable[[Callable[[int], None]], None],
    settings: Settings,
    facts: LiveFacts,
    own: bool,
) -> tuple[Outcome, Recording | None]:
    from attncheck.probe.inside import recording, state
    from attncheck.probe.refusal import first_line, outcome_of
    from attncheck.watching import sharing

    seen = None
    try:
        with (
            sharing.unheard(),
            state.undisturbed(model) as disturbed,
            recording.recording(model, plan) as (seen, begin),
        ):
            run(begin)
        for remark in disturbed.remarks:
            seen.fail(remark)
    except Exception as error:
        if own:  # what a model wants beside tokens is not ours to know
            why = f"a small batch of our own could not be run: {type(error).__name__}: {first_line(error)}"
            return NotRun(why), seen
        return outcome_of(error), seen
    if not seen.calls:
        nothing = f"no attention call of {type(model).__name__} could be read"
        return NotRun("; ".join(seen.failures) or nothing), seen
    asked = settings.implementation or facts.implementation
    others = sorted(seen.used - {asked})
    used = asked if asked in seen.used or not others or settings.implementation else others[0]
    return Observed(
        calls=tuple(seen.calls),
        kernels=tuple(sorted(seen.kernels)),
        used_implementation=used,
        failures=tuple(seen.failures),
        launched=tuple(seen.launched),
    ), seen


def _run(
    facts: LiveFacts,
    settings: Settings,
    scenario: str,
    variant: str,
    outcome: Outcome,
    layouts: tuple[Layout | None, Layout | None],
) -> ScenarioRun:
    return ScenarioRun(
        implementation=settings.implementation or facts.implementation or "eager",
        scenario=scenario,
        variant=variant,
        basis=Basis.MEASURED,
        outcome=outcome,
        core=scenario not in ("gradients", "packed"),
        decoder=layouts[0],
        encoder=layouts[1],
    )


def _long_variant(facts: LiveFacts, settings: Settings) -> Variant | None:
    """A plain sequence that meets every declared window within `LONGEST`, and is as short as that allows."""
    from attncheck.probe.scenario import SEQUENCE, Stack, Variant
    from attncheck.semantics.layout import sequence

    if facts.subject.stack is Stack.ENCODER_DECODER:
        return None
    longest = min(LONGEST.get(facts.device.type, LONGEST["cpu"]), facts.spec.max_position or 1 << 30)
    met = [size for size in reaches(facts) if SEQUENCE <= size + BEYOND <= longest]
    if not met:
        return None
    return Variant("long", **facts.subject.lay(sequence(max(met) + BEYOND)))


def reaches(facts: LiveFacts) -> Iterator[int]:
    """Tokens after which each declared window or chunk first hides something."""
    for spec in facts.spec.layers:
        if spec.attends and spec.mask_known:
            if spec.mask.window.left is not None:
                yield spec.mask.window.left + 1
            if spec.mask.chunk is not None:
                yield spec.mask.chunk


def _together(looks: list[tuple[ScenarioRun, Recording | None]], words: str) -> Measured:
    recordings = [seen for _, seen in looks if seen is not None]
    read, alike = {}, {}
    for seen in recordings:
        read.update(seen.read)
        alike.update(seen.alike)
    return Measured(
        runs=tuple(run for run, _ in looks),
        read=read,
        alike={place: other for place, other in alike.items() if place not in read},
        need=max((seen.need for seen in recordings), default=0),
        singly=sum(seen.singly for seen in recordings),
        keys=sum(seen.keys for seen in recordings),
        dtypes=frozenset(name for seen in recordings for name in seen.dtypes),
        dropout=max((seen.dropout for seen in recordings), default=0.0),
        words=words,
    )


def joined(looks: Sequence[Measured]) -> Measured:
    """Several looks at one model as one."""
    read = {place: method for one in looks for place, method in one.read.items()}
    return Measured(
        runs=tuple(run for one in looks for run in one.runs),
        read=read,
        alike={place: other for one in looks for place, other in one.alike.items() if place not in read},
        need=max((one.need for one in looks), default=0),
        singly=sum(one.singly for one in looks),
        keys=sum(one.keys for one in looks),
        dtypes=frozenset(name for one in looks for name in one.dtypes),
        dropout=max((one.dropout for one in looks), default=0.0),
        words="; ".join(one.words for one in looks if one.words),
        remarks=tuple(remark for one in looks for remark in one.remarks),
    )
