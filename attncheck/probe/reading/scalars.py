"""Fitting the softmax terms from P: scale and softcap jointly, linear bias, sinks, and how well they explain P."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attncheck.semantics.observation import SoftmaxObservation
from attncheck.semantics.tolerances import Tolerances

_ROUNDS = 6  # Gauss-Newton from a start within a few percent; the last rounds change nothing in float64
_FEWEST_CELLS = 4  # per head, for three unknowns
_RIDGE = 1e-13  # keeps columns that say the same (all columns have length one) from dividing by zero
_CLEARLY = 10.0  # a bias must move log P this many tolerances, summed over the cells, before its factor can be told
_DIGITS = 1000.0  # a probability this many times the dtype's smallest number has three good digits


@dataclass(frozen=True, slots=True)
class Reading:
    """P of one call, with what was fed: dots are q.k per query head, batch x heads x queries x keys, all float64."""

    dots: Tensor
    matrix: Tensor


@dataclass(frozen=True, slots=True)
class Known:
    """What the call was asked to do, as far as the fit needs it.

    lift: how far the raised reading lifts every q.k, before any scale. bias: added to the scaled logits (float64,
    broadcastable to P), or None. sinks: sink logits, one a head or batch x heads x queries, or None. rows: queries
    worth judging, batch x queries. smallest: smallest positive number of the dtype.
    """

    lift: float
    bias: Tensor | None
    sinks: Tensor | None
    rows: Tensor
    smallest: float


@dataclass(frozen=True, slots=True)
class Start:
    """A fit of the plain reading as if there were no cap: factors on q.k and on the other column, heads x 2.

    scale: the middle factor on q.k over heads, NaN where nothing can be fitted.
    """

    terms: Tensor
    scale: float


def start(plain: Reading, known: Known) -> Start:
    """The first look at the plain reading, good enough to design the raised one."""
    terms = _linear(plain, _cells(plain, known), _other(plain, known))
    return Start(terms, _middle(terms[:, 0]))


def fit(
    plain: Reading, raised: Reading, begun: Start, known: Known, limits: Tolerances, head_map: Sequence[int] | None
) -> SoftmaxObservation | None:
    """The softmax terms that explain both readings, None where too few keys are visible to fit anything.

    begun: `start` of the plain reading.

    The model is `log P = cap * tanh(scale * q.k / cap) + slope * j + const`, one constant a row. A wrong scale also
    multiplies the lift of the raised reading, so the scaled lift is taken with the fitted scale: the ratio of the two
    slopes then gives the cap whatever the scale is, and Gauss-Newton on both readings refines all terms.
    """
    cells = [_cells(reading, known) for reading in (plain, raised)]
    if not math.isfinite(begun.scale):
        return None
    bias = None if known.bias is None else known.bias.expand_as(plain.dots)
    slope_column, first = _other(plain, known), begun.terms
    lift = known.lift * begun.scale
    inverse = _inverse(first[:, 0], _linear(raised, cells[1], slope_column)[:, 0], lift)
    if _flattening(inverse, lift) >= limits.softcap_ratio:
        inverse = _joint(plain, raised, cells, slope_column, first, inverse)
    if _flattening(inverse, lift) < limits.softcap_ratio:
        inverse = 0.0
    terms = _with_cap(plain, cells[0], slope_column, first, inverse) if inverse else first
    factor, told, tilted = terms[:, 1], None, False
    if bias is not None:
        told = _centred(bias, cells[0]).square().sum((0, 2, 3)).sqrt() > _CLEARLY * limits.log_residual
        factor = torch.where(told, factor, torch.ones_like(factor))
    else:
        spread = plain.dots.shape[-1] - 1
        tilted = bool((factor.abs() * spread).nan_to_num().max() > limits.log_residual)
        if not tilted:
            terms = _with_cap(plain, cells[0], None, terms[:, :1], inverse)
            factor = torch.zeros_like(factor)
    scaled = _capped(plain.dots * terms[:, 0].view(1, -1, 1, 1), inverse)
    found = scaled + slope_column * factor.view(1, -1, 1, 1)
    rowsum, sinks = _sinks(plain, cells[0], found, known, limits)
    alibi = _tilt(bias, cells[0], factor) if bias is not None else factor if tilted else None
    return SoftmaxObservation(
        scale=_floats(terms[:, 0]),
        softcap=1 / math.sqrt(inverse) if inverse else None,
        rowsum=rowsum,
        sinks=sinks,
        expected_sinks=None if known.sinks is None else _floats(_per_head(known.sinks, known.rows)),
        alibi=None if alibi is None else _floats(alibi),
        head_map=None if head_map is None else tuple(head_map),
        residual=_residual(plain, cells[0], found if bias is None else scaled + bias),
        bias=None if told is None or not bool(told.any()) else _floats(torch.where(told, factor, math.nan)),
    )


def _cells(reading: Reading, known: Known) -> Tensor:
    """The cells that carry digits: visible, in judged rows, not near the dtype's smallest number. Float64 0 or 1."""
    good = (reading.matrix > known.smallest * _DIGITS) & reading.matrix.isfinite()
    return (good & known.rows[:, None, :, None]).double()


def _other(reading: Reading, known: Known) -> Tensor:
    """The column fitted beside q.k: the requested bias, or the key index where none was requested."""
    return _positions(reading.dots) if known.bias is None else known.bias.expand_as(reading.dots)


def _positions(like: Tensor) -> Tensor:
    return torch.arange(like.shape[-1], dtype=torch.float64, device=like.device).expand_as(like)


def _centred(values: Tensor, cells: Tensor) -> Tensor:
    """The values minus their mean over the cells of the row, 0 outside the cells."""
    mean = (values * cells).sum(-1, keepdim=True) / cells.sum(-1, keepdim=True).clamp(min=1)
    return (values - mean) * cells


def _logs(reading: Reading, cells: Tensor) -> Tensor:
    return torch.where(cells > 0, reading.matrix, torch.ones_like(reading.matrix)).log()


def _solve(columns: list[Tensor], target: Tensor, cells: Tensor) -> Tensor:
    """Least squares per head, heads x columns; NaN for heads with too few cells."""
    matrix = torch.stack([column.transpose(0, 1).flatten(1) for column in columns], -1)
    size = matrix.norm(dim=1, keepdim=True)
    size = torch.where(size > 0, size, torch.ones_like(size))
    matrix = matrix / size
    normal = matrix.transpose(1, 2) @ matrix
    right = matrix.transpose(1, 2) @ target.transpose(0, 1).flatten(1)[..., None]
    ridge = _RIDGE * torch.eye(normal.shape[-1], dtype=normal.dtype, device=normal.device)
    found = torch.linalg.solve(normal + ridge, right)[..., 0] / size[:, 0]
    found[cells.sum((0, 2, 3)) < _FEWEST_CELLS] = math.nan
    return found


def _linear(reading: Reading, cells: Tensor, slope_column: Tensor) -> Tensor:
    """Scale and coefficient of the other column per head, as if there were no cap."""
    columns = [_centred(reading.dots, cells), _centred(slope_column, cells)]
    return _solve(columns, _centred(_logs(reading, cells), cells), cells)


def _inverse(plain: Tensor, raised: Tensor, lift: float) -> float:
    """1 / cap**2 from the two slopes: their ratio is `1 - tanh(lift / cap)**2`."""
    ratio = min(max(_middle(raised / plain), 1e-4), 1.0)
    return (math.atanh(math.sqrt(1 - ratio)) / lift) ** 2 if ratio < 1 and lift else 0.0


def _flattening(inverse: float, lift: float) -> float:
    """How much flatter the capped logits are around `lift` than around 0: 0 without a cap, at most 1."""
    return math.tanh(lift * math.sqrt(inverse)) ** 2


def _capped(logits: Tensor, inverse: float) -> Tensor:
    root = math.sqrt(inverse)
    return torch.tanh(root * logits) / root if inverse else logits


def _cap_slopes(logits: Tensor, inverse: float) -> tuple[Tensor, Tensor]:
    """Derivatives of the capped logits by the logits and by 1 / cap**2."""
    if not inverse:
        return torch.ones_like(logits), -(logits**3) / 3
    root = math.sqrt(inverse)
    bent = torch.tanh(root * logits)
    slope = 1 - bent**2
    return slope, (logits * slope - bent / root) / (2 * inverse)


def _joint(
    plain: Reading, raised: Reading, cells: list[Tensor], slope_column: Tensor, first: Tensor, inverse: float
) -> float:
    """1 / cap**2 fitted together with scale and slope on both readings; the middle over heads."""
    dots, seen = torch.cat([plain.dots, raised.dots]), torch.cat(cells)
    target = _centred(torch.cat([_logs(plain, cells[0]), _logs(raised, cells[1])]), seen)
    tilt = torch.cat([slope_column, slope_column])
    terms = first.clone()
    for _ in range(_ROUNDS):
        scale, slope = (terms[:, k].view(1, -1, 1, 1) for k in (0, 1))
        logits = dots * scale
        by_logit, by_inverse = _cap_slopes(logits, inverse)
        error = target - _centred(_capped(logits, inverse) + slope * tilt, seen)
        step = _solve([_centred(by_logit * dots, seen), _centred(tilt, seen), _centred(by_inverse, seen)], error, seen)
        terms = terms + step[:, :2]
        inverse = max(inverse + _middle(step[:, 2]), inverse / 4)
    return inverse


def _with_cap(plain: Reading, cells: Tensor, slope_column: Tensor | None, start: Tensor, inverse: float) -> Tensor:
    """Scale (and slope, where a column is given) per head from the plain reading, the cap held fixed.

    The raised reading is left out: in half precision its logits near 16 have few digits.
    """
    target = _centred(_logs(plain, cells), cells)
    terms = start
    for _ in range(_ROUNDS if inverse else 1):
        logits = plain.dots * terms[:, 0].view(1, -1, 1, 1)
        by_logit, _ = _cap_slopes(logits, inverse)
        guess = _capped(logits, inverse)
        columns = [_centred(by_logit * plain.dots, cells)]
        if slope_column is not None:
            guess = guess + terms[:, 1].view(1, -1, 1, 1) * slope_column
            columns.append(_centred(slope_column, cells))
        terms = terms + _solve(columns, target - _centred(guess, cells), cells)
    return terms


def _sinks(
    plain: Reading, cells: Tensor, logits: Tensor, known: Known, limits: Tolerances
) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
    """Median row sum per head, and the sink logit that explains it (-inf for a head whose rows sum to one)."""
    judged = cells.any(-1)
    sums = plain.matrix.sum(-1)
    rowsum = _row_median(sums, judged)
    if not any(1 - value > limits.row_sum for value in rowsum):
        return rowsum, None
    visible = (plain.matrix > 0) & plain.matrix.isfinite()
    total = torch.logsumexp(logits.masked_fill(~visible, -math.inf), -1)
    found = total + torch.log((1 / sums - 1).clamp(min=0))
    if known.sinks is not None and known.sinks.dim() == 3:
        middle = _per_head(known.sinks, known.rows).view(1, -1, 1)
        found = found - known.sinks + middle
    sinks = _row_median(found, judged)
    return rowsum, tuple(sink if 1 - value > limits.row_sum else -math.inf for sink, value in zip(sinks, rowsum))


def _row_median(values: Tensor, judged: Tensor) -> tuple[float, ...]:
    """Median over batch rows and judged queries per head; NaN without any."""
    return _floats(torch.where(judged, values, math.nan).transpose(0, 1).flatten(1).nanmedian(-1).values)


def _per_head(sinks: Tensor, rows: Tensor) -> Tensor:
    """One sink a head: the median over the judged rows where they depend on the data."""
    if sinks.dim() == 1:
        return sinks
    judged = rows[:, None, :].expand_as(sinks)
    return torch.where(judged, sinks, math.nan).transpose(0, 1).flatten(1).nanmedian(-1).values


def _tilt(bias: Tensor, cells: Tensor, coefficient: Tensor) -> Tensor | None:
    """The slope on the key index that the bias amounts to, None where it is no straight line."""
    position = _centred(_positions(bias), cells)
    line = _centred(bias, cells)
    slope = _solve([position], line, cells)
    bent = (line - position * slope.view(1, -1, 1, 1)).abs().amax((0, 2, 3))
    straight = bent <= 1e-2 * line.abs().amax((0, 2, 3))
    return slope[:, 0] * coefficient if bool(straight.all()) and bool(slope.any()) else None


def _residual(plain: Reading, cells: Tensor, logits: Tensor) -> float:
    """Largest distance of log P from the fit over the judged cells, row means removed."""
    error = _centred(_logs(plain, cells) - logits, cells).abs()
    return float(error.max()) if bool(error.isfinite().all()) else math.nan


def _middle(values: Tensor) -> float:
    """The median over heads, the mean of the middle two of an even number: one odd head does not move it."""
    ranked: list[float] = sorted(value for value in values.tolist() if math.isfinite(value))
    if not ranked:
        return math.nan
    half = len(ranked) // 2
    return ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in values.tolist())
