"""What `bench` adds to the JSON object: domain types in, the wire types of `wire_bench.py` out."""

from __future__ import annotations

from attncheck.render import wire_bench as wire
from attncheck.render.json_doctor import finite
from attncheck.semantics.timing import Bench, BenchCase, BenchCell, DeviceRates, Growth
from attncheck.semantics.timing_changes import BenchChange, BenchChanges


def bench(entry: Bench) -> wire.BenchEntry:
    """The whole run."""
    return {
        "preset": entry.preset,
        "complete": entry.complete,
        "wall": entry.wall,
        "timed": entry.timed,
        "rates": None if entry.rates is None else _rates(entry.rates),
        "cells": [_cell(cell) for cell in entry.cells],
        "growth": [_growth(growth) for growth in entry.growth],
        "published": dict(entry.published),
    }


def _cell(cell: BenchCell) -> wire.BenchCellEntry:
    return {
        "case": _case(cell.case),
        "outcome": cell.outcome.value,
        "median": finite(cell.median),
        "p20": finite(cell.p20),
        "p80": finite(cell.p80),
        "n": cell.n,
        "first_call": finite(cell.first_call),
        "peak_memory_bytes": cell.peak_memory,
        "tflops": finite(cell.tflops),
        "matrix_share": finite(cell.matrix_share),
        "copy_share": finite(cell.copy_share),
        "to_eager": finite(cell.to_eager),
        "to_best": finite(cell.to_best),
        "drift": finite(cell.drift),
        "excluded": cell.excluded,
        "detail": cell.detail,
        "kernel": cell.kernel,
        "launch_bound": cell.launch_bound,
    }


def _case(case: BenchCase) -> wire.CaseEntry:
    return {
        "level": case.level,
        "subject": case.subject,
        "phase": case.phase,
        "backward": case.backward,
        "inputs": case.inputs,
        "batch": case.batch,
        "q_len": case.q_len,
        "kv_len": case.kv_len,
        "num_heads": case.num_heads,
        "num_kv_heads": case.num_kv_heads,
        "head_dim": case.head_dim,
        "head_dim_v": case.head_dim_v,
        "dtype": case.dtype,
        "window": [case.window.left, case.window.right],
        "mask": case.mask,
        "softcap": case.softcap,
        "scale": case.scale,
        "visible": case.cells,
        "chunk": case.chunk,
        "sinks": case.sinks,
        "alibi": case.alibi,
    }


def _growth(growth: Growth) -> wire.GrowthEntry:
    return {
        "level": growth.level,
        "subject": growth.subject,
        "phase": growth.phase,
        "backward": growth.backward,
        "inputs": growth.inputs,
        "mask": growth.mask,
        "exponent": finite(growth.exponent),
        "r2": finite(growth.r2),
        "lengths": list(growth.lengths),
        "head_dim": growth.head_dim,
        "dtype": growth.dtype,
    }


def _rates(rates: DeviceRates) -> wire.RatesEntry:
    return {
        "name": rates.name,
        "matrix_flops": finite(rates.matrix),
        "matrix_shape": rates.matrix_shape,
        "copy_bytes": finite(rates.copy),
        "clock_mhz": list(rates.clock),
        "power_limit_watts": finite(rates.power_limit),
        "throttled": rates.throttled,
    }


def changes(entry: BenchChanges) -> wire.ChangesEntry:
    """One run against a stored one."""
    return {
        "source": entry.source,
        "old_complete": entry.complete,
        "changes": [_change(change) for change in entry.changes],
        "lost": [_only(old, new.excluded or new.detail) for old, new in entry.lost],
        "gained": [_only(new, old.excluded or old.detail) for old, new in entry.gained],
        "only_old": [_only(cell) for cell in entry.only_old],
        "only_new": [_only(cell) for cell in entry.only_new],
        "differences": [{"what": what, "old": old, "new": new} for what, (old, new) in entry.differences.items()],
    }


def _change(change: BenchChange) -> wire.ChangeEntry:
    return {
        "case": _case(change.new.case),
        "old_median": finite(change.old.median),
        "new_median": finite(change.new.median),
        "ratio": change.ratio,
        "low": change.low,
        "high": change.high,
        "beyond_noise": change.beyond_noise,
        "launch_bound": change.launch_bound,
        "repetitions": change.repetitions,
        "memory_ratio": finite(change.memory_ratio),
    }


def _only(cell: BenchCell, reason: str = "") -> wire.OnlyEntry:
    return {"case": _case(cell.case), "reason": reason}
