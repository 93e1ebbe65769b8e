"""The use case of `doctor`: gather the facts about this machine, let every check judge them, and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import attncheck
from attncheck.backends import interface as backends
from attncheck.checks import registry
from attncheck.checks.machine import Machine, MachineCheck
from attncheck.checks.runnable import importable, usable_here
from attncheck.environment import Environment, read_environment
from attncheck.errors import UsageError
from attncheck.findings import Finding
from attncheck.installed.inventory import Inventory
from attncheck.installed.reading import read_inventory
from attncheck.report import Check, Report

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What `attncheck doctor` was asked for.

    static: import nothing, not even in another process, and run no kernel. only: codes or slugs of checks, empty = all.
    thorough: read also what compiles anew for each call, in full. timeout: seconds of silence allowed to one probe.
    apis: names of the kernel APIs to read, empty = all that do not compile for a minute.
    """

    static: bool = False
    only: tuple[str, ...] = ()
    timeout: float = 120.0
    thorough: bool = False
    apis: tuple[str, ...] = ()


def examine(options: DoctorOptions, progress: Progress = lambda _: None) -> Report:
    """Report on this machine. Raises UsageError for a check or a kernel API that does not exist."""
    wanted = chosen_checks(options.only)
    check_apis(options)
    machine = gather(options, wanted, progress)
    findings: list[Finding] = []
    checks: list[Check] = []
    for check in wanted:
        if refusal := check.refusal(machine):
            checks.append(Check(check.rule.code, "not_run", refusal))
            continue
        found = tuple(check.judge(machine))
        findings += found
        checks.append(Check(check.rule.code, "finding" if found else "ok"))
    return Report(
        command="doctor",
        version=attncheck.__version__,
        environment=machine.environment,
        implementations=importable(machine),
        findings=tuple(sorted(findings, key=lambda finding: -finding.severity.rank)),
        checks=tuple(checks),
        conventions=machine.conventions or (),
        abilities=(*(machine.abilities or ()), *(machine.confirmations or ())),
        inventory=machine.inventory,
        torch=machine.torch,
        missing=machine.missing,
    )


def gather(options: DoctorOptions, wanted: tuple[MachineCheck, ...], progress: Progress) -> Machine:
    """The facts that the wanted checks need, and those the report shows anyway."""
    progress("reading what is installed")
    environment = read_environment()
    implementations = usable_here(environment)
    missing: dict[str, str] = {}
    inventory = inventory_of(environment, missing)
    if options.static:
        nothing = "--static: nothing is imported, no kernel is run"
        missing |= dict.fromkeys(("imports", "torch", "conventions", "abilities"), nothing)
        return Machine(environment, implementations, inventory, missing=missing)
    from attncheck.probe import machine as probing  # loads much that --static has no use for

    facts = probing.gather(
        environment,
        probing.Wanted(
            imports=_read(options, wanted, "imports"),
            torch=_read(options, wanted, "torch"),
            confirmations=_read(options, wanted, "confirmations"),
            kernels=any(_read(options, wanted, fact) for fact in ("conventions", "abilities")),
            apis=options.apis,
            thorough=options.thorough,
            limit=options.timeout,
        ),
        progress,
    )
    return Machine(
        environment,
        implementations,
        inventory,
        facts.imports,
        facts.torch,
        facts.conventions,
        facts.abilities,
        facts.confirmations,
        {**missing, **facts.missing},
    )


def _read(options: DoctorOptions, wanted: tuple[MachineCheck, ...], fact: str) -> bool:
    """True when somebody reads this field of `Machine`: a check that runs, or the whole report."""
    return not options.only or any(fact in (*check.needs, *check.uses) for check in wanted)


def inventory_of(environment: Environment, missing: dict[str, str]) -> Inventory | None:
    """What lies installed; None, with the reason in `missing`, when an environment breaks the reader."""
    try:
        return read_inventory(environment)
    except Exception as error:  # damaged environments are what doctor is for: the other checks go on
        missing["inventory"] = f"reading the installed files broke: {type(error).__name__}: {error}"
        return None


def machine_checks() -> tuple[MachineCheck, ...]:
    """Every check of doctor, in order of its code."""
    found = [check for group in registry.groups() for check in group.machine]
    return tuple(sorted(found, key=lambda check: check.rule.code))


def chosen_checks(only: tuple[str, ...]) -> tuple[MachineCheck, ...]:
    """The checks named by code or slug, all without a name. Raises UsageError for an unknown one."""
    checks = machine_checks()
    for name in only:
        if not any(name.upper() == check.rule.code or name == check.rule.slug for check in checks):
            known = ", ".join(f"{check.rule.code} {check.rule.slug}" for check in checks)
            raise UsageError(
                f"--check {name!r} is not a check of doctor; there are {known}", "attncheck doctor --list-checks"
            )
    names = {name.upper() for name in only} | set(only)
    return tuple(check for check in checks if not only or {check.rule.code, check.rule.slug} & names)


def check_apis(options: DoctorOptions) -> None:
    """Raise UsageError for the name of an API that does not exist, and for what reads kernels beside --static."""
    apis = backends.apis() if options.apis else {}
    for name in options.apis:
        if name not in apis:
            raise UsageError(f"--api {name!r} is no kernel API", f"there are {', '.join(apis)}")
    if options.apis and options.static:
        raise UsageError("--api reads kernels, and --static runs none", "leave out one of them")
    if options.thorough and options.static:
        raise UsageError("--thorough reads more kernels, and --static runs none", "leave out one of them")
