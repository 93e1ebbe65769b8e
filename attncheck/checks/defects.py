"""The rule that matches this machine, or a measured mismatch, with defects that are known by version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from attncheck.checks.defect_table import CUDNN, Confirmation, Defect, installed, table
from attncheck.checks.interface import Case, Inputs, RuleGroup
from attncheck.checks.machine import Machine, MachineCheck
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.semantics.convention import Ability, Convention, Outcome
from attncheck.semantics.observation import Basis, Observed

KNOWN_BAD_VERSION = Rule(
    "ATC840",
    "known-bad-version",
    "The installed versions match a known defect",
    "A library version, GPU architecture or cuDNN version for which wrong results, refusals or broken installs are on record.",
    "Some of these give wrong numbers without any error; a version printout does not tell.",
    "Static: versions and GPUs are matched with a table of defects with their threads. Where a probe of the same run "
    "can decide, it does: seen here, the finding is measured and may become an error; not seen here, it stays as a note "
    "that says so. A match alone is never an error. In `compare` an entry is told beside the finding that it explains, "
    "with the release that mends it, and where nothing could be measured.",
    "Paste the setting of the finding, or upgrade past the range.",
    ("pytorch#193893", "pytorch#196678", "flashinfer#4270", "transformers#39408", "TransformerEngine#1197"),
)


#: What `needs` of an entry may name besides a scenario: what a checkpoint declares.
DECLARED = ("", "window", "softcap")
#: Training frameworks whose settings `compare` reads: distribution -> how to ask for it.
FRAMEWORKS = {
    "llamafactory": " --framework llama-factory",
    "unsloth": " --framework unsloth",
    "llava": " --framework llava",
}


def known(machine: Machine) -> Iterator[Finding]:
    """One finding for each entry that matches, told by what the same run measured where it measured it."""
    libraries = installed(machine.environment, machine.torch.cudnn if machine.torch is not None else "")
    gpus = [gpu.capability for gpu in machine.environment.gpus]
    for defect in table():
        if not defect.matches(libraries, gpus):
            continue
        read = reading(defect, machine)
        if not _told_elsewhere(defect, machine, read):
            yield _finding(defect, libraries, read)


def known_together(machine: Machine) -> Iterator[Finding]:
    """`known`, with one note in the place of all that concern only some models or settings of a library."""
    every = list(known(machine))
    groups: dict[str, list[Finding]] = {}
    for finding in every:
        if finding.severity is Severity.NOTE and finding.basis is Basis.STATIC and (name := _group(_entry(finding))):
            groups.setdefault(name, []).append(finding)
    grouped = {id(finding) for found in groups.values() if len(found) > 1 for finding in found}
    yield from (finding for finding in every if id(finding) not in grouped)
    yield from (_together(name, found) for name, found in groups.items() if len(found) > 1)


def _entry(finding: Finding) -> Defect:
    return next(defect for defect in table() if defect.id == finding.evidence.figures["entry"])


def _group(defect: Defect) -> str:
    """The library that tells more of the entry when it is asked, "" for one that stands alone."""
    if framework := next((name for name in defect.versions if name in FRAMEWORKS), ""):
        return framework
    return "transformers" if defect.implementations or "transformers" in defect.versions else ""


def _together(library: str, found: Sequence[Finding]) -> Finding:
    """One note for several entries. found: at least two."""
    defects = [_entry(finding) for finding in found]
    listed = [f"{defect.title} ({defect.threads[0]})" for defect in defects]
    versions = "; ".join(dict.fromkeys(finding.evidence.requested for finding in found))
    paste = f"attncheck compare MODEL{FRAMEWORKS.get(library, '')}"
    told = f"{len(defects)} known defects of the installed versions concern only some models or calls:"
    return Finding(
        KNOWN_BAD_VERSION.code,
        KNOWN_BAD_VERSION.slug,
        Severity.NOTE,
        f"{told} {'; '.join(listed)}",
        Basis.STATIC,
        evidence=Evidence(
            requested=versions,
            effective="; ".join(f"takes {defect.condition}; then: {defect.effect}" for defect in defects),
            figures={"entries": ", ".join(defect.id for defect in defects)},
        ),
        reproduction=paste,
        recommendations=(
            Recommendation(
                "See whether they concern your model: what it shows comes with its remedy.",
                (Setting("shell", "attncheck", "compare", paste),),
            ),
        ),
        headline="\n".join([told, *(f"- {defect.title}" for defect in defects)]),
    )


def _told_elsewhere(defect: Defect, machine: Machine, read: Ability | Convention | None) -> bool:
    """True when another rule looked: a guess by version would only repeat or contradict it."""
    if defect.told_by is None or getattr(machine, defect.told_by[1]) is None:
        return False
    return defect.probe is None or (read is not None and seen(read, defect.probe) is True)


def reading(defect: Defect, machine: Machine) -> Ability | Convention | None:
    """What the same run read about the entry; of several readings, one that went wrong."""
    probe = defect.probe
    if probe is None:
        return None
    found: list[Ability | Convention] = []
    if probe.kind == "ability":
        abilities = (*(machine.confirmations or ()), *(machine.abilities or ()))
        found += [a for a in abilities if a.api == probe.api and a.feature.startswith(probe.words)]
    else:
        conventions = machine.conventions or ()
        found += [c for c in conventions if c.api == probe.api and probe.words in c.call]
    decided = [entry for entry in found if seen(entry, probe) is not None]
    return next((entry for entry in decided if seen(entry, probe)), next(iter(decided), None))


def seen(entry: Ability | Convention, probe: Confirmation) -> bool | None:
    """True when the reading went wrong, False when it went right or the library refuses the call, None: undecided."""
    if entry.outcome is Outcome.REFUSED:
        return False
    if entry.outcome is not Outcome.READ:
        return None
    if probe.figure:
        return entry.figures[probe.figure] != probe.right if probe.figure in entry.figures else None
    if isinstance(entry, Convention) and entry.agrees is None:
        return entry.empty_rows > 0  # nothing is promised, but an output without any key is no meaning of a window
    return None if entry.agrees is None else not entry.agrees


def workarounds(machine: Machine, api: str) -> list[tuple[Confirmation, Recommendation]]:
    """Of each entry that matches and was seen here in this API: the reading that showed it, and what is known to help."""
    libraries = installed(machine.environment, machine.torch.cudnn if machine.torch is not None else "")
    gpus = [gpu.capability for gpu in machine.environment.gpus]
    found = []
    for defect in table():
        probe = defect.probe
        if probe is None or probe.api != api or not defect.matches(libraries, gpus):
            continue
        if (read := reading(defect, machine)) is not None and seen(read, probe):
            found.append((probe, defect.workaround))
    return found


def _finding(defect: Defect, libraries: dict[str, str], read: Ability | Convention | None) -> Finding:
    named = [name for name in (*defect.versions, *defect.one_of) if name in libraries]
    versions = ", ".join(f"{'cuDNN' if name == CUDNN else name} {libraries[name]}" for name in dict.fromkeys(named))
    where = f"{defect.title} ({', '.join(defect.threads)})"
    told = f"{defect.title}; takes {defect.condition} ({defect.threads[0]})"
    figures = {"entry": defect.id, "condition": defect.condition, "known from": defect.evidence}
    evidence = Evidence(requested=versions, effective=defect.effect, figures=figures)
    if read is None:
        message = f"{versions} matches a known defect: {where}. It takes {defect.condition}; then: {defect.effect}"
        level, basis = defect.severity, Basis.STATIC
        headline = f"{versions} matches a known defect: {told}"
    elif defect.probe is not None and seen(read, defect.probe):
        said = f": {read.detail}" if read.detail else ""
        message = f"{where}: seen here{said}. It takes {defect.condition}; then: {defect.effect}"
        level, basis = defect.confirmed, Basis.MEASURED
        headline = f"seen here: {told}"
    else:
        how = "the kernel refuses the call" if read.outcome is Outcome.REFUSED else "measured"
        message = f"{versions} matches a known defect, not seen here ({how}): {where}"
        level, basis = Severity.NOTE, Basis.MEASURED
        evidence = replace(evidence, effective=f"not seen here ({how})")
        headline = f"not seen here ({how}): {told}"
    if read is not None:
        evidence = replace(evidence, figures={**figures, **read.figures})
    return Finding(
        KNOWN_BAD_VERSION.code,
        KNOWN_BAD_VERSION.slug,
        level,
        message,
        basis,
        kernel=defect.probe.api if defect.probe is not None else "",
        evidence=evidence,
        reproduction=defect.command,
        recommendations=(defect.workaround,),
        headline=headline,
    )


def explain_mismatches(case: Case) -> Iterator[Finding]:
    """For `compare`: the entry that explains an error just measured or predicted, and one that nothing could decide.

    Nothing is said about what a probe of this run found right, whatever the versions are, nor about traps in features
    that nobody asked for. What was measured is not repeated: the note adds the release that mends it.
    """
    libraries = {name: version for name, version in case.inputs.versions.items() if version is not None}
    wrong = [f for f in case.findings if f.severity is Severity.ERROR and f.basis is not Basis.STATIC]
    for defect in table():
        shown = [finding for finding in wrong if _explains(defect, finding, case.inputs.real.model_type)]
        # What a flash implementation needs may be absent where its contract alone was tried.
        if shown and defect.matches(libraries | dict.fromkeys(defect.one_of, "0")):
            yield _explanation(defect, shown, libraries)
        elif (names := _undecided(defect, case.inputs)) and defect.matches(
            libraries | dict.fromkeys(defect.one_of, "0")
        ):
            yield _unmeasured(defect, names, libraries)


def _undecided(defect: Defect, inputs: Inputs) -> list[str]:
    """The implementations under which the model would meet the defect, and of which nothing was read."""
    real = inputs.real
    if not defect.slugs or (defect.models and real.model_type not in defect.models):
        return []
    meets = {
        "": True,
        "window": any(layer.mask.window.bounded for layer in real.layers),
        "softcap": any(layer.softmax.softcap is not None for layer in real.layers),
    }
    if not meets.get(defect.needs, inputs.options.asked(defect.needs)):
        return []
    read = {run.implementation for run in inputs.runs if isinstance(run.outcome, Observed)}
    asked = [name for name in defect.implementations if name in inputs.implementations and name not in inputs.refused]
    return [name for name in asked if name not in read]


def _unmeasured(defect: Defect, names: Sequence[str], libraries: dict[str, str]) -> Finding:
    """One note on a defect that nothing of this run could decide. names: at least one implementation."""
    versions = ", ".join(f"{name} {libraries[name]}" for name in defect.versions)
    where = f"{defect.title} ({', '.join(defect.threads)})"
    return Finding(
        KNOWN_BAD_VERSION.code,
        KNOWN_BAD_VERSION.slug,
        Severity.NOTE,
        f"{versions} matches a known defect, and nothing was measured under {', '.join(names)}: {where}. "
        f"It takes {defect.condition}; then: {defect.effect}; {_mended(defect)}",
        Basis.STATIC,
        implementation=names[0] if len(names) == 1 else None,
        evidence=Evidence(requested=versions, effective=defect.effect, figures={"entry": defect.id}),
        reproduction=defect.command,
        recommendations=(defect.workaround,),
        headline=f"{versions} matches a known defect, nothing was measured: {defect.title} ({defect.threads[0]})",
    )


def _mended(defect: Defect) -> str:
    """What is known of a release without the defect."""
    library = next(iter(defect.versions))
    return f"fixed in {library} {defect.fixed}" if defect.fixed else f"no release of {library} is known to mend it"


def _explains(defect: Defect, finding: Finding, model_type: str) -> bool:
    return (
        finding.slug in defect.slugs
        and finding.implementation in defect.implementations
        and (not defect.models or model_type in defect.models)
        and (defect.needs in DECLARED or finding.scenario.startswith(defect.needs))
    )


def _explanation(defect: Defect, shown: Sequence[Finding], libraries: dict[str, str]) -> Finding:
    """One note for all errors that the entry explains. shown: at least one."""
    versions = ", ".join(f"{name} {libraries[name]}" for name in defect.versions)
    slugs = ", ".join(dict.fromkeys(finding.slug for finding in shown))
    names = list(dict.fromkeys(finding.implementation for finding in shown if finding.implementation))
    return Finding(
        KNOWN_BAD_VERSION.code,
        KNOWN_BAD_VERSION.slug,
        Severity.NOTE,
        f"{versions} matches a known defect that shows as {slugs} under {', '.join(names)}: {defect.title} "
        f"({', '.join(defect.threads)}). It takes {defect.condition}; known: {_mended(defect)}",
        Basis.STATIC,
        implementation=names[0] if len(names) == 1 else None,
        evidence=Evidence(requested=versions, effective=defect.effect, figures={"entry": defect.id}),
        recommendations=(defect.workaround,),
        headline=f"{versions} matches a known defect, {_mended(defect)}: {defect.title} ({defect.threads[0]})",
    )


GROUP = RuleGroup(
    "defects",
    (KNOWN_BAD_VERSION,),
    order=95,
    conclude=explain_mismatches,
    machine=(
        MachineCheck(KNOWN_BAD_VERSION, known_together, uses=("torch", "confirmations", "conventions", "abilities")),
    ),
)
