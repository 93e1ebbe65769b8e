"""What a survey was asked for, and the plan that follows from it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from attncheck import __version__
from attncheck.comparison.options import (
    CompareOptions,
    check_implementations,
    check_plugins,
    device_and_dtype,
    scenario_names,
)
from attncheck.environment import Environment
from attncheck.errors import UsageError
from attncheck.probe.scenario import scenarios
from attncheck.surveyed import Plan

#: What is surveyed when nobody names implementations: three that run everywhere, and one predicted without a GPU.
IMPLEMENTATIONS = ("eager", "sdpa", "flex_attention", "flash_attention_2")
#: Device -> bytes of main memory that one worker takes at most: torch and transformers (0.6 GiB) and the models of some
#: dozens of types; on a GPU also what the driver and the kernel libraries keep beside what they put on the card (an
#: H200 run with 1.4 GB lost 50 of 4186 cells to the guard).
WORKER_BYTES = {"cpu": 1_400_000_000, "cuda": 6_000_000_000}
#: Workers at most where nobody says how many.
MOST_JOBS = 16


@dataclass(frozen=True, slots=True)
class SurveyOptions:
    """What `attncheck survey` was asked for. Empty tuples mean all.

    folder: where results and tables go. jobs: workers, 0 for as many as cores and memory allow. settings: probe also
    the settings that make declared features bind. agreement: beside each flash kernel that really runs, also its
    prediction. plugins: modules that register further implementations. timeout: seconds of silence allowed to one
    scenario. type_timeout: seconds that one type in one setting may take.
    """

    folder: str = "attncheck-survey"
    types: tuple[str, ...] = ()
    impl: tuple[str, ...] = ()
    scenario: tuple[str, ...] = ()
    jobs: int = 0
    settings: bool = True
    agreement: bool = False
    plugins: tuple[str, ...] = ()
    device: str = "cpu"
    dtype: str | None = None
    seed: int = 0
    timeout: float = 60.0
    type_timeout: float = 240.0


def plan_of(options: SurveyOptions, environment: Environment) -> Plan:
    """The plan. Raises UsageError for implementations, scenarios or devices that there are not."""
    asked = CompareOptions(
        "",
        impl=options.impl,
        scenario=options.scenario,
        device=options.device,
        dtype=options.dtype,
        plugins=options.plugins,
    )
    check_implementations(asked)
    check_plugins(options.plugins)
    device, dtype = device_and_dtype(asked, environment)
    names = list(options.impl or IMPLEMENTATIONS)
    if options.agreement:
        if device != "cuda":
            raise UsageError(
                "--agreement compares real flash kernels with their prediction, and no GPU is used here",
                "--device cuda",
            )
        names += [predicted_name(name) for name in names if name.startswith("flash_attention_")]
    chosen = scenario_names(options.scenario)
    versions = {"attncheck": __version__}
    versions |= {name: environment.version(name) or "" for name in ("transformers", "torch")}
    return Plan(
        implementations=tuple(names),
        scenarios=chosen,
        core=tuple(scenario.name for scenario in scenarios() if scenario.core and scenario.name in chosen),
        dtype=dtype,
        device=device,
        seed=options.seed,
        versions=versions,
        settings=options.settings,
        plugins=options.plugins,
        asked=bool(options.scenario),
    )


#: Marks the column of an implementation's prediction beside its own, measured one.
_PREDICTED = ":predicted"


def predicted_name(implementation: str) -> str:
    """The name of the column that holds the prediction of an implementation."""
    return implementation + _PREDICTED


def without_mark(name: str) -> tuple[str, bool]:
    """(implementation, True for its prediction) of a column."""
    return name.removesuffix(_PREDICTED), name.endswith(_PREDICTED)


def jobs_of(asked: int, device: str) -> int:
    """How many workers to run: as asked, else one a core as far as main memory goes."""
    if asked:
        return asked
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # systems other than Linux
        cores = os.cpu_count() or 1
    return max(1, min(cores, MOST_JOBS, int(_free_bytes() // WORKER_BYTES[device])))


def _free_bytes() -> float:
    """Bytes of memory that are free to use; more than any number of workers needs where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024.0
    except (OSError, StopIteration, ValueError, IndexError):
        return float("inf")
