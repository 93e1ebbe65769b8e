"""The options of the command line: names, help texts, and the panels in which help shows them."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from attncheck import completion


class Use(str, Enum):
    """What the model will be used for."""

    GENERATE = "generate"
    TRAIN = "train"


class Device(str, Enum):
    """Where probes run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Dtype(str, Enum):
    """Number format of the probes."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class FailOn(str, Enum):
    """Lowest severity that makes a command exit with 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


#: Seconds; waiting functions of the system take no number without an end.
DAY = 86400.0
#: Where help would print a type: a flag takes no value.
FLAG = " "
TARGET_PANEL = "The model"
FRAMEWORK_PANEL = "The training framework"
USE_PANEL = "What you will do with it"
PROBE_PANEL = "What is probed"
CHECKS_PANEL = "What is checked"
REPORT_PANEL = "Report"

Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="terminal, html (one page for the browser), json, markdown (to paste into a GitHub issue), "
        "sarif (for code scanning), or junit (for CI).",
        autocompletion=completion.formats,
        rich_help_panel=REPORT_PANEL,
    ),
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write the report there.", rich_help_panel=REPORT_PANEL),
]
Fail = Annotated[
    FailOn,
    typer.Option(
        metavar="LEVEL", help="error, warning or never: what makes the exit code 1.", rich_help_panel=REPORT_PANEL
    ),
]
KnownReport = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="OLD.json",
        help="A JSON report of an earlier run: findings that stand in it do not fail, only new ones do.",
        rich_help_panel=REPORT_PANEL,
    ),
]
Plugin = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MODULE",
        help="Import this module first; it may register attention functions. Repeatable.",
        rich_help_panel=PROBE_PANEL,
    ),
]
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="Hub id, directory, config.json, a model type such as qwen2, or a LLaMA-Factory YAML."
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="With a settings file: values that win over those in the file."),
]
FrameworkName = Annotated[
    str | None,
    typer.Option(
        "--framework",
        metavar="NAME",
        help="Read the settings as this framework does, e.g. llama-factory.",
        autocompletion=completion.frameworks,
        rich_help_panel=FRAMEWORK_PANEL,
    ),
]
FrameworkVersion = Annotated[
    str | None,
    typer.Option(
        metavar="V",
        help="Its version. Default: the installed one, else the newest known.",
        rich_help_panel=FRAMEWORK_PANEL,
    ),
]
FrameworkSet = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUE", help="One of its settings, without a file. Repeatable.", rich_help_panel=FRAMEWORK_PANEL
    ),
]
Assign = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a config key. Repeatable; dots reach sub-configs.",
        rich_help_panel=TARGET_PANEL,
    ),
]
AssignUnknown = Annotated[
    list[str] | None,
    typer.Option(
        "--set-unknown",
        metavar="KEY=VALUE",
        help="The same for a key nobody knows, unchecked.",
        rich_help_panel=TARGET_PANEL,
    ),
]
Revision = Annotated[
    str | None, typer.Option(metavar="NAME", help="Revision of a hub target.", rich_help_panel=TARGET_PANEL)
]
Offline = Annotated[
    bool, typer.Option("--offline", metavar=FLAG, help="Never use the network.", rich_help_panel=TARGET_PANEL)
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", metavar=FLAG, help="Run the target's own code.", rich_help_panel=TARGET_PANEL),
]
UseFor = Annotated[
    Use,
    typer.Option(  # named in full: typer 0.27 loses an option whose name equals its metavar
        "--use", metavar="USE", help="generate or train; train makes gradient errors count.", rich_help_panel=USE_PANEL
    ),
]
Packing = Annotated[
    bool,
    typer.Option(
        "--packing", metavar=FLAG, help="You pack several documents into a sequence.", rich_help_panel=USE_PANEL
    ),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="flash: prove that no flash kernel runs, and show how to get there and what it costs.",
        rich_help_panel=USE_PANEL,
    ),
]
BenchFile = Annotated[
    str | None,
    typer.Option(
        "--bench",
        metavar="FILE",
        help="A JSON report of attncheck bench: of what is right, the fastest is recommended.",
        rich_help_panel=USE_PANEL,
    ),
]
SeqLen = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Longest sequence you will run. Default: what the checkpoint says.",
        rich_help_panel=USE_PANEL,
    ),
]
Impl = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="Implementations, e.g. sdpa,flash_attention_2. Default: all that apply.",
        autocompletion=completion.implementations,
        rich_help_panel=PROBE_PANEL,
    ),
]
Scenarios = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="Scenarios, e.g. plain,decode; what you name counts as used. Default: all that apply.",
        autocompletion=completion.scenarios,
        rich_help_panel=PROBE_PANEL,
    ),
]
DeviceName = Annotated[Device, typer.Option(metavar="NAME", help="auto, cpu or cuda.", rich_help_panel=PROBE_PANEL)]
DtypeName = Annotated[
    Dtype | None,
    typer.Option(
        metavar="NAME",
        help="float32, bfloat16 or float16. Default: float32 on CPU, bfloat16 on CUDA.",
        rich_help_panel=PROBE_PANEL,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        min=0.1,
        max=DAY,
        metavar="SECONDS",
        help="Limit of one scenario or import.",
        rich_help_panel=PROBE_PANEL,
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="Seed of weights and inputs.", rich_help_panel=PROBE_PANEL)]
Thorough = Annotated[
    bool,
    typer.Option(
        "--thorough",
        metavar=FLAG,
        help="On a GPU: read also, and in full, the kernels that compile for each new call (minutes).",
        rich_help_panel=CHECKS_PANEL,
    ),
]
Static = Annotated[
    bool,
    typer.Option(
        "--static",
        metavar=FLAG,
        help="Only read files: import no library, not even in another process, and run no kernel.",
        rich_help_panel=CHECKS_PANEL,
    ),
]
ListChecks = Annotated[
    bool,
    typer.Option(
        "--list-checks",
        metavar=FLAG,
        help="List the checks with what each takes, and exit.",
        rich_help_panel=CHECKS_PANEL,
    ),
]
CheckNames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B",
        help="Only these checks, by code or name, e.g. install-broken. Default: all.",
        autocompletion=completion.machine_checks,
        rich_help_panel=CHECKS_PANEL,
    ),
]
ApiNames = Annotated[
    list[str] | None,
    typer.Option(
        "--api",
        metavar="A,B",
        help="Read only these kernel APIs, e.g. flash-attn-2,sdpa-cudnn; also one that compiles for minutes.",
        autocompletion=completion.apis,
        rich_help_panel=CHECKS_PANEL,
    ),
]
Reproduce = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Run a published incident again instead: te-window.",
        autocompletion=completion.incidents,
        rich_help_panel=CHECKS_PANEL,
    ),
]
WindowNumber = Annotated[
    int | None,
    typer.Option(
        "--window",
        metavar="N",
        help="The window number of --reproduce. Default: as published.",
        rich_help_panel=CHECKS_PANEL,
    ),
]
