"""What a kernel job is, and how the jobs of this room are found."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attncheck import discovery


@dataclass(frozen=True, slots=True)
class KernelJob:
    """One kind of kernel work; a module of `attncheck.probe.kernels` offers it as `JOB`.

    run: (step, arguments) -> plain picklable data; called in the worker, where it imports what it needs. Whatever it
    raises becomes `Rejected` or `Crashed` of that step.
    """

    name: str
    run: Callable[[str, Mapping[str, Any]], Any]


def find(name: str) -> KernelJob:
    """The job of that name. Raises KeyError for one that does not exist."""
    from attncheck.probe import kernels

    own = f"{kernels.__name__}.{name.replace('-', '_')}"  # the usual case, in which all other jobs stay unloaded
    if importlib.util.find_spec(own) is not None:
        job = getattr(importlib.import_module(own), "JOB", None)
        if isinstance(job, KernelJob) and job.name == name:
            return job
    return {job.name: job for job in discovery.plugins(kernels, "JOB", KernelJob)}[name]
