"""The job "conventions": what one call, spelled as the API's users spell it, means in keys that are seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attncheck.backends.interface import NoOperators, Spelling
from attncheck.probe.conventions import EQUAL, LOAD, expected_of, question_of
from attncheck.probe.kernels import launched
from attncheck.probe.kernels.accuracy import Deviation, distance, plain
from attncheck.probe.kernels.band import Band, diagonals, fitted, inner_keys, match, oddity, offset
from attncheck.probe.kernels.identity import Reading, Tensors, read, tensors
from attncheck.probe.kernels.interface import KernelJob
from attncheck.probe.kernels.subject import Refused, Subject, refusals, subject
from attncheck.probe.reading.reference import Terms, keep_tensor, probabilities
from attncheck.semantics import describe
from attncheck.semantics.convention import Convention, Outcome
from attncheck.semantics.keepmask import KeepMask
from attncheck.semantics.observation import Basis, Reason, Rejected
from attncheck.semantics.spec import Alignment

#: What was read at equal lengths in this process, by all that decides it: reading again may mean compiling again.
_BANDS: dict[tuple[object, ...], Band | None] = {}


def run(step: str, arguments: Mapping[str, Any]) -> Convention | Rejected | str:
    """One reading. step: "api|spelling|queries x keys", the spelling by its index or text, as in "sdpa-math|0|64x64".

    "api|load" only loads the API and answers "load", or Rejected when the library says that it has no operators.
    arguments: as of `subject`. Raises what loading and calling raise; a refusal of the call is an answer.
    """
    name, which, *lengths = step.split("|")
    try:
        probed = subject(name, arguments)
    except NoOperators as missing:
        return Rejected((Reason(str(missing)),))
    return read_spelling(probed, which, lengths[0]) if lengths else LOAD


def read_spelling(probed: Subject, which: str, lengths: str) -> Convention:
    """The spelling of that index or text at these lengths, "64x64"."""
    spelling = _spelling(probed.api.spellings, which)
    q_len, kv_len = (int(side) for side in lengths.split("x"))
    blank = _unread(probed, spelling, q_len, kv_len)
    call = probed.bound(spelling.arguments)
    given = tensors(probed, q_len, kv_len)
    try:
        with refusals():
            reading = read(call, given)
            names = launched.launched(lambda: call(given.query, given.key, given.value))
    except Refused as refused:
        return replace(blank, outcome=Outcome.REFUSED, detail=str(refused))
    kernel = launched.attention_kernel(names)
    if (q_len, kv_len) == EQUAL:
        _BANDS[_key(probed, spelling)] = fitted(reading.mask, 0, reading.nan_rows)
    equal = None if q_len == kv_len else _band_at_equal_lengths(probed, spelling)
    found = interpreted(blank, reading, spelling, equal)
    heads: dict[str, float | int | str] = {"query heads": given.query.shape[1], "kv heads": given.key.shape[1]}
    figures = {**heads, **_row_figures(reading), **found.figures, **_accuracy_figures(found, reading, given, probed)}
    if names:
        figures |= {"kernel": kernel, "launched": "\n".join(names)}
    return replace(found, kernel=launched.shortened(kernel), figures=figures)


def interpreted(blank: Convention, reading: Reading, spelling: Spelling, equal: Band | None) -> Convention:
    """The reading in words and numbers. equal: the band that the same call gave at equal lengths, where known.

    Every band of one diagonal is a band of the other diagonal as well, only moved; so the diagonal is the one under
    which the call means the same window as at equal lengths.
    """
    remarks = _remarks(reading)
    mask, promised = reading.mask, None if spelling.promise is None else Band.of(spelling.promise)
    sides = tuple(Alignment) if blank.q_len != blank.kv_len else (Alignment.TOP_LEFT,)
    band, alignment = equal, None
    if len(sides) == 1:
        band = fitted(mask, 0, reading.nan_rows)
    else:
        reference = equal or promised
        found = diagonals(mask, reference, reading.nan_rows) if reference is not None else ()
        band = reference if found else None
        alignment = found[0] if len(found) == 1 else None
    diagonal = offset(alignment, blank.q_len, blank.kv_len)
    figures: dict[str, float | int | str] = {}
    if any(mask.rows) and band is None:
        wanted = spelling.alignment if spelling.alignment in sides else sides[0]
        at = offset(wanted, blank.q_len, blank.kv_len)
        expected = promised or equal or Band(*mask.reach(at))
        odd = oddity(mask, expected, at, reading.nan_rows)
        remarks.insert(0, "; ".join(filter(None, (_irregular(sides), odd.words, _moved(mask, wanted, at, reading)))))
        figures = {"irregular queries": odd.queries}
        if odd.first is not None:
            figures["first irregular query"] = odd.first
    if band is not None and (ghosts := match(mask, band, diagonal, reading.nan_rows).ghosts):
        remarks.append(f"{len(ghosts)} rows that see no key sum to {reading.sum_of(ghosts):.3g}, not 0")
    left, right = (band.left, band.right) if band is not None else mask.reach(diagonal)
    agrees = None
    if promised is not None:
        allowed = (spelling.alignment,) if len(sides) > 1 and spelling.alignment is not None else sides
        places = [offset(side, blank.q_len, blank.kv_len) for side in allowed]
        agrees = not reading.odd_heads and any(match(mask, promised, at, reading.nan_rows).exact for at in places)
        agrees = agrees and not _blind(reading, promised, places)
    return replace(
        blank,
        outcome=Outcome.READ,
        basis=Basis.MEASURED,
        left=left,
        right=right,
        keys=inner_keys(mask, band, diagonal) if band is not None else None,
        alignment=alignment,
        empty_rows=len(reading.empty_rows),
        agrees=agrees,
        detail="; ".join(remarks),
        figures=figures,
    )


def _blind(reading: Reading, promised: Band, places: list[int]) -> bool:
    """True when every row that should see keys holds NaN: nothing was read that could agree."""
    rows = range(reading.mask.q_len)
    return all(
        query in reading.nan_rows for at in places for query in rows if promised.row(query + at, reading.mask.kv_len)
    )


def _unread(probed: Subject, spelling: Spelling, q_len: int, kv_len: int) -> Convention:
    return Convention(
        probed.api.name,
        spelling.text,
        question_of(spelling, q_len, kv_len),
        q_len,
        kv_len,
        Outcome.NOT_RUN,
        None,
        expected=expected_of(spelling, q_len, kv_len),
        number=spelling.number,
        pattern=spelling.pattern,
    )


def _spelling(spellings: tuple[Spelling, ...], which: str) -> Spelling:
    if which.isdigit():
        return spellings[int(which)]
    return next(spelling for spelling in spellings if spelling.text == which)


def _band_at_equal_lengths(probed: Subject, spelling: Spelling) -> Band | None:
    """What the same call means at equal lengths; None where it cannot be read there. Read once a process."""
    key = _key(probed, spelling)
    if key not in _BANDS:
        _BANDS[key] = _read_at_equal_lengths(probed, spelling)
    return _BANDS[key]


def _key(probed: Subject, spelling: Spelling) -> tuple[object, ...]:
    return probed.api.name, spelling.text, probed.device, probed.dtype, probed.seed, probed.grouped


def _read_at_equal_lengths(probed: Subject, spelling: Spelling) -> Band | None:
    try:
        with refusals():
            reading = read(probed.bound(spelling.arguments), tensors(probed, *EQUAL))
    except Refused:
        return None
    return fitted(reading.mask, 0, reading.nan_rows)


def _remarks(reading: Reading) -> list[str]:
    remarks = []
    rows = reading.mask.q_len
    if len(reading.empty_rows) == rows:
        remarks.append(f"all {rows} output rows are exactly 0")
    if reading.nan_rows:
        remarks.append(f"{len(reading.nan_rows)} of {rows} rows hold NaN or Inf")
    if reading.odd_heads:
        remarks.append(f"query heads {', '.join(map(str, reading.odd_heads))} see other keys than head 0")
    return remarks


def _irregular(sides: tuple[Alignment, ...]) -> str:
    if len(sides) == 1:
        return "the visible keys are no band round the diagonal; left and right are the farthest ones"
    return "neither diagonal, top-left nor bottom-right, explains every row"


def _moved(mask: KeepMask, alignment: Alignment, at: int, reading: Reading) -> str:
    """The other window that the rows do show, "" when they show none."""
    band = fitted(mask, at, reading.nan_rows)
    if band is None:
        return ""
    return f"what is seen is {describe.band(band.left, band.right)}, {alignment.value}"


def _row_figures(reading: Reading) -> dict[str, float | int | str]:
    low, high = reading.row_sums
    figures: dict[str, float | int | str] = {"smallest row sum": low, "largest row sum": high}
    if reading.nan_rows:
        figures["NaN rows"] = len(reading.nan_rows)
    return figures


def _accuracy_figures(
    found: Convention, reading: Reading, given: Tensors, probed: Subject
) -> dict[str, float | int | str]:
    """The probabilities against float64 under the mask that was seen: a wrong mask is not a wrong number as well.

    Rows that should see no key are left out.
    """
    diagonal = offset(found.alignment, found.q_len, found.kv_len)
    ghosts = match(reading.mask, Band(found.left, found.right), diagonal, reading.nan_rows).ghosts
    seen = reading.mask.only_rows(set(range(reading.mask.q_len)) - set(ghosts))
    keep, terms = keep_tensor(seen, given.query.device), Terms(given.scale)
    judged = keep.any(-1).expand(reading.probability.shape[:3])
    if reading.odd_heads or not bool(judged.any()):
        return {}
    exact = probabilities(given.query, given.key, keep, terms)
    eye = given.value.new_zeros((*given.key.shape[:3], given.key.shape[2]))
    eye.diagonal(dim1=-2, dim2=-1).fill_(1)
    same = distance(plain(given.query, given.key, eye, keep, terms), exact, judged)
    off = Deviation(distance(reading.probability, exact, judged), same, probed.dtype_name)
    return {"relative error": off.error, "plain torch": off.plain, "limit": off.limit}


JOB = KernelJob("conventions", run)
