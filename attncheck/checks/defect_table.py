"""The files of known defects as objects, and which of them the versions and GPUs of a machine match."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from attncheck.environment import Environment
from attncheck.findings import Recommendation, Setting, Severity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Stands in `versions` for the cuDNN that torch loads, whose distribution has a name of its own for every CUDA.
CUDNN = "cudnn"
#: The files, in the order of reports.
FILES = ("known_defects.toml", "known_transformers.toml", "known_frameworks.toml")
Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The reading of the same run that decides. kind: "ability" or "convention"; words: feature or part of the call.

    figure, right: a figure of the ability and its value when all is well; "" = the comparison with float64 decides.
    """

    kind: str
    api: str
    words: str
    figure: str = ""
    right: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """What `compare` must be asked to show the defect; variant: "" for any. blind: release -> why it cannot show there.

    route: "compare", or "live" for what only a built model with attributes set by hand can show. dtype: of `--dtype`.
    beside: implementations that must be probed too, where nothing declares what is right.
    """

    target: str
    scenario: str
    implementation: str
    set: tuple[str, ...] = ()
    variant: str = ""
    blind: Mapping[str, str] = field(default_factory=dict)
    route: str = "compare"
    dtype: str = "float32"
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Defect:
    """One entry; the heads of the files say what each field means.

    versions: library -> alternatives of which one must hold. gpu: lowest and highest compute capability, None = no GPU
    is needed. told_by: (slug of the rule that finds it by looking, the field of `Machine` which that rule reads).
    unchecked: why nothing without a GPU or a checkpoint can measure the ends of its ranges.
    """

    id: str
    title: str
    versions: Mapping[str, tuple[SpecifierSet, ...]]
    condition: str
    effect: str
    severity: Severity
    confirmed: Severity
    threads: tuple[str, ...]
    evidence: str
    command: str
    workaround: Recommendation
    one_of: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    gpu: tuple[Capability, Capability] | None = None
    probe: Confirmation | None = None
    told_by: tuple[str, str] | None = None
    models: tuple[str, ...] = ()
    implementations: tuple[str, ...] = ()
    slugs: tuple[str, ...] = ()
    fixed: str = ""
    needs: str = ""
    check: Check | None = None
    unchecked: str = ""

    def matches(self, installed: Mapping[str, str], gpus: Sequence[Capability] = ()) -> bool:
        """True when every condition on versions and GPUs holds. installed: library -> version, absent ones left out."""
        return (
            all(self._in_range(name, installed) for name in self.versions)
            and (not self.one_of or any(name in installed for name in self.one_of))
            and not any(name in installed for name in self.absent)
            and (self.gpu is None or bool(self.concerned(gpus)))
        )

    def concerned(self, gpus: Sequence[Capability]) -> tuple[Capability, ...]:
        """The GPUs in the entry's range."""
        if self.gpu is None:
            return ()
        lowest, highest = self.gpu
        return tuple(gpu for gpu in gpus if lowest <= gpu <= highest)

    def _in_range(self, name: str, installed: Mapping[str, str]) -> bool:
        version = parsed(installed.get(name, ""))
        return version is not None and any(
            specifier.contains(version, prereleases=True) for specifier in self.versions[name]
        )


def parsed(text: str) -> Version | None:
    """The version, None for a text that is none ("unknown", a folder's name): such a library matches no entry."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def installed(environment: Environment, cudnn: str = "") -> dict[str, str]:
    """Library -> version of what is there. cudnn: the version torch itself reports, "" when nobody asked it."""
    found = {library.name: library.version for library in environment.libraries if library.version is not None}
    major = (environment.torch_cuda or "").partition(".")[0]
    # Both packages may lie there; torch loads the one for its own CUDA.
    if version := cudnn or found.get(f"nvidia-cudnn-cu{major}", ""):
        found[CUDNN] = version
    if (wheel := found.get("llava-torch")) is not None:
        found["llava"] = wheel  # the distribution `llava` of PyPI holds no code; from source it is called llava
    return found


@cache
def table() -> tuple[Defect, ...]:
    """Every entry. Raises ValueError or KeyError for a file that does not follow its own rules."""
    texts = [files("attncheck.checks").joinpath(name).read_text(encoding="utf-8") for name in FILES]
    entries = tuple(_defect(raw) for text in texts for raw in tomllib.loads(text)["defect"])
    if len({entry.id for entry in entries}) != len(entries):
        raise ValueError(f"{' and '.join(FILES)}: two entries share an id")
    return entries


def _defect(raw: Mapping[str, Any]) -> Defect:
    probe, told, workaround = raw.get("probe"), raw.get("told_by"), raw["workaround"]
    return Defect(
        id=raw["id"],
        title=raw["title"],
        versions={name: _alternatives(value) for name, value in raw["versions"].items()},
        condition=raw["condition"],
        effect=raw["effect"],
        severity=Severity(raw["severity"]),
        confirmed=Severity(raw["confirmed"]),
        threads=tuple(raw["threads"]),
        evidence=raw["evidence"],
        command=raw["command"],
        workaround=Recommendation(
            workaround["text"],
            (Setting(workaround["framework"], workaround["key"], workaround["value"], workaround["paste"]),),
        ),
        one_of=tuple(raw.get("one_of", ())),
        absent=tuple(raw.get("absent", ())),
        gpu=None if "gpu" not in raw else (_capability(raw["gpu"][0]), _capability(raw["gpu"][1])),
        probe=None if probe is None else _confirmation(probe),
        told_by=None if told is None else (told["rule"], told["needs"]),
        models=tuple(raw.get("models", ())),
        implementations=tuple(raw.get("implementations", ())),
        slugs=tuple(raw.get("slugs", ())),
        fixed=raw.get("fixed", ""),
        needs=raw.get("needs", ""),
        check=None if "check" not in raw else _check(raw["check"]),
        unchecked=raw.get("unchecked", ""),
    )


def _check(raw: Mapping[str, Any]) -> Check:
    return Check(**{**raw, "set": tuple(raw.get("set", ())), "beside": tuple(raw.get("beside", ()))})


def _confirmation(raw: Mapping[str, str]) -> Confirmation:
    words = raw["feature"] if raw["kind"] == "ability" else raw["call"]
    return Confirmation(raw["kind"], raw["api"], words, raw.get("figure", ""), raw.get("right", ""))


def _alternatives(value: str | list[str]) -> tuple[SpecifierSet, ...]:
    return tuple(SpecifierSet(text) for text in ([value] if isinstance(value, str) else value))


def _capability(text: str) -> Capability:
    major, minor = text.split(".")
    return int(major), int(minor)
