"""Gathers the facts about a machine that only processes can tell: which imports work, torch's state, the kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from attncheck.environment import LIBRARIES, Environment
from attncheck.installed.state import TorchState
from attncheck.installed.trial import Cause, ImportTrial
from attncheck.probe import conventions as convention_table
from attncheck.probe import torch_state
from attncheck.probe.defects import confirm
from attncheck.probe.imports import LIMIT, side_by_side, try_import
from attncheck.probe.jobs import Jobs, processes
from attncheck.semantics.convention import Ability, Convention
from attncheck.semantics.observation import Crashed

#: Distributions whose import is tried. The frameworks above them take long to import and are checked by what they need.
IMPORTED = (
    "torch",
    "transformers",
    "flash-attn",
    "flash-attn-3",
    "flash-attn-4",
    "xformers",
    "kernels",
    "triton",
    "nvidia-cudnn-frontend",
    "transformer-engine",
    "flashinfer-python",
    "bitsandbytes",
)

#: Distribution -> the operation tried after its import: what it says of itself, or whether it has operators.
OPERATIONS = {"torch": torch_state.OPERATION, "xformers": "xformers"}

#: Seconds that the worker gets to import torch before a trial of torch is started beside it, which tells a hang.
PATIENCE = 30.0

#: Why a group of facts was not gathered under --check.
NOT_NEEDED = "no check that was asked for needs it"

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to gather, as of `Facts`; kernels: conventions and abilities.

    apis, thorough: as `only` and `thorough` of `conventions.read`. limit: seconds of silence allowed to one process.
    """

    imports: bool = True
    torch: bool = True
    confirmations: bool = True
    kernels: bool = True
    apis: tuple[str, ...] = ()
    thorough: bool = False
    limit: float = LIMIT


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found, as of `checks.machine.Machine`; None where nobody looked, and `missing` says why."""

    imports: Mapping[str, ImportTrial] | None = None
    torch: TorchState | None = None
    conventions: tuple[Convention, ...] | None = None
    abilities: tuple[Ability, ...] | None = None
    confirmations: tuple[Ability, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def gather(environment: Environment, wanted: Wanted, progress: Progress) -> Facts:
    """Every library is first imported in a process that may die or hang without harm to anything else.

    torch takes a second or more to import, so without a GPU one process must do: the worker that will run the kernels
    imports it, and that it went well is all that a trial would say. Where it did not, a trial says what broke.
    """
    missing: dict[str, str] = {}
    by_worker = wanted.torch and wanted.kernels and not environment.gpus and environment.version("torch") is not None
    names: Sequence[str] = IMPORTED if wanted.imports else ("torch",) if wanted.torch else ()
    if by_worker:
        names = tuple(name for name in names if name != "torch")
    # The worker is ended before what runs beside it is waited for.
    with side_by_side(1) as beside, Jobs(wanted.limit) as jobs:
        if by_worker:
            jobs.prepare()
        progress("importing each library in a process of its own")
        running = beside.submit(lambda: import_trials(environment, names=names, limit=wanted.limit))
        trials = {"torch": _trial_of_torch(environment, jobs, wanted.limit)} if by_worker else running.result()
        torch = None
        if wanted.torch:
            progress("asking torch for its own state")
            torch = torch_of(environment, trials, missing)
        else:
            missing["torch"] = NOT_NEEDED
        confirmations, conventions, abilities = None, None, None
        if torch is not None and torch.cuda_available and wanted.confirmations:
            confirmations = confirm(jobs, progress=progress)
        if not wanted.kernels:
            missing |= dict.fromkeys(("conventions", "abilities"), NOT_NEEDED)
        elif reason := _without_torch(environment, missing):
            missing |= dict.fromkeys(("conventions", "abilities"), reason)
        else:
            device = "cuda" if (torch.cuda_available if torch is not None else environment.gpus) else "cpu"
            conventions, abilities = convention_table.read(
                jobs, environment, device, progress, only=wanted.apis, thorough=wanted.thorough
            )
        imports = {**trials, **running.result()} if wanted.imports else None
    if imports is None:
        missing["imports"] = NOT_NEEDED
    return Facts(imports, torch, conventions, abilities, confirmations, missing)


def _trial_of_torch(environment: Environment, jobs: Jobs, limit: float) -> ImportTrial:
    """That of the worker when all went well, else one of its own."""
    if (state := jobs.torch_state(min(limit, PATIENCE))) is not None:
        return ImportTrial(LIBRARIES["torch"], operation=state)
    return import_trials(environment, names=("torch",), limit=limit)["torch"]


def _without_torch(environment: Environment, missing: Mapping[str, str]) -> str:
    """Why no kernel can be run at all, "" when torch is there and was not seen to break."""
    if environment.version("torch") is None:
        return "torch is not installed"
    reason = missing.get("torch", NOT_NEEDED)
    return "" if reason == NOT_NEEDED else f"torch cannot be used: {reason}"


def torch_of(environment: Environment, trials: Mapping[str, ImportTrial], missing: dict[str, str]) -> TorchState | None:
    """What torch says of itself, out of its import trial; None, with the reason in `missing`, where it says nothing."""
    if "torch" not in trials:
        missing["torch"] = "torch is not installed"
        return None
    state = torch_state.of(trials["torch"])
    if isinstance(state, Crashed):
        missing["torch"] = (
            f"torch {state.reason}" if trials["torch"].cause in (Cause.HANG, Cause.SLOW) else state.reason
        )
        return None
    return torch_state.with_changes(state, environment)


def import_trials(
    environment: Environment, names: Sequence[str] = IMPORTED, limit: float = LIMIT
) -> dict[str, ImportTrial]:
    """Distribution -> how its import went, for every installed one out of `names`. limit: seconds for each."""
    installed = [name for name in names if environment.version(name) is not None]
    with side_by_side(processes()) as pool:
        trials = pool.map(
            lambda name: try_import(LIBRARIES[name], operation=OPERATIONS.get(name, ""), limit=limit), installed
        )
        return dict(zip(installed, trials))
