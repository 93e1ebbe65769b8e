"""Rules about files: overwritten by another distribution, several copies, a module that another package brought."""

from __future__ import annotations

from collections.abc import Iterator

from attncheck.checks.builds import trial_of
from attncheck.checks.interface import RuleGroup
from attncheck.checks.machine import Machine, MachineCheck
from attncheck.checks.mending import is_file, pip, public, reinstall, without_shadow
from attncheck.environment import LIBRARIES, Library
from attncheck.findings import Evidence, Finding, Recommendation, Rule, Setting, Severity
from attncheck.installed.inventory import Clobbered, Copies
from attncheck.installed.trial import Cause
from attncheck.semantics.observation import Basis

CLOBBERED = Rule(
    "ATC803",
    "files-clobbered",
    "Two installed packages own the same files",
    "Two distributions recorded the same files with different contents; on disk lie those of one of them.",
    "The other one runs with files that are not its own: it fails at import, or computes with old code. pip sees nothing wrong.",
    "Static: the RECORDs of the packages are compared, and the files that both claim are hashed to see whose they are.",
    "Reinstall the package whose files were overwritten, after the other: flash-attn ships an old flash_attn/cute, so flash-attn-4 goes last.",
    ("OLMo-core#771", "pip documentation: RECORD"),
)

SEVERAL_COPIES = Rule(
    "ATC804",
    "several-copies",
    "Several copies of one library are on the path",
    "The same distribution lies more than once on Python's path, or left the metadata of an older version behind.",
    "Which copy runs depends on the order of the path; the version that a tool prints may not be that of the code.",
    "Static: the folders of sys.path are searched for the metadata of each library.",
    "Uninstall all copies and install one, or take the folder with the other copy out of PYTHONPATH.",
    ("transformers#41651",),
)

FILES_MISSING = Rule(
    "ATC811",
    "files-missing",
    "Files of an installed package are gone",
    "A package recorded files that are no longer on disk.",
    "It fails at import or at the first call that needs them. It happens when one of two packages that own the same files is uninstalled: removing flash-attn takes files of flash-attn-4 along.",
    "Static: the files in the RECORD of each small kernel package are looked for.",
    "Reinstall the package with the command given.",
    ("pip documentation: RECORD",),
)

FOREIGN_MODULE = Rule(
    "ATC809",
    "foreign-module",
    "A module is there, but not from the package it stands for",
    "A module that tools look for (flash_attn, flash_attn.cute) is importable, while the package it belongs to is not installed; or a file or folder that is called like an installed library (torch.py, transformers/) stands before it on Python's path.",
    "Tools that look for the module by name take it for the real library: flash-attn 2 ships `cute` and looks like flash-attn 4, stand-in packages look like flash-attn. What stands before an installed library is loaded in its place.",
    "Static: the packages that recorded files below the module's folder, and where Python would load the module from.",
    "Remove the package that brought the module, or install the one it stands for; rename or remove a file that is called like a library.",
    ("OLMo-core#771", "open-instruct#1716", "unsloth#1555"),
)

#: (whose files may be overwritten, by whom) without harm: nothing imports flash-attn's own copy of `cute`.
HARMLESS = frozenset([("flash-attn", "flash-attn-4")])
#: Modules that a tool may take for a library, and the distributions they may rightly come from.
_RIGHTFUL = {
    "flash_attn": ("flash-attn", "flash-attn-4"),
    "flash_attn.cute": ("flash-attn-4",),
    "flash_attn_interface": ("flash-attn-3",),
    "xformers": ("xformers",),
}


def files_clobbered(machine: Machine) -> Iterator[Finding]:
    """An error where a library's files were overwritten and it fails or was not tried; a note where it does no harm."""
    assert machine.inventory is not None
    for entry in machine.inventory.clobbered:
        yield _clobbered(machine, entry)


def _clobbered(machine: Machine, entry: Clobbered) -> Finding:
    first, second = entry.owners
    names = (first[0], second[0])
    harmless = next((pair for pair in HARMLESS if set(pair) == set(names)), None)
    if harmless is not None:
        loser = harmless[0] if entry.intact == harmless[1] else harmless[1]
    else:
        loser = next((name for name in names if name != entry.intact), names[1])
    winner = names[0] if loser == names[1] else names[1]
    versions = dict(entry.owners)
    trial = (machine.imports or {}).get(loser)
    if harmless is not None and loser == harmless[0]:
        severity, effect = Severity.NOTE, f"that is the order which works; reinstalling {loser} would break {winner}"
    elif trial is not None and trial.failure is None:
        severity, effect = Severity.WARNING, f"{loser} imports all the same, with files that are not its own"
    else:
        severity, effect = Severity.ERROR, f"{loser} runs with files that are not its own"
        if trial is not None and trial.failure is not None and trial.cause is not Cause.SLOW:
            effect = f"{loser} cannot be imported: {trial.failure.reason}"
    on_disk = (
        f"those on disk are {entry.intact}'s"
        if entry.intact
        else f"on disk {entry.matches[0]} are {first[0]}'s and {entry.matches[1]} are {second[0]}'s"
    )
    advice = (
        pip(
            f"Nothing to do now. After any reinstallation of {loser}, reinstall {winner}.",
            winner,
            f"--force-reinstall --no-deps {winner}=={public(versions[winner])}",
        )
        if severity is Severity.NOTE
        else pip(
            f"Reinstall {loser} last, so that its files lie on top.",
            loser,
            f"--force-reinstall --no-deps {loser}=={public(versions[loser])}",
        )
    )
    module = LIBRARIES.get(loser if severity is not Severity.NOTE else winner, entry.example.partition("/")[0])
    return Finding(
        CLOBBERED.code,
        CLOBBERED.slug,
        severity,
        f"{first[0]} {first[1]} and {second[0]} {second[1]} both own {entry.files} file(s) such as {entry.example}; {on_disk}: {effect}",
        Basis.STATIC,
        evidence=Evidence(
            declared=f"{entry.example} in the RECORD of {first[0]} {first[1]} and of {second[0]} {second[1]}",
            effective=on_disk,
            figures={"files": entry.files, **dict(zip(names, entry.matches))},
        ),
        reproduction=f'python -c "import {module}"',
        recommendations=(advice,),
    )


def several_copies(machine: Machine) -> Iterator[Finding]:
    """A warning where versions differ, a note where they do not."""
    assert machine.inventory is not None
    for entry in machine.inventory.copies:
        yield _copies(machine, entry)


def _copies(machine: Machine, entry: Copies) -> Finding:
    versions = {version for _, version in entry.places}
    folders = list(dict.fromkeys(folder for folder, _ in entry.places))
    listed = "; ".join(f"{version} in {folder}" for folder, version in entry.places)
    if len(folders) == 1:
        message = f"{len(entry.places)} versions of {entry.name} are recorded in one folder: {', '.join(version for _, version in entry.places)}; only one of them can be the code that lies there"
    else:
        used, others = entry.places[0], entry.places[1:]
        rest = "; ".join(f"{version} in {folder}" for folder, version in others)
        message = f"{entry.name} lies {len(entry.places)} times on the path: {used[1]} in {used[0]} is used, hidden are {rest}"
    pinned = f"{entry.name}=={public(entry.places[0][1])}"
    uninstall = " && ".join([f"pip uninstall -y {entry.name}"] * len(entry.places))
    paste = f"{uninstall} && {reinstall(machine, entry.name).settings[0].paste}"
    return Finding(
        SEVERAL_COPIES.code,
        SEVERAL_COPIES.slug,
        Severity.WARNING if len(versions) > 1 else Severity.NOTE,
        message,
        Basis.STATIC,
        evidence=Evidence(declared="one copy", effective=listed),
        reproduction=f"python -c \"import importlib.metadata as m; print([(d.version, str(d.locate_file(''))) for d in m.distributions(name='{entry.name}')])\"",
        recommendations=(
            Recommendation(
                "Keep one: uninstall every copy and install again, or take the folder that is not meant out of PYTHONPATH.",
                (Setting("pip", entry.name, pinned, paste),),
            ),
        ),
    )


def files_missing(machine: Machine) -> Iterator[Finding]:
    """An error where the import fails or was not tried, a warning where it works all the same."""
    assert machine.inventory is not None
    for entry in machine.inventory.incomplete:
        trial = trial_of(machine, entry.name)
        works = trial is not None and trial.failure is None
        yield Finding(
            FILES_MISSING.code,
            FILES_MISSING.slug,
            Severity.WARNING if works else Severity.ERROR,
            f"{entry.name} {entry.version} lacks {entry.files} of its files, such as {entry.example}: another package that owned them too was removed, or the installation broke off",
            Basis.STATIC,
            evidence=Evidence(
                declared=f"{entry.example} in the RECORD of {entry.name} {entry.version}",
                effective=f"{entry.files} recorded file(s) are not there",
                figures={"files": entry.files},
            ),
            reproduction="attncheck doctor --static --check files-missing",
            recommendations=(
                pip(
                    f"Reinstall {entry.name}.",
                    entry.name,
                    f"--force-reinstall --no-deps {entry.name}=={public(entry.version)}",
                ),
            ),
        )


def foreign_module(machine: Machine) -> Iterator[Finding]:
    """A warning for a stand-in of a whole library, a note for a part that looks like another library."""
    assert machine.inventory is not None
    for module, rightful in _RIGHTFUL.items():
        owners = machine.inventory.packages.get(module, ())
        if any(machine.environment.version(name) is not None for name in rightful):
            continue
        if owners and not set(owners) & set(rightful):
            yield _foreign(machine, module, rightful, owners)
        elif not owners and (stray := machine.environment.origin(rightful[0])):
            yield _foreign(machine, module, rightful, (), stray)
    for library in machine.environment.libraries:
        if library.version is not None and library.origin:
            yield _shadowed(library)


def _shadowed(library: Library) -> Finding:
    """A library that is installed and not loaded. An error where nothing of torch or transformers can be probed then."""
    needed = library.name in ("torch", "transformers") and not library.copy
    module = LIBRARIES.get(library.name, library.name).partition(".")[0]
    effect = (
        "another copy is loaded in its place, and what is judged by the version may not hold"
        if library.copy
        else "the library itself cannot be imported then"
    )
    return Finding(
        FOREIGN_MODULE.code,
        FOREIGN_MODULE.slug,
        Severity.ERROR if needed else Severity.WARNING,
        f"{library.name} {library.version} is installed, but `import {module}` loads {library.origin}: {effect}",
        Basis.STATIC,
        evidence=Evidence(
            declared=f"{library.name} {library.version} (package metadata)",
            effective=f"import {module}: {library.origin}",
        ),
        reproduction=f"python -c \"import importlib.util as u; print(u.find_spec('{module}').origin)\"",
        recommendations=(without_shadow(library),),
    )


def _foreign(
    machine: Machine, module: str, rightful: tuple[str, ...], owners: tuple[str, ...], stray: str = ""
) -> Finding:
    versions = machine.inventory.versions if machine.inventory is not None else {}
    bringing = ", ".join(f"{name} {versions.get(name, '')}".strip() for name in owners)
    part = "." in module
    if part:
        text, paste = (
            f"Nothing to do unless a tool takes it for {rightful[0]}; then install that.",
            f"pip install {rightful[0]}",
        )
    elif owners:
        text = f"Uninstall {', '.join(owners)} unless it is meant, and install {rightful[0]}."
        paste = f"pip uninstall -y {' '.join(owners)}"
    else:
        what = "Rename or remove that file" if is_file(stray) else "Remove that folder"
        text, paste = f"{what} unless it is meant, and install {rightful[0]}.", f"pip install {rightful[0]}"
    source = f"from {bringing}" if owners else f"from no installed package (`import {module}` would load {stray})"
    return Finding(
        FOREIGN_MODULE.code,
        FOREIGN_MODULE.slug,
        Severity.NOTE if part else Severity.WARNING,
        f"the module {module} comes {source}, and {rightful[0]} is not installed: a tool that looks for the module finds the wrong library",
        Basis.STATIC,
        evidence=Evidence(declared=f"{module}: {' or '.join(rightful)}", effective=f"{module} {source}"),
        reproduction=f"python -c \"import importlib.util as u; print(u.find_spec('{module}'))\"",
        recommendations=(Recommendation(text, (Setting("pip", rightful[0], "", paste),)),),
    )


GROUP = RuleGroup(
    "files",
    (CLOBBERED, SEVERAL_COPIES, FOREIGN_MODULE, FILES_MISSING),
    order=91,
    machine=(
        MachineCheck(CLOBBERED, files_clobbered, ("inventory",)),
        MachineCheck(SEVERAL_COPIES, several_copies, ("inventory",)),
        MachineCheck(FOREIGN_MODULE, foreign_module, ("inventory",)),
        MachineCheck(FILES_MISSING, files_missing, ("inventory",)),
    ),
)
