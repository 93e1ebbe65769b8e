"""Rules about a training framework's settings: runs that cannot start, settings without effect, known remarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from packaging.specifiers import SpecifierSet

from attncheck.checks.interface import Case, Inputs, RuleGroup
from attncheck.checks.registry import code_of
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Severity
from attncheck.frameworks.flash_kernels import parsed
from attncheck.frameworks.plugin import Fails, Remark, Resolution
from attncheck.semantics.observation import Basis

_READ = "Read in the source of the framework's version, which the report names; nothing is run for it."

RULES = (
    Rule(
        "ATC620",
        "run-fails",
        "The run ends with an error under these settings",
        "The framework accepts the settings when it reads them, and raises an error later: when the model is loaded, or at the first step.",
        "The error comes after minutes of downloading, in words that do not name the setting.",
        _READ,
        "Change the setting that the finding names.",
        ("LLaMA-Factory#7096",),
    ),
    Rule(
        "ATC621",
        "setting-ignored",
        "A setting has no effect",
        "The framework reads the setting and does nothing with it for this model, this version or this machine.",
        "What the settings file says is not what runs.",
        _READ,
        "Remove the setting, or use a version that honours it.",
    ),
    Rule(
        "ATC622",
        "other-version",
        "The framework does not go with an installed package",
        "The framework's version requires another version of transformers than the one that is installed and was measured.",
        "The framework refuses to start, or what was measured is not what will run.",
        "The framework's own requirement is compared with the installed version.",
        "Install a version that the framework takes and run this command again.",
    ),
)  # fmt: skip


def conclude(case: Case) -> Iterator[Finding]:
    """What the resolution says by itself."""
    resolution = case.inputs.framework
    if resolution is None:
        return
    if isinstance(resolution.outcome, Fails):
        yield _failing(resolution, resolution.outcome, case.inputs)
    yield from (_remark(remark, resolution) for remark in resolution.remarks)
    yield from _versions(resolution, case.inputs)


def _failing(resolution: Resolution, outcome: Fails, inputs: Inputs) -> Finding:
    said = resolution.settings.get(outcome.setting, "")
    setting = f"{outcome.setting}: {said}" if said else outcome.setting
    chain = " -> ".join(step.does for step in resolution.steps if step.setting == outcome.setting)
    source = next((step.source for step in reversed(resolution.steps) if step.setting == outcome.setting), "")
    return Finding(
        code=code_of("run-fails"),
        slug="run-fails",
        severity=Severity.ERROR,
        message=f"{resolution.named} ends with {outcome.error} under {setting or 'these settings'}: {outcome.reason}",
        basis=Basis.STATIC,
        evidence=Evidence(
            requested=" ".join(filter(None, (setting, _place(resolution, outcome.setting)))),
            effective=f"{outcome.error}: {outcome.reason}",
            figures={key: text for key, text in (("chain", chain), ("source", source)) if text},
        ),
        recommendations=_instead(resolution, inputs) if outcome.setting == "flash_attn" else resolution.fixes,
    )


def _instead(resolution: Resolution, inputs: Inputs) -> tuple[Recommendation, ...]:
    """What the framework can be told to run here: the one that transformers picks by itself."""
    name = inputs.default if inputs.default in resolution.offers else next(iter(resolution.offers), None)
    return resolution.fixes or ((resolution.recommend(name),) if name is not None else ())


def _place(resolution: Resolution, setting: str) -> str:
    line = resolution.lines.get(setting)
    return f"({resolution.file}, line {line})" if line is not None else ""


def _remark(remark: Remark, resolution: Resolution) -> Finding:
    said = resolution.settings.get(remark.setting, "")
    asked = f"{remark.setting}: {said}" if said else ""
    return Finding(
        code=code_of(remark.slug),
        slug=remark.slug,
        severity=remark.severity,
        message=remark.message,
        basis=remark.basis,
        implementation=remark.implementation,
        scenario=remark.scenario,
        evidence=Evidence(
            requested=" ".join(filter(None, (asked, _place(resolution, remark.setting)))),
            figures={"source": remark.evidence} if remark.evidence else {},
        ),
        recommendations=remark.fixes,
    )


def _versions(resolution: Resolution, inputs: Inputs) -> Iterator[Finding]:
    for package, wanted in resolution.versions.items():
        installed = inputs.versions.get(package)
        if installed is None or not wanted or SpecifierSet(wanted).contains(parsed(installed), prereleases=True):
            continue
        here = resolution.version_from == "installed"
        what = (
            f"refuses to start with {package} {installed}"
            if here
            else f"does not take {package} {installed}, with which this was measured"
        )
        yield Finding(
            code=code_of("other-version"),
            slug="other-version",
            severity=Severity.WARNING if here else Severity.NOTE,
            message=f"{resolution.named} {what}: it requires {package} {wanted}",
            basis=Basis.STATIC,
            evidence=Evidence(declared=f"{package} {wanted}", effective=f"{package} {installed}"),
            recommendations=(Recommendation(f'pip install "{package}{wanted}", and run this command again'),),
        )


def of_what_runs(findings: Sequence[Finding], inputs: Inputs) -> list[Finding]:
    """With a framework, what is wrong with implementations that its settings do not run is a note: a choice to avoid.

    It is left out where the one that runs has the same fault; the table of verdicts has it all the same.
    """
    runs = "" if inputs.framework is None else inputs.framework.runs
    if not runs:
        return list(findings)
    own = {(finding.slug, finding.scenario, finding.part) for finding in findings if finding.implementation == runs}
    kept = []
    for finding in findings:
        if finding.implementation in (None, runs) or finding.implementation in inputs.options.implementations:
            kept.append(finding)
        elif (finding.slug, finding.scenario, finding.part) not in own:
            kept.append(replace(finding, severity=Severity.NOTE, recommendations=()))
    return kept


GROUP = RuleGroup("framework", RULES, order=75, conclude=conclude)
