"""Findings about the numbers of kernels: wrong ones, those in rows without keys, those that change between runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from attncheck.checks import numerics
from attncheck.checks.defects import workarounds
from attncheck.checks.interface import RuleGroup
from attncheck.checks.kernels import grouped, measured, unread
from attncheck.checks.machine import Machine, MachineCheck
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.semantics.convention import EMPTY_ROWS, Ability, Convention, Outcome

EMPTY_ROWS_DIFFER = Rule(
    "ATC822",
    "empty-rows-differ",
    "Kernels give different outputs for queries that see no key",
    "A query without any visible key (a padding row, or one of more queries than keys) gets zeros from one kernel and something else from another.",
    "The rows mean nothing, but comparing outputs, averaging over all rows or adding them up then depends on the kernel. NaN there reaches every token.",
    "A mask leaves some rows without keys: as booleans, as -inf and as the smallest number of the dtype; and a causal call has more queries than keys.",
    "Never read rows of padding tokens; compare and pool real tokens only.",
    ("pytorch#103749", "unsloth#9848"),
)

OUTPUT_WRONG = Rule(
    "ATC824",
    "kernel-output-wrong",
    "A kernel gives wrong numbers",
    "A kernel accepts a call and answers with numbers that are not the attention that was asked for: at one head dimension or dtype, for one feature, or in the backward.",
    "Models that run through it compute something else, silently.",
    "Random inputs go through the kernel, through float64 attention and through plain torch in the same precision. A row is wrong when its error is above twice that of plain torch and above the dtype's tolerance.",
    "Use another kernel for this shape or feature, and report it to the library with the numbers.",
    ("pytorch#193893",),
)

NONDETERMINISTIC = Rule(
    "ATC825",
    "backward-nondeterministic",
    "The same call gives other bits every time",
    "Gradients (or outputs) of a kernel differ in their last bits between runs of the same call.",
    "Training runs cannot be repeated bit for bit, and a comparison of two runs shows differences that mean nothing.",
    "Forward and backward run five times on the same inputs and are compared bit for bit, with and without the API's deterministic switch.",
    "Switch the deterministic backward on where the API has one; it costs some speed and memory.",
)

#: Figures of these names hold the deviation of a reading and what was allowed.
_ERROR, _LIMIT = "relative error", "limit"
#: What a determinism reading says of runs that were equal bit for bit.
_SAME = "the same every time"


def empty_rows(machine: Machine) -> Iterator[Finding]:
    """NaN is a warning of its own for each API; that kernels differ is one note."""
    seen: dict[str, dict[str, list[str]]] = {}
    for ability in machine.abilities or ():
        if ability.feature != "empty-rows":
            continue
        for variant in EMPTY_ROWS:
            if variant in ability.figures:
                seen.setdefault(variant, {}).setdefault(str(ability.figures[variant]), []).append(ability.api)
    broken: dict[str, list[str]] = {}
    for variant, contents in seen.items():
        for api in contents.get("NaN", ()):
            broken.setdefault(api, []).append(_way(variant))
    for row in machine.conventions or ():
        if "NaN rows" in row.figures:
            broken.setdefault(row.api, []).append(f"{row.call}, {row.q_len} queries x {row.kv_len} keys")
    for api, ways in broken.items():
        yield _nan_rows(api, ways)
    lines = [
        f"{_way(variant)}: " + "; ".join(f"{what} ({', '.join(names)})" for what, names in contents.items())
        for variant, contents in seen.items()
        if len(contents) > 1
    ]
    if lines:
        yield measured(
            EMPTY_ROWS_DIFFER,
            Severity.NOTE,
            f"Queries that see no key get different outputs from different kernels. {'. '.join(lines)}",
            Evidence(declared="nothing: a query without keys has no attention", effective="; ".join(lines)),
            Recommendation("Read real tokens only; never compare or pool rows of padding tokens."),
        )


def wrong_outputs(machine: Machine) -> Iterator[Finding]:
    """One error for each API with features whose numbers are not those of float64 attention."""
    abilities = machine.abilities or ()
    features: dict[str, list[Ability]] = {}
    for ability in abilities:
        if ability.agrees is False:
            features.setdefault(ability.api, []).append(ability)
    for api, wrong in features.items():
        found = _wrong_output(api, wrong, zeros := _only_zeros(machine, api))
        yield replace(found, recommendations=_mending(machine, wrong, zeros))
    rows = [row for row in machine.conventions or () if _off(row.figures)]
    for (api, call), (first, *_) in grouped(rows).items():
        yield measured(
            OUTPUT_WRONG,
            Severity.ERROR,
            f"{api}, {call}: the probabilities are off by {_number(first, _ERROR)}, allowed are {_number(first, _LIMIT)}",
            Evidence(
                declared="float64 probabilities over the keys that the kernel lets be seen",
                requested=call,
                effective=f"off by {_number(first, _ERROR)} of the row's largest entry",
                figures=first.figures,
            ),
            Recommendation("Use another kernel for this call."),
            first.kernel,
        )


def _wrong_output(api: str, wrong: Sequence[Ability], zeros: str) -> Finding:
    """All that is wrong with one API: what one cause spoils is no list of defects. zeros: as of `_only_zeros`."""
    told = "; ".join(map(_wrong, wrong))
    features = ", ".join(ability.feature for ability in wrong)
    headline = f"{api}: {zeros} gives nothing but zeros, which spoils {features}" if zeros else f"{api}: {told}"
    details = "; ".join(ability.detail for ability in wrong if ability.detail)
    found = measured(
        OUTPUT_WRONG,
        Severity.ERROR,
        f"{headline} ({details})" if details else headline,
        Evidence(
            declared="float64 attention, within twice the error of plain torch in the same precision",
            requested=features,
            effective="; ".join(filter(None, (told, details))),
            figures=wrong[0].figures if len(wrong) == 1 else _by_feature(wrong),
        ),
        Recommendation(OUTPUT_WRONG.fix),
        wrong[0].kernel,
    )
    return replace(found, headline=headline)


def _mending(machine: Machine, wrong: Sequence[Ability], zeros: str) -> tuple[Recommendation, ...]:
    """What is known to help, where it was seen here; for what that leaves wrong, what to use instead."""
    api, left, known = wrong[0].api, list(wrong), []
    for probe, advice in workarounds(machine, api):
        mended = [row for row in left if (zeros if probe.kind == "convention" else row.feature.startswith(probe.words))]
        if mended:
            known.append(advice)
            left = [row for row in left if row not in mended]
    if not left:
        return tuple(known)
    right = _right_in(left, machine.abilities or ())
    other = f"one that was right here: {', '.join(right)}" if right else "another kernel for this"
    return (*known, Recommendation(f"Instead of {api} use {other}."))


def _by_feature(abilities: Iterable[Ability]) -> dict[str, float | int | str]:
    return {f"{ability.feature} {name}": value for ability in abilities for name, value in ability.figures.items()}


def _right_in(wrong: Sequence[Ability], abilities: Sequence[Ability]) -> list[str]:
    """The APIs that were right in every one of these features, in the order of the table."""
    right = {(ability.api, ability.feature) for ability in abilities if ability.agrees}
    names = dict.fromkeys(ability.api for ability in abilities)
    return [name for name in names if all((name, ability.feature) in right for ability in wrong)]


def _only_zeros(machine: Machine, api: str) -> str:
    """The plain causal call of this API when it was read to give nothing but zeros, else ""."""
    for row in machine.conventions or ():
        plain = row.api == api and row.question == "causal" and row.agrees is False
        if plain and row.q_len == row.kv_len == row.empty_rows:
            return row.call
    return ""


def nondeterministic(machine: Machine) -> Iterator[Finding]:
    """One note that names every API whose output or gradients differ between runs, and what mends it."""
    abilities = machine.abilities or ()
    changing: dict[str, list[Ability]] = {}
    for ability in abilities:
        what = [part for part in ("forward", "backward") if ability.figures.get(part) == "differs"]
        if ability.feature == "determinism" and what:
            changing.setdefault(f"the {' and the '.join(what)}", []).append(ability)
    every = [ability for group in changing.values() for ability in group]
    if not every:
        return
    lines = [f"{', '.join(ability.api for ability in group)}: {what}" for what, group in changing.items()]
    (first, *others) = _steadying(every, abilities)
    found = measured(
        NONDETERMINISTIC,
        Severity.NOTE,
        f"{'; '.join(lines)} of the same call differs from run to run",
        Evidence(
            declared="the same bits every time",
            effective="; ".join(f"{ability.api}: {ability.value}" for ability in every),
            figures={f"{ability.api} {name}": value for ability in every for name, value in ability.figures.items()},
        ),
        first,
        every[0].kernel if len(every) == 1 else "",
    )
    yield replace(found, recommendations=(first, *others))


def _uncompared(machine: Machine) -> str:
    """Why no numbers could be compared, "" when some API was read."""
    return "" if any(ability.outcome is Outcome.READ for ability in machine.abilities or ()) else unread(machine)


def _not_repeated(machine: Machine) -> str:
    """Why no call was made twice, "" when one was."""
    repeated = any(a.feature == "determinism" and a.outcome is Outcome.READ for a in machine.abilities or ())
    return "" if repeated else unread(machine) or "no call of the APIs that were read could be repeated"


def _steadying(changing: Sequence[Ability], abilities: Sequence[Ability]) -> list[Recommendation]:
    """Per switch that mended the backward, the APIs that have it; for the others, what to use instead."""
    by_switch: dict[str, list[str]] = {}
    for ability in changing:
        mends = ability.figures.get("backward with the switch") == _SAME
        by_switch.setdefault(str(ability.figures.get("switch", "")) if mends else "", []).append(ability.api)
    found = [
        Recommendation(
            f"Pass {switch} to {', '.join(names)}: the backward was then the same every time.",
            tuple(Setting(name, "arguments", switch, switch) for name in names),
        )
        for switch, names in by_switch.items()
        if switch
    ]
    if unmended := by_switch.get(""):
        wrong = {ability.api for ability in abilities if ability.agrees is False}
        steady = [ability.api for ability in abilities if _steady(ability) and ability.api not in wrong]
        names = f"one that was steady here: {', '.join(steady)}" if steady else "another kernel"
        text = f"{', '.join(unmended)}: where runs must be repeated bit for bit, use {names}."
        found.append(Recommendation(text))
    return found


def _steady(ability: Ability) -> bool:
    figures = ability.figures
    return ability.feature == "determinism" and all(figures.get(part) == _SAME for part in ("forward", "backward"))


def _wrong(ability: Ability) -> str:
    wrong = ability.figures.get("wrong")
    if ability.feature == "gqa" and ability.value == "not readable":
        return "wrong numbers with grouped heads"
    what = {
        "dtype": f"wrong numbers in {wrong}",
        "head_dim": f"wrong numbers at head_dim {wrong}",
        "gqa": f"query heads read kv heads in another order: {ability.value}",
        "empty-rows": f"rows beside those without keys are wrong: {wrong}",
        "backward": f"wrong gradients: {ability.value}",
    }.get(ability.feature)
    if what is None:
        what = f"takes {ability.feature} and ignores it" if ability.value == "ignored" else f"wrong {ability.feature}"
    return what


def _nan_rows(api: str, ways: Sequence[str]) -> Finding:
    rule = next(rule for rule in numerics.RULES if rule.slug == "nan-rows")
    return measured(
        rule,
        Severity.WARNING,
        f"{api} gives NaN or Inf to queries that see no key: {'; '.join(ways)}",
        Evidence(declared="finite numbers", effective="NaN or Inf", figures={"ways": len(ways)}),
        Recommendation("Use a kernel that gives zeros for rows without keys, or keep such rows out of the call."),
        check=EMPTY_ROWS_DIFFER,
    )


def _way(variant: str) -> str:
    return variant if variant not in EMPTY_ROWS[:3] else f"{variant} mask"


def _off(figures: Mapping[str, float | int | str]) -> bool:
    error, limit = figures.get(_ERROR), figures.get(_LIMIT)
    return isinstance(error, (int, float)) and isinstance(limit, (int, float)) and not error <= limit


def _number(row: Convention, name: str) -> str:
    return f"{float(row.figures[name]):.2g}"


GROUP = RuleGroup(
    "kernel numbers",
    (EMPTY_ROWS_DIFFER, OUTPUT_WRONG, NONDETERMINISTIC),
    order=97,
    machine=(
        MachineCheck(EMPTY_ROWS_DIFFER, empty_rows, ("conventions", "abilities"), idle=_uncompared),
        MachineCheck(OUTPUT_WRONG, wrong_outputs, ("conventions", "abilities"), idle=_uncompared),
        MachineCheck(NONDETERMINISTIC, nondeterministic, ("abilities",), uses=("conventions",), idle=_not_repeated),
    ),
)
