"""Rules about speed: right implementations that cost more than they need, and kernels too wrong to be timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from attncheck.checks.interface import RuleGroup
from attncheck.checks.registry import code_of
from attncheck.checks.shape_results import Fault, words
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Severity
from attncheck.semantics.observation import Basis
from attncheck.semantics.timing import Bench, BenchCase, BenchCell, Growth
from attncheck.semantics.timing_changes import BETWEEN_RUNS
from attncheck.semantics.workload import alike, of_any_length, right

SLOW_PATH = Rule(
    "ATC910",
    "slow-path",
    "A right implementation costs more than it need",
    "A path that users take without choosing a kernel - a window or padding handed to SDPA as a mask, flex_attention without torch.compile, eager attention at 4096 tokens and more - takes at least 1.5 times as long as another right one at the same call: the fastest, or one that is as fast within the noise between runs, can be set in transformers and is the fastest of such at the longest length. A path that is slow in a layer of the model is told of there, and not again for its kernel alone.",
    "The result is right, so nothing fails: time and memory are lost at every step. A mask pushes SDPA off its flash kernel, and a window through a mask saves nothing: every hidden cell is computed and thrown away, so time grows with the square of the length instead of the length.",
    "Both are timed with CUDA events at the model's own sizes, the L2 emptied before each repetition. It counts when the slow one's 20th percentile is 1.5 times the fast one's 80th or more: the same kernel differs by up to 1.25 times from host to host (tritonbench#141), and 1.5 lies above that. Calls shorter than 0.2 ms are left out, because launching them takes as long; so are kernels that a check against float64 found wrong. Over three lengths or more the exponent of growth is fitted: a windowed call near 2 instead of 1 computes what it hides. `attncheck compare MODEL --bench FILE` tells it of the implementation that is used, beside those that have no error there.",
    "Take the implementation that the evidence names, or let the kernel have the window itself (flash-attention, or flex_attention with torch.compile).",
    ("tritonbench#141",),
    sides=("advised", "this"),
)

#: How many times as long it must take; the rule says why.
FACTOR = 1.5
#: Seconds below which a call is not judged.
SHORTEST = 2e-4
#: Tokens from which eager attention is worth a word: below, its logits are small beside everything else.
LONG = 4096
#: Exponent above which the time of a windowed call grows like that of a full one: half way between 1 and 2.
STEEP = 1.5

#: Where each judged subject stands in transformers.
_IMPLEMENTATIONS = {"eager": "eager", "sdpa": "sdpa", "flex_attention-uncompiled": "flex_attention"}
#: Place in reports: what transformers runs by itself first, what nobody runs at these lengths last.
_ORDER = {"sdpa": 0, "eager": 2}

Settings = Callable[[str], Recommendation]


@dataclass(frozen=True, slots=True)
class _Slow:
    """A slow cell beside what is advised for its case. first: the fastest right one, which may be what is advised."""

    cell: BenchCell
    best: BenchCell
    first: BenchCell

    @property
    def ratio(self) -> float:
        """How many times as long it takes."""
        return _time(self.cell) / _time(self.best)

    @property
    def certain(self) -> bool:
        """True beyond the spread of both."""
        slow, fast = self.cell.p20 or _time(self.cell), self.best.p80 or _time(self.best)
        return slow >= FACTOR * fast and slow >= SHORTEST

    @property
    def path(self) -> tuple[object, ...]:
        """What is slow, whatever the length and the level: one value is one thing to mend."""
        case = self.cell.case
        heads = (case.num_heads, case.num_kv_heads, case.head_dim, case.dtype)
        return (_implementation(case), case.phase, case.backward, case.inputs, case.mask, *heads)


def slow_paths(bench: Bench, typed: str, settings: Settings, switched_off: Sequence[str] = ()) -> Iterator[Finding]:
    """One warning for each path, pass and mask, what users run without a choice first and eager last.

    The longest length at which it is slow leads; a path that is slow in its layer is told of there alone.
    typed: the command that repeats the run. settings: what to paste for a subject. switched_off: families of kernels
    ("flash") that the run does without: they are no advice, and what is slow beside them alone is the price asked for.
    """
    alternatives: dict[BenchCase, list[BenchCell]] = {}
    for cell in filter(right, bench.cells):
        if not any(_belongs(cell, family) for family in switched_off):
            alternatives.setdefault(alike(cell.case), []).append(cell)
    lengths = _by_length(bench)
    found: dict[tuple[object, ...], list[_Slow]] = {}
    for cell in filter(right, bench.cells):
        others = [other for other in alternatives.get(alike(cell.case), ()) if other is not cell]
        if not others or not slow_path(cell):
            continue
        first = min(others, key=_time)
        if (slow := _Slow(cell, _advised(others, first, settings, lengths), first)).certain:
            found.setdefault((cell.case.level, *slow.path), []).append(slow)
    of_layers = {slow.path for (level, *_), (slow, *_) in found.items() if level == "layer"}
    told = [same for (level, *_), same in found.items() if level == "layer" or same[0].path not in of_layers]
    told.sort(key=lambda same: _ORDER.get(same[0].cell.case.subject, 1))
    for same in told:
        yield _finding(same, bench, typed, settings)


def _advised(
    others: Sequence[BenchCell], first: BenchCell, settings: Settings, lengths: Mapping[BenchCase, Mapping[int, float]]
) -> BenchCell:
    """Of those that are as fast as the first within noise and that a setting reaches, the one that is fastest at the
    longest length at which all of them were timed; without such, the first.
    """
    near = [other for other in others if _time(other) <= _time(first) * (1 + BETWEEN_RUNS)]
    equal = [other for other in near if settings(other.case.subject).settings]
    if not equal:
        return first
    times = {other: lengths[of_any_length(other.case)] for other in equal}
    longest = max(set.intersection(*(set(series) for series in times.values())))
    return min(equal, key=lambda other: times[other][longest])


def _by_length(bench: Bench) -> dict[BenchCase, dict[int, float]]:
    """Of what is right: the case without its length -> length -> seconds of one sequence."""
    found: dict[BenchCase, dict[int, float]] = {}
    for cell in filter(right, bench.cells):
        found.setdefault(of_any_length(cell.case), {})[cell.case.kv_len] = _time(cell) / cell.case.batch
    return found


def _pass(case: BenchCase) -> str:
    return "forward and backward" if case.backward else "forward"


def _implementation(case: BenchCase) -> str:
    """Of transformers; a subject that is none is named itself."""
    return _IMPLEMENTATIONS.get(case.subject, case.subject)


def _time(cell: BenchCell) -> float:
    """Of a right cell."""
    assert cell.median is not None
    return cell.median


def _belongs(cell: BenchCell, family: str) -> bool:
    """True for a kernel of a family by its own name, or by the one that SDPA took by itself."""
    return family in cell.case.subject.split("-") or family in cell.kernel.split(", ")


def slow_path(cell: BenchCell) -> str:
    """Why this path may be slow, in words; "" for a kernel that somebody chose, or a call without such a reason."""
    case = cell.case
    if case.phase != "prefill":
        return ""
    if case.subject == "flex_attention-uncompiled":
        return "flex_attention without torch.compile computes and stores every logit"
    if case.subject == "eager" and case.kv_len >= LONG:
        return "eager attention computes and stores every logit"
    if case.subject != "sdpa":
        return ""
    ran = f" (it runs {cell.kernel})" if cell.kernel else ""
    if case.window.bounded:
        return f"SDPA has no window: it goes there as a mask, and every hidden cell is computed{ran}"
    if case.inputs != "plain" or case.chunk is not None:
        kind = "chunks" if case.chunk is not None else {"padded": "padding", "packed": "documents"}[case.inputs]
        return f"{kind} go to SDPA as a mask, which keeps it off its flash kernel{ran}"
    return ""


def _finding(same: Sequence[_Slow], bench: Bench, typed: str, settings: Settings) -> Finding:
    lead = max(same, key=lambda slow: slow.cell.case.kv_len)
    cell, best, case = lead.cell, lead.best, lead.cell.case
    subject, fastest = case.subject, best.case.subject
    slow, fast = _milliseconds(cell), _milliseconds(best)
    what = _pass(case)
    figures: dict[str, float | int | str] = {
        "tokens": case.kv_len,
        "pass": what,
        "ratio": round(lead.ratio, 3),
        f"{subject} ms": slow,
        f"{fastest} ms": fast,
        **{f"ratio at {slow.cell.case.kv_len}": round(slow.ratio, 3) for slow in same},
    }
    if cell.peak_memory is not None and best.peak_memory is not None:
        figures |= {f"{subject} bytes": cell.peak_memory, f"{fastest} bytes": best.peak_memory}
    remarks = [slow_path(cell)]
    if (first := lead.first) is not best:
        figures[f"{first.case.subject} ms"] = _milliseconds(first)
        remarks.append(f"{first.case.subject} takes {_milliseconds(first):.2f} ms, the same within noise")
    if (unbounded := _without_window(bench, case)) is not None:
        times = _time(cell) / _time(unbounded)
        figures["ratio to no window at all"] = round(times, 3)
        remarks.append(f"it takes {times:.1f} times as long as with no window at all")
    if (steep := _growth(bench, case)) is not None and case.window.bounded:
        figures["exponent of growth"] = round(steep.exponent, 3)
        if steep.exponent > STEEP:
            remarks.append(f"its time grows with length^{steep.exponent:.2f}, where a window needs 1")
    if (other := _growth(bench, best.case)) is not None:
        figures[f"exponent of growth, {fastest}"] = round(other.exponent, 3)
    where = f"({case.level}, {case.mask}, {what})"
    headline = f"{subject} takes {lead.ratio:.1f} times as long as {fastest} {where}"
    advice = settings(fastest)
    gain = f"{advice.text}: {lead.ratio:.1f} times faster here {where}, {slow - fast:.2f} ms less a layer"
    return Finding(
        SLOW_PATH.code,
        SLOW_PATH.slug,
        Severity.WARNING,
        f"{headline}: {slow:.2f} ms against {fast:.2f} ms at {case.kv_len} tokens; {'; '.join(remarks)}",
        Basis.MEASURED,
        implementation=_implementation(case),
        kernel=cell.kernel,
        scenario="",
        variant=f"{case.level} level, {what}",
        evidence=Evidence(
            declared=f"{fast:.2f} ms ({fastest})",
            requested=f"{case.mask}, {case.inputs} inputs, {case.kv_len} tokens, {case.num_heads} heads of {case.head_dim}",
            effective=f"{slow:.2f} ms at {case.kv_len} tokens",
            figures=figures,
        ),
        reproduction=f"{typed} --level {case.level} --seq-lens {case.kv_len} --impl {subject},{fastest}",
        recommendations=(Recommendation(gain, advice.settings),),
        headline=headline,
    )


def _without_window(bench: Bench, case: BenchCase) -> BenchCell | None:
    """The same subject at the same sizes with a plain causal mask, where the run has it."""
    if not case.window.bounded or case.window.right != 0:
        return None
    size = ("level", "subject", "backward", "batch", "kv_len", "num_heads", "num_kv_heads", "head_dim", "dtype")
    for cell in filter(right, bench.cells):
        same = all(getattr(cell.case, name) == getattr(case, name) for name in size)
        if same and cell.case.mask == "causal" and cell.case.phase == "prefill" and cell.case.inputs == case.inputs:
            return cell
    return None


def _growth(bench: Bench, case: BenchCase) -> Growth | None:
    return next((entry for entry in bench.growth if entry.subject == case.subject and entry.of(case)), None)


def _milliseconds(cell: BenchCell) -> float:
    return round(_time(cell) * 1e3, 4)


def wrong_kernel(fault: Fault, case: BenchCase, typed: str) -> Finding:
    """The error of a kernel that a check before its timing found wrong: it is listed with this and no speed."""
    return Finding(
        code_of(fault.slug),
        fault.slug,
        Severity.ERROR,
        f"{fault.headline} ({words(fault.reading.shape)}), so it is not timed",
        Basis.MEASURED,
        kernel=case.subject,
        variant=f"{case.inputs} inputs, {case.phase}",
        evidence=fault.evidence,
        reproduction=f"{typed} --level kernel --impl {case.subject}",
        headline=fault.headline,
    )


GROUP = RuleGroup("speed", (SLOW_PATH,), order=98)
