"""The facts about a machine in the terminal: hardware, libraries and their builds, torch's own state, variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from attncheck.checks.variables import effect_word
from attncheck.environment import Environment
from attncheck.installed.inventory import Build, Inventory
from attncheck.installed.state import TorchState
from attncheck.render.symbols import VERDICT
from attncheck.report import Report
from attncheck.verdicts import Verdict

_GIB = 1 << 30
_TORCH = "torch, as it sees itself"

_KERNEL = re.compile(r"\.(\w+)_sdp_enabled\(\)$")
#: Switch -> the values that torch starts with (torch's documentation of each); where two stand here it depends on the
#: build.
_USUAL: Mapping[str, tuple[str, ...]] = {
    "torch.backends.cuda.is_flash_attention_available()": ("True", "False"),
    "torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()": ("False",),
    "torch.nn.attention.current_flash_attention_impl()": ("None",),
    "torch.backends.cuda.matmul.allow_tf32": ("False",),
    "torch.backends.cudnn.allow_tf32": ("True",),
    "torch.get_float32_matmul_precision()": ("highest",),
    "torch.are_deterministic_algorithms_enabled()": ("False",),
    "torch.backends.cudnn.enabled": ("True",),
    "torch.backends.cudnn.deterministic": ("False",),
    "torch.backends.cudnn.benchmark": ("False",),
    "torch.get_default_dtype()": ("torch.float32",),
    "torch.get_default_device()": ("cpu",),
}

#: (label, fact, remark on it, where it was read)
Fact = tuple[str, str, str, str]


def sections(report: Report) -> list[RenderableType]:
    """Machine, libraries, torch, variables; each line a fact with its source."""
    environment, inventory = report.environment, report.inventory
    libraries, absent = library_facts(environment, inventory)
    parts = _section("Machine", machine_facts(environment), environment.sources.get("gpus", ""))
    parts += [Text(), *_section("Libraries", libraries, f"versions: {environment.sources.get('libraries', '')}")]
    if absent:
        parts.append(_inset(Text(f"not installed: {', '.join(absent)}", style="dim")))
    if report.torch is not None:
        parts += [Text(), *_section(_TORCH, torch_facts(report.torch), "a process that imported it")]
    elif reason := report.missing.get("torch"):
        symbol, word, colour = VERDICT[Verdict.NOT_RUN]
        unread = Text.assemble((f"{symbol} {word}", colour), f"  {reason}")
        parts += [Text(), Text(_TORCH, style="bold underline"), _inset(unread)]
    if variables := variable_facts(environment):
        parts += [Text(), *_section("Environment variables", variables, "this process")]
    return parts


def machine_facts(environment: Environment) -> list[Fact]:
    """Python, platform, GPUs, driver."""
    facts: list[Fact] = [("python", f"{environment.python}, {environment.platform}", "", "this process")]
    source = environment.sources.get("gpus", "")
    for gpu in environment.gpus:
        major, minor = gpu.capability
        size = f"{gpu.memory / _GIB:.0f} GiB"
        facts.append((f"gpu {gpu.index}", f"{gpu.name}, compute capability {major}.{minor}, {size}", "", source))
    if environment.driver:
        facts.append(("driver", environment.driver, "", source))
    if environment.gpu_note:
        facts.append(("gpu", environment.gpu_note, "", source))
    return facts


def library_facts(environment: Environment, inventory: Inventory | None) -> tuple[list[Fact], list[str]]:
    """Installed distributions with what they were built for, and the names of those that are absent."""
    builds = {} if inventory is None else inventory.builds
    facts: list[Fact] = []
    absent: list[str] = []
    for library in environment.libraries:
        if library.version is None and not library.note:
            absent.append(library.name)
            continue
        build = builds.get(library.name)
        words, source = ("", "") if build is None else (build_words(build), build.source)
        if library.name == "torch" and not words and environment.torch_cuda is not None:
            source = environment.sources.get("torch build", "")
        told = bool(library.note) and words.startswith(library.note)  # the note has torch's CUDA as the build has it
        remark = "; ".join(filter(None, ("" if told else library.note, words)))
        facts.append((library.name, library.version or "absent", remark, source))
    return facts, absent


def build_words(build: Build) -> str:
    """`built for torch 2.10.0, CUDA 12.8, cp312, GPU code for 8.0, 9.0`; "" where nothing is known."""
    words = [
        f"torch {build.torch}" if build.torch else "",
        f"CUDA {build.cuda}" if build.cuda else "",
        f"C++11 ABI {build.cxx11abi}" if build.cxx11abi else "",
        build.python,
    ]
    known = ", ".join(filter(None, words))
    code = f"GPU code for {', '.join(build.architectures)}" if build.architectures else ""
    return "; ".join(filter(None, (f"built for {known}" if known else "", code)))


def torch_facts(state: TorchState) -> list[Fact]:
    """What torch was compiled for, whether it can start CUDA, switches that are not at their default."""
    facts: list[Fact] = [("version", state.version, "", "")]
    facts.append(("CUDA", state.cuda or "none: a build for CPU only", "", "torch.version.cuda"))
    if state.cuda and not state.cuda_available:
        facts.append(("", f"cannot be started: {state.cuda_error or 'no reason given'}", "", "torch.cuda"))
    if state.cudnn:
        facts.append(("cuDNN", state.cudnn, "", "torch.backends.cudnn.version()"))
    if state.architectures:
        facts.append(("compiled for", ", ".join(state.architectures), "", "torch.cuda.get_arch_list()"))
    facts += [(name, f"capability {capability}", "", "torch.cuda") for name, capability in state.devices]
    facts += _flag_facts(state.flags)
    for library, flag, before, after in state.changed_by_import:
        facts.append(("changed", f"importing {library} turned {flag} from {before} to {after}", "", ""))
    facts += [("unreadable", problem, "", "") for problem in state.problems]
    return facts


def _flag_facts(flags: Mapping[str, str]) -> list[Fact]:
    """SDPA's kernels on one line, and every other switch that is not as torch sets it by itself."""
    kernels = {found[1]: value for name, value in flags.items() if (found := _KERNEL.search(name))}
    off = [name for name, value in kernels.items() if value == "False"]
    on = [name for name in kernels if name not in off]
    facts: list[Fact] = []
    if kernels:
        words = f"{', '.join(on) or 'none'} on" + (f"; {', '.join(off)} off" if off else "")
        facts.append(("SDPA kernels", words, "", "torch.backends.cuda.*_sdp_enabled()"))
    changed = [(n, v) for n, v in flags.items() if not _KERNEL.search(n) and v not in _USUAL.get(n, ())]
    facts += [("switch", f"{n} = {v}", "not torch's default" if n in _USUAL else "", "") for n, v in changed]
    if flags and not changed:
        facts.append(("other switches" if off else "switches", "all at torch's defaults", "", ""))
    return facts


def variable_facts(environment: Environment) -> list[Fact]:
    """Variables that could change which attention runs, and those that are set in vain, each with whether it acts."""
    given = {**environment.variables, **environment.inert}
    return [(name, repr(value), effect_word(environment, name), "") for name, value in given.items()]


def _section(title: str, facts: Iterable[Fact], source: str = "") -> list[RenderableType]:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for label, fact, remark, where in facts:
        text = Text(fact)
        if remark:
            text.append(f"  {remark}")
        if where and where != source:
            text.append(f"  [{where}]", style="dim")
        grid.add_row(label, text)
    heading = Text.assemble((title, "bold underline"), (f"  [{source}]" if source.strip(": ") else "", "dim"))
    return [heading, _inset(grid)]


def _inset(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))
