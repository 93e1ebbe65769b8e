"""Hand-built bench reports with the figures of a real H100 (16k tokens in all, heads x head_dim = 2048, bfloat16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from attncheck.findings import Evidence, Finding, Recommendation, Severity
from attncheck.render import bench_changes
from attncheck.report import Report
from attncheck.semantics import timing_changes
from attncheck.semantics.convention import Outcome
from attncheck.semantics.observation import Basis
from attncheck.semantics.spec import CAUSAL, FULL, Window
from attncheck.semantics.speeds import SpeedRow, Speeds
from attncheck.semantics.timing import Bench, BenchCase, BenchCell, DeviceRates, Growth, setting
from tests import sample_reports
from tests.builders import ENVIRONMENT, GPU_ENVIRONMENT

MATRIX, COPY = 798e12, 3.0e12
RATES = DeviceRates(
    "NVIDIA H100 80GB HBM3",
    matrix=MATRIX,
    matrix_shape="8192 x 8192 x 8192 bfloat16",
    copy=COPY,
    clock=(1980, 1755),
    power_limit=700.0,
)
EAGER = {1024: 1.9, 4096: 6.4, 8192: 12.7, 16384: 25.6}
#: Milliseconds by subject and tokens: 16 heads of 128 channels, causal, forward.
TIMES: Mapping[str, Mapping[int, float]] = {
    "flash-attn-4": {1024: 0.19, 4096: 0.49, 8192: 0.87, 16384: 1.68},
    "sdpa-cudnn": {1024: 0.23, 4096: 0.56, 8192: 0.99, 16384: 1.95},
    "flash-attn-2": {1024: 0.31, 4096: 0.87, 8192: 1.58, 16384: 3.04},
    "sdpa-flash": {1024: 0.33, 4096: 0.94, 8192: 1.74, 16384: 3.31},
    "sdpa-efficient": {1024: 0.55, 4096: 1.79, 8192: 3.36, 16384: 6.55},
    "eager": EAGER,
}
LENGTHS = (1024, 4096, 8192, 16384)


def case(subject: str, tokens: int, **changes: Any) -> BenchCase:
    """A causal prefill of 16k tokens in all."""
    window = changes.pop("window", CAUSAL)
    batch = changes.pop("batch", 16384 // tokens)
    visible = tokens * (tokens + 1) // 2 if window.causal else tokens * tokens
    if window.left is not None:
        visible = sum(min(row, window.left) + 1 for row in range(tokens))
    found = BenchCase(
        level="kernel",
        subject=subject,
        phase="prefill",
        backward=False,
        inputs="plain",
        batch=batch,
        q_len=tokens,
        kv_len=tokens,
        num_heads=16,
        num_kv_heads=16,
        head_dim=128,
        head_dim_v=128,
        dtype="bfloat16",
        window=window,
        mask="causal" if window.left is None and window.causal else "full" if window == FULL else "window 1024",
        cells=visible * batch,
    )
    return replace(found, **changes)


def timed(case: BenchCase, milliseconds: float, **changes: Any) -> BenchCell:
    """A cell as the measuring makes it, without its ratios to others."""
    median = milliseconds / 1e3
    tflops = case.flops / median / 1e12
    moved = 2 * case.batch * case.kv_len * case.num_kv_heads * (case.head_dim + case.head_dim_v)
    decode = case.phase == "decode"
    cell = BenchCell(
        case,
        Outcome.READ,
        median=median,
        p20=median * 0.985,
        p80=median * 1.021,
        n=max(21, round(0.1 / median)),
        first_call=0.031 if "flash" in case.subject else 0.004,
        peak_memory=64 * 2**20,
        tflops=tflops,
        matrix_share=None if decode else tflops * 1e12 / MATRIX,
        copy_share=moved / median / COPY if decode else None,
        drift=0.004,
    )
    return replace(cell, **changes)


def silent(case: BenchCase, outcome: Outcome, detail: str, excluded: str = "") -> BenchCell:
    """A cell without a time."""
    return BenchCell(case, outcome, detail=detail, excluded=excluded)


def with_ratios(cells: list[BenchCell]) -> tuple[BenchCell, ...]:
    """The cells with their ratios to eager and to the best right one of the same call."""
    found = []
    for cell in cells:
        same = [
            other
            for other in cells
            if other.median and replace(other.case, subject="") == replace(cell.case, subject="")
        ]
        best = min((other.median for other in same if not other.excluded and other.median), default=None)
        eager = next((other.median for other in same if other.case.subject == "eager"), None)
        found.append(
            replace(
                cell,
                to_best=cell.median / best if cell.median and best else None,
                to_eager=cell.median / eager if cell.median and eager else None,
            )
        )
    return tuple(found)


def standard_report() -> Report:
    """The standard grid at head_dim 128: prefill and decode, with all that has no speed."""
    cells: list[BenchCell] = []
    for tokens in LENGTHS:
        for subject, times in TIMES.items():
            cells.append(timed(case(subject, tokens), times[tokens]))
        cells.append(silent(case("sdpa-math", tokens), Outcome.READ, "") if tokens < 8192 else _full(tokens))
        cells.append(silent(case("xformers", tokens), Outcome.REFUSED, "No operator found for this input:\nsee above"))
        cells.append(
            silent(case("flash-attn-3", tokens), Outcome.NOT_RUN, "keeps 1 key more than asked", "window-off-by-one")
        )
    cells.append(silent(case("flashinfer", 1024), Outcome.NOT_RUN, "flashinfer-python is not installed"))
    cells[0] = replace(cells[0], first_call=3.2)
    cells = [cell if cell.case.subject != "sdpa-math" or cell.detail else _math(cell) for cell in cells]
    place = next(i for i, cell in enumerate(cells) if cell.case.subject == "sdpa-cudnn" and cell.case.kv_len == 16384)
    cells[place] = replace(cells[place], drift=0.083)
    for tokens in LENGTHS:
        for subject, micro in {"flash-attn-2": 14.0, "sdpa-efficient": 31.5, "eager": 66.0}.items():
            decode = case(subject, tokens, phase="decode", q_len=1, batch=1, cells=tokens)
            cells.append(timed(decode, (6 + micro * tokens / 4096) / 1e3, peak_memory=512 * 1024))
    growth = [
        Growth("kernel", subject, "prefill", False, "plain", "causal", exponent, r2, LENGTHS)
        for subject, exponent, r2 in (("flash-attn-2", 1.83, 0.998), ("sdpa-efficient", 1.91, 0.999), ("eager", 2.0, 1))
    ]
    growth.append(Growth("kernel", "flash-attn-2", "decode", False, "plain", "causal", 0.62, 0.91, LENGTHS))
    bench = Bench(
        with_ratios(cells),
        tuple(growth),
        RATES,
        wall=41.3,
        timed=37.1,
    )
    return Report(
        command="bench",
        version="0.1.0",
        environment=GPU_ENVIRONMENT,
        arguments={"device": "cuda", "dtype": "bfloat16"},
        bench=bench,
    )


def _math(cell: BenchCell) -> BenchCell:
    return timed(cell.case, 40.0 * (cell.case.kv_len / 1024), peak_memory=3 * 2**30)


def _full(tokens: int) -> BenchCell:
    words = "CUDA out of memory. Tried to allocate 64.00 GiB."
    return silent(case("sdpa-math", tokens), Outcome.CRASHED, words)


def swa_report() -> Report:
    """A window of 1024 in 16k tokens: flash attention skips what the mask makes SDPA read, and a finding says so."""
    window = Window(1023, 0)
    cells = []
    for tokens, flash, masked in ((4096, 0.14, 0.55), (8192, 0.27, 2.05), (16384, 0.52, 7.9)):
        cells.append(timed(case("flash-attn-2", tokens, window=window, batch=1), flash))
        masks = tokens * tokens * 2
        cells.append(timed(case("sdpa-efficient", tokens, window=window, batch=1), masked, peak_memory=masks))
        cells.append(
            timed(case("flash-attn-4", tokens, window=window, batch=1), flash * 0.6, excluded="causal-ignored")
        )
    growth = tuple(
        Growth("kernel", subject, "prefill", False, "plain", "window 1024", exponent, 0.999, (4096, 8192, 16384))
        for subject, exponent in (("flash-attn-2", 0.95), ("sdpa-efficient", 1.92))
    )
    published = {
        setting("flash-attn-2", "window 1024", 128, 16384): "0.52 ms (attncheck's own notes)",
        setting("flash-attn-3", "full", 256, 16384): "756 TFLOP/s (chart of the FA3 post; H100 SXM5, fp16)",
    }
    finding = Finding(
        "ATC701",
        "slow-path",
        Severity.WARNING,
        "sdpa-efficient takes 15.2 times as long as flash-attn-2: its window is a mask, so every pair is computed.",
        Basis.MEASURED,
        implementation="sdpa",
        kernel="sdpa-efficient",
        evidence=Evidence(declared="0.52 ms (flash-attn-2)", effective="7.90 ms at 16384 tokens"),
        recommendations=(Recommendation("Use flash_attention_2 for long inputs."),),
    )
    bench = Bench(with_ratios(cells), growth, RATES, preset="swa", wall=12.0, timed=11.1, published=published)
    return Report(
        command="bench",
        version="0.1.0",
        environment=GPU_ENVIRONMENT,
        arguments={"device": "cuda", "dtype": "bfloat16", "preset": "swa"},
        findings=(finding,),
        bench=bench,
    )


def interrupted_report() -> Report:
    """The standard grid on a CPU, stopped after its first cells."""
    cells = [timed(case("eager", 1024, batch=1, dtype="float32"), 95.0, matrix_share=0.31)]
    rates = DeviceRates("CPU", matrix=0.085e12, matrix_shape="1024 x 1024 x 1024 float32", throttled="thermal limit")
    return Report(
        command="bench",
        version="0.1.0",
        environment=ENVIRONMENT,
        arguments={"device": "cpu", "dtype": "float32"},
        bench=Bench(with_ratios(cells), rates=rates, complete=False),
    )


def changed_report() -> Report:
    """The standard grid measured again with a newer driver: one faster, one slower, one out of memory, one gone."""
    before = standard_report()
    assert before.bench is not None
    factors = {"sdpa-cudnn": 1.3, "flash-attn-2": 0.8, "eager": 1.03}
    cells = []
    for cell in before.bench.cells:
        name = cell.case.subject
        if name == "sdpa-math":
            continue
        if name == "sdpa-efficient" and cell.case.kv_len == 16384:
            cells.append(silent(cell.case, Outcome.CRASHED, "CUDA out of memory. Tried to allocate 2.00 GiB."))
        else:
            cells.append(scaled(cell, factors.get(name, 1.0), memory=2 if name == "sdpa-cudnn" else 1))
    cells.append(timed(case("varlen_attn", 1024), 0.4))
    after = replace(
        before,
        environment=replace(GPU_ENVIRONMENT, driver="590.10 (CUDA 13.1)"),
        bench=replace(before.bench, cells=with_ratios(cells)),
    )
    assert after.bench is not None
    differing = bench_changes.differing(before, after)
    return replace(after, changes=timing_changes.compare(before.bench, after.bench, "old.json", differing))


def scaled(cell: BenchCell, factor: float, memory: int = 1) -> BenchCell:
    """The same cell `factor` times as slow."""
    if cell.median is None or cell.p20 is None or cell.p80 is None:
        return cell
    return replace(
        cell,
        median=cell.median * factor,
        p20=cell.p20 * factor,
        p80=cell.p80 * factor,
        peak_memory=None if cell.peak_memory is None else cell.peak_memory * memory,
    )


def speeds_report() -> Report:
    """A `compare` that a stored bench of another machine orders."""
    rows = (
        SpeedRow("flash_attention_2", "flash-attn-2", 0.0166, 0.0165, 0.0167, 98, 0.004, False, "predicted right only"),
        SpeedRow("sdpa", "sdpa", 1.01, 1.0, 1.02, 20, 0.24, True, "measured right"),
        SpeedRow("eager", "eager", 4.14, 4.13, 4.15, 20, 1.0, True, "measured right"),
    )
    call: dict[str, Any] = {"phase": "prefill", "inputs": "plain", "batch": 1, "kv_len": 32768, "layers": 32}
    remarks = ("it was measured with torch 2.11.0 (here 2.13.0)",)
    speeds = Speeds("bench.json", RATES.name, "kernel", "bfloat16", **call, rows=rows, remarks=remarks)
    return replace(sample_reports.healthy_report(), speeds=speeds)


def unused_speeds_report() -> Report:
    """A `compare` with a stored bench of other sizes."""
    speeds = Speeds("bench.json", RATES.name, unused="it has no time of what this model declares")
    return replace(sample_reports.healthy_report(), speeds=speeds)
