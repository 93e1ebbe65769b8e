"""The chain from TransformerEngine's settings to the backend that runs, in words; remarks and what helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from packaging.version import Version

from attncheck.environment import Environment
from attncheck.findings import Recommendation, Setting, Severity
from attncheck.frameworks.plugin import Fails, Outcome, Remark, Step, newer_than
from attncheck.frameworks.transformer_engine_call import TAKEN_SINCE, documented, rewritten
from attncheck.frameworks.transformer_engine_layers import Setup
from attncheck.frameworks.transformer_engine_params import BACKENDS, FLASH, FUSED, READ, UNFUSED, Params
from attncheck.frameworks.transformer_engine_parse import Settings
from attncheck.frameworks.transformer_engine_selection import VARIABLES, Selection, acts, cudnn, installed, source
from attncheck.semantics import describe
from attncheck.semantics.shape import Shape

NAME, TITLE = "transformer-engine", "TransformerEngine"
#: GPUs that are looked at beside the one that is assumed.
BESIDE = ((8, 0), (10, 0))
_NONDETERMINISTIC = "NVTE_ALLOW_NONDETERMINISTIC_ALGO"
_SWITCHES = {"NVTE_FLASH_ATTN": FLASH, "NVTE_FUSED_ATTN": (FUSED,), "NVTE_UNFUSED_ATTN": (UNFUSED,)}


@dataclass(frozen=True, slots=True)
class Run:
    """One resolution. here: the GPU that is resolved for is this machine's; installed: so is TransformerEngine."""

    setup: Setup
    typed: Settings
    environment: Environment
    shape: Shape
    here: bool
    installed: bool

    @property
    def version(self) -> Version:
        """Of TransformerEngine."""
        return self.setup.version

    def on(self, capability: tuple[int, int]) -> Selection | None:
        """The selection on another GPU."""
        other = Setup(self.version, self.setup.written, params_of(self.environment, self.typed, capability))
        return other.chosen(self.setup.written, self.shape)


def params_of(environment: Environment, typed: Settings, capability: tuple[int, int]) -> Params:
    """The machine: its GPU, packages and variables, and what was typed in their place."""
    variables = {**environment.variables, **environment.inert, **typed.variables}
    known = {name: value for name, value in variables.items() if name in VARIABLES}
    return Params(
        capability,
        cudnn(environment, typed.packages),
        installed(environment, typed.packages),
        known,
        deterministic=known.get(_NONDETERMINISTIC, "1").strip() == "0",
    )


# The chain ------------------------------------------------------------------------------------------


def steps(run: Run, outcome: Outcome) -> Iterator[Step]:
    """One step a setting, a variable and a backend."""
    written, version = run.setup.written, run.version
    if Version(READ[-1]) < version:
        yield newer_than(READ[-1])
    yield from _window_steps(run)
    yield from _variable_steps(run)
    if isinstance(outcome, Fails) and outcome.error != "ValueError":
        return
    selection = run.setup.chosen(written, run.shape)
    if selection is None:
        return
    capability = ".".join(map(str, run.setup.params.capability))
    where = f"compute capability {capability}" + ("" if run.here else ", not this machine's")
    found = source(version)
    for backend in BACKENDS:
        against = [entry for entry in selection.against if entry.backend == backend]
        absent = [entry.says for entry in against if entry.absent]
        if absent and backend in FLASH[1:] and backend not in run.setup.params.flash:
            continue  # further packages that nobody installed are no news
        if reasons := absent or [entry.says for entry in against]:
            # A backend that is only preferred less could run: `Selection.available` has it.
            preference = not absent and all(entry.drop is None for entry in against)
            what = f"gives way to {selection.chosen}" if preference else "is not used"
            yield Step(f"{backend} {what} ({where}): {'; '.join(dict.fromkeys(reasons))}", source=found)
    if selection.chosen is not None:
        others = ", ".join(name for name in selection.available if name != selection.chosen)
        could = f"; {others} could run too" if others else ""
        yield Step(f"{selection.chosen} is selected ({where}){could}", source=found)
    if not run.here:
        for other in BESIDE:
            there = run.on(other)
            if there is not None and there.chosen != selection.chosen:
                yield Step(f"on compute capability {other[0]}.{other[1]}: {there.chosen or 'no backend'}", source=found)


def _window_steps(run: Run) -> Iterator[Step]:
    written, version = run.setup.written, run.version
    changed = rewritten(written, version)
    if changed.size is None:
        yield Step(changed.error, "window_size", str(written.window_size), f"check_set_window_size ({version})")
        return
    window = documented(changed.size)
    means = describe.band(window.left, window.right)
    said = "not given" if written.window_size is None else str(written.window_size)
    became = "" if changed.size == written.window_size else f"becomes {changed.size}"
    became += " with a warning" if became and changed.warns and written.window_size is not None else ""
    text = "; ".join(filter(None, (became, f"both ends inclusive: {means}")))
    yield Step(text, "window_size", said, f"check_set_window_size and the docstring of DotProductAttention ({version})")


def _variable_steps(run: Run) -> Iterator[Step]:
    for name, value in run.setup.params.variables.items():
        if not acts(name, run.version):
            since, below = VARIABLES[name]
            bounds = f"read from {since} on" + (f", no longer in {below}" if below else "")
            yield Step(f"not read by {run.version} ({bounds})", name, value, source(run.version))
        elif value.strip() != "1":
            yield Step("switches it off" if value.strip() == "0" else "is read", name, value, source(run.version))


# Remarks --------------------------------------------------------------------------------------------


def remarks(run: Run, outcome: Outcome) -> Iterator[Remark]:
    """A backend that was asked for by a switch, and is not the one that runs."""
    selection = run.setup.chosen(run.setup.written, run.shape)
    if selection is None:
        return
    variables = run.setup.params.variables
    off = {name for name in _SWITCHES if variables.get(name, "").strip() == "0"}
    on = {name for name in _SWITCHES if variables.get(name, "").strip() == "1"}
    # Who leaves one of the two fast backends asks for the other.
    wanted = on or (
        {"NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN"} - off
        if len(off & {"NVTE_FLASH_ATTN", "NVTE_FUSED_ATTN"}) == 1
        else set()
    )
    asked = [name for switch in sorted(wanted) for name in _SWITCHES[switch]]
    if not asked or selection.chosen in asked:
        return
    missing = {entry.backend for entry in selection.against if entry.absent}
    against = [entry for entry in selection.against if entry.backend in asked]
    told = [entry for entry in against if entry.backend not in missing] or [entry for entry in against if entry.absent]
    why = "; ".join(dict.fromkeys(entry.says for entry in told))
    switch = sorted(wanted)[0]
    said = " ".join(f"{name}={variables[name]}" for name in sorted(on or off))
    names = " or ".join(dict.fromkeys(name.partition(" ")[0] for name in asked))
    yield Remark(
        slug="silent-fallback",
        severity=Severity.WARNING,
        message=f"{TITLE} {run.version} runs {selection.chosen} although {said} asks for {names}, and logs it under "
        f"NVTE_DEBUG=1 only: {why}",
        setting=switch,
        fixes=(
            Recommendation(
                "Remove what speaks against it, or switch the fallback off, so that such a call raises.",
                (Setting("shell", "NVTE_UNFUSED_ATTN", "0", "export NVTE_UNFUSED_ATTN=0"),),
            ),
        ),
        evidence=source(run.version),
    )


def fixes(run: Run) -> Iterator[Recommendation]:
    """What helps a run that ends with an error."""
    written = run.setup.written
    for name in written.given:
        if (since := TAKEN_SINCE.get(name)) is not None and run.version < Version(since):
            text = f"Upgrade to TransformerEngine {since} or newer, which takes {name}."
            yield Recommendation(
                text, (Setting("shell", "pip", since, f'pip install "transformer-engine[pytorch]>={since}"'),)
            )
            return
    if rewritten(written, run.version).size is None:
        size = "(-1, 0)" if written.causal else "(-1, -1)"
        yield Recommendation("Write no window.", (Setting(NAME, "window_size", size, f"window_size={size}"),))
        return
    yield Recommendation(
        "Allow the unfused backend, which takes every call in sbhd and bshd.",
        (Setting("shell", "NVTE_UNFUSED_ATTN", "1", "export NVTE_UNFUSED_ATTN=1"),),
    )
