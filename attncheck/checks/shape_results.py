"""What one reading at a model's true sizes says: NaN, a wrong mask, wrong heads, wrong numbers or wrong gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attncheck.findings import Evidence, Severity
from attncheck.semantics import describe
from attncheck.semantics.convention import Outcome
from attncheck.semantics.shape import EXPLICIT_MASK, Errors, Shape, ShapeReading, WrongCells
from attncheck.semantics.spec import MaskSpec
from attncheck.semantics.tolerances import tolerances

#: A kernel may be off by this much more than plain torch in the same dtype (flash-attention's own tests allow twice).
FACTOR = 2.0
#: Below this an output is right whatever plain torch does, which may be exact on few keys. Relative to a row's norm;
#: healthy kernels on a CPU: 3e-7 / 4e-4 / 3.6e-3 in fp32 / fp16 / bf16.
OUTPUT_FLOOR = {"float64": 1e-4, "float32": 1e-4, "float16": 2e-3, "bfloat16": 1.5e-2}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one reading. weight: how bad beside others of the slug; headline: as in `Finding`."""

    slug: str
    reading: ShapeReading
    severity: Severity
    headline: str
    evidence: Evidence
    weight: float = 0.0


def wrong(reading: ShapeReading, training: bool) -> Iterator[Fault]:
    """The first fault that explains the others: NaN, then the mask, then the heads, then numbers, then gradients.

    training: the user asked for gradients.
    """
    if reading.outcome is not Outcome.READ:
        return
    # What torch's dispatch does not take for such a call can only be met by forcing it, or on other lengths.
    severity = Severity.WARNING if reading.picked is False else Severity.ERROR
    for look in (_nan, _mask, _heads, _numbers):
        if (fault := look(reading, severity)) is not None:
            yield fault
            return
    if (fault := _gradients(reading, severity if training else Severity.WARNING)) is not None:
        yield fault


def _nan(reading: ShapeReading, severity: Severity) -> Fault | None:
    if "output" not in reading.nan:
        return None
    evidence = Evidence(declared="finite numbers", effective="NaN or Inf in the output", figures=_figures(reading))
    return Fault("nan-rows", reading, severity, f"The output of {reading.api} holds NaN or Inf", evidence, 1.0)


def _mask(reading: ShapeReading, severity: Severity) -> Fault | None:
    cells = reading.wrong
    if cells is None:
        return None
    slug = mask_slug(cells, reading.shape)
    seen = "nothing is seen, the output is zero" if cells.nothing else _cells(cells)
    evidence = Evidence(
        declared=describe.mask(MaskSpec(reading.shape.window, reading.shape.chunk)),
        effective=seen,
        first_difference=(0, *cells.first),
        leaked=cells.ahead + cells.behind,
        missed=cells.missed,
        heads=cells.heads,
        figures={**_figures(reading), **cells.looked_at},
    )
    headline = f"{reading.api} computes another mask than it was asked for: {seen}"
    return Fault(slug, reading, severity, headline, evidence, cells.ahead + cells.behind + cells.missed)


def mask_slug(wrong: WrongCells, shape: Shape) -> str:
    """The name of what is wrong with a mask, from the distances of its wrong cells."""
    left, right = shape.window.left, shape.window.right
    if wrong.nothing:
        return "keys-missing"
    if wrong.ahead and right == 0:
        return "causal-ignored"
    if shape.chunk is not None and (wrong.behind or wrong.missed):
        return "chunk-wrong"
    edges = {side for side in (left, right) if side}
    leaks = [found for found in (wrong.behind_distances, wrong.ahead_distances) if found is not None]
    gaps = [wrong.missed_distances] if wrong.missed_distances is not None else []
    one_more = all(low == high and low - 1 in edges for low, high in leaks)
    one_fewer = all(low == high and low in edges for low, high in gaps)
    if edges and one_more and one_fewer:
        return "window-off-by-one"
    if wrong.all_behind and left is not None and not wrong.missed:
        return "window-ignored"
    if not leaks:
        return "keys-missing" if left is not None or not _only_old(wrong) else "window-unexpected"
    return "window-size-wrong" if edges else "keys-missing"


def _only_old(wrong: WrongCells) -> bool:
    """True when the missing keys all lie well behind their query, as a window nobody declared would hide them."""
    return wrong.missed_distances is not None and wrong.missed_distances[0] > 1


def _cells(wrong: WrongCells) -> str:
    """Which cells, without how many: that depends on the keys that were looked at."""
    kinds = (
        (wrong.ahead, wrong.ahead_distances, "later keys seen"),
        (wrong.behind, wrong.behind_distances, "hidden old keys seen"),
        (wrong.missed, wrong.missed_distances, "declared keys not seen"),
    )
    return "; ".join(f"{what}, {far(distances)} away" for many, distances, what in kinds if many)


def far(distances: tuple[int, int] | None) -> str:
    """`8`, or `8 to 90`; distances in tokens, both ends inclusive."""
    if distances is None:
        return "?"
    return f"{distances[0]}" if distances[0] == distances[1] else f"{distances[0]} to {distances[1]}"


def _heads(reading: ShapeReading, severity: Severity) -> Fault | None:
    found = reading.head_map
    if found is None:
        return None
    shape = reading.shape
    group = shape.num_heads // shape.num_kv_heads
    wrong = tuple(head for head, kv_head in enumerate(found) if kv_head != head // group)
    first = wrong[0]
    evidence = Evidence(
        declared=f"query head {first} reads kv head {first // group}",
        effective=f"it reads kv head {found[first]}" if found[first] >= 0 else "it reads several kv heads",
        heads=wrong,
        figures=_figures(reading),
    )
    headline = f"{reading.api} gives {len(wrong)} of {shape.num_heads} query heads the wrong kv head"
    return Fault("head-map-wrong", reading, severity, headline, evidence, len(wrong))


def _numbers(reading: ShapeReading, severity: Severity) -> Fault | None:
    if reading.kernel is None or reading.plain is None:
        return None
    limit = max(FACTOR * reading.plain.output, OUTPUT_FLOOR.get(reading.shape.dtype, OUTPUT_FLOOR["bfloat16"]))
    off = reading.kernel.output
    if off <= limit:
        return None
    evidence = Evidence(
        declared=f"within {limit:.2g} of float64 (plain torch is off by {reading.plain.output:.2g})",
        effective=f"off by {off:.2g} of a row's norm",
        figures=_figures(reading),
    )
    headline = f"The output of {reading.api} is off by {off:.2g}"
    return Fault("numeric-drift", reading, severity, headline, evidence, off)


def _gradients(reading: ShapeReading, severity: Severity) -> Fault | None:
    broken = [name for name in ("dq", "dk", "dv") if name in reading.nan]
    off = _worst_gradient(reading)
    if not broken and off is None:
        return None
    what = f"{', '.join(broken)} hold NaN or Inf" if broken else off
    where = f" at {reading.kv_len} tokens under an explicit mask" if reading.variant == EXPLICIT_MASK else ""
    evidence = Evidence(declared="the gradients of float64 attention", effective=str(what), figures=_figures(reading))
    headline = f"The backward pass of {reading.api} is wrong{where}: {what}"
    return Fault("gradient-mismatch", reading, severity, headline, evidence, 2.0 if broken else 1.0)


def _worst_gradient(reading: ShapeReading) -> str | None:
    """The gradient furthest outside its limit, in words."""
    kernel, plain = reading.kernel, reading.plain
    if kernel is None or plain is None or kernel.dq is None:
        return None
    floor = tolerances(reading.shape.dtype).gradient
    read: dict[str, Callable[[Errors], float | None]] = {
        "dq": lambda e: e.dq,
        "dk": lambda e: e.dk,
        "dv": lambda e: e.dv,
    }
    excess: dict[str, float] = {}
    for name, value in read.items():
        off, usual = value(kernel), value(plain)
        if off is not None and not off <= (limit := max(FACTOR * (usual or 0.0), floor)):
            excess[name] = math.inf if math.isnan(off) else off / limit
    if not excess:
        return None
    name = max(excess, key=lambda entry: excess[entry])
    return f"{name} is off by {read[name](kernel):.2g} (plain torch: {read[name](plain) or 0.0:.2g})"


def _figures(reading: ShapeReading) -> dict[str, float | int | str]:
    """Raw values for the JSON report."""
    found: dict[str, float | int | str] = {"queries": reading.q_len}
    for owner, measured in (("kernel", reading.kernel), ("plain", reading.plain)):
        for name in ("output", "dq", "dk", "dv"):
            value = getattr(measured, name, None)
            if isinstance(value, float) and math.isfinite(value):
                found[f"{owner}_{name}"] = value
    if reading.launched:
        found["launched"] = reading.launched
    if reading.detail:
        found["detail"] = reading.detail
    return found


def words(shape: Shape) -> str:
    """A shape in words: "8 heads / 4 kv, head_dim 512, causal, bfloat16"."""
    value = f" (v {shape.head_dim_v})" if shape.head_dim_v != shape.head_dim else ""
    parts = [f"{shape.num_heads} heads / {shape.num_kv_heads} kv", f"head_dim {shape.head_dim}{value}"]
    if shape.unknown:
        parts.append(f"{' and '.join(shape.unknown)} unknown")
    else:
        parts.append(describe.band(shape.window.left, shape.window.right))
    if shape.chunk is not None:
        parts.append(f"chunks of {shape.chunk}")
    if shape.softcap is not None:
        parts.append(f"softcap {shape.softcap:g}")
    parts += [name for name, there in (("sinks", shape.sinks), ("ALiBi", shape.alibi)) if there]
    return ", ".join((*parts, shape.dtype))
