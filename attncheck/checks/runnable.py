"""What can run here: each implementation by its limits, less what files, driver and imports say against it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attncheck.backends import interface as backends
from attncheck.backends.limits import written
from attncheck.checks.cards import refusals, usual_call
from attncheck.checks.hardware import architectures, newer, uncovered
from attncheck.checks.installation import SERVED_BY, unusable_after
from attncheck.checks.machine import Machine
from attncheck.checks.settings import all_off
from attncheck.environment import Environment
from attncheck.gpus import Gpu
from attncheck.semantics.observation import Basis, Reason, Rejected
from attncheck.verdicts import Implementation, Status


def usable_here(environment: Environment) -> tuple[Implementation, ...]:
    """Every implementation that a backend serves, with the reasons against it, for the usual call on this device."""
    return tuple(
        _by_limits(backend, name, environment) for backend in backends.find() for name in backend.implementations
    )


def _by_limits(backend: backends.Backend, name: str, environment: Environment) -> Implementation:
    call = usual_call(environment)
    verdict = backend.decide(name, environment, call)
    if isinstance(verdict, Rejected):
        return Implementation(name, False, Basis.STATIC, Status.REJECTED, verdict.reasons)
    notes: tuple[Reason, ...] = (Reason(verdict.note),) if verdict.note else ()
    usual = backend.decide(name, environment, replace(call, dtype="bfloat16"))
    if isinstance(usual, Rejected):
        notes += tuple(replace(reason, text=f"not in bfloat16: {reason.text}") for reason in usual.reasons)
    return Implementation(name, False, Basis.STATIC, Status.OK, notes, verdict.kernels)


def importable(machine: Machine) -> tuple[Implementation, ...]:
    """What could run by its limits, less what this machine was seen to refuse.

    That is what fails at import, everything where torch cannot start CUDA, and what has no code for any of the GPUs.
    Of several GPUs, those that an implementation cannot use become a note.
    """
    return tuple(_less_broken(entry, machine) for entry in machine.implementations)


def _less_broken(entry: Implementation, machine: Machine) -> Implementation:
    if entry.status is not Status.OK:
        return entry
    if (reason := _at_import(entry.name, machine)) is not None:
        return replace(entry, basis=Basis.MEASURED, status=Status.REJECTED, reasons=(reason,))
    if entry.name == "sdpa" and machine.torch is not None and all_off(machine.torch):
        off = Reason("all of its kernels are switched off from the start of Python", source="torch's switches")
        return replace(entry, basis=Basis.MEASURED, status=Status.REJECTED, reasons=(off,))
    if not machine.environment.gpus:
        return entry
    if (reason := _without_cuda(machine)) is not None:
        basis = Basis.STATIC if machine.torch is None else Basis.MEASURED
        return replace(entry, basis=basis, status=Status.REJECTED, reasons=(reason,))
    unfit = {gpu: reasons for gpu in machine.environment.gpus if (reasons := _against(entry.name, machine, gpu))}
    if len(unfit) == len(machine.environment.gpus):
        every = dict.fromkeys(reason for reasons in unfit.values() for reason in reasons)
        return replace(entry, status=Status.REJECTED, reasons=tuple(every))
    return replace(entry, reasons=(*entry.reasons, *_named(unfit)))


def _at_import(name: str, machine: Machine) -> Reason | None:
    imports = machine.imports or {}
    for library in ("torch", SERVED_BY.get(name, "")):
        if wrong := unusable_after(imports.get(library)):
            return Reason(f"{library} {wrong}")
    return None


def _without_cuda(machine: Machine) -> Reason | None:
    """Why torch reaches none of the GPUs: as seen, else by the versions of torch and the driver."""
    environment, torch = machine.environment, machine.torch
    if torch is not None:
        said = f": {torch.cuda_error}" if torch.cuda_error else ""
        return None if torch.cuda_available else Reason(f"torch cannot start CUDA{said}")
    if not newer(environment.torch_cuda, environment.driver):
        return None
    limit = f"a driver for CUDA {environment.torch_cuda}"
    return Reason("the driver is older than torch's CUDA", limit, environment.driver, "torch/version.py, NVML")


def _against(name: str, machine: Machine, gpu: Gpu) -> tuple[Reason, ...]:
    """What keeps an implementation off one GPU: its own limits, else binaries without code for it."""
    if reasons := refusals(machine.environment, gpu, name):
        return reasons
    wanted = f"code for {written(gpu.capability)}"
    for library in ("torch", SERVED_BY.get(name, "")):
        if gpu in uncovered(machine, library):
            held = f"code for {', '.join(architectures(machine, library))}"
            return (Reason(f"{library} holds no code for {gpu.name}", wanted, held, "the library's binaries"),)
    return ()


def _named(unfit: dict[Gpu, tuple[Reason, ...]]) -> Iterator[Reason]:
    """One note a reason, with the GPUs that it concerns."""
    every = dict.fromkeys(reason for reasons in unfit.values() for reason in reasons)
    for reason in every:
        cards = ", ".join(str(gpu.index) for gpu, reasons in unfit.items() if reason in reasons)
        yield replace(reason, text=f"not on GPU {cards}: {reason.text}")
