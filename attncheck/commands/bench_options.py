"""The options that only `bench` has: names, help texts, and the panels in which help shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from attncheck import completion
from attncheck.options import DAY, FLAG, REPORT_PANEL

GRID_PANEL = "What is timed"

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="TARGET",
        help="Hub id, directory, config.json, or a model type. Without one: the standard grid, 2048 channels.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="headline, swa, unsloth-noncausal or llava-no-flash: settings of published claims.",
        autocompletion=completion.presets,
        rich_help_panel=GRID_PANEL,
    ),
]
SeqLens = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N,N",
        help="Lengths in tokens, e.g. 1024,4096 or 1k,4k. Default: 1k,4k,16k,32k (on a CPU 256,512,1k), as far as the "
        "model goes; a preset has its own.",
        rich_help_panel=GRID_PANEL,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Sequences a call. Default: 1; in the standard grid as many as make 16k tokens (on a CPU 1k); a preset "
        "has its own.",
        rich_help_panel=GRID_PANEL,
    ),
]
Level = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="kernel, layer. Default: kernel, and layer where there is a model to take one from.",
        rich_help_panel=GRID_PANEL,
    ),
]
Phase = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B", help="prefill, decode. Default: both for a model, else prefill.", rich_help_panel=GRID_PANEL
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="plain, padded (2 sequences or more), packed: of the prefill. Default: plain.",
        rich_help_panel=GRID_PANEL,
    ),
]
Masks = Annotated[
    list[str] | None,
    typer.Option(
        "--mask",
        metavar="A,B",
        help="causal, full: only these of the standard grid or a preset; a model has its own.",
        rich_help_panel=GRID_PANEL,
    ),
]
ForwardOnly = Annotated[
    bool,
    typer.Option("--forward-only", metavar=FLAG, help="No backward passes.", rich_help_panel=GRID_PANEL),
]
Impl = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="Only these: kernels such as flash-attn-2, and implementations such as sdpa (layers).",
        rich_help_panel=GRID_PANEL,
    ),
]
IncludeWrong = Annotated[
    bool,
    typer.Option(
        "--include-wrong",
        metavar=FLAG,
        help="Also time what an error finding excludes. It is never the fastest.",
        rich_help_panel=GRID_PANEL,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="terminal, html (one page for the browser), json, csv, markdown (to paste into a GitHub issue), "
        "sarif (for code scanning), or junit (for CI).",
        autocompletion=completion.formats,
        rich_help_panel=REPORT_PANEL,
    ),
]
Plots = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Write plots of time and memory against length there, as SVG (needs matplotlib).",
        rich_help_panel=REPORT_PANEL,
    ),
]
Compare = Annotated[
    str | None,
    typer.Option(
        metavar="OLD.json",
        help="Compare with a JSON report of an earlier run: ratios with their noise (not in csv, sarif and junit).",
        rich_help_panel=REPORT_PANEL,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=DAY,
        metavar="SECONDS",
        help="Limit of one step: checking a call, or timing it.",
        rich_help_panel=GRID_PANEL,
    ),
]
