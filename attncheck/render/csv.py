"""A bench as CSV: one line a cell, the columns of the JSON report's cells, empty for what was not measured."""

from __future__ import annotations

import csv
import io

from attncheck.render import json_bench
from attncheck.render.interface import Renderer, Style
from attncheck.report import Report

#: Columns in order; new ones are added at the end.
COLUMNS = (
    "level", "subject", "phase", "backward", "inputs", "batch", "q_len", "kv_len", "num_heads", "num_kv_heads",
    "head_dim", "head_dim_v", "dtype", "window_left", "window_right", "mask", "softcap", "scale", "visible",
    "outcome", "median", "p20", "p80", "n", "first_call", "peak_memory_bytes", "tflops", "matrix_share", "copy_share",
    "to_eager", "to_best", "drift", "excluded", "detail", "kernel", "device", "chunk", "sinks",
    "alibi", "launch_bound",
)  # fmt: skip
#: What makes a spreadsheet take a text for a formula.
_FORMULA = ("=", "+", "-", "@")


def render(report: Report, style: Style) -> str:
    """A heading and one line a cell; times in seconds, memory in bytes. Lines end in a newline only."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    if report.bench is not None:
        device = report.bench.rates.name if report.bench.rates is not None else ""
        for cell in json_bench.bench(report.bench)["cells"]:
            left, right = cell["case"]["window"]
            values = {**cell["case"], **cell, "window_left": left, "window_right": right, "device": device}
            writer.writerow([_text(values[name]) for name in COLUMNS])
    text = stream.getvalue()
    return text if style.unicode else text.encode("ascii", "backslashreplace").decode("ascii")


def _text(value: object) -> object:
    """A value as it is written: nothing for None, true and false as in JSON, text on one line and no formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    line = " ".join(value.split())
    return f"'{line}" if line.startswith(_FORMULA) else line


RENDERER = Renderer("csv", "one line a timed call (bench only)", render, commands=("bench",), changes=False)
