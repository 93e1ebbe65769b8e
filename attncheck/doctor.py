"""The use case of `doctor`: what is installed, what can run here and why not, and what is plainly broken."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import attncheck
from attncheck.backends import interface as backends
from attncheck.checks.installation import GPU_NOT_USED, INSTALL_BROKEN, broken_installs, unusable
from attncheck.environment import LIBRARIES, Environment, read_environment
from attncheck.errors import UsageError
from attncheck.findings import Finding, Rule
from attncheck.probe.imports import failure_of
from attncheck.report import Check, Report
from attncheck.semantics.observation import Basis, Crashed, Reason, Rejected
from attncheck.verdicts import Implementation, Status

CHECKS: tuple[Rule, ...] = (INSTALL_BROKEN, GPU_NOT_USED)

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

#: Kernel library -> transformers' name of what it serves, where the two are not the same thing.
SERVED_BY = {
    "flash_attention_2": "flash-attn",
    "flash_attention_3": "flash-attn-3",
    "flash_attention_4": "flash-attn-4",
}


def examine(
    *, static: bool = False, only: tuple[str, ...] = (), progress: Callable[[str], None] = lambda _: None
) -> Report:
    """Report on this machine. static: import nothing, not even in another process. only: codes or slugs of checks.

    Raises UsageError for a check that does not exist.
    """
    wanted = chosen_checks(only)
    progress("reading what is installed")
    environment = read_environment()
    implementations = usable_here(environment)
    findings: list[Finding] = []
    checks: list[Check] = []
    if INSTALL_BROKEN in wanted:
        if static:
            checks.append(Check(INSTALL_BROKEN.code, "not_run", "--static: nothing is imported"))
        else:
            progress("importing each library in a process of its own")
            found = broken_installs(import_failures(environment), environment)
            findings += found
            checks.append(Check(INSTALL_BROKEN.code, "finding" if found else "ok"))
    if GPU_NOT_USED in wanted:
        found = unusable(environment, refused_kernels(environment, implementations))
        findings += found
        checks.append(Check(GPU_NOT_USED.code, "finding" if found else "ok"))
    return Report(
        command="doctor",
        version=attncheck.__version__,
        environment=environment,
        implementations=implementations,
        findings=tuple(sorted(findings, key=lambda finding: -finding.severity.rank)),
        checks=tuple(checks),
    )


def chosen_checks(only: tuple[str, ...]) -> tuple[Rule, ...]:
    """The checks named by code or slug, all without a name. Raises UsageError for an unknown one."""
    for name in only:
        if not any(name.upper() == rule.code or name == rule.slug for rule in CHECKS):
            known = ", ".join(f"{rule.code} {rule.slug}" for rule in CHECKS)
            raise UsageError(
                f"--check {name!r} is not a check of doctor; there are {known}", "attncheck doctor --list-checks"
            )
    return tuple(rule for rule in CHECKS if not only or rule.slug in only or rule.code in map(str.upper, only))


def usable_here(environment: Environment) -> tuple[Implementation, ...]:
    """Every implementation that a backend serves, with the reasons against it, for the usual call on this device."""
    call = backends.Call("cuda" if environment.gpus else "cpu", "bfloat16")
    entries = []
    for backend in backends.find():
        for name in backend.implementations:
            verdict = backend.decide(name, environment, call)
            if isinstance(verdict, Rejected):
                entries.append(Implementation(name, False, Basis.STATIC, Status.REJECTED, verdict.reasons))
            else:
                notes = (Reason(verdict.note),) if verdict.note else ()
                entries.append(Implementation(name, False, Basis.STATIC, Status.OK, notes, verdict.kernels))
    return tuple(entries)


def refused_kernels(environment: Environment, entries: tuple[Implementation, ...]) -> dict[str, tuple[Reason, ...]]:
    """Installed kernel libraries that this machine cannot run, with the reasons."""
    return {
        SERVED_BY[entry.name]: entry.reasons
        for entry in entries
        if entry.status is Status.REJECTED
        and entry.name in SERVED_BY
        and environment.version(SERVED_BY[entry.name]) is not None
    }


def import_failures(environment: Environment) -> dict[str, Crashed]:
    """Distribution -> how its import failed, for every installed one out of `IMPORTED`."""
    installed = [name for name in IMPORTED if environment.version(name) is not None]
    with ThreadPoolExecutor(max_workers=2) as pool:
        results = list(pool.map(lambda name: failure_of(LIBRARIES[name]), installed))
    return {name: failure for name, failure in zip(installed, results) if failure is not None}
