"""What the checks of `doctor` may read, and what such a check is: facts about one machine in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from attncheck.environment import Environment
from attncheck.findings import Finding, Rule
from attncheck.installed.inventory import Inventory
from attncheck.installed.state import TorchState
from attncheck.installed.trial import ImportTrial
from attncheck.semantics.convention import Ability, Convention
from attncheck.verdicts import Implementation


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything known about this machine. A group of facts that nobody looked at is None, and `missing` says why.

    environment: versions, GPUs, variables. implementations: what could run, by limits alone. inventory: files,
    copies and build tags of the installed distributions. imports: distribution -> how its import ended. torch: what the
    imported torch says of itself. conventions, abilities: what the kernels were seen to do. confirmations: what the
    calls under which kernels are known to go wrong did here.
    missing: name of a field -> why it is None ("--static: nothing is imported", "no GPU").
    """

    environment: Environment
    implementations: tuple[Implementation, ...] = ()
    inventory: Inventory | None = None
    imports: Mapping[str, ImportTrial] | None = None
    torch: TorchState | None = None
    conventions: tuple[Convention, ...] | None = None
    abilities: tuple[Ability, ...] | None = None
    confirmations: tuple[Ability, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MachineCheck:
    """One check of `doctor`. needs: fields of `Machine` without which it does not run; uses: those it reads if there.

    idle: why there is nothing on this machine that the check could look at, "" when there is; asked once all of `needs`
    is there.
    """

    rule: Rule
    judge: Callable[[Machine], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    idle: Callable[[Machine], str] | None = None

    def refusal(self, machine: Machine) -> str:
        """Why the check cannot run or would look at nothing, "" when it can: no finding must not read as sound then."""
        for name in self.needs:
            if getattr(machine, name) is None:
                return machine.missing.get(name, f"{name}: not looked at")
        return self.idle(machine) if self.idle is not None else ""


def without_gpu(machine: Machine) -> str:
    """Why a check about GPUs is idle here, "" when the driver shows one."""
    environment = machine.environment
    if environment.gpus:
        return ""
    return f"no GPU here ({environment.gpu_note})" if environment.gpu_note else "no GPU here"


def without_cuda(machine: Machine) -> str:
    """Why a check about a torch with CUDA is idle here, "" when torch has it or nobody could tell."""
    environment = machine.environment
    if environment.version("torch") is None:
        return "torch is not installed"
    return "torch is built without CUDA" if environment.torch_cuda == "" else ""


def nothing_imported(machine: Machine) -> str:
    """Why checks of import trials are idle here, "" when a library was imported."""
    return "" if machine.imports else "no library whose import would be tried is installed"
