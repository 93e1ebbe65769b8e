"""Hand-built reports of whole machines: an H100 with everything on it that was ever met broken, and one without a GPU.

The readings are those that were measured on an H100 with torch 2.11.0, flash-attn 2.8.3 and cuDNN 9.19.
"""

from __future__ import annotations

import re
from dataclasses import replace

from attncheck.environment import Environment, Gpu, Library
from attncheck.findings import Evidence, Finding, Recommendation, Setting, Severity
from attncheck.installed.inventory import Build, Clobbered, Copies, Inventory
from attncheck.installed.state import TorchState
from attncheck.report import Check, Report
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.incident import WindowIncident
from attncheck.semantics.observation import Basis, Reason
from attncheck.semantics.spec import Alignment
from attncheck.verdicts import Implementation, Status
from tests.builders import ENVIRONMENT

TOP, BOTTOM = Alignment.TOP_LEFT, Alignment.BOTTOM_RIGHT
_FLASH_MASK = "Flash Attention does not support non-null attn_mask"
_FLASH_CAUSAL = "Flash attention does not support the is_causal flag when seqlen_q != seqlen_k"
_KERNELS = {
    "flash-attn-2": "flash::flash_fwd_kernel",
    "flash-attn-4": "FlashAttentionForwardSm90",
    "cudnn-graph": "cudnn_generated_fort_native_sdpa_sm90",
}


def read(
    api: str,
    call: str,
    left: int | None,
    right: int | None,
    question: str = "window",
    promise: bool | None = True,
    lengths: tuple[int, int] = (64, 64),
    alignment: Alignment | None = None,
    empty: int = 0,
) -> Convention:
    """A reading that was made. keys: what follows from both sides."""
    keys = None if left is None or right is None else left + 1 + right
    expected = "" if promise is None else "as read" if promise else "all back, 0 ahead"
    pattern = re.sub(r"(?<![\w.])8(?![\w.])", "{}", call, count=1) if question == "window" else ""
    return Convention(
        api, call, question, *lengths, Outcome.READ, Basis.MEASURED, left, right, keys, alignment, empty, expected,
        promise, _KERNELS.get(api, ""), figures={"row sum": 1.0},
        number=8 if "{}" in pattern and "<" not in call else None, pattern=pattern if "{}" in pattern else "",
    )  # fmt: skip


def refused(api: str, call: str, why: str, lengths: tuple[int, int] = (64, 64), question: str = "window") -> Convention:
    """A call that the library refused."""
    return Convention(api, call, question, *lengths, Outcome.REFUSED, None, detail=why)


def aligned(api: str, call: str, left: int | None, alignment: Alignment, empty: int = 0) -> tuple[Convention, ...]:
    """A causal call at three pairs of lengths. empty: queries without a key where there are more queries than keys."""
    question = "causal" if left is None else "window"
    return (
        read(api, call, left, 0, question),
        read(api, call, left, 0, question, lengths=(32, 64), alignment=alignment),
        read(api, call, left, 0, question, lengths=(64, 32), alignment=alignment, empty=empty),
    )


def flash(api: str, unbounded: str) -> tuple[Convention, ...]:
    """What flash-attn reads like. unbounded: how this release writes "no limit"."""
    return (
        *aligned(api, "window_size=(8, 0)", 8, BOTTOM, 32),
        read(api, "causal=True, window_size=(8, 8)", 8, 0),
        read(api, "window_size=(8, 3)", 8, 3, "two-sided"),
        *aligned(api, "causal=True", None, BOTTOM, 32),
        read(api, f"causal=True, window_size=({unbounded}, {unbounded})", None, 0, "unbounded"),
    )


def sdpa(api: str) -> tuple[Convention, ...]:
    """What the SDPA kernels that take masks read like."""
    return (
        read(api, "attn_mask=(j <= i) & (i - j < 8)", 7, 0),
        *aligned(api, "is_causal=True", None, TOP),
    )


CONVENTIONS = (
    *sdpa("sdpa-math"),
    *sdpa("sdpa-efficient"),
    *sdpa("sdpa-cudnn"),
    refused("sdpa-flash", "attn_mask=(j <= i) & (i - j < 8)", _FLASH_MASK),
    read("sdpa-flash", "is_causal=True", None, 0, "causal"),
    refused("sdpa-flash", "is_causal=True", _FLASH_CAUSAL, (32, 64), "causal"),
    refused("sdpa-flash", "is_causal=True", _FLASH_CAUSAL, (64, 32), "causal"),
    *flash("flash-attn-2", "-1"),
    *flash("flash-attn-2-varlen", "-1"),
    *flash("flash-attn-4", "None"),
    read("flash-attn-4", "causal=True, window_size=(8, -1)", 8, 0, promise=None),
    read("flash-attn-4", "causal=True, window_size=(-1, 0)", None, None, "unbounded", False, empty=64),
    *aligned("cudnn-graph", "use_causal_mask=True, sliding_window_length=8", 7, TOP, 25),
    read("cudnn-graph", "diagonal_band_left_bound=8, diagonal_band_right_bound=0", 7, 0),
    read("cudnn-graph", "diagonal_band_left_bound=9, diagonal_band_right_bound=2", 8, 2, "two-sided"),
    Convention("flash-attn-3", "", "window", 64, 64, Outcome.NOT_RUN, None, detail="flash-attn-3 is not installed"),
    Convention("xformers", "", "window", 64, 64, Outcome.NOT_RUN, None, detail="no operators: built for torch 2.10"),
)


def _ability(
    api: str, feature: str, value: str, agrees: bool | None = True, detail: str = "", outcome: Outcome = Outcome.READ
) -> Ability:
    return Ability(
        api, feature, value, outcome, Basis.MEASURED if outcome is Outcome.READ else None, agrees, "", detail
    )


ABILITIES = (
    *(_ability(api, "empty-rows bool mask", "output 0") for api in ("sdpa-math", "sdpa-efficient")),
    _ability("sdpa-cudnn", "empty-rows bool mask", "row sum 1.0", False, "a uniform row where the others give 0"),
    _ability("sdpa-flash", "empty-rows bool mask", "", None, _FLASH_MASK, Outcome.REFUSED),
    *(_ability(api, "softcap", "honoured") for api in ("flash-attn-2", "flash-attn-4")),
    *(_ability(api, "softcap", "", None, "no such argument", Outcome.REFUSED) for api in ("sdpa-math", "sdpa-cudnn")),
    _ability("flash-attn-4", "sinks", "honoured (learnable_sink)"),
    _ability("flash-attn-2", "alibi", "-slope * |distance|"),
    *(_ability(api, "gqa", "interleaved") for api in ("sdpa-math", "sdpa-cudnn", "flash-attn-2", "flash-attn-4")),
    *(_ability(api, "dtype", "float16, bfloat16") for api in ("sdpa-flash", "sdpa-cudnn", "flash-attn-2")),
    *(_ability(api, "dtype", "float32, float16, bfloat16") for api in ("sdpa-math", "sdpa-efficient")),
    _ability("flash-attn-2", "head_dim", "64, 128, 256", detail="96: this build holds no kernel for it"),
    _ability("cudnn-graph", "backward", "", None, "signal 11 (segmentation fault)", Outcome.CRASHED),
    _ability("flash-attn-2", "determinism", "forward exact, backward varies by 0.0002 over 20 runs", None),
    _ability("flash-attn-3", "gqa", "", None, "flash-attn-3 is not installed", Outcome.NOT_RUN),
)

H100_ENVIRONMENT = Environment(
    python="3.12.3",
    platform="Linux x86_64",
    libraries=(
        Library("torch", "2.11.0+cu130", "built for CUDA 13.0"),
        Library("transformers", "5.17.0"),
        Library("flash-attn", "2.8.3.post2"),
        Library("flash-attn-3", None),
        Library("flash-attn-4", "4.0.0b36"),
        Library("xformers", "0.0.35"),
        Library("nvidia-cudnn-cu13", "9.19.0.56"),
        Library("nvidia-cudnn-frontend", "1.32.0"),
        Library("transformer-engine", "2.20.2"),
        Library("flashinfer-python", None),
    ),
    gpus=(Gpu(0, "NVIDIA H100 80GB HBM3", (9, 0), 85_520_809_984, "580.159.04"),),
    driver="580.159.04 (CUDA 13.0)",
    variables={"CUDA_VISIBLE_DEVICES": "0", "NVTE_FLASH_ATTN": "1", "NVTE_FUSED_ATTN": "0"},
    inert={"DISABLE_FLASH_ATTN": "1"},
    torch_cuda="13.0",
    sources={
        "libraries": "package metadata",
        "torch build": "torch/version.py, read as text",
        "gpus": "NVML (nvidia-ml-py)",
    },
)

INVENTORY = Inventory(
    builds={
        "flash-attn": Build("2.11", "13.0", "TRUE", "cp312", ("8.0", "9.0"), "wheel tag and ELF sections"),
        "xformers": Build("2.10.0+cu128", "12.8", "", "cp39", ("8.0", "9.0a"), "xformers/cpp_lib.json"),
    },
    clobbered=(
        Clobbered(
            (("flash-attn", "2.8.3.post2"), ("flash-attn-4", "4.0.0b36")),
            14,
            "flash-attn",
            "flash_attn/cute/interface.py",
        ),
    ),
    copies=(Copies("numpy", (("~/.local/lib/python3.12/site-packages", "2.3"), ("/usr/lib/python3", "2.1"))),),
)

TORCH = TorchState(
    "2.11.0+cu130",
    "13.0",
    "9.19.0",
    ("sm_80", "sm_90", "sm_100", "sm_120"),
    cuda_available=True,
    flags={"torch.backends.cuda.flash_sdp_enabled()": "True", "torch.backends.cuda.cudnn_sdp_enabled()": "False"},
    devices=(("NVIDIA H100 80GB HBM3", "9.0"),),
    changed_by_import=(("some-library", "torch.backends.cuda.cudnn_sdp_enabled()", "True", "False"),),
)

_CLOBBERED = Finding(
    "ATC803",
    "files-clobbered",
    Severity.ERROR,
    "flash-attn 2.8.3.post2 and flash-attn-4 4.0.0b36 both own 14 files; those on disk are flash-attn's, so "
    "flash-attn-4 cannot work.",
    Basis.STATIC,
    evidence=Evidence(
        declared="flash_attn/cute/interface.py as flash-attn-4's RECORD has it",
        effective="flash_attn/cute/interface.py as flash-attn's RECORD has it",
    ),
    reproduction='python -c "import flash_attn.cute"',
    recommendations=(
        Recommendation(
            "Install flash-attn-4 again, after flash-attn.",
            (Setting("pip", "flash-attn-4", "", "pip install --force-reinstall --no-deps flash-attn-4==4.0.0b36"),),
        ),
    ),
)

_BROKEN = Finding(
    "ATC808",
    "operators-missing",
    Severity.ERROR,
    "xformers 0.0.35 is installed but has no operators: built for torch 2.10.0+cu128, run under 2.11.0+cu130.",
    Basis.MEASURED,
    evidence=Evidence(
        declared="built for torch 2.10.0+cu128 (xformers/cpp_lib.json)",
        effective="NotImplementedError: No operator found for `memory_efficient_attention_forward`",
    ),
    reproduction="python -c \"import xformers.ops as x, torch; q = torch.randn(1, 64, 2, 64, device='cuda').half()\n"
    'x.memory_efficient_attention(q, q, q)"',
    recommendations=(
        Recommendation(
            "Install the xformers that was built for torch 2.11.0, or remove it if nothing needs it.",
            (Setting("pip", "xformers", "", "pip uninstall xformers"),),
        ),
    ),
)

_NOTE = Finding(
    "ATC840",
    "known-bad-version",
    Severity.NOTE,
    "flash-attn-4 4.0.0b36 returns zeros for causal=True, window_size=(-1, 0).",
    Basis.STATIC,
    recommendations=(Recommendation("Write (None, 0), or leave the window out."),),
)


def h100_report() -> Report:
    """An H100 with two broken installs and a full convention table."""
    gone = (Reason("flash-attn-3 is not installed", "flash-attn-3 installed", "not installed", "package metadata"),)
    return Report(
        command="doctor",
        version="0.2.0",
        environment=H100_ENVIRONMENT,
        implementations=(
            Implementation("eager", False, Basis.STATIC, Status.OK),
            Implementation("sdpa", True, Basis.STATIC, Status.OK),
            Implementation("flash_attention_2", False, Basis.STATIC, Status.OK),
            Implementation("flash_attention_3", False, Basis.STATIC, Status.REJECTED, gone),
        ),
        findings=(_CLOBBERED, _BROKEN, _NOTE),
        checks=(
            Check("ATC801", "ok"),
            Check("ATC803", "finding"),
            Check("ATC808", "finding"),
            Check("ATC899", "not_run", "no model was named"),
        ),
        conventions=CONVENTIONS,
        abilities=ABILITIES,
        inventory=INVENTORY,
        torch=TORCH,
    )


def incident_report() -> Report:
    """The incident that `doctor --reproduce te-window` measures, with the figures of an H100."""
    return Report(
        command="doctor",
        version="0.2.0",
        environment=H100_ENVIRONMENT,
        arguments={"--reproduce": "te-window", "--window": "1024"},
        incident=WindowIncident(
            1024,
            "batch 2, 2048 tokens, 64 heads, head_dim 64, float16, softmax_scale 1.0",
            "flash-attn-2",
            "cudnn-graph",
            4.32,
            0.0039,
            0.115,
            0.0005,
            1024,
            1024,
            1024,
            0,
            versions={"flash-attn": "2.8.3.post2", "nvidia-cudnn-cu13": "9.19.0.56"},
            kernels=_KERNELS,
            exact=True,
            heads_agree=True,
            keys={"flash-attn-2": 1025, "cudnn-graph": 1024},
            words={"cudnn-graph": ("left_bound=1024", "left_bound=1025")},
            others={"te-flash - te-fused": 0.0039},
            remarks=("te-flash-4 was NOT RUN: it is not installed",),
        ),
    )


def sound_report() -> Report:
    """The same machine with nothing wrong, one note aside."""
    return replace(
        h100_report(), findings=(_NOTE,), checks=tuple(Check(code, "ok") for code in ("ATC801", "ATC802", "ATC803"))
    )


def cpu_report() -> Report:
    """A machine without a GPU: what needs one is NOT RUN."""
    gpu = "no GPU"
    idle = tuple(
        Convention(api, "", "window", 64, 64, Outcome.NOT_RUN, None, detail=gpu)
        for api in ("flash-attn-2", "sdpa-cudnn")
    )
    return Report(
        command="doctor",
        version="0.2.0",
        environment=ENVIRONMENT,
        implementations=(Implementation("eager", True, Basis.STATIC, Status.OK),),
        checks=(Check("ATC801", "ok"), Check("ATC803", "ok"), Check("ATC899", "not_run", gpu)),
        conventions=(*sdpa("sdpa-math"), *idle),
        abilities=(_ability("sdpa-math", "gqa", "interleaved"),),
        inventory=Inventory(),
        torch=TorchState("2.13.0+cpu"),
    )


def static_report() -> Report:
    """`doctor --static`: nothing was imported, no kernel ran."""
    why = "--static: nothing is imported, no kernel is run"
    return replace(
        cpu_report(),
        checks=(Check("ATC801", "not_run", why), Check("ATC803", "ok")),
        conventions=(),
        abilities=(),
        torch=None,
        missing=dict.fromkeys(("imports", "torch", "conventions", "abilities"), why),
    )
